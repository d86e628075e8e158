"""Several networks on one video: their probabilities averaged, as for two streams (paper section 4).

Enter: recognizers of the same classes, by name, and the path of a video. Leaves: one `Prediction`. Each network sees its own
clips of the video, RGB or optical flow; a video that one of them cannot read is a failed one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from muybridge.datasets.classes import match_classes
from muybridge.evaluation.fuse import normalize_weights
from muybridge.prediction.recognizer import Prediction, Recognizer


@dataclass(frozen=True)
class Ensemble:
    """Recognizers and the share of each in the mean. `ensemble` makes one that fits together."""

    members: tuple[Recognizer, ...]
    normalized_weights: tuple[float, ...]

    def predict(self, video: str | Path, *, clips: int = 10, top: int = 5) -> Prediction:
        """The `top` classes of a video by the mean of what each network says of `clips` uniform clips."""
        if top < 1:
            raise ValueError(f"a prediction names at least 1 class, not {top}")
        classes = self.members[0].card.classes
        total: NDArray[np.float64] = np.zeros(len(classes))
        reasons = []
        for member, weight in zip(self.members, self.normalized_weights, strict=True):
            prediction = member.predict(video, clips=clips, top=len(classes))
            modality = member.card.preprocessing.modality
            if prediction.status != "ok":
                return Prediction(prediction.video, prediction.status, f"{modality}: {prediction.reason}")
            if prediction.reason:
                reasons.append(f"{modality}: {prediction.reason}")
            probabilities = dict(prediction.classes)
            matched_names = [
                member.card.classes[class_index] for class_index in match_classes(classes, member.card.classes)
            ]
            total += weight * np.array([probabilities[name] for name in matched_names])
        best = np.argsort(-total, kind="stable")[:top]
        top_classes = tuple((classes[index], float(total[index])) for index in best)
        return Prediction(str(video), "ok", "; ".join(reasons), top_classes)


def create_ensemble(members: Sequence[Recognizer], weights: Sequence[float]) -> Ensemble:
    """ValueError where the networks do not tell the same classes apart, or where a weight is missing or negative."""
    first = members[0].card.classes
    for member in members[1:]:
        try:
            match_classes(first, member.card.classes)
            match_classes(member.card.classes, first)
        except ValueError as error:
            raise ValueError(f"the networks are not of the same classes: {error}") from error
    return Ensemble(tuple(members), normalize_weights(weights, len(members)))
