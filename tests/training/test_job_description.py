"""The description of a run before it starts."""

from __future__ import annotations

from pathlib import Path

from muybridge.training.job import prepare_job
from muybridge.training.job_description import describe_job
from runs import save_job, tiny_run


def test_what_is_said_before_a_run(motions: Path, tmp_path: Path) -> None:
    job = prepare_job(tiny_run(motions, tmp_path / "run"))
    count = sum(parameter.numel() for parameter in job.network.parameters())
    assert describe_job(job) == [
        "training in fp32: on a CPU bf16 is used only on request",
        f"r2plus1d_10 with {count:,} parameters on cpu; 16 training and 4 validation videos of 2 classes",
        "48 clips in 12 steps of 4; the time they take is measured on the first steps",
    ]
    save_job(job)
    assert "48 clips in 12 steps of 4, 7 of them left; the time they take" in describe_job(job)[-1]
    save_job(job, 12)
    assert describe_job(job)[-1] == "all 12 steps of the run are done"
