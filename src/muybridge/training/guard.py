"""What can interrupt a run: a phase that hangs, a failure, a signal. In each case the run can be resumed.

`fit` names its phases here and offers every new `TrainState`; time limits, checkpoints and stop requests follow from that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from rich.console import Console

from muybridge.distributed.gather import gather_stop_signal
from muybridge.distributed.stop import StopFlag, StopRequested, stop_on_signals
from muybridge.distributed.watchdog import Watchdog
from muybridge.training.checkpoint import TrainState
from muybridge.training.checkpointer import AsyncCheckpointer
from muybridge.training.job import TrainingJob


@dataclass(frozen=True)
class Phase:
    """A part of a step. `timeout_name` is a field of settings.timeouts.

    `is_saveable`: a failure leaves the weights of the last complete step as they were, so they are saved before the run ends.
    """

    description: str
    timeout_name: str
    is_saveable: bool = False


LOADING = Phase("reading the clips of step {next_step}", "step_minutes", is_saveable=True)
TRAINING = Phase("training step {next_step}", "step_minutes")
VALIDATION = Phase("validation after step {step}", "scoring_minutes", is_saveable=True)
SYNCHRONIZATION = Phase("synchronizing ranks after step {step}", "step_minutes")
SAVING = Phase("saving step {step}", "checkpoint_minutes")


@contextmanager
def guard_run(
    job: TrainingJob, optimizer: torch.optim.Optimizer, train_state: TrainState, console: Console
) -> Iterator[RunGuard]:
    """Guards a run for the duration of the block; leaving it waits until the last checkpoint is on disk."""
    with (
        stop_on_signals() as stop,
        Watchdog(job.process_group.rank) as watchdog,
        AsyncCheckpointer(job, optimizer) as checkpointer,
    ):
        guard = RunGuard(job, train_state, console, stop, watchdog, checkpointer)
        try:
            yield guard
        except (StopRequested, RuntimeError) as error:
            guard.handle_failure(error)
            raise
        finally:
            guard.end_phase()


class RunGuard:
    """Time limits, checkpoints and stop requests of a run; see `guard_run`."""

    def __init__(
        self,
        job: TrainingJob,
        train_state: TrainState,
        console: Console,
        stop: StopFlag,
        watchdog: Watchdog,
        checkpointer: AsyncCheckpointer,
    ) -> None:
        self._job, self._console = job, console
        self._stop, self._watchdog, self._checkpointer = stop, watchdog, checkpointer
        self._phase: Phase | None = None
        self._train_state = self._saved_state = train_state
        self._saved_time = time.monotonic()

    def start_phase(
        self, phase: Phase, train_state: TrainState, *, list_videos: Callable[[], Sequence[str]] | None = None
    ) -> None:
        """Starts a phase and its time limit, and ends the one before. `train_state` is what a failure saves."""
        self._phase, self._train_state = phase, train_state
        self._watchdog.start_phase(
            phase.description.format(step=train_state.step, next_step=train_state.step + 1),
            getattr(self._job.settings.timeouts, phase.timeout_name),
            f"timeouts.{phase.timeout_name}",
            list_videos=list_videos,
        )

    def end_phase(self) -> None:
        """Ends the phase and its time limit."""
        self._phase = None
        self._watchdog.end_phase()

    def report_progress(self) -> None:
        """Starts the time limit of a long phase again. Raises `StopRequested` where any rank was asked to stop."""
        self._watchdog.reset_deadline()
        if signal_number := self._gather_stop_signal():
            raise StopRequested(signal_number)

    def save_if_due(self, train_state: TrainState) -> None:
        """Saves a run that is finished, validated, asked to stop, or was last saved checkpoints.every_minutes ago.

        Raises `StopRequested` after saving where any rank was asked to stop, and whatever the last save has failed with.
        """
        self.start_phase(SYNCHRONIZATION, train_state)
        signal_number = self._gather_stop_signal()
        is_finished = train_state.step == self._job.schedule.num_steps
        is_validated = train_state.step == train_state.validated_step
        is_due = time.monotonic() - self._saved_time > 60 * self._job.settings.checkpoints.every_minutes
        if train_state != self._saved_state and (is_finished or is_validated or is_due or signal_number):
            self.start_phase(SAVING, train_state)
            self._checkpointer.save(train_state)
            self._saved_state, self._saved_time = train_state, time.monotonic()
        self.end_phase()
        self._checkpointer.raise_if_failed()
        if signal_number:
            raise StopRequested(signal_number)

    @contextmanager
    def save_if_left(self, train_state: TrainState) -> Iterator[None]:
        """Saves the run where its caller leaves it for good inside the block."""
        try:
            yield
        except GeneratorExit:
            if train_state != self._saved_state:
                self._checkpointer.save(train_state)
            raise

    def handle_worker_restart(self, reason: str) -> None:
        """Prints why workers were restarted, unless the signal that killed them asks this run to stop too."""
        if self._stop.signal_number is not None and self._job.process_group.world_size == 1:
            raise StopRequested(self._stop.signal_number)
        self._console.print(reason)

    def handle_failure(self, error: StopRequested | RuntimeError) -> None:
        """Saves the run if the failed phase has left its weights intact. Raises what describes the failure better, if any.

        A signal to a whole process group also ends workers and other ranks, so a failure after a signal is the stop request.
        """
        phase = self._phase
        named_error = error if phase is None or isinstance(error, StopRequested) else self._watchdog.name_phase(error)
        if phase is not None and phase.is_saveable:
            if self._train_state.step > 0:
                self.start_phase(SAVING, self._train_state)
                self._checkpointer.save(self._train_state)
                self._checkpointer.wait()
            if self._stop.signal_number is not None:
                raise StopRequested(self._stop.signal_number) from None
        if named_error is not error:
            raise named_error from error

    def _gather_stop_signal(self) -> int:
        """The signal that any rank was asked to stop by, else 0; all ranks get the same answer, and so stop together."""
        return gather_stop_signal(self._stop, self._job.process_group)
