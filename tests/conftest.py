"""What tests of several packages share: a generated data set, a network trained on it for a second, the command line."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import settings
from rich.console import Console

from muybridge.cli.main import main
from muybridge.synthetic.dataset import write_motion_dataset
from muybridge.training.fit import fit
from muybridge.training.job import prepare_job
from runs import MOTIONS, tiny_run

# Property tests draw the same examples every time, and write nothing; `HYPOTHESIS_PROFILE=random` draws new ones.
settings.register_profile("same", derandomize=True, deadline=None, database=None, max_examples=60)
settings.register_profile("random", deadline=None, database=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


class Told(NamedTuple):
    """What a command line said: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


@pytest.hookimpl(tryfirst=True)  # before tests are selected by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes hours is long as well: `-m "not long"` leaves it out."""
    for item in items:
        if item.get_closest_marker("soak"):
            item.add_marker("long")


@pytest.fixture(scope="session")
def motions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`left` and `right`: 8 videos of each for training, 2 for validation, 3 for test."""
    folder = tmp_path_factory.mktemp("motions") / "data"
    write_motion_dataset(folder, MOTIONS)
    return folder


@pytest.fixture(scope="session")
def finished_run(motions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole `tiny_run` on `motions`. Nobody writes into it."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    fit(prepare_job(tiny_run(motions, folder)), Console(quiet=True))
    return folder


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Told]:
    """`cli("predict", run, "a.mp4")` runs that command line in this process."""

    def run(*words: object) -> Told:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Told(code, *capsys.readouterr())

    return run
