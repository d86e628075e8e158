"""Work on single videos as tasks of a Ray cluster (extra `ray`): jobs in, outcomes out as they are done.

A worker or machine that dies loses the videos it had in hand; Ray gives them to others. The process that keeps the books alone
writes, so each video counts once, and a run is resumed as any other. Every machine must see the files under the same paths.
Transcoding is one such work, in a child process of its worker under the same time-out as on one machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from muybridge.distributed.ray_tasks import run_on_ray
from muybridge.prepared.transcode import TranscodeJob
from muybridge.prepared.worker_pool import TranscodeResult, transcode_in_workers
from muybridge.records import VideoError


def transcode_on_ray(
    jobs: Iterable[tuple[int, TranscodeJob]], *, address: str, timeout_seconds: float
) -> Iterator[tuple[int, TranscodeResult]]:
    """Each job's number and outcome, as they are done."""
    return run_on_ray(
        _transcode_one,
        ((job_index, (job, timeout_seconds)) for job_index, job in jobs),
        address=address,
        on_worker_lost=lambda number, reason: VideoError("unreadable", reason),
    )


def _transcode_one(job: TranscodeJob, timeout_seconds: float) -> TranscodeResult:
    ((_, outcome),) = transcode_in_workers([(0, job)], num_workers=1, timeout_seconds=timeout_seconds)
    return outcome
