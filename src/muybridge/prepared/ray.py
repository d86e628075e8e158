"""Transcoding as tasks of a Ray cluster (extra `ray`).

Every machine must see the source under the same paths. Ray repeats the tasks of a worker or machine that dies elsewhere. Only
the calling process writes the prepared folder, so each video is recorded once and a run is resumed like any other. Each task
transcodes in a child process with the same timeout as on a single machine.
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
    """Yield the index and the result of each job in order of completion. Arguments as those of `run_on_ray`."""
    return run_on_ray(
        _transcode_one,
        ((job_index, (job, timeout_seconds)) for job_index, job in jobs),
        address=address,
        on_worker_lost=lambda job_index, reason: VideoError("unreadable", reason),
    )


def _transcode_one(job: TranscodeJob, timeout_seconds: float) -> TranscodeResult:
    ((_, result),) = transcode_in_workers([(0, job)], num_workers=1, timeout_seconds=timeout_seconds)
    return result
