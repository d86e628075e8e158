"""Averaging the predictions of several networks, such as the RGB and flow streams (paper section 4).

Input: recognizers with the same class, target or level names, and the path of a video. Output: one `Prediction`, of the same
mean as `evaluation.fuse` computes: of probabilities, of numbers for a regression, of the probabilities of levels for an ordinal
target. Each network reads its own clips, RGB or optical flow; a video that any of them cannot read has failed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from muybridge.evaluation.fuse import normalize_weights
from muybridge.evaluation.fusion_members import average_heads, match_outputs
from muybridge.models.heads import Head
from muybridge.prediction.head_outputs import describe_values, recover_values
from muybridge.prediction.recognizer import Prediction, Recognizer
from muybridge.prediction.video_inputs import AnyVideo


@dataclass(frozen=True)
class Ensemble:
    """Recognizers and their weights in the mean, which sum to 1. Use `create_ensemble`, which checks and matches them."""

    members: tuple[Recognizer, ...]
    normalized_weights: tuple[float, ...]
    orders: tuple[tuple[int, ...], ...]
    """For each member, the indices of the first one's outputs in it."""
    head: Head | None = None
    """The meaning of the mean, for another task than single_label."""

    def predict(self, video: AnyVideo, *, clips: int = 10, top: int = 5) -> Prediction:
        """The `top` most probable classes of a video: the weighted mean of the networks over `clips` uniform clips."""
        return next(self.predict_each([video], clips=clips, top=top))

    def predict_each(
        self,
        videos: Sequence[AnyVideo],
        *,
        clips: int = 10,
        top: int = 5,
        source_fps: float | Sequence[float | None] | None = None,
        workers: int | None = None,
    ) -> Iterator[Prediction]:
        """The prediction of each video, in order; `workers` processes read for each network (`Recognizer.predict_each`)."""
        if top < 1:
            raise ValueError(f"top must be at least 1, not {top}")
        num_classes = len(self.members[0].card.classes)
        streams = [
            member.predict_each(videos, clips=clips, top=num_classes, source_fps=source_fps, workers=workers)
            for member in self.members
        ]
        return (self._average(predictions, top) for predictions in zip(*streams, strict=True))

    def _average(self, predictions: Sequence[Prediction], top: int) -> Prediction:
        card = self.members[0].card
        total: NDArray[np.float64] = np.zeros(card.specification.num_classes)
        reasons = []
        for member, weight, order, prediction in zip(
            self.members, self.normalized_weights, self.orders, predictions, strict=True
        ):
            modality = member.card.preprocessing.modality
            if prediction.status != "ok":
                return Prediction(prediction.video, prediction.status, f"{modality}: {prediction.reason}")
            if prediction.reason:
                reasons.append(f"{modality}: {prediction.reason}")
            numbers = [value for _, value, _ in prediction.values]
            total += weight * recover_values(dict(prediction.classes), numbers, member.card)[list(order)]
        fields = describe_values(total, self.head, card.classes, top)
        return Prediction(predictions[0].video, "ok", "; ".join(reasons), **fields)


def create_ensemble(members: Sequence[Recognizer], weights: Sequence[float]) -> Ensemble:
    """Build an ensemble.

    Raises ValueError where the networks differ in task, classes, targets, units or levels, or a weight is missing or negative.
    """
    first, normalized_weights = members[0].card, normalize_weights(weights, len(members))
    orders = []
    for member in members:
        try:
            orders.append(tuple(match_outputs(first.classes, first.head, member.card.classes, member.card.head)))
        except ValueError as error:
            noun = "outputs" if first.head or member.card.head else "classes"
            raise ValueError(f"the networks have different {noun}: {error}") from error
    head = average_heads([member.card.head for member in members], orders, normalized_weights)
    return Ensemble(tuple(members), normalized_weights, tuple(orders), head)
