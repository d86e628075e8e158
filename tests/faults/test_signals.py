"""Stop signals at random moments, sent to real commands: an exit code, one sentence, and the same result afterwards."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from muybridge.files.run_folder import read_json_lines

COMMAND = [sys.executable, "-m", "muybridge"]
TRAIN_OPTIONS = (
    *("--model", "r2plus1d_10", "--network.width", "4", "--clips.length", "4", "--clips.scale", "[32,32]"),
    *("--clips.crop", "28", "--training.batch_size", "4", "--training.epochs", "2", "--training.clips_per_epoch", "24"),
    *("--evaluation.clips", "2", "--loading.workers", "1", "--device", "cpu"),
)
MANY = [pytest.mark.long, pytest.mark.timeout(900)]
SOAK = [pytest.mark.soak, pytest.mark.timeout(3600)]
SECONDS = 120
START_SECONDS = 0.15  # of the interpreter itself, before the first line of the command


def run(arguments: Sequence[object], *, signal_number: int | None = None, delay: float = 0.0) -> tuple[int, str, float]:
    """The exit code, the standard error and the seconds of a command that gets a signal after `delay` seconds."""
    start = time.monotonic()
    with subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        if signal_number is not None:
            time.sleep(delay)
            if process.poll() is None:
                os.killpg(process.pid, signal_number)  # workers too, as from a terminal or SLURM
        _, errors = process.communicate(timeout=SECONDS)
    return process.returncode, errors, time.monotonic() - start


def stop_until_done(arguments: Sequence[object], num_signals: int, *, resume: Sequence[str] = ()) -> None:
    """Repeats a command and sends each a signal at a random moment, then lets it finish."""
    draw, longest = random.Random(num_signals), 6.0
    for number in range(num_signals):
        signal_number = draw.choice((signal.SIGTERM, signal.SIGTERM, signal.SIGINT))
        delay = draw.uniform(START_SECONDS, longest)
        code, errors, _ = run([*arguments, *resume], signal_number=signal_number, delay=delay)
        assert "Traceback" not in errors, errors
        assert code in (0, 75 if signal_number == signal.SIGTERM else 130), (number, delay, code, errors)
        if code == 0:
            return  # it had finished before the signal
        assert f"stopped by {signal.Signals(signal_number).name}; " in errors
        assert sum(line.startswith("muybridge: ") for line in errors.splitlines()) == 1, errors
    code, errors, _ = run([*arguments, *resume])
    assert code == 0, errors


@pytest.fixture
def videos(motions: Path, tmp_path: Path) -> Path:
    """A folder of 60 short videos."""
    folder = tmp_path / "videos"
    folder.mkdir()
    source = sorted((motions / "train").rglob("*.mp4"))
    for number in range(60):
        shutil.copyfile(source[number % len(source)], folder / f"{number:03d}.mp4")
    return folder


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "num_signals",
    [*(pytest.param(n, marks=MANY) for n in (1, 6)), *(pytest.param(n, marks=SOAK) for n in range(8, 20))],
)
def test_training_resumes(num_signals: int, motions: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    stop_until_done(["train", "--data", motions, "-o", output, *TRAIN_OPTIONS], num_signals, resume=["--resume"])
    lines = read_json_lines(output / "log.jsonl")
    assert [line["step"] for line in lines if line["kind"] == "train"] == list(range(1, 13))
    assert sorted({line["step"] for line in lines if line["kind"] == "validation"}) == [6, 12]
    assert not [path for path in output.rglob(".*") if path.suffix in (".partial", ".lock")]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("verb", "num_signals"),
    [
        ("predict", 1),
        *(pytest.param(verb, 4, marks=MANY) for verb in ("predict", "extract")),
        *(pytest.param(verb, n, marks=SOAK) for verb in ("predict", "extract") for n in range(8, 14)),
    ],
)
def test_tables_resume(num_signals: int, verb: str, finished_run: Path, videos: Path, tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    stop_until_done([verb, finished_run, videos, "-o", path, "--clips", "2", "--device", "cpu"], num_signals)
    names = pq.read_table(path)["video"].to_pylist()
    assert len(set(names)) == 60
    assert len(names) == (60 if verb == "predict" else 120)
    assert sorted(tmp_path.iterdir()) == [path, videos]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("keep", "num_signals"),
    [
        *(pytest.param(keep, 4, marks=MANY) for keep in ("views", "videos")),
        *(pytest.param(keep, n, marks=SOAK) for keep in ("views", "videos") for n in range(8, 14)),
    ],
)
def test_evaluation_resumes(num_signals: int, keep: str, finished_run: Path, motions: Path, tmp_path: Path) -> None:
    def build_command(path: Path) -> list[object]:
        options = ("--evaluation.keep", keep, "--loading.workers", "1", "--device", "cpu", "--split", "train")
        return ["evaluate", finished_run, "--data", motions, "-o", path, *options]

    stop_until_done(build_command(tmp_path / "stopped.parquet"), num_signals)
    assert run(build_command(tmp_path / "whole.parquet"))[0] == 0
    assert pq.read_table(tmp_path / "stopped.parquet").equals(pq.read_table(tmp_path / "whole.parquet"))
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "num_signals",
    [*(pytest.param(n, marks=MANY) for n in (1, 4)), *(pytest.param(n, marks=SOAK) for n in range(8, 14))],
)
def test_preparing_resumes(num_signals: int, motions: Path, tmp_path: Path) -> None:
    options = ("--scale", "32", "32", "--workers", "2")
    stop_until_done(["prepare", motions, "-o", tmp_path / "stopped", *options], num_signals)
    assert run(["prepare", motions, "-o", tmp_path / "whole", *options])[0] == 0
    for path in (tmp_path / "whole").rglob("*"):
        if path.is_file():
            assert (tmp_path / "stopped" / path.relative_to(tmp_path / "whole")).read_bytes() == path.read_bytes()
    assert run(["prepare", "--check", tmp_path / "stopped"])[0] == 0


@pytest.mark.timeout(600)
@pytest.mark.parametrize("num_signals", [pytest.param(4, marks=MANY), *(pytest.param(n, marks=SOAK) for n in (8, 12))])
def test_a_report_is_written_or_not(num_signals: int, finished_run: Path, tmp_path: Path) -> None:
    stop_until_done(["report", finished_run, "-o", tmp_path / "report.html"], num_signals)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_second_interrupt_ends_at_once(finished_run: Path, videos: Path, tmp_path: Path) -> None:
    """Between the two, the first one waits for its video."""
    program = (
        "import os, signal, sys, time\n"
        "from muybridge.cli import entry, main\n"
        "from muybridge.distributed.stop import stop_on_signals\n"
        "def hang():\n"
        "    with stop_on_signals():\n"
        "        print('ready', flush=True)\n"
        "        time.sleep(600)\n"
        "        time.sleep(600)\n"
        "main.main = hang\n"
        "sys.argv = ['muybridge', 'extract']\n"
        "sys.exit(entry.run())"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert errors.splitlines() == [
        "stopping after this step; Ctrl-C again to stop now",
        "muybridge: stopped by SIGINT; what is done is saved, run the same command again to continue",
    ]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_no_child_outlives_its_parent(signal_number: int, motions: Path, tmp_path: Path) -> None:
    arguments = ["prepare", motions, "-o", tmp_path / "data", "--workers", "2"]
    with subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        while not (tmp_path / "data" / "work" / "results.jsonl").exists():
            time.sleep(0.01)
        process.send_signal(signal_number)
        _, errors = process.communicate(timeout=SECONDS)  # the children hold the same standard error
    assert "Traceback" not in errors
    while list_session(process.pid):  # the time limit of the tests ends a failure
        time.sleep(0.01)


def list_session(session: int) -> list[int]:
    """The processes of a session that still run."""
    processes = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session_id = status.read_text().rpartition(")")[2].split()[:4]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(session_id) == session and state != "Z":
            processes.append(int(status.parent.name))
    return processes
