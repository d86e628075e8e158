"""Stop requests by signals: the flag, what is said, and who handles a second Ctrl-C."""

from __future__ import annotations

import signal

import pytest

from muybridge.distributed.stop import SIGNAL_NUMBERS, StopFlag, StopRequested, exit_on_signals, stop_on_signals

NOTE = "stopping after this video; Ctrl-C again to stop now\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75), (signal.SIGUSR1, 75)])
def test_a_signal_sets_the_flag(number: int, code: int, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(StopRequested) as stopped, stop_on_signals("video") as stop:
        stop.raise_if_requested()
        signal.raise_signal(number)
        assert stop.signal_number == number
        stop.raise_if_requested()
    assert stopped.value.exit_code == code
    assert capfd.readouterr() == ("", NOTE if number == signal.SIGINT else "")


def test_a_second_ctrl_c_goes_to_the_handler_outside(capfd: pytest.CaptureFixture[str]) -> None:
    received: list[int] = []
    previous = signal.signal(signal.SIGINT, lambda number, _: received.append(number))
    try:
        with stop_on_signals("video") as stop:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)  # the first Ctrl-C
            assert stop.signal_number == signal.SIGINT
            assert not received
            signal.raise_signal(signal.SIGINT)
        assert received == [signal.SIGINT]
        signal.raise_signal(signal.SIGINT)
        assert len(received) == 2  # the handler is back
    finally:
        signal.signal(signal.SIGINT, previous)
    assert capfd.readouterr().err == ""  # it was stopping already


def test_without_a_handler_outside_a_second_ctrl_c_is_an_interrupt(capfd: pytest.CaptureFixture[str]) -> None:
    flag = StopFlag("video")
    flag.handle_signal(signal.SIGINT, None)
    assert capfd.readouterr().err == NOTE
    with pytest.raises(KeyboardInterrupt):
        flag.handle_signal(signal.SIGINT, None)


def test_a_failure_after_a_signal_is_its_consequence() -> None:
    with pytest.raises(StopRequested), stop_on_signals():
        signal.raise_signal(signal.SIGTERM)
        raise OSError("a child process has ended")
    with pytest.raises(OSError, match="disk"), stop_on_signals():
        raise OSError("the disk is full")


def test_a_block_inside_another_shares_its_flag_and_all_handlers_come_back() -> None:
    before = [signal.getsignal(number) for number in SIGNAL_NUMBERS]
    with stop_on_signals() as outer:
        with stop_on_signals() as inner:
            assert inner is outer
        signal.raise_signal(signal.SIGUSR1)
        assert outer.signal_number == signal.SIGUSR1
    with exit_on_signals(str):
        assert [signal.getsignal(number) for number in SIGNAL_NUMBERS] != before
    assert [signal.getsignal(number) for number in SIGNAL_NUMBERS] == before
