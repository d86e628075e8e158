"""The mistakes that a network was surest of: where its errors, or those of the labels, are to be seen.

Enter: scores of views and of videos. Leave: the videos with the highest probability for a class that is none of their labels,
and for each the view that says so most clearly. Pure numpy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from muybridge.evaluation.aggregate import VideoScores, softmax
from muybridge.evaluation.metrics import compute_video_ranks
from muybridge.evaluation.scores import Scores

NUM_MISTAKES = 12


@dataclass(frozen=True)
class Mistake:
    """A video taken for a class it does not show. `probability` is the video's, `view` the one that is surest of the class."""

    video: str
    labels: tuple[str, ...]
    predicted_class: str
    probability: float
    label_probability: float
    """Of its most probable label."""
    view: int
    start_seconds: float | None


def find_confident_mistakes(
    scores: Scores | None, video_scores: VideoScores, *, num_mistakes: int = NUM_MISTAKES
) -> tuple[Mistake, ...]:
    """The `num` surest ones, the surest first; among equals in manifest order. Fewer where there are fewer.

    Where the scores of views were not kept, the view is the one in the middle.
    """
    classes = video_scores.header.classes
    wrong = np.flatnonzero(
        video_scores.readable_mask & video_scores.labeled_mask & (compute_video_ranks(video_scores) > 0)
    )
    if not len(wrong):
        return ()
    surest = wrong[np.argsort(-video_scores.probabilities[wrong].max(axis=1), kind="stable")][:num_mistakes]
    mistakes: list[Mistake] = []
    start_seconds: float | None
    for index in surest.tolist():
        probabilities = video_scores.probabilities[index]
        predicted = int(probabilities.argmax())
        view, start_seconds = int(video_scores.num_views[index]) // 2, None
        if scores is not None:
            view, start_seconds = _find_clearest_view(scores.table, video_scores.videos[index], predicted)
        labels = video_scores.labels[index]
        mistakes.append(
            Mistake(
                video=video_scores.videos[index],
                labels=tuple(classes[label] for label in labels),
                predicted_class=classes[predicted],
                probability=float(probabilities[predicted]),
                label_probability=float(probabilities[list(labels)].max()),
                view=view,
                start_seconds=start_seconds,
            )
        )
    return tuple(mistakes)


def _find_clearest_view(table: pa.Table, video: str, class_index: int) -> tuple[int, float | None]:
    """Number and start of the readable view that gives a class the highest probability."""
    rows = table.filter(pc.and_(pc.equal(table["video"], video), table["logits"].is_valid()))
    logits = pc.list_flatten(rows["logits"]).to_numpy().reshape(len(rows), -1).astype(np.float64)
    row = int(softmax(logits)[:, class_index].argmax())
    return rows["view"][row].as_py(), rows["start_seconds"][row].as_py()
