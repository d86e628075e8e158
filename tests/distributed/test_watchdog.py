"""Phases: a time limit that fires once with one sentence, and errors that name the phase they happened in."""

from __future__ import annotations

import threading

import pytest

from muybridge.distributed.rank import Rank
from muybridge.distributed.watchdog import PhaseError, Watchdog

INSTANT = 1e-6  # minutes


def test_a_phase_that_outlasts_its_limit_is_named_with_its_videos() -> None:
    messages, fired = [], threading.Event()

    def record(message: str) -> None:
        messages.append(message)
        fired.set()

    with Watchdog(Rank(1, 2), on_timeout=record) as watchdog:
        watchdog.start_phase("training step 3", 60, "timeouts.step_minutes")
        watchdog.start_phase("saving step 3", INSTANT, "timeouts.checkpoint_minutes", list_videos=lambda: ["b", "a"])
        assert fired.wait(60)
    assert messages == [
        "rank 1 of 2: saving step 3 has taken longer than 1e-06 minutes (timeouts.checkpoint_minutes); the videos are a, b"
    ]


def test_a_phase_that_has_ended_has_no_limit() -> None:
    messages: list[str] = []
    with Watchdog(Rank(), on_timeout=messages.append) as watchdog:
        watchdog.start_phase("training step 3", 1 / 600, "timeouts.step_minutes")
        watchdog.end_phase()
        threading.Event().wait(0.2)
    assert messages == []


def test_an_error_names_the_innermost_phase_once_and_only_among_ranks() -> None:
    error = RuntimeError("connection closed\nby peer")
    with Watchdog(Rank(0, 2)) as watchdog, pytest.raises(PhaseError) as raised:  # noqa: SIM117
        with watchdog.limit_phase("reading", 60, "a", list_videos=lambda: ["x.mp4"]):
            raise error
    assert str(raised.value) == "reading: connection closed; the videos are x.mp4"
    assert watchdog.name_phase(raised.value) is raised.value
    assert Watchdog(Rank()).name_phase(error) is error
