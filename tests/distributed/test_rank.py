"""Signals become a flag; exit codes tell a scheduler what to do."""

import ctypes
import os
import signal
import subprocess
import sys

import pytest

from muybridge.distributed.rank import Rank, current_rank, resolve_num_workers
from muybridge.distributed.stop import StopRequested, stop_on_signals


def test_alone_without_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert current_rank() == Rank(0, 1, 0)
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert current_rank() == Rank(3, 4, 0)
    assert not current_rank().is_rank0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGINT, 130)])
def test_a_signal_sets_the_flag_and_decides_the_code(number: signal.Signals, code: int) -> None:
    before = signal.getsignal(number)
    with stop_on_signals() as flag:
        assert flag.signal_number is None
        os.kill(os.getpid(), number)
        assert flag.signal_number == number
    assert signal.getsignal(number) == before
    assert StopRequested(number).exit_code == code


def test_a_second_interrupt_is_immediate() -> None:
    with pytest.raises(KeyboardInterrupt), stop_on_signals():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


def test_workers_are_shared_by_the_ranks_of_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert resolve_num_workers(None) == 8
    assert resolve_num_workers(0) == 0
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert resolve_num_workers(None) == 2


def test_freed_memory_is_kept_and_asked_for_once() -> None:
    """Page faults of buffers that come and go, in a process of their own: glibc's settings are for good."""
    script = (
        "import ctypes, resource, sys; from muybridge.memory import keep_freed_memory\n"
        "if sys.argv[1] == 'keep': keep_freed_memory(1 << 28)\n"
        "for number in range(21):\n"
        "    if number == 1: before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    bytearray(b'x') * (1 << 26)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)"
    )
    page_faults = [
        int(subprocess.run([sys.executable, "-c", script, how], capture_output=True, check=True).stdout)
        for how in ("keep", "leave")
    ]
    if not hasattr(ctypes.CDLL(None), "mallopt"):
        pytest.skip("this C library has no mallopt")
    assert page_faults[0] < page_faults[1] / 5
