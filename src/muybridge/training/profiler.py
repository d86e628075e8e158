"""A trace of a few steps, to see where their time goes: open profile/rank-0.json in chrome://tracing or Perfetto."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import torch
from torch.profiler import ProfilerActivity

from muybridge.distributed.rank import Rank

STEPS_BEFORE = 5  # which pay for set-up


class Profile:
    """Records `num_steps` steps of a run after the first few; 0 records nothing and costs nothing."""

    def __init__(self, folder: Path, place: Rank, num_steps: int) -> None:
        self._path = folder / "profile" / f"rank-{place.rank}.json"
        self._profiler = _profiler(num_steps, self._path) if num_steps else None

    def __enter__(self) -> Profile:
        if self._profiler:
            self._profiler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._profiler:
            self._profiler.stop()

    def stepped(self) -> None:
        """One step is done."""
        if self._profiler:
            self._profiler.step()


def _profiler(num_steps: int, path: Path) -> torch.profiler.profile:
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]

    def write(recorded: torch.profiler.profile) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        recorded.export_chrome_trace(str(path))

    plan = torch.profiler.schedule(wait=STEPS_BEFORE - 1, warmup=1, active=num_steps, repeat=1)
    return torch.profiler.profile(activities=activities, schedule=plan, on_trace_ready=write)
