"""The description of a run before it starts, and the estimate of its time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from muybridge.models.network import VideoResNet
from muybridge.training import estimate as estimate_module
from muybridge.training.estimate import describe_job, measure_seconds_per_clip
from muybridge.training.job import prepare_job
from runs import save_job, tiny_run


class Clock:
    """Every clip takes a tenth of a second, and the first step of each size a second more."""

    def __init__(self) -> None:
        self.now = 0.0
        self.sizes: list[int] = []

    def perf_counter(self) -> float:
        return self.now


@pytest.mark.parametrize(("batch_size", "sizes"), [(1, [2]), (4, [2, 4]), (6, [2, 4]), (64, [2, 4])])
def test_the_estimate_is_of_the_best_repeat_and_never_takes_long(
    batch_size: int, sizes: list[int], motions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = prepare_job(tiny_run(motions, tmp_path / "run", {"training.batch_size": batch_size}))
    clock = Clock()
    monkeypatch.setattr(estimate_module, "time", clock)
    forward = VideoResNet.forward

    def timed(network: VideoResNet, clips: torch.Tensor) -> torch.Tensor:
        clock.now += 0.1 * len(clips) + (0.15 if len(clips) not in clock.sizes else 0.0)
        clock.sizes.append(len(clips))
        return forward(network, clips)

    monkeypatch.setattr(VideoResNet, "forward", timed)
    before = {name: tensor.clone() for name, tensor in job.network.state_dict().items()}
    assert measure_seconds_per_clip(job) == pytest.approx(0.1)
    assert sorted(set(clock.sizes)) == sizes
    assert all(torch.equal(before[name], tensor) for name, tensor in job.network.state_dict().items())


def test_what_is_said_before_a_run(motions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate_module, "measure_seconds_per_clip", lambda job: 2.5)
    job = prepare_job(tiny_run(motions, tmp_path / "run"))
    count = sum(parameter.numel() for parameter in job.network.parameters())
    assert describe_job(job) == [
        "training in fp32: on a CPU bf16 is used only on request",
        f"r2plus1d_10 with {count:,} parameters on cpu; 16 training and 4 validation videos of 2 classes",
        "48 clips in 12 steps of 4: about 2 minutes at 0.4 clips a second, if loading keeps up, plus validation",
    ]
    save_job(job)
    assert "48 clips in 12 steps of 4, 7 of them left: about 70 seconds at 0.4 clips" in describe_job(job)[-1]
    save_job(job, 12)
    assert describe_job(job)[-1] == "all 12 steps of the run are done"
