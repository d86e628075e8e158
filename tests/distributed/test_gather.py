"""The same score file and the same figures from one to four ranks."""

from __future__ import annotations

import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pyarrow.parquet as pq
import pytest

import rank_work
from muybridge.distributed.gather import gather_stop_signal
from muybridge.distributed.stop import StopFlag
from muybridge.loading.open_data import open_data
from muybridge.settings import EvaluationSettings, LoadingSettings
from ranks import run_ranks


@pytest.mark.parametrize("keep", [pytest.param("views", marks=pytest.mark.long), "videos"])
@pytest.mark.parametrize("world_sizes", [(4,), pytest.param((2, 3), marks=pytest.mark.long)])
def test_one_to_four_ranks_write_the_same_scores(
    world_sizes: tuple[int, ...], keep: Literal["views", "videos"], motions: Path, finished_run: Path, tmp_path: Path
) -> None:
    """Six videos in batches of one: four ranks have two rounds, the second not full. One video cannot be read."""
    data = tmp_path / "data"
    for path in motions.rglob("*.mp4"):
        target = data / path.relative_to(motions)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"torn" if target.match("test/left/*1.mp4") else path.read_bytes())
    chosen = open_data(str(data)).select_split("test")
    evaluation, loading = EvaluationSettings(clips=2, batch_size=2, keep=keep), LoadingSettings(workers=0)
    found = {}
    for world_size in (1, *world_sizes):
        path = tmp_path / f"{world_size}.parquet"
        results = run_ranks(world_size, rank_work.evaluate_split, finished_run, chosen, path, evaluation, loading)
        assert len(set(results)) == 1, results  # every rank knows the result
        found[world_size] = (results[0], pq.read_table(path))
    if keep == "views":
        assert found[1][1].num_rows == 12
        assert found[1][1]["status"].to_pylist().count("unreadable") == 2
    else:
        assert found[1][1]["num_failed_views"].to_pylist() == [0, 2, 0, 0, 0, 0]
    for world_size in world_sizes:
        assert found[world_size][0] == found[1][0]
        assert found[world_size][1].equals(found[1][1])  # rows, their order, logits bit for bit


@pytest.mark.parametrize("world_size", [2])
def test_a_rank_that_cannot_score_ends_all(world_size: int, motions: Path, finished_run: Path, tmp_path: Path) -> None:
    """Rank 0 cannot write: nobody waits."""
    chosen = open_data(str(motions)).select_split("test")
    (tmp_path / "file").write_text("no folder")
    results = run_ranks(
        world_size,
        rank_work.evaluate_split,
        finished_run,
        chosen,
        tmp_path / "file" / "scores.parquet",
        EvaluationSettings(clips=2, batch_size=2),
        LoadingSettings(workers=0),
    )
    assert results[0][0] in ("NotADirectoryError", "FileExistsError")
    assert results[1][0] in ("RuntimeError", "DistBackendError")


@pytest.mark.parametrize("asked", [[0, 0, 0], [0, signal.SIGTERM, 0], [signal.SIGUSR1, 0, 0]])
def test_all_ranks_stop_where_one_was_asked_to(asked: list[int]) -> None:
    received: list[list[float]] = []

    def all_gather_floats(own: list[float]) -> list[list[float]]:
        received.append(own)
        return [[float(number)] for number in asked]

    group: Any = SimpleNamespace(all_gather_floats=all_gather_floats)
    for number in asked:
        stop = StopFlag("step")
        stop.signal_number = number or None
        assert gather_stop_signal(stop, group) == max(asked)
    assert received == [[number] for number in asked]
