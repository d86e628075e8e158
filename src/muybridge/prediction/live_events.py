"""Events along a stream: when a class begins and when it ends, with hysteresis, so that a flickering probability is one
event.

Input: windows in order of time. Output: an event when a class has been above the upper threshold for some windows, and
another when it falls below the lower one. Pure; classes are independent of each other and may overlap. Those of a network of
task multi_label have thresholds of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Interval

from muybridge.bounds import Share, check_fields
from muybridge.models.heads import Head
from muybridge.prediction.timeline import Segment, Window

_ON, _OFF = 0.6, 0.4


@dataclass(frozen=True)
class Hysteresis:
    """When a class counts as begun and as ended."""

    on: Share = _ON
    """A class begins when its probability is at least this ..."""
    off: Share = _OFF
    """... and ends when it is below this."""
    windows: Annotated[int, Interval(ge=1, le=100_000)] = 1
    """Number of consecutive windows that must be at or above `on`."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.off > self.on:
            raise ValueError(f"off is {self.off}, expected at most on, which is {self.on}")


def choose_hysteresis(
    classes: Sequence[str], head: Head | None, *, on: float | None, off: float | None, num_windows: int
) -> tuple[Hysteresis, ...]:
    """That of each class. Raises ValueError where `off` is above `on`.

    Where neither is given, a class of a multi_label network begins at its threshold, and ends below two thirds of it, as far
    from it as 0.4 is from 0.6.
    """
    if head and head.task == "multi_label" and on is None and off is None:
        return tuple(
            Hysteresis(threshold, threshold * _OFF / _ON, num_windows) for threshold in head.resolved_thresholds
        )
    same = Hysteresis(_ON if on is None else on, _OFF if off is None else off, num_windows)
    return (same,) * len(classes)


@dataclass(frozen=True)
class LiveEvent:
    """A class begins or ends. Of an end, `segment` is the whole event."""

    kind: Literal["start", "end"]
    label: str
    seconds: float
    probability: float
    segment: Segment | None = None

    def to_json(self) -> dict[str, Any]:
        """{type: event, kind, label, seconds, probability}; of an end also start_seconds and mean_probability."""
        values: dict[str, Any] = {
            "type": "event",
            "kind": self.kind,
            "label": self.label,
            "seconds": self.seconds,
            "probability": self.probability,
        }
        if self.segment:
            values |= {
                "start_seconds": self.segment.start_seconds,
                "mean_probability": self.segment.mean_probability,
            }
        return values


@dataclass
class _ClassState:
    """The windows in which a class has been probable; those before `is_on` count once it begins."""

    start_seconds: float = 0.0
    total: float = 0.0
    num_windows: int = 0
    is_on: bool = False


class EventDetector:
    """Turns windows into events. Times are the centres of windows. `hysteresis` is that of each class."""

    def __init__(self, classes: Sequence[str], hysteresis: Sequence[Hysteresis]) -> None:
        self._hysteresis = dict(zip(classes, hysteresis, strict=True))
        self._states = {label: _ClassState() for label in classes}
        self._last_seconds = 0.0

    def add(self, window: Window) -> Iterator[LiveEvent]:
        """The events that this window decides."""
        seconds = self._last_seconds = window.center_seconds
        for (label, state), probability in zip(self._states.items(), window.probabilities, strict=True):
            hysteresis = self._hysteresis[label]
            if state.is_on and probability < hysteresis.off:
                yield self._end(label, state, seconds, probability)
            elif state.is_on or probability >= hysteresis.on:
                if state.num_windows == 0:
                    state.start_seconds = seconds
                state.num_windows, state.total = state.num_windows + 1, state.total + probability
                if not state.is_on and state.num_windows >= hysteresis.windows:
                    state.is_on = True
                    yield LiveEvent("start", label, state.start_seconds, probability)
            else:
                self._states[label] = _ClassState()

    def finish(self) -> Iterator[LiveEvent]:
        """Ends what is still going on: the stream has ended or is interrupted."""
        for label, state in self._states.items():
            if state.is_on:
                yield self._end(label, state, self._last_seconds, state.total / state.num_windows)

    def _end(self, label: str, state: _ClassState, seconds: float, probability: float) -> LiveEvent:
        segment = Segment(label, state.start_seconds, seconds, state.total / state.num_windows)
        self._states[label] = _ClassState()
        return LiveEvent("end", label, seconds, probability, segment)
