"""Every study, without a run: what it asks for at both scales, and what it says of nothing, of something, and of everything."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from muybridge.models.family import FAMILIES
from muybridge.settings import TrainSettings
from muybridge.studies.catalogue import STUDIES
from muybridge.studies.laptop import STUDY_MOTIONS
from muybridge.studies.paper import TABLE2
from muybridge.studies.plan import Source, generated, in_order
from muybridge.studies.recipe import FOLDER, recipe, train_settings
from muybridge.studies.runner import row
from muybridge.studies.study import NOT_RUN, Results, Setting, Study, compared, concluded, to_json
from muybridge.studies.telling import printed

NAMES = {
    "table1",
    "table2",
    "table3",
    "table4",
    "table5",
    "table6",
    "figure3",
    "figure4",
    "figure5",
    "figure6",
    "decomposition",
}
LAPTOP = Setting("laptop", 3, generated(STUDY_MOTIONS), "test")
OTHERS = {name: Source(name, address=f"/data/{name}") for name in ("sports1m", "ucf101", "hmdb51")}
PAPER = Setting("paper", 1, Source("kinetics", address="/data/kinetics"), "validation", OTHERS)
TRAINING = {"seconds": 60.0, "processor_seconds": 50.0, "goes_on": False, "device": "cpu", "parameters": 1000}


def fake_rows(study: Study, setting: Setting, accuracy: Any) -> dict[tuple[str, str], Mapping[str, Any]]:
    """A row for everything that a study wants; `accuracy(run, scoring)` in percent. Seeds differ by a little."""
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    asked = [(run, run.settings, test) for run in in_order(study.runs(setting)) for test in run.tests]
    asked += [(fused, fused.members[0].settings, fused.test) for fused in study.fused(setting)]  # type: ignore[misc]
    for what, settings, test in asked:
        video = accuracy(settings, test) + 0.1 * what.seed
        numbers = {
            "clip_top1": video - 5,
            "video_top1": video,
            "video_top5": 90.0,
            "num_videos": 9,
            "num_failed_videos": 0,
        }
        history = [
            {
                "epoch": epoch,
                "training_clip_error": 100 - video / 2 * epoch,
                "validation_clip_error": 100 - video / 3 * epoch,
            }
            for epoch in (1.0, 2.0)
        ]
        found[what.name, test.key] = {**row(what, test, numbers), "training": TRAINING, "history": history}
    return found


def as_in_the_paper(settings: TrainSettings, test: Any) -> float:
    """Table 2 at the nearer length; a little more where something was learnt before, and for more clips."""
    family, _, depth = settings.model.rpartition("_")
    printed = {row.family: row for row in TABLE2}[family]
    value = printed.video_top1_8f if test.length <= 8 else printed.video_top1_16f
    if family == "r2plus1d" and depth in ("18", "34"):
        value += 1
    return float(value if settings.clips.length == test.length else value - 8)


def test_the_studies_are_those_of_the_paper_and_one_more() -> None:
    assert set(STUDIES) == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
@pytest.mark.parametrize("setting", [LAPTOP, PAPER], ids=["laptop", "paper"])
def test_a_study_asks_for_runs_that_differ(name: str, setting: Setting) -> None:
    study = STUDIES[name]
    runs = in_order(study.runs(setting))
    assert len({run.name for run in runs}) == len(runs)
    assert {run.seed for run in runs} in (set(), set(range(setting.seeds)))
    assert len(set(study.wanted(setting))) == len(study.wanted(setting))
    assert all(run.settings.training.clips_per_epoch for run in runs)
    if setting.scale == "laptop":
        assert all(run.settings.network.width == 8 for run in runs)
    assert study.claim[0].isupper() and study.claim.endswith(".")


@pytest.mark.parametrize("name", sorted(NAMES))
def test_at_paper_scale_every_recipe_is_that_of_the_file(name: str) -> None:
    """Or differs from it in what the paper ran without printing a recipe: length, depth, flow, parts of the network."""
    files = [*FOLDER.glob("*.yaml"), *(FOLDER / "fine_tuning").glob("*.yaml")]
    known = {train_settings({"data": "", **yaml.safe_load(path.read_text(encoding="utf-8"))}) for path in files}
    for run in in_order(STUDIES[name].runs(PAPER)):
        plain = replace(run.settings, fold=None)
        if plain not in known:
            assert name in {"figure3", "figure5", "decomposition", "table4", "table5", "table6"}
            network = type(plain.network)()
            lengths = [
                replace(
                    plain,
                    network=network,
                    model=plain.model.replace("_34", depth),
                    modality="rgb",
                    clips=replace(plain.clips, length=length),
                )
                for length in (8, 16, 32)
                for depth in ("_34", "_18")
            ]
            assert any(other in known for other in lengths), run.name


@pytest.mark.parametrize("name", sorted(NAMES))
def test_nothing_run_is_said_as_such(name: str, tmp_path: Path) -> None:
    study = STUDIES[name]
    told = study.tell(LAPTOP, Results({}, tmp_path))
    if name == "table1":
        return
    assert told.verdict.supported is None
    shown = [str(cell) for table in told.tables for line in table.rows for cell in line]
    assert NOT_RUN in shown
    assert all(not one.y for chart in told.figures for one in chart.series if "paper" not in chart.title)


@pytest.mark.parametrize("name", sorted(NAMES - {"figure6", "table1"}))
@pytest.mark.parametrize("setting", [LAPTOP, PAPER], ids=["laptop", "paper"])
def test_everything_run_leaves_nothing_open(name: str, setting: Setting, tmp_path: Path) -> None:
    study = STUDIES[name]
    rows = fake_rows(study, setting, as_in_the_paper)
    told = study.tell(setting, Results(rows, tmp_path))
    assert NOT_RUN not in [cell for table in told.tables for line in table.rows for cell in line]
    assert "not run" not in told.verdict.text
    assert all(len(line) == len(table.columns) for table in told.tables for line in table.rows)
    assert all(one.y and len(one.x) == len(one.y) for chart in told.figures for one in chart.series)
    values = json.loads(json.dumps(to_json(study, setting, told, rows=list(rows.values()), missing=[], environment={})))
    assert values["format"] == 1
    text = " ".join(printed(values).split())
    assert study.claim in text and told.verdict.text in text


def test_table_2_with_the_papers_numbers_supports_the_paper(tmp_path: Path) -> None:
    study = STUDIES["table2"]
    told = study.tell(LAPTOP, Results(fake_rows(study, LAPTOP, as_in_the_paper), tmp_path))
    assert told.verdict.supported is True
    video, _ = told.tables
    assert [line[0] for line in video.rows][-1] == "R(2+1)D"
    assert len(video.rows) == len(FAMILIES)
    assert [line[2] for line in video.rows] == [row.video_top1_8f for row in TABLE2]
    assert str(video.rows[0][1]).startswith("59.6 [")  # 59.5 with seeds 0, 0.1 and 0.2 above


def test_table_2_where_r3d_is_best_contradicts_it(tmp_path: Path) -> None:
    study = STUDIES["table2"]
    rows = fake_rows(study, LAPTOP, lambda settings, test: 90 if settings.model.startswith("r3d") else 50)
    verdict = study.tell(LAPTOP, Results(rows, tmp_path)).verdict
    assert verdict.supported is False
    assert "R(2+1)D above R3D (-40.0 points, 95 % -40.0 to -40.0): no" in verdict.text


def test_the_decomposition_tells_the_two_reasons_apart(tmp_path: Path) -> None:
    """Factorised filters help, the ReLU does not: the first finding holds, the second does not."""
    study = STUDIES["decomposition"]
    rows = fake_rows(study, LAPTOP, lambda settings, test: 50 if settings.model.startswith("r3d") else 60)
    verdict = study.tell(LAPTOP, Results(rows, tmp_path)).verdict
    assert "without ReLU above R3D (+10.0 points, 95 % +10.0 to +10.0): yes" in verdict.text
    assert verdict.supported is None  # a difference of exactly nothing decides nothing


def test_studies_share_what_they_can() -> None:
    names = {name: {run.name for run in in_order(study.runs(LAPTOP))} for name, study in STUDIES.items()}
    assert names["figure4"] == names["table2"]
    assert names["figure6"] < names["table2"]
    assert len(names["figure3"] & names["table2"]) == len(names["figure3"]) / 2
    assert len(names["decomposition"] & names["table2"]) == 2 * LAPTOP.seeds
    assert names["table3"] & names["figure5"] >= names["table3"] & names["table2"]


def test_a_data_set_that_is_needed_is_asked_for() -> None:
    bare = replace(PAPER, others={})
    for name, needs in (("table5", "sports1m"), ("table6", "ucf101")):
        with pytest.raises(ValueError, match=f"needs {needs} too; add --others {needs}=DATA"):
            STUDIES[name].runs(bare)


def test_recipes_are_read_as_the_command_line_reads_them() -> None:
    settings = recipe("kinetics400_r2plus1d_18_16f")
    assert (settings.model, settings.clips.length, settings.clips.frames_per_second) == ("r2plus1d_18", 16, 15)
    assert recipe("fine_tuning/ucf101_r2plus1d_34_32f_rgb").training.decay_epochs == (2, 4, 6)
    with pytest.raises(ValueError, match="there is no recipe"):
        recipe("kinetics400_r2plus1d_18_17f")
    with pytest.raises(ValueError, match="there is no setting speed in ClipSettings"):
        train_settings({"data": "", "clips": {"speed": 2}})


def test_a_verdict_is_the_weakest_of_its_findings() -> None:
    yes, no, unsure = ("a", True), ("b", False), ("c", None)
    assert concluded([yes, yes]).supported is True
    assert concluded([yes, unsure]).supported is None
    assert concluded([yes, unsure, no]).supported is False
    assert concluded([]).supported is None
    assert compared("more", None) == ("more (not run)", None)
