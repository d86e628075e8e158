"""The most confident mistakes of a network, which show its errors or those of the labels.

Input: scores of views and of videos. Output: the videos with the highest probability of a class that is not among their labels,
and for each the view with the highest probability of that class.
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
    """A misclassified video, the `probability` of its predicted class, and the `view` most confident in that class."""

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
    """Find up to `num_mistakes` misclassified videos, the most confident first, ties in manifest order.

    Without scores of views (`scores` is None) the view is the centre crop of the middle clip.
    """
    classes, protocol = video_scores.header.classes, video_scores.header.protocol
    wrong = np.flatnonzero(
        video_scores.readable_mask & video_scores.labeled_mask & (compute_video_ranks(video_scores) > 0)
    )
    if not len(wrong):
        return ()
    most_confident = wrong[np.argsort(-video_scores.probabilities[wrong].max(axis=1), kind="stable")][:num_mistakes]
    mistakes: list[Mistake] = []
    start_seconds: float | None
    for index in most_confident.tolist():
        probabilities = video_scores.probabilities[index]
        predicted = int(probabilities.argmax())
        view, start_seconds = protocol.clips // 2 * protocol.num_crops + protocol.num_crops // 2, None
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
    """Index and start of the readable view with the highest probability of a class."""
    rows = table.filter(pc.and_(pc.equal(table["video"], video), table["logits"].is_valid()))
    logits = pc.list_flatten(rows["logits"]).to_numpy().reshape(len(rows), -1).astype(np.float64)
    row = int(softmax(logits)[:, class_index].argmax())
    return rows["view"][row].as_py(), rows["start_seconds"][row].as_py()
