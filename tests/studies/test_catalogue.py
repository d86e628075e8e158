"""Every study without training: its runs at both scales, and its summary of no rows, of some, and of all."""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from muybridge.models.family import FAMILIES
from muybridge.settings import TrainSettings
from muybridge.studies import claims
from muybridge.studies.catalogue import STUDIES
from muybridge.studies.claims import check_within, compare, conclude, judge_figure6
from muybridge.studies.fingerprint import Version, list_micro_runs
from muybridge.studies.grids import FIGURE5_CLIPS, FIGURE5_LENGTHS
from muybridge.studies.intervals import Estimate
from muybridge.studies.laptop import STUDY_MOTIONS
from muybridge.studies.noise import RERUN_KINDS
from muybridge.studies.paper import TABLE2
from muybridge.studies.plan import DataSource, FusedRun, PlannedRun, motion_source
from muybridge.studies.render import format_study, result_to_json
from muybridge.studies.rows import build_row
from muybridge.studies.study import Study, StudyConfig
from muybridge.studies.tables import NOT_RUN, STALE
from muybridge.studies.versions import RowSelection
from muybridge.training.recipes import RECIPE_FOLDER, build_train_settings, load_recipe

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
LAPTOP = StudyConfig("laptop", 3, motion_source(STUDY_MOTIONS), "test")
OTHERS = {name: DataSource(name, address=f"/data/{name}") for name in ("sports1m", "ucf101", "hmdb51")}
PAPER = StudyConfig("paper", 1, DataSource("kinetics", address="/data/kinetics"), "validation", OTHERS, reruns=1)
TRAINING = {"seconds": 60.0, "processor_seconds": 50.0, "goes_on": False, "device": "cpu", "parameters": 1000}


