"""How long a run still takes, measured on its own steps: reading, computing, saving and validating included.

Input: the moments at which steps and validations end. Output: seconds left, and None until a step has been measured.

The first step is never counted: workers start, kernels are chosen and compiled. After it, the later half of the steps counts:
a slow start is forgotten, and fast steps after a validation, during which workers have read ahead, stand beside others.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

MAX_STEPS = 1000  # that count; about a day of the slowest runs
UNMEASURED_VALIDATION_COST = 0.5  # of a validation clip, in training clips, until a validation has been measured


@dataclass(frozen=True)
class Workload:
    """What a run has to do: steps, and validations every so many steps (0: one at the end) of so many clips (0: none)."""

    num_steps: int
    clips_per_step: int
    validation_interval_steps: int = 0
    clips_per_validation: int = 0

    def is_validation_due(self, step: int) -> bool:
        """Whether the validation videos are to be scored after so many steps."""
        interval = self.validation_interval_steps
        return (
            self.clips_per_validation > 0
            and step > 0
            and (step == self.num_steps or (interval > 0 and step % interval == 0))
        )

    def count_validations_left(self, step: int) -> int:
        """Validations after more than `step` steps."""
        if self.clips_per_validation == 0 or step >= self.num_steps:
            return 0
        interval = self.validation_interval_steps or self.num_steps
        return -(-self.num_steps // interval) - step // interval


class TimeLeft:
    """Estimates the time left of a run that starts, or is resumed, after `first_step` steps."""

    def __init__(self, workload: Workload, first_step: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._workload, self._clock = workload, clock
        self._step, self._num_timed = first_step, -1
        self._num_validations_left = workload.count_validations_left(first_step)
        self._step_seconds: deque[float] = deque(maxlen=MAX_STEPS)
        self._validation_seconds: deque[float] = deque(maxlen=2)
        self._start = self._mark = clock()

    @property
    def num_timed_steps(self) -> int:
        """Steps that have been measured so far."""
        return max(0, self._num_timed)

    @property
    def elapsed_seconds(self) -> float:
        """Since the start."""
        return self._clock() - self._start

    def finish_step(self) -> None:
        """A step has ended."""
        seconds = self._measure()
        self._step += 1
        self._num_validations_left = self._workload.count_validations_left(self._step - 1)
        self._num_timed += 1
        if self._num_timed > 0:
            self._step_seconds.append(seconds)

    def finish_validation(self) -> None:
        """A validation has ended."""
        self._validation_seconds.append(self._measure())
        self._num_validations_left = self._workload.count_validations_left(self._step)

    def compute_seconds_per_step(self) -> float | None:
        """The mean of the steps that count, without validations."""
        if not self._step_seconds:
            return None
        size = min(len(self._step_seconds), self._num_timed - self._num_timed // 2)
        return sum(list(self._step_seconds)[-size:]) / size

    def compute_seconds(self) -> float | None:
        """Seconds from the last step or validation to the end of the run."""
        per_step = self.compute_seconds_per_step()
        if per_step is None:
            return None
        work = self._workload
        if self._validation_seconds:
            per_validation = sum(self._validation_seconds) / len(self._validation_seconds)
        else:
            clips = UNMEASURED_VALIDATION_COST * work.clips_per_validation
            per_validation = clips * per_step / work.clips_per_step
        return (work.num_steps - self._step) * per_step + self._num_validations_left * per_validation

    def _measure(self) -> float:
        before, self._mark = self._mark, self._clock()
        return self._mark - before
