"""Child processes that hang, die or get missing files: the video is what failed, and the others are done."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from muybridge.prepared import ray
from muybridge.prepared.transcode import StoredVideo, TranscodeJob
from muybridge.prepared.worker_pool import TranscodeResult, transcode_in_workers
from muybridge.records import VideoError
from videos import write_video


@dataclass(frozen=True)
class Trap:
    """A job that does something to the process that receives it, as a decoder's fault would."""

    call: Any
    value: Any

    def __reduce__(self) -> tuple[Any, tuple[Any]]:
        return self.call, (self.value,)


def crash(signal_number: int) -> None:
    os.kill(os.getpid(), signal_number)


def die_in_the_result(job: TranscodeJob) -> TranscodeJob:
    """The job, after whose transcoding the process writes half of the result and is killed."""

    def send_half(connection: Connection, content: bytes) -> None:
        os.write(connection.fileno(), content[: len(content) // 2])
        crash(signal.SIGKILL)

    Connection._send = send_half
    return job


@pytest.fixture
def good(tmp_path: Path) -> TranscodeJob:
    return TranscodeJob(str(write_video(tmp_path / "a.mp4", 40)), None, None, None, 32, 43)


def transcode_all(jobs: list[Any], *, timeout_seconds: float = 120) -> dict[int, TranscodeResult]:
    return dict(transcode_in_workers(enumerate(jobs), num_workers=2, timeout_seconds=timeout_seconds))


@pytest.mark.parametrize(
    ("trap", "reason"),
    [
        (Trap(crash, signal.SIGSEGV), "was killed by SIGSEGV"),
        (Trap(crash, signal.SIGKILL), "was killed by SIGKILL"),
        (Trap(os._exit, 7), "ended with exit code 7"),
    ],
)
def test_a_video_that_ends_its_process_has_failed_and_the_others_are_done(
    good: TranscodeJob, trap: Trap, reason: str
) -> None:
    results = transcode_all([good, trap, good, trap, good])
    assert [index for index, result in sorted(results.items()) if isinstance(result, StoredVideo)] == [0, 2, 4]
    for index in (1, 3):
        assert isinstance(error := results[index], VideoError)
        assert (error.status, error.reason) == ("unreadable", f"the process that decoded it {reason}")


def test_a_process_that_is_killed_while_it_writes_its_result_fails_one_video(good: TranscodeJob) -> None:
    results = transcode_all([good, Trap(die_in_the_result, good), good])
    assert [index for index, result in sorted(results.items()) if isinstance(result, StoredVideo)] == [0, 2]
    assert str(results[1]) == "the process that decoded it was killed by SIGKILL"


def test_a_fault_of_a_library_is_the_videos_and_no_traceback(
    good: TranscodeJob, capfd: pytest.CaptureFixture[str]
) -> None:
    results = transcode_all([Trap(len, "no job"), good])
    assert str(results[0]) == "the file cannot be transcoded (AttributeError: 'int' object has no attribute 'path')"
    assert isinstance(results[1], StoredVideo)
    assert capfd.readouterr() == ("", "")


def test_a_video_that_hangs_has_timed_out_and_the_others_are_done(good: TranscodeJob) -> None:
    results = transcode_all([good, Trap(time.sleep, 3600), good], timeout_seconds=6)
    assert [getattr(results[index], "status", "ok") for index in range(3)] == ["ok", "timed_out", "ok"]


def test_a_missing_file_is_reported(good: TranscodeJob, tmp_path: Path) -> None:
    results = transcode_all([good, TranscodeJob(str(tmp_path / "none.mp4"), None, None, None, 32, 43)])
    assert [getattr(results[index], "status", "ok") for index in range(2)] == ["ok", "missing"]


def test_a_task_of_a_cluster_transcodes_one_video_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def transcode(jobs: object, **options: object) -> list[tuple[int, str]]:
        asked.append((jobs, options))
        return [(0, "the result")]

    monkeypatch.setattr(ray, "transcode_in_workers", transcode)
    monkeypatch.setattr(ray, "run_on_ray", lambda task, jobs, **_: [(index, task(*job)) for index, job in jobs])
    results = ray.transcode_on_ray([(7, "a job")], address="local", timeout_seconds=9.0)  # type: ignore[list-item]
    assert list(results) == [(7, "the result")]
    assert asked == [([(0, "a job")], {"num_workers": 1, "timeout_seconds": 9.0})]
