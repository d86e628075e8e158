"""A profiler trace of a few steps, profile/rank-N.json, for chrome://tracing or Perfetto."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import torch
from torch.profiler import ProfilerActivity

from muybridge.distributed.rank import Rank

NUM_STEPS_BEFORE_PROFILE = 5  # the first steps include set-up


class StepProfiler:
    """Records `num_steps` steps of a run after the first few; does nothing where it is 0."""

    def __init__(self, folder: Path, rank: Rank, num_steps: int) -> None:
        self._path = folder / "profile" / f"rank-{rank.rank}.json"
        self._profiler = _build_profiler(num_steps, self._path) if num_steps else None

    def __enter__(self) -> StepProfiler:
        if self._profiler:
            self._profiler.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._profiler:
            self._profiler.stop()

    def step(self) -> None:
        """Marks the end of a step."""
        if self._profiler:
            self._profiler.step()


def _build_profiler(num_steps: int, path: Path) -> torch.profiler.profile:
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]

    def write(recorded: torch.profiler.profile) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        recorded.export_chrome_trace(str(path))

    profiler_schedule = torch.profiler.schedule(wait=NUM_STEPS_BEFORE_PROFILE - 1, warmup=1, active=num_steps, repeat=1)
    return torch.profiler.profile(activities=activities, schedule=profiler_schedule, on_trace_ready=write)
