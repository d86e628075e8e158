"""Which test videos a run classifies correctly: what intervals over videos and paired differences are made from.

Input: the scores of an evaluation. Output: `VideoResults`, which a row of rows.jsonl holds as two short texts.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Annotated, Any

import numpy as np
from annotated_types import Interval
from numpy.typing import NDArray

from muybridge.datasets.rows import find_recording
from muybridge.evaluation.aggregate import VideoScores
from muybridge.evaluation.metrics import compute_video_ranks
from muybridge.studies.intervals import Values


@dataclass(frozen=True, eq=False)
class VideoResults:
    """Results of the labelled videos, sorted by name: right at video@1, bool (V,); right and planned views, uint16 (V,).

    `recordings` has the number of segments of each recording, in the same order; empty where every video is a file.
    """

    videos_sha256: str
    right_v: NDArray[np.bool_]
    right_views_v: NDArray[np.uint16]
    views: int
    recordings: tuple[int, ...] = ()

    def get_values(self, metric: str) -> Values | None:
        """video_top1 or clip_top1 of each video in percent, float64 (V,); None for metrics that are not stored by video."""
        match metric:
            case "video_top1":
                return 100.0 * self.right_v.astype(np.float64)
            case "clip_top1":
                return 100.0 * self.right_views_v.astype(np.float64) / self.views
            case _:
                return None

    def to_json(self) -> dict[str, Any]:
        """As a row stores it."""
        values = {
            "sha256": self.videos_sha256,
            "num": len(self.right_v),
            "views": self.views,
            "right": _encode(np.packbits(self.right_v)),
            "right_views": _encode(self.right_views_v.astype("<u2").view(np.uint8)),
        }
        return values | ({"recordings": list(self.recordings)} if self.recordings else {})

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> VideoResults:
        """The inverse of `to_json`."""
        right = np.unpackbits(_decode(values["right"]), count=values["num"]).astype(np.bool_)
        right_views = _decode(values["right_views"]).view("<u2")
        return cls(values["sha256"], right, right_views, values["views"], tuple(values.get("recordings", ())))


@dataclass(frozen=True)
class StoredVideoResults:
    """The values of `VideoResults.to_json`. ValueError where the texts are not of as many videos."""

    sha256: str
    num: Annotated[int, Interval(ge=1, le=1_000_000_000)]
    views: Annotated[int, Interval(ge=1, le=65_535)]
    right: str
    right_views: str
    recordings: tuple[Annotated[int, Interval(ge=1)], ...] = ()

    def __post_init__(self) -> None:
        num_bits, num_views = (8 * len(_decode(self.right)), len(_decode(self.right_views)) // 2)
        if not (self.num <= num_bits < self.num + 8 and self.num == num_views):
            raise ValueError(f"the results of {self.num} videos have {num_bits} bits and {num_views} counts of views")
        if self.recordings and sum(self.recordings) != self.num:
            raise ValueError(f"the recordings of {self.num} segments have {sum(self.recordings)}")


def collect_video_results(scores: VideoScores) -> VideoResults:
    """The results of the labelled videos of an evaluation; an unreadable video is wrong."""
    labelled = [index for index, labels in enumerate(scores.labels) if labels]
    order = sorted(labelled, key=lambda index: scores.videos[index])
    names = [scores.videos[index] for index in order]
    recordings = tuple(len(list(segments)) for _, segments in groupby(names, find_recording))
    return VideoResults(
        hashlib.sha256("\n".join(names).encode()).hexdigest(),
        (compute_video_ranks(scores) < 1)[order],
        scores.num_right_views[order].astype(np.uint16),
        int(scores.num_views[0]),
        recordings if len(recordings) < len(names) else (),
    )


def _encode(values: NDArray[np.uint8]) -> str:
    return base64.b64encode(values.tobytes()).decode()


def _decode(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(base64.b64decode(text), np.uint8)
