"""What Tables 4, 5 and 6 share: RGB, optical flow and the mean of both, seed by seed."""

from __future__ import annotations

from collections.abc import Sequence

from muybridge.records import Modality
from muybridge.studies.plan import Fused, Run, Scoring
from muybridge.studies.study import Results

MODALITIES: tuple[Modality, ...] = ("rgb", "flow")


def two_streams(rgb: Sequence[Run], flow: Sequence[Run], test: Scoring) -> list[Fused]:
    """The mean of both streams for every seed, equal weights."""
    return [Fused((first, second), test) for first, second in zip(rgb, flow, strict=True)]


def best_stream(results: Results, streams: Sequence[Sequence[Run]], test: Scoring) -> dict[int, float]:
    """video@1 of the better of several streams, seed by seed: what a mean has to beat."""
    of = [results.by_seed(stream, test) for stream in streams]
    common = set(of[0]).intersection(*of[1:])
    return {seed: max(stream[seed] for stream in of) for seed in sorted(common)}
