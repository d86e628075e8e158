"""What is written of a run while it goes: log.jsonl, failures.jsonl and TensorBoard curves."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from muybridge.files.atomic import write_text
from muybridge.files.run_folder import append_json_line, read_json_lines
from muybridge.loading.loader import Failure


class Curves:
    """Appends to a run folder's logs; a record's step is the number of steps done by then.

    What a run that died had logged past `steps_done`, where it goes on now, is dropped: it comes again. Ranks other than the
    first do not write: `writes` is off.
    """

    def __init__(self, folder: Path, steps_done: int, *, writes: bool = True) -> None:
        self.folder = folder
        self.writes = writes
        if not writes:
            return
        for name in ("log.jsonl", "failures.jsonl"):
            kept = [line for line in read_json_lines(folder / name) if line["step"] <= steps_done]
            write_text(folder / name, "".join(json.dumps(line) + "\n" for line in kept))
        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=steps_done + 1)

    def __enter__(self) -> Curves:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.writes:
            self.board.close()

    def record(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """One line of log.jsonl, and a point on a curve for every number in it."""
        if not self.writes:
            return
        known = {name: value for name, value in values.items() if not (isinstance(value, float) and math.isnan(value))}
        append_json_line(self.folder / "log.jsonl", {"kind": kind, "step": step, **known})
        for name, value in known.items():
            if isinstance(value, int | float):
                self.board.add_scalar(f"{kind}/{name}", value, step)

    def failures(self, step: int, failures: Iterable[Failure]) -> None:
        """The draws of a step that could not be read."""
        for failure in failures if self.writes else ():
            append_json_line(self.folder / "failures.jsonl", {"step": step, **failure.__dict__})