def fake_rows(
    study: Study, config: StudyConfig, accuracy: Any, gain: Callable[[Any], float] = lambda what: 0.0
) -> dict[tuple[str, str], Mapping[str, Any]]:
    """A row for everything that a study needs; `accuracy(settings, evaluation)` in percent, or that of clips and of videos.

    Seeds differ by a little; `gain(run)` is added.
    """
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    asked = [(run, run.settings, test) for run in study.runs(config) for test in run.evaluations]
    asked += [(run, run.members[0].settings, run.evaluation) for run in study.fused_runs(config)]  # type: ignore[misc]
    wanted = list_micro_runs([*study.runs(config), *study.fused_runs(config)])
    version = Version({"device": "cpu"}, dict.fromkeys(wanted, "fp32 0123"))
    for what, settings, test in asked:
        given = accuracy(settings, test)
        clip, video = (
            value + 0.1 * what.seed + gain(what)
            for value in (given if isinstance(given, tuple) else (given - 5, given))
        )
        numbers = {
            "clip_top1": clip,
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
        found[what.name, test.key] = {
            **build_row(what, test, numbers, version),
            "training": TRAINING,
            "history": history,
        }
    return found


def as_in_the_paper(settings: TrainSettings, test: Any) -> float:
    """Table 2 at the nearer length; a little more where something was learnt before, and for more clips."""
    family, _, depth = settings.model.rpartition("_")
    printed = {row.family: row for row in TABLE2}[family]
    value = printed.video_top1_8f if test.length <= 8 else printed.video_top1_16f
    if family == "r2plus1d" and depth in ("18", "34"):
        value += 1
    return float(value if settings.clips.length == test.length else value - 8)


def as_claimed(settings: TrainSettings, test: Any) -> tuple[float, float]:
    """Accuracies of clips and videos with which every claim of the paper holds."""
    family, _, depth = settings.model.rpartition("_")
    value = {row.family: row for row in TABLE2}[family].video_top1_16f
    value += 2.0 * math.log2(test.length / 8) - (8.0 if settings.clips.length != test.length else 0.0)
    value += 0.2 * math.log2(test.clips) - (5.0 if settings.modality == "flow" else 0.0)
    value -= 1.0 if settings.network.middle_relu is False else 0.0
    value += 1.0 if family == "r2plus1d" and int(depth) > 10 else 0.0
    value -= 1.0 if settings.training.warmup_epochs == 0 else 0.0  # fine-tuned
    return value - 10.0, value - (4.0 if test.length == 32 else 0.0)


def gain_as_claimed(run: PlannedRun | FusedRun) -> float:
    """Of the mean of two streams, and of pre-training on other videos."""
    if isinstance(run, FusedRun):
        return 2.0 + gain_as_claimed(run.members[0])
    return 3.0 if run.start is not None and run.start.source != run.source else 0.0


CLAIMS = sorted(NAMES - {"figure6", "table1"})


@pytest.mark.parametrize("name", CLAIMS)
def test_results_as_claimed_support_every_claim_and_their_reverse_none(name: str, tmp_path: Path) -> None:
    study = STUDIES[name]
    rows = fake_rows(study, LAPTOP, as_claimed, gain_as_claimed)
    text = study.summarize(LAPTOP, rows, tmp_path).verdict.text.partition(" Besides")[0]
    assert set(re.findall(r": (yes|no|undecided)\.", text)) == {"yes"}, text
    opposite = fake_rows(
        *(study, LAPTOP, lambda settings, test: tuple(100.0 - value for value in as_claimed(settings, test))),
        lambda run: -gain_as_claimed(run),
    )
    text = study.summarize(LAPTOP, opposite, tmp_path).verdict.text.partition(" Besides")[0]
    # Being less than a point behind holds the more; the best of all lengths is above the longest either way.
    findings = re.findall(r"([^.:]+(?:\.\d[^.:]*)*): (yes|no|undecided)\.", text)
    assert {answer for sentence, answer in findings if not re.search("within|the longest", sentence)} == {"no"}, text


def test_fine_tuning_takes_a_third_of_the_epochs_at_half_the_rate() -> None:
    """At laptop scale; a tenth of the rate, the paper's, moves a network little in a thousand clips."""
    tuned = [run for run in STUDIES["table3"].runs(LAPTOP) if run.start is not None]
    assert tuned
    for run in tuned:
        training, first = run.settings.training, run.start.settings.training  # type: ignore[union-attr]
        assert (training.learning_rate, training.epochs) == (first.learning_rate / 2, pytest.approx(first.epochs / 3))
        assert (training.warmup_epochs, training.validate_every_epochs) == (0.0, training.epochs)
        assert (run.settings.clips.length, run.start.settings.clips.length) == (24, 8)  # type: ignore[union-attr]


def test_the_curves_of_figure_5_are_those_of_clips_and_of_videos(tmp_path: Path) -> None:
    study = STUDIES["figure5"]
    charts = study.summarize(LAPTOP, fake_rows(study, LAPTOP, as_claimed), tmp_path).charts
    lengths = [4, 8, 16, 24, 32]
    expected = [68.0 + 0.1 + 2.0 * math.log2(length / 8) + 0.2 * math.log2(5) for length in lengths]
    ours = {one.label: one for chart in charts for one in chart.series if list(one.x) == lengths}
    clips, videos = (next(one for name, one in ours.items() if key in name) for key in ("clip", "video"))
    assert list(clips.y) == pytest.approx([value - 10.0 for value in expected])
    assert list(videos.y) == pytest.approx([*expected[:-1], expected[-1] - 4.0])


def test_the_studies_are_those_of_the_paper_and_one_more() -> None:
    assert set(STUDIES) == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
@pytest.mark.parametrize("config", [LAPTOP, PAPER], ids=["laptop", "paper"])
def test_the_runs_of_a_study_differ(name: str, config: StudyConfig) -> None:
    study = STUDIES[name]
    runs = study.runs(config)
    assert len({run.name for run in runs}) == len(runs)
    assert {run.seed for run in runs} in (set(), set(range(config.seeds)))
    assert len(set(study.row_keys(config))) == len(study.row_keys(config))
    assert all(run.settings.training.clips_per_epoch for run in runs)
    if config.scale == "laptop":
        assert all(run.settings.network.width == 8 for run in runs)
    assert study.claim[0].isupper() and study.claim.endswith(".")


@pytest.mark.parametrize("name", sorted(NAMES))
def test_at_paper_scale_every_recipe_is_that_of_the_file(name: str) -> None:
    """Or differs from it in what the paper ran without printing a recipe: length, depth, flow, parts of the network."""
    names = [path.relative_to(RECIPE_FOLDER).with_suffix("") for path in RECIPE_FOLDER.rglob("*.yaml")]
    known = {load_recipe(str(path)) for path in names if path.parent.name != "training"}
    for run in STUDIES[name].runs(PAPER):
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
def test_without_rows_cells_are_not_run_and_nothing_is_decided(name: str, tmp_path: Path) -> None:
    study = STUDIES[name]
    result = study.summarize(LAPTOP, {}, tmp_path)
    if name == "table1":
        return
    assert result.verdict.supported is None
    shown = [str(cell) for table in result.tables for line in table.rows for cell in line]
    assert NOT_RUN in shown
    assert all(not one.y for chart in result.charts for one in chart.series if "paper" not in chart.title)


def test_intervals_of_errors_stay_within_the_percents(tmp_path: Path) -> None:
    """Three seeds of which one differs much."""
    rows = fake_rows(STUDIES["figure3"], LAPTOP, as_in_the_paper, lambda run: 60.0 * (run.seed == 1))
    result = STUDIES["figure3"].summarize(LAPTOP, rows, tmp_path)
    ends = [end for chart in result.charts for one in chart.series for end in (*(one.low or ()), *(one.high or ()))]
    assert (min(ends), max(ends)) == (0.0, 100.0)


@pytest.mark.parametrize("name", sorted(NAMES - {"figure6", "table1"}))
@pytest.mark.parametrize("config", [LAPTOP, PAPER], ids=["laptop", "paper"])
def test_with_all_rows_no_cell_is_left_open(name: str, config: StudyConfig, tmp_path: Path) -> None:
    study = STUDIES[name]
    rows = fake_rows(study, config, as_in_the_paper)
    result = study.summarize(config, rows, tmp_path)
    assert NOT_RUN not in [cell for table in result.tables for line in table.rows for cell in line]
    assert "not run" not in result.verdict.text
    assert all(len(line) == len(table.columns) for table in result.tables for line in table.rows)
    assert all(one.y and len(one.x) == len(one.y) for chart in result.charts for one in chart.series)
    values = json.loads(json.dumps(result_to_json(study, config, result, RowSelection(rows, (), ""), missing=[])))
    assert values["format"] == 1
    text = " ".join(format_study(values).split())
    assert study.claim in text and result.verdict.text in text


def test_table_2_with_the_papers_numbers_supports_the_paper(tmp_path: Path) -> None:
    study = STUDIES["table2"]
    result = study.summarize(LAPTOP, fake_rows(study, LAPTOP, as_in_the_paper), tmp_path)
    assert result.verdict.supported is True
    video, _ = result.tables
    assert [line[0] for line in video.rows][-1] == "R(2+1)D"
    assert len(video.rows) == len(FAMILIES)
    assert [line[2] for line in video.rows] == [row.video_top1_8f for row in TABLE2]
    assert str(video.rows[0][1]).startswith("59.6 [")  # 59.5 with seeds 0, 0.1 and 0.2 above


def test_table_2_where_r3d_is_best_contradicts_it(tmp_path: Path) -> None:
    study = STUDIES["table2"]
    rows = fake_rows(study, LAPTOP, lambda settings, test: 90 if settings.model.startswith("r3d") else 50)
    verdict = study.summarize(LAPTOP, rows, tmp_path).verdict
    assert verdict.supported is False
    assert "R(2+1)D above R3D (-40.0 points, 95 % -40.0 to -40.0): no" in verdict.text


def test_rows_that_are_swapped_change_the_verdict(tmp_path: Path) -> None:
    study = STUDIES["table2"]
    rows = fake_rows(study, LAPTOP, as_in_the_paper)
    swapped = {key: {**row, "numbers": rows[_find_partner(key, rows)]["numbers"]} for key, row in rows.items()}
    verdict = study.summarize(LAPTOP, swapped, tmp_path).verdict
    assert study.summarize(LAPTOP, rows, tmp_path).verdict.supported is True
    assert verdict.supported is False
    assert "8 frames: R(2+1)D above R3D (-3.0 points" in verdict.text


def _find_partner(key: tuple[str, str], rows: Mapping[tuple[str, str], Mapping[str, Any]]) -> tuple[str, str]:
    """The row of R3D for one of R(2+1)D with the same seeds and test, and the other way round; else the row itself."""
    swaps = {"r3d_10": "r2plus1d_10", "r2plus1d_10": "r3d_10"}
    row = rows[key]
    rounding = row["settings"]["training"]["rounding_seed"]
    wanted = (swaps.get(row["model"], row["model"]), row["seed"], rounding, row["test"])
    return next(
        other
        for other, found in rows.items()
        if (found["model"], found["seed"], found["settings"]["training"]["rounding_seed"], found["test"]) == wanted
    )


def test_rows_of_another_version_have_no_verdict(tmp_path: Path) -> None:
    study = STUDIES["table2"]
    rows = fake_rows(study, LAPTOP, as_in_the_paper)
    result = study.summarize(LAPTOP, {}, tmp_path, stale=tuple(rows))
    assert result.verdict.supported is None
    assert {str(row[1]) for row in result.tables[0].rows} == {STALE}


def test_differences_below_the_noise_floor_are_undecided(tmp_path: Path) -> None:
    """Reruns that end far apart: the same means over seeds, and nothing left to say of three points."""
    study, config = STUDIES["table2"], replace(LAPTOP, rerun_kinds=("weights",))

    def shaky(settings: TrainSettings, test: Any) -> float:
        return as_in_the_paper(settings, test) + 4.0 * settings.training.rounding_seed

    calm, noisy = (study.summarize(config, fake_rows(study, config, how), tmp_path) for how in (as_in_the_paper, shaky))
    assert calm.verdict.supported is True and calm.floor is not None and calm.floor.deviations["video_top1"] == 0.0
    assert noisy.floor is not None and noisy.floor.deviations["video_top1"] == pytest.approx(6.3246, abs=1e-3)
    assert noisy.verdict.supported is None
    assert "R(2+1)D above R3D (+3.0 points, 95 % +3.0 to +3.0, rounding 5.2): undecided" in noisy.verdict.text
    unmeasured = {key: row for key, row in fake_rows(study, config, as_in_the_paper).items() if not row["rerun"]}
    assert len(unmeasured) == 24 * LAPTOP.seeds
    assert study.summarize(config, unmeasured, tmp_path).verdict.supported is None


def test_four_kinds_of_rounding_make_the_floor(tmp_path: Path) -> None:
    study = STUDIES["table2"]
    rows = fake_rows(study, LAPTOP, as_in_the_paper)
    kinds = [row["rerun"]["kind"] for row in rows.values() if row["rerun"]]
    assert {kind: kinds.count(kind) for kind in kinds} == dict.fromkeys(RERUN_KINDS, 4)  # of two networks, two lengths
    floor = study.summarize(LAPTOP, rows, tmp_path).floor
    assert floor is not None and floor.kinds == tuple(RERUN_KINDS)
    assert "moved by a unit in the last place, more threads, torch's convolutions" in floor.format_sentence()
    moved = replace(LAPTOP, rerun_kinds=("weights",))
    older = fake_rows(study, moved, as_in_the_paper)  # their floor is measured although others are planned now
    assert set(study.find_runs(LAPTOP, older)) == set(older)
    floor = study.summarize(LAPTOP, older, tmp_path).floor
    assert floor is not None and floor.kinds == ("weights",) and floor.num_runs == 5


def test_the_floor_of_every_network_is_measured_where_all_are_rerun(tmp_path: Path) -> None:
    study, config = STUDIES["table2"], replace(LAPTOP, rerun_kinds=("weights",))

    def shaky(settings: TrainSettings, test: Any) -> float:
        is_shaky = settings.model.startswith("mc3") and settings.clips.length == 8
        return as_in_the_paper(settings, test) + 4.0 * settings.training.rounding_seed * is_shaky

    whole = replace(config, rerun_all=True)
    rows = fake_rows(study, whole, shaky)
    assert len(rows) == 24 * (LAPTOP.seeds + 4)
    usual = study.summarize(config, rows, tmp_path)
    assert usual.floor is not None and usual.floor.deviations["video_top1"] == 0.0
    result = study.summarize(whole, rows, tmp_path)
    assert result.floor is not None and result.floor.deviations["video_top1"] == pytest.approx(6.3246, abs=1e-3)
    (table,) = (table for table in result.tables if table not in usual.tables)
    assert len(table.rows) == 24
    (line,) = (row for row in table.rows if row[2])
    assert str(line[0]).startswith("mc3_10-8f-seed0-") and line[1:3] == ("62.9, 66.9, 70.9, 74.9, 78.9", 6.3)
    for row in [row for key, row in rows.items() if row["rerun"] and key[0].startswith("mc3")]:
        rows.pop((row["run"], row["test"]["key"]))
    assert len(study.summarize(whole, rows, tmp_path).tables[-1].rows) == 22  # those that were not rerun are left out
    figure = STUDIES["figure6"]
    assert figure.runs(replace(LAPTOP, rerun_all=True)) == figure.runs(LAPTOP)  # read from weights: there is no floor


def test_clips_of_one_network_are_no_folds(tmp_path: Path) -> None:
    """Figure 5 scores the same runs with several numbers of clips."""
    study, config = STUDIES["figure5"], replace(LAPTOP, rerun_all=True)
    table = study.summarize(config, fake_rows(study, config, lambda settings, test: 60), tmp_path).tables[-1]
    names = [str(row[0]) for row in table.rows]
    assert len(names) == len(set(names)) == len(FIGURE5_LENGTHS["laptop"]) + len(FIGURE5_CLIPS["laptop"]) - 1


def test_the_decomposition_distinguishes_the_two_reasons(tmp_path: Path) -> None:
    """Factorised filters help, the ReLU does not: the first finding holds, the second does not."""
    study = STUDIES["decomposition"]
    rows = fake_rows(study, LAPTOP, lambda settings, test: 50 if settings.model.startswith("r3d") else 60)
    verdict = study.summarize(LAPTOP, rows, tmp_path).verdict
    assert "without ReLU above R3D (+10.0 points, 95 % +10.0 to +10.0): yes" in verdict.text
    assert verdict.supported is None  # a difference of exactly nothing decides nothing


def test_studies_share_what_they_can() -> None:
    names = {name: {run.name for run in study.runs(LAPTOP)} for name, study in STUDIES.items()}
    assert names["figure4"] == names["table2"]
    assert names["figure6"] < names["table2"]
    assert len(names["figure3"] & names["table2"]) == len(names["figure3"]) / 2
    assert len(names["decomposition"] & names["table2"]) == 2 * (LAPTOP.seeds + LAPTOP.num_reruns - 1)
    reruns = {run.name for run in STUDIES["table3"].runs(LAPTOP) if run.rerun}
    assert names["table3"] & names["figure5"] >= (names["table3"] & names["table2"]) - reruns


def test_a_missing_data_set_is_an_error() -> None:
    bare = replace(PAPER, others={})
    for name, needs in (("table5", "sports1m"), ("table6", "ucf101")):
        with pytest.raises(ValueError, match=f"needs {needs} too; add --others {needs}=DATA"):
            STUDIES[name].runs(bare)


def test_recipes_are_read_as_the_command_line_reads_them() -> None:
    settings = load_recipe("kinetics400_r2plus1d_18_16f")
    assert (settings.model, settings.clips.length, settings.clips.frames_per_second) == ("r2plus1d_18", 16, 15)
    assert load_recipe("fine_tuning/ucf101_r2plus1d_34_32f_rgb").training.decay_epochs == (2, 4, 6)
    with pytest.raises(ValueError, match="there is no recipe"):
        load_recipe("kinetics400_r2plus1d_18_17f")
    with pytest.raises(ValueError, match=r"clips\.speed is not known"):
        build_train_settings({"data": "", "clips": {"speed": 2}})


def test_a_verdict_is_the_weakest_of_its_findings() -> None:
    yes, no, unsure = ("a", True), ("b", False), ("c", None)
    assert conclude([yes, yes]).supported is True
    assert conclude([yes, unsure]).supported is None
    assert conclude([yes, unsure, no]).supported is False
    assert conclude([]).supported is None
    assert compare("more", None) == ("more (not run)", None)


@pytest.mark.parametrize(
    ("low", "high", "margin", "expected"),
    [
        (-1.0, 1.9, 0.0, True),
        (2.1, 3.0, 0.0, False),
        (1.0, 3.0, 0.0, None),
        (2.1, 3.0, 0.2, None),
        (-1.0, 1.9, 0.2, None),
        (-1.0, 1.9, None, None),
    ],
)
def test_a_gap_is_within_bounds_where_its_interval_is(
    low: float, high: float, margin: float | None, expected: bool | None
) -> None:
    assert check_within("close", Estimate(1.5, low, high, 3, margin), 2.0)[1] is expected
    assert check_within("close", Estimate(1.5, None, None, 1), 2.0) == ("close (behind by 1.5)", None)
    assert check_within("close", None, 2.0) == ("close (not run)", None)


@pytest.mark.parametrize(("low", "supported"), [(0.2, True), (-0.1, None)])
def test_rounding_has_no_say_in_filters(low: float, supported: bool | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The share of change is read from weights, so any interval above that of random filters decides."""
    random = 100 * claims.RANDOM_CHANGE_SHARE
    share = Estimate(random + 0.5, random + low, random + 0.8, 3)
    monkeypatch.setattr(claims, "estimate_change_share", lambda results: share)
    assert judge_figure6(Any).supported is supported  # type: ignore[arg-type]
