"""Events along a stream: when a class begins and when it ends, with hysteresis, so that a flickering probability is one
event.

Input: windows in order of time. Output: an event when a class has been above the upper threshold for some windows, and
another when it falls below the lower one. Pure; classes are independent of each other and may overlap.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Interval

from muybridge.bounds import Share, check_fields
from muybridge.prediction.timeline import Segment, Window


@dataclass(frozen=True)
class Hysteresis:
    """When a class counts as begun and as ended."""

    on: Share = 0.6
    """A class begins when its probability is at least this ..."""
    off: Share = 0.4
    """... and ends when it is below this."""
    windows: Annotated[int, Interval(ge=1, le=100_000)] = 1
    """Number of consecutive windows that must be at or above `on`."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.off > self.on:
            raise ValueError(f"off is {self.off}, expected at most on, which is {self.on}")


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
    """Turns windows into events. Times are the centres of windows."""

    def __init__(self, classes: Sequence[str], hysteresis: Hysteresis) -> None:
        self._hysteresis = hysteresis
        self._states = {label: _ClassState() for label in classes}
        self._last_seconds = 0.0

    def add(self, window: Window) -> Iterator[LiveEvent]:
        """The events that this window decides."""
        seconds = self._last_seconds = window.center_seconds
        for (label, state), probability in zip(self._states.items(), window.probabilities, strict=True):
            if state.is_on and probability < self._hysteresis.off:
                yield self._end(label, state, seconds, probability)
            elif state.is_on or probability >= self._hysteresis.on:
                if state.num_windows == 0:
                    state.start_seconds = seconds
                state.num_windows, state.total = state.num_windows + 1, state.total + probability
                if not state.is_on and state.num_windows >= self._hysteresis.windows:
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
