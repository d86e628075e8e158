"""torchrun as people start it: two processes, one killed on the way, started again by --max-restarts, to the same end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from muybridge.files.run_folder import read_json_lines
from muybridge.settings import settings_to_dict
from muybridge.training.checkpoint import find_last_step
from ranks import free_port
from runs import tiny_run


def ranks_of(agent: int) -> list[int]:
    """The processes that torchrun has started."""
    children = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
    commands = {int(child): Path(f"/proc/{child}/cmdline").read_bytes() for child in children}
    return [child for child, command in commands.items() if b"muybridge\0train" in command]


@pytest.fixture
def torchrun(motions: Path, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A run of 120 steps over two ranks that saves after every one, when it has saved five; what it says goes to `stderr`."""
    changes = {"training.batch_size": 2, "training.epochs": 20, "checkpoints.every_minutes": 1e-9}
    settings = tiny_run(motions, tmp_path / "run", {**changes, "training.validate_every_epochs": 0})
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(settings_to_dict(settings)))
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", "2"]
    command = [*launch, "--master-port", str(free_port()), "-m", "muybridge", "train", "--config"]
    with (tmp_path / "stderr").open("w") as stderr:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        agent = subprocess.Popen(
            [*command, str(tmp_path / "settings.yaml")], stdout=stderr, stderr=stderr, env=environment
        )
        try:
            while agent.poll() is None and find_last_step(tmp_path / "run" / "checkpoints") < 5:
                time.sleep(0.01)
            yield agent
        finally:
            if agent.poll() is None:
                agent.terminate()  # which ends the ranks too
                agent.wait()


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the ranks in /proc")
def test_a_killed_rank_is_started_again_and_the_run_ends_as_it_would_have(
    torchrun: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    os.kill(ranks_of(torchrun.pid)[-1], signal.SIGKILL)
    assert torchrun.wait() == 0, (tmp_path / "stderr").read_text()[-3000:]
    lines = [line for line in read_json_lines(tmp_path / "run" / "log.jsonl") if line["kind"] == "train"]
    assert [line["step"] for line in lines] == list(range(1, 121))
    assert "resuming at step" in (tmp_path / "stderr").read_text()


@pytest.mark.long
def test_torchrun_hands_a_request_to_stop_to_the_ranks_and_says_1(
    torchrun: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    torchrun.send_signal(signal.SIGTERM)
    assert torchrun.wait() == 1
    stderr = (tmp_path / "stderr").read_text()
    for rank in (0, 1):
        assert f"rank {rank} of 2: stopped by SIGTERM; everything is saved" in stderr
    steps = [line["step"] for line in read_json_lines(tmp_path / "run" / "log.jsonl")]
    assert 5 <= find_last_step(tmp_path / "run" / "checkpoints") == max(steps) < 120
