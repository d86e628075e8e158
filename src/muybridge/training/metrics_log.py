"""The logs of a run: log.jsonl, failures.jsonl and TensorBoard."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from muybridge.files.atomic import write_text
from muybridge.files.run_folder import append_json_line, is_finite_number, read_json_lines
from muybridge.loading.datasets import Failure


class MetricsLog:
    """Appends to the logs of a run folder. The step of a record is the number of steps done by then.

    Records past `num_steps_done`, which a killed run may have logged after its last checkpoint, are dropped: those steps are
    repeated. With `enabled` off, as on ranks other than 0, nothing is written.
    """

    def __init__(self, folder: Path, num_steps_done: int, *, enabled: bool = True) -> None:
        self.folder = folder
        self.enabled = enabled
        if not enabled:
            return
        for name in ("log.jsonl", "failures.jsonl"):
            kept = [
                line
                for line in read_json_lines(folder / name)
                if is_finite_number(line.get("step")) and line["step"] <= num_steps_done
            ]
            write_text(folder / name, "".join(json.dumps(line) + "\n" for line in kept))
        self.summary_writer = SummaryWriter(str(folder / "tensorboard"), purge_step=num_steps_done + 1)

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.enabled:
            self.summary_writer.close()

    def log_metrics(self, split: str, step: int, metrics: Mapping[str, Any]) -> None:
        """Writes one line of log.jsonl, and every number in it to TensorBoard. NaN is left out."""
        if not self.enabled:
            return
        logged_metrics = {
            name: value for name, value in metrics.items() if not (isinstance(value, float) and math.isnan(value))
        }
        append_json_line(self.folder / "log.jsonl", {"kind": split, "step": step, **logged_metrics})
        for name, value in logged_metrics.items():
            if isinstance(value, int | float):
                self.summary_writer.add_scalar(f"{split}/{name}", value, step)

    def log_failures(self, step: int, failures: Iterable[Failure]) -> None:
        """Writes the draws of a step that could not be read to failures.jsonl."""
        for failure in failures if self.enabled else ():
            append_json_line(self.folder / "failures.jsonl", {"step": step, **failure.__dict__})
