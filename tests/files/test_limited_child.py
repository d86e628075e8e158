"""Checks of files in a child process of limited memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from muybridge.files.limited_child import check_in_child
from muybridge.limits import VIDEO_BYTES

FEW_BYTES = 100 << 20


def write_process_id(path: str) -> None:
    Path(path).write_text(str(os.getpid()))


def refuse(path: str) -> None:
    raise ValueError(f"{Path(path).name} is hostile \u202e")


def allocate(path: str) -> None:
    np.ones(int(Path(path).read_text()), np.uint8)


def abort(path: str) -> None:
    os.abort()


def wait_forever(path: str) -> None:
    write_process_id(path)
    time.sleep(7200)  # longer than a test may take


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VIDEO_BYTES.variable, str(FEW_BYTES))
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    for function in (write_process_id, refuse, allocate, abort, wait_forever):
        monkeypatch.setattr(function, "__module__", Path(__file__).stem)
    return tmp_path / "file"


def test_it_runs_in_another_process(file: Path) -> None:
    check_in_child(write_process_id, str(file), VIDEO_BYTES)
    assert int(file.read_text()) != os.getpid()


def test_its_sentence_is_raised_here(file: Path) -> None:
    with pytest.raises(ValueError, match="file is hostile \u202e"):
        check_in_child(refuse, str(file), VIDEO_BYTES)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is limited by what /proc tells")
def test_memory_above_the_limit_is_named_with_its_variable(file: Path) -> None:
    file.write_text(str(FEW_BYTES // 2))
    check_in_child(allocate, str(file), VIDEO_BYTES)
    for num_bytes in (2 * FEW_BYTES, 1 << 40):  # one that succeeds, since libraries hide what fails, and one that fails
        file.write_text(str(num_bytes))
        with pytest.raises(
            ValueError, match=r"more than the limit of 104,857,600 .*; set MUYBRIDGE_MAX_VIDEO_BYTES to"
        ):
            check_in_child(allocate, str(file), VIDEO_BYTES)


def test_a_child_that_dies_says_nothing_of_its_own(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="more than the limit"):
        check_in_child(abort, str(file), VIDEO_BYTES)
    assert capfd.readouterr() == ("", "")


def test_it_ends_with_its_parent(file: Path) -> None:
    program = (
        "import sys; from muybridge.files.limited_child import check_in_child; from muybridge.limits import VIDEO_BYTES\n"
        "from test_limited_child import wait_forever\n"
        "check_in_child(wait_forever, sys.argv[1], VIDEO_BYTES)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen([sys.executable, "-c", program, str(file)], env=environment) as parent:
        while not (file.exists() and file.read_text()):
            assert parent.poll() is None
            time.sleep(0.05)
        parent.send_signal(signal.SIGKILL)
    child = int(file.read_text())
    while Path(f"/proc/{child}").exists() and "\nState:\tZ" not in Path(f"/proc/{child}/status").read_text():
        time.sleep(0.05)  # the time limit of the tests ends a failure
