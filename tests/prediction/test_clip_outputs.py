"""Clips of many videos by workers: a video that kills the process that reads it costs nothing but itself."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gray_frames import GrayFrames
from muybridge.loading.workers import WorkerKilled
from muybridge.prediction.clip_outputs import ClipOutputs, ClipPlan, ClipRunner
from muybridge.prediction.video_inputs import VideoInput
from muybridge.records import Preprocessing, VideoError, YuvClip

SMALL = Preprocessing(clip_length=4, scale_height=20, scale_width=24, crop=16)


class DeadlyFrames(GrayFrames):
    """Videos called `deadly...` kill the process that reads them; those called `once...` only the first time."""

    def __init__(self, marker: Path) -> None:
        super().__init__(20)
        self.marker = marker

    def read(self, video: str, ticks: NDArray[np.int64]) -> YuvClip:
        if video.startswith("deadly") or (video.startswith("once") and not self.marker.exists()):
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(video, ticks)


def run(tmp_path: Path, names: list[str], clips: int) -> list[tuple[str, ClipOutputs | VideoError]]:
    source = DeadlyFrames(tmp_path / "marker")
    runner = ClipRunner(lambda batch: batch.mean(dim=(2, 3, 4)), SMALL, torch.device("cpu"))
    inputs = [VideoInput(name, name, source) for name in names]
    return [(video.label, outputs) for video, _, outputs in runner.run_each(inputs, ClipPlan(clips), num_workers=2)]


def test_a_video_that_kills_its_reader_fails_alone(tmp_path: Path) -> None:
    names = [f"{number}" for number in range(25)]
    names[3], names[20] = "once a", "deadly b"
    results = run(tmp_path, names, clips := 2)
    assert [name for name, _ in results] == names
    failed = {name: outputs for name, outputs in results if isinstance(outputs, VideoError)}
    assert set(failed) == {"deadly b"}
    assert all("the process that reads it was killed 2 times" in error.reason for error in failed.values())
    assert all(len(outputs.rows) == clips for _, outputs in results if isinstance(outputs, ClipOutputs))


def test_processes_that_are_killed_without_reading_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(*args: Any, **options: Any) -> Any:
        raise WorkerKilled("a data worker was killed")

    monkeypatch.setattr("muybridge.prediction.clip_outputs.load_batches", lose)
    with pytest.raises(WorkerKilled):
        run(tmp_path, ["a", "b"], 1)
