"""Runs are named by their content, shared where they are equal, and dealt to machines in whole chains."""

from dataclasses import replace
from typing import Any

import pytest

from muybridge.settings import LoadingSettings
from muybridge.studies.laptop import STUDY_MOTIONS, build_laptop_settings
from muybridge.studies.plan import (
    DataSource,
    EvaluationSpec,
    FusedRun,
    PlannedRun,
    motion_source,
    order_runs,
    select_part,
    with_seeds,
)
from muybridge.synthetic.motions import MotionSettings

SOURCE = DataSource("some-data", address="/somewhere")
TEST = EvaluationSpec(5, 16)


def run(model: str = "r3d_10", length: int = 16, **changes: Any) -> PlannedRun:
    return replace(PlannedRun(build_laptop_settings(model, length), SOURCE, (TEST,)), **changes)


def test_the_name_of_a_run_never_changes() -> None:
    """Finished rows are found by name: if this fails, no finished row is found any more."""
    own = PlannedRun(build_laptop_settings("r2plus1d_10", 16), motion_source(STUDY_MOTIONS), (TEST,))
    assert motion_source(STUDY_MOTIONS).key == "motions-11f08b5bf5"
    assert own.name == "r2plus1d_10-16f-seed0-b88ca22d2e"


def test_a_name_depends_on_what_decides_the_weights() -> None:
    own = run()
    settings = own.settings
    same = (
        replace(own, source=DataSource("some-data", address="/elsewhere/on/another/machine")),
        replace(
            own, settings=replace(settings, device="cuda", output="x", data="y", loading=LoadingSettings(workers=3))
        ),
        replace(own, evaluations=()),
    )
    assert {other.name for other in same} == {own.name}
    training = replace(settings.training, learning_rate=0.5)
    others = (
        replace(own, source=DataSource("other-data", address="/somewhere")),
        replace(own, settings=replace(settings, training=training)),
        replace(own, settings=replace(settings, seed=1)),
        replace(own, start=run("r3d_10", 8)),
        replace(own, start=run("r3d_10", 4)),
    )
    assert len({own.name, *(other.name for other in others)}) == 6


def test_generated_data_is_named_by_its_settings() -> None:
    assert motion_source(MotionSettings()).key == motion_source(MotionSettings(noise=3.0)).key
    assert motion_source(MotionSettings(noise=4.0)).key != motion_source(MotionSettings()).key


def test_a_seed_is_of_the_whole_chain() -> None:
    tuned = run(start=run("r3d_10", 8))
    first, second = with_seeds(tuned, 2)
    assert first == tuned
    assert second.start is not None and second.start.seed == second.seed == 1


def test_runs_come_seed_by_seed_each_after_its_start_and_once() -> None:
    short, long = run(length=8), run(length=16)
    more = replace(short, evaluations=(EvaluationSpec(9, 8),))
    tuned = replace(run(length=24), start=short)
    asked = [run for one in (tuned, short, long, more) for run in with_seeds(one, 2)]
    found = order_runs(asked)
    assert [run.seed for run in found] == [0] * 3 + [1] * 3
    names = [run.name for run in found]
    assert len(set(names)) == 6
    assert names.index(short.name) < names.index(tuned.name)
    assert found[names.index(short.name)].evaluations == (TEST, EvaluationSpec(9, 8))


def test_parts_are_everything_once_and_keep_chains_together() -> None:
    asked = [run(length=length) for length in (4, 8, 12, 16, 20)]
    asked += [
        replace(run(length=24), start=asked[1]),
        replace(run(length=28), start=replace(run(length=24), start=asked[1])),
    ]
    runs = order_runs(asked)
    parts = [select_part(runs, part, 3) for part in (1, 2, 3)]
    names = [run.name for part in parts for run in part]
    assert sorted(names) == sorted(run.name for run in runs)
    for part in parts:
        here = {run.name for run in part}
        assert all(run.start is None or run.start.name in here for run in part)
    assert max(len(part) for part in parts) <= 4
    with pytest.raises(ValueError, match="4/3"):
        select_part(runs, 4, 3)


def test_a_mean_of_streams_is_named_by_its_members() -> None:
    first, second = run(), run("r2plus1d_10")
    assert FusedRun((first, second), TEST).name == FusedRun((first, second), EvaluationSpec(9, 16)).name
    assert FusedRun((first, second), TEST).name != FusedRun((second, first), TEST).name
    assert FusedRun(tuple(with_seeds(first, 2)[1:]), TEST).seed == 1
