from __future__ import annotations

import pytest

from muybridge.models.heads import Head
from muybridge.prediction.live_events import EventDetector, Hysteresis, LiveEvent, choose_hysteresis
from muybridge.prediction.timeline import Window


def detect(probabilities: list[float], hysteresis: Hysteresis, *, finish: bool = True) -> list[LiveEvent]:
    detector = EventDetector(("fall", "rest"), (hysteresis, hysteresis))
    events: list[LiveEvent] = []
    for start, probability in enumerate(probabilities):
        events += detector.add(Window(start, start + 2, (probability, 0.0)))
    return [*events, *(detector.finish() if finish else [])]


def test_a_flickering_probability_is_one_event() -> None:
    events = detect([0.1, 0.7, 0.5, 0.65, 0.45, 0.3, 0.1], Hysteresis())
    assert [(event.kind, event.label, event.seconds) for event in events] == [
        ("start", "fall", 2.0),
        ("end", "fall", 6.0),
    ]
    assert events[1].segment is not None
    assert (events[1].segment.start_seconds, events[1].segment.end_seconds) == (2.0, 6.0)
    assert events[1].segment.mean_probability == pytest.approx((0.7 + 0.5 + 0.65 + 0.45) / 4)


def test_several_windows_may_be_asked_for() -> None:
    events = detect([0.7, 0.1, 0.7, 0.7, 0.1], Hysteresis(windows=2))
    assert [(event.kind, event.seconds) for event in events] == [("start", 3.0), ("end", 5.0)]


def test_what_goes_on_ends_with_the_stream() -> None:
    events = detect([0.9, 0.8], Hysteresis())
    assert [(event.kind, event.seconds) for event in events] == [("start", 1.0), ("end", 2.0)]
    assert [event.kind for event in detect([0.9, 0.8], Hysteresis(), finish=False)] == ["start"]


def test_classes_are_independent() -> None:
    detector = EventDetector(("a", "b"), (Hysteresis(on=0.4, off=0.2),) * 2)
    events = [*detector.add(Window(0, 2, (0.5, 0.5))), *detector.add(Window(1, 3, (0.9, 0.1)))]
    assert [(event.kind, event.label) for event in events] == [("start", "a"), ("start", "b"), ("end", "b")]


def test_thresholds_that_cross_are_refused() -> None:
    with pytest.raises(ValueError, match=r"off is 0\.7, expected at most on, which is 0\.6"):
        Hysteresis(off=0.7)


def test_classes_with_thresholds_begin_at_them() -> None:
    head = Head("multi_label", ("rare", "common"), "sigmoid", thresholds=(0.09, 0.9))
    rare, common = choose_hysteresis(head.outputs, head, on=None, off=None, num_windows=2)
    assert (rare.on, rare.off, rare.windows) == (0.09, pytest.approx(0.06), 2)
    assert (common.on, common.off) == (0.9, pytest.approx(0.6))
    detector = EventDetector(head.outputs, (Hysteresis(0.09, 0.06), Hysteresis(0.9, 0.6)))
    events = [
        event
        for start, pair in enumerate(((0.1, 0.8), (0.05, 0.9)))
        for event in detector.add(Window(start, start + 2, pair))
    ]
    assert [(event.kind, event.label) for event in events] == [("start", "rare"), ("end", "rare"), ("start", "common")]


def test_given_thresholds_are_those_of_every_class() -> None:
    head = Head("multi_label", ("a", "b"), "sigmoid", thresholds=(0.09, 0.9))
    assert choose_hysteresis(head.outputs, head, on=0.8, off=None, num_windows=1) == (Hysteresis(0.8, 0.4),) * 2
    assert choose_hysteresis(("a", "b", "c"), None, on=None, off=None, num_windows=1) == (Hysteresis(0.6, 0.4),) * 3
