"""Work on single videos as tasks of a Ray cluster (extra `ray`): jobs in, outcomes out as they are done.

A worker or machine that dies loses the videos it had in hand; Ray gives them to others. The process that keeps the books alone
writes, so each video counts once, and a run is resumed as any other. Every machine must see the files under the same paths.
Transcoding is one such work, in a child process of its worker under the same time-out as on one machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from muybridge.distributed.ray_tasks import on_ray
from muybridge.prepared.transcode import Transcoding
from muybridge.prepared.worker_pool import Outcome, transcode_in_children
from muybridge.records import VideoError


def transcode_on_ray(
    jobs: Iterable[tuple[int, Transcoding]], *, address: str, timeout_seconds: float
) -> Iterator[tuple[int, Outcome]]:
    """Each job's number and outcome, as they are done."""
    return on_ray(
        _one,
        ((number, (wanted, timeout_seconds)) for number, wanted in jobs),
        address=address,
        lost=lambda number, reason: VideoError("unreadable", reason),
    )


def _one(wanted: Transcoding, timeout_seconds: float) -> Outcome:
    ((_, outcome),) = transcode_in_children([(0, wanted)], num_children=1, timeout_seconds=timeout_seconds)
    return outcome
