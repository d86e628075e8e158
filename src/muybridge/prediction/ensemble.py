"""Averaging the probabilities of several networks, such as the RGB and flow streams (paper section 4).

Input: recognizers with the same class names, and the path of a video. Output: one `Prediction`. Each network reads its own
clips, RGB or optical flow; a video that any of them cannot read has failed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from muybridge.datasets.classes import match_classes
from muybridge.evaluation.fuse import normalize_weights
from muybridge.prediction.recognizer import Prediction, Recognizer
from muybridge.prediction.video_inputs import AnyVideo


@dataclass(frozen=True)
class Ensemble:
    """Recognizers and their weights in the mean, which sum to 1. Use `create_ensemble`, which checks both."""

    members: tuple[Recognizer, ...]
    normalized_weights: tuple[float, ...]

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
        classes = self.members[0].card.classes
        total: NDArray[np.float64] = np.zeros(len(classes))
        reasons = []
        for member, weight, prediction in zip(self.members, self.normalized_weights, predictions, strict=True):
            modality = member.card.preprocessing.modality
            if prediction.status != "ok":
                return Prediction(prediction.video, prediction.status, f"{modality}: {prediction.reason}")
            if prediction.reason:
                reasons.append(f"{modality}: {prediction.reason}")
            probabilities = dict(prediction.classes)
            class_order = match_classes(classes, member.card.classes)
            total += weight * np.array([probabilities[member.card.classes[index]] for index in class_order])
        best = np.argsort(-total, kind="stable")[:top]
        top_classes = tuple((classes[index], float(total[index])) for index in best)
        return Prediction(predictions[0].video, "ok", "; ".join(reasons), top_classes)


def create_ensemble(members: Sequence[Recognizer], weights: Sequence[float]) -> Ensemble:
    """Build an ensemble. Raises ValueError where the classes of the networks differ, or a weight is missing or negative."""
    for member in members:
        member.card.check_single_label("averaging networks")
    first = members[0].card.classes
    for member in members[1:]:
        try:
            match_classes(first, member.card.classes)
            match_classes(member.card.classes, first)
        except ValueError as error:
            raise ValueError(f"the networks have different classes: {error}") from error
    return Ensemble(tuple(members), normalize_weights(weights, len(members)))
