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
from muybridge.evaluation.metrics import video_ranks
from muybridge.evaluation.scores import Scores

NUM_MISTAKES = 12


@dataclass(frozen=True)
class Mistake:
    """A video taken for a class it does not show. `probability` is the video's, `view` the one that is surest of the class."""

    video: str
    labels: tuple[str, ...]
    taken_for: str
    probability: float
    label_probability: float
    """Of its most probable label."""
    view: int
    start_seconds: float | None


def most_confident_mistakes(
    scores: Scores | None, videos: VideoScores, *, num: int = NUM_MISTAKES
) -> tuple[Mistake, ...]:
    """The `num` surest ones, the surest first; among equals in manifest order. Fewer where there are fewer.

    Where the scores of views were not kept, the view is the one in the middle.
    """
    classes = videos.header.classes
    wrong = np.flatnonzero(videos.readable & videos.labelled & (video_ranks(videos) > 0))
    if not len(wrong):
        return ()
    surest = wrong[np.argsort(-videos.probabilities[wrong].max(axis=1), kind="stable")][:num]
    found: list[Mistake] = []
    start_seconds: float | None
    for number in surest.tolist():
        probabilities = videos.probabilities[number]
        taken_for = int(probabilities.argmax())
        view, start_seconds = int(videos.num_views[number]) // 2, None
        if scores is not None:
            view, start_seconds = _clearest_view(scores.table, videos.videos[number], taken_for)
        labels = videos.labels[number]
        found.append(
            Mistake(
                video=videos.videos[number],
                labels=tuple(classes[label] for label in labels),
                taken_for=classes[taken_for],
                probability=float(probabilities[taken_for]),
                label_probability=float(probabilities[list(labels)].max()),
                view=view,
                start_seconds=start_seconds,
            )
        )
    return tuple(found)


def _clearest_view(table: pa.Table, video: str, class_number: int) -> tuple[int, float | None]:
    """Number and start of the readable view that gives a class the highest probability."""
    rows = table.filter(pc.and_(pc.equal(table["video"], video), table["logits"].is_valid()))
    logits = pc.list_flatten(rows["logits"]).to_numpy().reshape(len(rows), -1).astype(np.float64)
    row = int(softmax(logits)[:, class_number].argmax())
    return rows["view"][row].as_py(), rows["start_seconds"][row].as_py()
