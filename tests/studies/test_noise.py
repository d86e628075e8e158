"""Reruns of one seed that differ by rounding alone: how they are planned, and the floor that follows from their rows."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from muybridge.studies.laptop import build_laptop_settings
from muybridge.studies.noise import RERUN_KINDS, list_reruns, measure_floor, plan_reruns
from muybridge.studies.plan import DataSource, EvaluationSpec, PlannedRun, Rerun, RerunKind, RunGroup
from muybridge.studies.study import GridResults, StudyConfig

EVALUATION = EvaluationSpec(5, 8)
FIRST = PlannedRun(build_laptop_settings("r3d_10", 8), DataSource("d", "/d"))
GROUP = RunGroup((FIRST,), EVALUATION)


def test_kinds_of_reruns_take_turns_and_no_two_runs_are_the_same() -> None:
    reruns = plan_reruns(GROUP, 10, tuple(RERUN_KINDS))
    assert [(run.rerun.kind, run.rerun.number) for run in reruns if run.rerun] == [
        *((kind, 1) for kind in RERUN_KINDS),
        *((kind, 2) for kind in RERUN_KINDS),
        ("weights", 3),
    ]
    assert len({FIRST.name, *(run.name for run in reruns)}) == 10
    assert {run.seed for run in reruns} == {0}


def test_each_kind_changes_what_it_says() -> None:
    weights, threads, convolution, batch = plan_reruns(GROUP, 5, tuple(RERUN_KINDS))
    training = FIRST.settings.training
    assert weights.settings.training == replace(training, rounding_seed=1)
    assert convolution.settings.training == replace(training, channels_last=False)
    assert batch.settings.training == replace(training, rounding_parts=2)
    assert (threads.settings, threads.thread_factor) == (FIRST.settings, 2)
    assert threads.name != FIRST.name


def test_reruns_by_moved_weights_keep_the_names_of_earlier_rows() -> None:
    (rerun,) = plan_reruns(GROUP, 2, ("weights",))
    assert rerun.name == replace(rerun, rerun=None).name


def test_reruns_of_one_kind_count_where_they_have_run() -> None:
    runs = list_reruns(GROUP, 5, tuple(RERUN_KINDS))
    assert runs[:4] == plan_reruns(GROUP, 5, tuple(RERUN_KINDS))
    kinds = [run.rerun.kind for run in runs if run.rerun]
    assert {kind: kinds.count(kind) for kind in RERUN_KINDS} == dict.fromkeys(RERUN_KINDS, 4)
    assert len({run.name for run in runs}) == len(runs) == 16


def make_row(accuracy: float, kind: RerunKind | None = None) -> dict[str, Any]:
    return {"accuracy": accuracy, "rerun": None if kind is None else vars(Rerun(kind, 1))}


def test_the_floor_is_the_largest_deviation_of_cells_with_all_their_reruns() -> None:
    def read(row: Any) -> float:
        return float(row["accuracy"])

    calm = [[make_row(50.0)], *([make_row(50.0, "weights")] for _ in range(4))]
    shaky = [[make_row(50.0)], [make_row(54.0, "threads")], *([make_row(50.0, "batch")] for _ in range(3))]
    floor = measure_floor([calm, shaky, shaky[:4]], {"video_top1": read})
    assert floor.get("video_top1") == pytest.approx(1.7889, abs=1e-4)
    assert (floor.num_cells, floor.num_runs, floor.kinds) == (2, 5, ("weights", "threads", "batch"))
    unmeasured = measure_floor([shaky[:4]], {"video_top1": read})
    assert unmeasured.get("video_top1") is None and "not measured" in unmeasured.format_sentence()
    old = [[{"accuracy": 50.0}] for _ in range(5)]  # of rows before kinds were stored
    assert "alone have" in measure_floor([old], {"video_top1": read}).format_sentence()
    folds = [[*rows, make_row(70.0)] for rows in shaky]  # half of the difference in the mean of both
    assert measure_floor([folds], {"video_top1": read}).get("video_top1") == pytest.approx(1.7889 / 2, abs=1e-4)


def test_folds_of_a_network_are_one_network(tmp_path: Path) -> None:
    config = StudyConfig("laptop", 1, DataSource("d", "/d"), "test")
    evaluation, settings = EvaluationSpec(5, 8), build_laptop_settings("r3d_10", 8)
    grid = {
        fold: RunGroup((PlannedRun(replace(settings, num_folds=2, fold=fold), config.source),), evaluation)
        for fold in (1, 2)
    }
    rows = {}
    for fold, group in grid.items():
        (run,) = group.members
        runs = (run, *list_reruns(group, config.num_reruns, config.rerun_kinds))
        for number, rerun in enumerate(runs[:5]):
            numbers = {"clip_top1": 40.0, "video_top1": 50.0 + 4 * (number == fold)}
            rows[rerun.name, evaluation.key] = {"numbers": numbers, "history": [], "rerun": None}
    results = GridResults(config, grid, rows, tmp_path, noisy=(1, 2))
    # Each rerun that is 4 points off in one fold is 2 off in the mean of both.
    assert results.floor.num_cells == 1 and results.floor.get("video_top1") == pytest.approx(
        np.std([0, 2, 2, 0, 0], ddof=1)
    )
    assert replace(results, noisy=(2,)).floor.get("video_top1") == pytest.approx(np.std([0, 0, 4, 0, 0], ddof=1))
    del rows[next(reversed(rows))]  # of the second fold, so that the first stands alone
    assert replace(results, rows=dict(rows)).floor.get("video_top1") == pytest.approx(np.std([0, 4, 0, 0, 0], ddof=1))
    assert replace(results, rows={}).floor.get("video_top1") is None


def test_a_rerun_that_computed_the_same_is_no_further_measurement() -> None:
    """On two cores three threads do what two do."""
    rows = [
        {"accuracy": value, "numbers": {"videos": {"right": str(value)}}, "history": [{"training_loss": value}]}
        for value in (50.0, 51.0, 52.0, 53.0, 60.0, 60.0)
    ]

    def read(row: Any) -> float:
        return float(row["accuracy"])

    floor = measure_floor([[[row] for row in rows]], {"video_top1": read})
    assert floor.num_runs == 5
    assert floor.get("video_top1") == pytest.approx(np.std([50, 51, 52, 53, 60], ddof=1))
    assert measure_floor([[[row] for row in rows[1:]]], {"video_top1": read}).get("video_top1") is None
    rows[-1]["history"] = [{"training_loss": 0.1}]  # the same videos by chance
    assert measure_floor([[[row] for row in rows]], {"video_top1": read}).num_runs == 6
