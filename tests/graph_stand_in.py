"""What stands for a CUDA graph on a CPU: the function runs again, and writes its results where the first ones are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from muybridge.kernels import graphs


class RerunFunction:
    """As `CapturedFunction`. `num_captures` and `num_replays` count all of them; `error` makes the next capture fail."""

    num_captures = num_replays = 0
    error: Exception | None = None
    wrong_by = 0.0  # added to the results of a replay

    def __init__(self, function: Callable[[], list[torch.Tensor | None]], device: torch.device, pool: Any) -> None:
        type(self).num_captures += 1
        if self.error is not None:
            raise self.error
        self._function = function
        self.outputs = function()

    def replay(self) -> None:
        type(self).num_replays += 1
        for static, result in zip(self.outputs, self._function(), strict=True):
            if static is not None and result is not None:
                static.copy_(result + self.wrong_by)


def use_graph_stand_in(monkeypatch: pytest.MonkeyPatch) -> type[RerunFunction]:
    """Run on the CPU what would run as CUDA graphs; returns a stand-in with counts of its own."""
    stand_in = type("StandIn", (RerunFunction,), {})
    monkeypatch.setattr(graphs, "GRAPH_DEVICE_TYPES", {"cpu"})
    monkeypatch.setattr(graphs, "CapturedFunction", stand_in)
    return stand_in
