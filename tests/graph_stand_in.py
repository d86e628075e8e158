"""What stands for a CUDA graph on a CPU: the function runs again, and writes its results where the first ones are.

Graphs share memory: where one runs, the results of the others are no longer there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch

from muybridge.kernels import graphs


class RerunFunction:
    """As `CapturedFunction`. `num_captures` and `num_replays` count all of them; `error` makes the next capture fail."""

    num_captures = num_replays = 0
    captured: ClassVar[list[RerunFunction]] = []
    error: Exception | None = None
    wrong_by = 0.0  # added to the results of a replay

    def __init__(self, function: Callable[[], list[torch.Tensor | None]], device: torch.device, pool: Any) -> None:
        type(self).num_captures += 1
        if self.error is not None:
            raise self.error
        self._function, self._pool = function, pool
        self.outputs = function()
        self.captured.append(self)

    def replay(self) -> None:
        type(self).num_replays += 1
        for other in self.captured:
            if other is not self and other._pool is self._pool:
                for static in other.outputs:
                    if static is not None:
                        static.fill_(torch.nan)
        for static, result in zip(self.outputs, self._function(), strict=True):
            if static is not None and result is not None:
                static.copy_(result + self.wrong_by)


def use_graph_stand_in(monkeypatch: pytest.MonkeyPatch) -> type[RerunFunction]:
    """Run on the CPU what would run as CUDA graphs; returns a stand-in with counts of its own."""
    stand_in = type("StandIn", (RerunFunction,), {"captured": []})
    monkeypatch.setattr(graphs, "GRAPH_DEVICE_TYPES", {"cpu"})
    monkeypatch.setattr(graphs, "_make_pool", lambda device: object())
    monkeypatch.setattr(graphs, "CapturedFunction", stand_in)
    return stand_in
