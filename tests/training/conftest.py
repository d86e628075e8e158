from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from muybridge.settings import TrainSettings
from muybridge.training import fit as fit_module
from muybridge.training.fit import FitResult, fit
from muybridge.training.job import prepare_job


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=400)


@pytest.fixture
def trained(console: Console) -> Callable[..., FitResult]:
    def run(settings: TrainSettings, *, resume: bool = False) -> FitResult:
        return fit(prepare_job(settings, resume=resume), console)

    return run


@pytest.fixture
def signal_in_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """`signal_in_step(number, step)`: this process gets that signal during that step, counted from 1."""

    def arrange(number: int, step: int) -> None:
        def stepped(learner: Any, pieces: Any, steps_done: int) -> Any:
            if steps_done + 1 == step:
                os.kill(os.getpid(), number)
            return original(learner, pieces, steps_done)

        monkeypatch.setattr(fit_module, "training_step", stepped)

    original = fit_module.training_step
    return arrange
