"""Cross-validation on real video, rehearsed on generated files at toy size: folds apart, baselines, resumable rows, a table."""

import itertools
import json
import re
import shutil
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from muybridge.distributed.stop import StopRequested
from muybridge.files.run_folder import read_json_lines
from muybridge.models.network import create_model
from muybridge.studies.fingerprint import Version
from muybridge.studies.laptop import CLEARER_MOTIONS
from muybridge.studies.plan import PlannedRun, digest, motion_source
from muybridge.weights.card import load_card, save
from scripts import load_script
from videos import write_uniform_video

ROOT = Path(__file__).parents[2]
REAL_DATA = ROOT / "benchmarks" / "results" / "real_data"


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dark and bright files of three groups; the bright ones are twice as long."""
    folder = tmp_path_factory.mktemp("real")
    rows = ["path,label,split,group,width,height,fps,num_frames"]
    for number in range(12):
        is_bright = number % 2
        frames = 12 * (1 + is_bright)
        write_uniform_video(folder / f"{number}.mp4", frames, 60 + 120 * is_bright)
        rows.append(f"{number}.mp4,{('dark', 'bright')[is_bright]},train,g{number // 4},64,48,25.0,{frames}")
    (folder / "data.csv").write_text("\n".join(rows) + "\n")
    return folder / "data.csv"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = load_script("real_data")
    monkeypatch.setattr(module, "LENGTHS", (8,))
    monkeypatch.setattr(module, "ORDER", ("f_r2d", "r3d"))
    listed, short = module.list_data_sets, sys.modules["real_data_sets"].Recipe(2.0, 8, 2.7e-3)
    monkeypatch.setattr(module, "list_data_sets", lambda given: [replace(data, recipe=short) for data in listed(given)])
    return module


def run(script: ModuleType, monkeypatch: pytest.MonkeyPatch, output: Path, listed: Path, *options: str) -> None:
    argv = ["real_data", "-o", str(output), "--data", f"toy={listed}", "--families", "f_r2d", "--seeds", "1", *options]
    monkeypatch.setattr(sys, "argv", argv)
    script.main()


@pytest.mark.long
def test_every_video_is_tested_once_by_a_network_that_never_saw_its_group(
    script: ModuleType,
    listed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "out"
    run(script, monkeypatch, output, listed, "--minutes", "0")
    table = capsys.readouterr().out
    assert not (output / "rows.jsonl").exists()
    assert "| majority class | - | - | - | 50.0 |" in table
    assert "| duration and aspect ratio alone | - | - | - | 100.0 | 100 | 100 |" in table
    assert "Not run: f_r2d, r3d (8 frames from scratch); f_r2d, r3d (8 frames from motions)." in table

    def stop(*_: object) -> None:
        raise StopRequested(signal.SIGTERM)

    with monkeypatch.context() as patched, pytest.raises(SystemExit) as stopped:
        patched.setattr(script, "evaluate_split", stop)
        run(script, patched, output, listed)
    assert stopped.value.code == 75 and not (output / "rows.jsonl").exists()

    run(script, monkeypatch, output, listed)
    logs = list((output / "work" / "runs").glob("*/log.jsonl"))
    steps = [[line["step"] for line in read_json_lines(log) if line["kind"] == "train"] for log in logs]
    assert len(logs) == 2 and all(len(set(each)) == len(each) > 0 for each in steps)  # trained once
    rows = [json.loads(line) for line in (output / "rows.jsonl").read_text().splitlines()]
    assert [(row["family"], row["fold"], row["start"]) for row in rows] == [
        ("f_r2d", 1, "scratch"),
        ("f_r2d", 2, "scratch"),
    ]
    tested = [set(row["videos"]) for row in rows]
    assert not tested[0] & tested[1]
    assert len(tested[0] | tested[1]) == 12
    assert Counter(label for row in rows for label, _ in row["videos"].values()) == {"dark": 6, "bright": 6}
    groups = [{number // 4 for number in range(12) if digest(f"{number}.mp4") in videos} for videos in tested]
    assert groups[0] | groups[1] == {0, 1, 2}
    assert not groups[0] & groups[1]
    right = [is_right for row in rows for _, is_right in row["videos"].values()]
    assert f"| f_r2d | 8 | scratch | 2 of 2 | {100 * np.mean(right):.1f} |" in capsys.readouterr().out

    run(script, monkeypatch, output, listed)  # what is there is not run again
    assert len((output / "rows.jsonl").read_text().splitlines()) == 2
    with monkeypatch.context() as patched:
        longer = [
            replace(data, recipe=sys.modules["real_data_sets"].Recipe(3.0, 8, 2.7e-3))
            for data in script.list_data_sets([f"toy={listed}"])
        ]
        patched.setattr(script, "list_data_sets", lambda given: longer)
        capsys.readouterr()
        run(script, patched, output, listed, "--render")
        hidden = "Not shown, since another version or recipe made them: 2 rows."
        assert hidden in capsys.readouterr().out

    listed_elsewhere = listed.with_name("gone.csv")
    run(script, monkeypatch, output, listed_elsewhere, "--render")  # needs rows and baselines.json alone
    assert "| f_r2d | 8 | scratch | 2 of 2 |" in capsys.readouterr().out


def test_the_version_is_measured_of_networks_that_have_rows_too(
    script: ModuleType, listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, measured = tmp_path / "out", []
    output.mkdir()
    row = asdict(script.Run("toy", "r3d", 8, "scratch", 0, 1))
    row |= {"videos": {"v": ["bright", True]}, "video_top1": 100.0, "fingerprint": None}
    (output / "rows.jsonl").write_text(json.dumps(row) + "\n")

    def compute(planned: list[PlannedRun], *_: object, **__: object) -> Version:
        measured.extend(run.settings.model for run in planned)
        return Version({"device": "cpu"}, defaultdict(str))

    monkeypatch.setattr(script, "compute_version", compute)
    monkeypatch.setattr(
        script, "execute", lambda run, settings, version: {**row, "family": run.family, "fold": run.fold}
    )
    run(script, monkeypatch, output, listed)
    assert {"f_r2d_10", "r3d_10"} == set(measured)
    added = [row["family"] for row in read_json_lines(output / "rows.jsonl")[1:]]
    assert added == ["f_r2d", "f_r2d"]  # what was asked for, each fold


def test_the_most_telling_networks_come_first_then_the_reruns_then_the_others() -> None:
    module = load_script("real_data")
    runs = list(module.plan_runs(module.DataSet("d", Path("d.csv"), 2, "rooms"), module.ORDER, 3))
    telling = [run for run in runs if not run.rounding and run.family in module.TELLING]
    reruns = [run for run in runs if run.rounding]
    assert runs[: len(telling)] == telling
    assert runs[len(telling) : len(telling) + len(reruns)] == reruns
    assert {(run.family, run.rounding, run.fold) for run in reruns} == {
        (family, number, fold) for family in ("r2plus1d", "r3d") for number in (1, 2, 3, 4) for fold in (1, 2)
    }
    cells = {(run.family, run.frames, run.start, run.seed, run.fold) for run in runs if not run.rounding}
    assert len(cells) == len(runs) - len(reruns) == 12 * 2 * 2 * 3 * 2
    assert len({run.name for run in runs}) == len(runs)


def test_runs_start_from_the_weights_of_the_same_seed_and_not_from_a_rerun(
    script: ModuleType,
    listed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    study, output = tmp_path / "study", tmp_path / "out"
    for rounding in (1, 0):
        settings = script.build_laptop_settings("f_r2d_10", 8)
        settings = replace(settings, training=replace(settings.training, rounding_seed=rounding))
        folder = study / "runs" / PlannedRun(settings, motion_source(CLEARER_MOTIONS)).name
        folder.mkdir(parents=True)
        network = create_model("f_r2d_10", num_classes=12, width=8, clip_length=8)
        save(
            network,
            folder / "last.safetensors",
            classes=CLEARER_MOTIONS.class_names,
            preprocessing=settings.preprocessing,
        )
    wanted = script.Run("toy", "f_r2d", 8, "motions", 0, 1)
    assert script.find_pretrained(study, wanted) == folder / "last.safetensors"
    assert script.find_pretrained(study, replace(wanted, seed=1)) is None
    assert script.find_pretrained(None, wanted) is None
    monkeypatch.setattr(script, "STARTS", ("motions",))
    monkeypatch.setattr(script, "compute_version", lambda *_, **__: Version({"device": "cpu"}, defaultdict(str)))
    run(script, monkeypatch, output, listed, "--pretrained", str(study), "--seeds", "2")
    rows = read_json_lines(output / "rows.jsonl")
    assert [(row["start"], row["fold"]) for row in rows] == [("motions", 1), ("motions", 2)]
    assert {row["start_sha256"] for row in rows} == {load_card(folder / "last.safetensors").tensors_sha256}
    assert "toy: 2 runs from motions left out: " in capsys.readouterr().out


def test_pretraining_trains_the_runs_whose_weights_are_looked_for(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[PlannedRun] = []
    monkeypatch.setattr(script, "run_study", lambda study, config, runs, runner: trained.extend(runs) or [])
    assert script.pretrain(tmp_path, ["r3d", "f_r2d"], 2) == []
    assert len(trained) == 2 * 2 * 2  # families, lengths, seeds
    for run in trained:
        weights = tmp_path / "runs" / run.name / "last.safetensors"
        weights.parent.mkdir(parents=True)
        weights.touch()
    for family, frames, seed in itertools.product(("r3d", "f_r2d"), (8, 16), (0, 1)):
        assert script.find_pretrained(tmp_path, script.Run("toy", family, frames, "motions", seed, 1))


def test_a_failed_pretraining_ends_the_command(
    script: ModuleType, listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "run_study", lambda *_: ["f_r2d_10-8f-seed0 failed: no space"])
    with pytest.raises(SystemExit) as stopped:
        run(script, monkeypatch, tmp_path / "out", listed, "--pretrained", str(tmp_path / "motions"), "--pretrain")
    assert "no space" in str(stopped.value.code)
    assert not (tmp_path / "out" / "rows.jsonl").exists()


def test_what_cannot_be_run_is_said_in_a_sentence(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MUYBRIDGE_REAL_VIDEO", raising=False)
    (tmp_path / "bare.csv").write_text("path,label\na.mp4,a\n")
    for options, sentence in (
        ([], "segments.csv does not exist; set MUYBRIDGE_REAL_VIDEO"),
        (["--render"], "baselines.json has no ceiling_camera"),
        (["--data", "x"], "--data is x, expected NAME=LIST.csv"),
        (["--data", f"x={tmp_path / 'bare.csv'}"], "bare.csv has no column group"),
        (["--families", "r4d"], "invalid choice: 'r4d'"),
        (["--pretrain"], "name it by --pretrained"),
    ):
        with pytest.raises(SystemExit) as stopped:
            script.main(["-o", str(tmp_path / "out"), *options])
        assert stopped.value.code == 2
        assert sentence in capsys.readouterr().err


def test_claims_are_judged_beyond_the_noise_floor() -> None:
    tables = load_script("real_data_tables")
    grid = tables.Grid(2, 3, ("r2plus1d", "r3d", "f_r2d"), (8,), ("scratch", "motions"))

    def make_rows(family: str, share: int, start: str = "scratch", rounding: int = 0) -> list[dict[str, Any]]:
        return [
            {
                "family": family,
                "frames": 8,
                "start": start,
                "seed": seed,
                "fold": fold,
                "rounding": rounding,
                "videos": {str(video): ["a", video < share] for video in range(100)},
            }
            for seed in ((0,) if rounding else range(3))
            for fold in (1, 2)
        ]

    rows = [
        *make_rows("r3d", 50),
        *make_rows("r2plus1d", 80),
        *make_rows("f_r2d", 90),
        *make_rows("r3d", 55, "motions"),
    ]
    baselines = {"majority class": {"0": ["a", True]}}
    text = tables.render(rows, baselines, grid)
    assert "noise floor: not measured, so nothing is decided" in text
    assert text.count("| undecided |") == 3
    reruns = [row for number in range(1, 5) for row in make_rows("r3d", 50 + 10 * (number % 2), rounding=number)]
    text = tables.render([*rows, *reruns], baselines, grid)
    assert tables.measure_floors([*rows, *reruns], grid) == {"r3d": pytest.approx(np.std([50, 60] * 2 + [50], ddof=1))}
    assert "noise floor: 5.5 points (r3d; not measured of r2plus1d)." in text
    assert "| r2plus1d above r3d: factorized convolutions help | 8 | scratch | 3 | 30.0 [" in text
    verdicts = [line.rpartition(" | ")[2] for line in text.splitlines() if " above " in line]
    assert verdicts == [
        "contradicted |",
        "supported |",
        "undecided |",
    ]  # the last: 5 points with a floor of 5.5 x sqrt(2 / 3)
    assert "all networks" not in text  # r3d alone has run from motions
    rest = [row for family, share in (("r2plus1d", 85), ("f_r2d", 95)) for row in make_rows(family, share, "motions")]
    text = tables.render([*rows, *rest, *reruns], baselines, grid)
    assert "| all networks on average from motions above scratch: pre-training helps | 8 | motions | 3 | 5.0 [" in text
    assert "| r3d | 8 | scratch | 6 of 6 |" in text  # reruns are no further seeds
    mixed = [row for number in range(2, 6) for row in make_rows(f"mc{number}", 10 * number)]
    assert "MCx" not in tables.render([*rows, *mixed[6:]], baselines, grid)  # a mean is of all four, or of none
    text = tables.render([*rows, *reruns, *mixed], baselines, grid)
    assert "| MCx on average above r3d: mixed convolutions help | 8 | scratch | 3 | -15.0 [" in text
    assert "| r2plus1d above MCx on average | 8 | scratch | 3 | 45.0 [" in text


Rows = list[dict[str, Any]]


def set_value(number: int, key: str, value: object) -> Callable[[Rows], None]:
    return lambda rows: rows[number].update({key: value})


def swap(key: str, first: int, second: int) -> Callable[[Rows], None]:
    def change(rows: Rows) -> None:
        rows[first][key], rows[second][key] = rows[second][key], rows[first][key]

    return change


def set_results(number: int, value: object) -> Callable[[Rows], None]:
    return lambda rows: rows[number].update(videos=dict.fromkeys(rows[number]["videos"], value))


def add_again(**changed: object) -> Callable[[Rows], None]:
    return lambda rows: rows.append({**rows[0], **changed})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (set_results(0, ["walk", True]), ", and the results by video give 100"),
        (set_value(0, "video_top1", 50.0), "video_top1 is 50, and the results by video give "),
        (set_results(0, ["walk", 1e300]), "expected a valid boolean"),
        (set_value(0, "videos", {}), "it has no videos"),
        (set_value(0, "videos", None), "videos is None"),
        (set_value(0, "seed", "0"), "seed is '0'"),
        (set_value(0, "fold", 7), "fold 7, and ceiling_camera has 2"),
        (set_value(0, "family", "r4d"), "family is 'r4d'"),
        (set_value(0, "recipe", {}), "recipe.epochs is missing"),
        (swap("family", 0, 4), "has the fingerprint of r2plus1d_10-8f-seed0-"),
        (swap("fingerprint", 0, 4), "expected that of r2plus1d_10-8f-seed0-"),
        (set_value(0, "frames", 16), "expected that of r2plus1d_10-16f-seed0-"),
        (set_value(0, "start", "motions"), "only motions have a hash"),
        (swap("fold", 0, 1), "was scored on other videos or classes than an earlier row of this fold"),
        (swap("start_sha256", -2, -4), "starts from other weights than an earlier row of the same network and seed"),
        (add_again(videos={}, video_top1=0.0), "it has no videos"),
        (lambda rows: rows.append({}), "data is missing"),
        (lambda rows: rows.append({**rows[2], "seed": rows[0]["seed"]}), "has other results than an earlier row of"),
    ],
)
def test_a_row_that_is_not_what_it_says_is_refused(
    change: Callable[[Rows], None],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = pick_committed_rows()
    change(rows)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("versions.jsonl", "baselines.json"):
        shutil.copy(REAL_DATA / name, tmp_path)
    monkeypatch.delenv("MUYBRIDGE_REAL_VIDEO", raising=False)
    with pytest.raises(SystemExit) as stopped:
        load_script("real_data").main(["-o", str(tmp_path), "--render"])
    assert stopped.value.code == 2
    assert sentence in " ".join(capsys.readouterr().err.split())


@cache
def _read_committed() -> str:
    return (REAL_DATA / "rows.jsonl").read_text()


def pick_committed_rows() -> Rows:
    """Of the ceiling camera, 8 frames: two seeds of R(2+1)D, both rooms, then one of R3D; from motions at the end."""
    rows = [row for row in map(json.loads, _read_committed().splitlines()) if row["data"] == "ceiling_camera"]
    machine = next(row["fingerprint"]["environment"] for row in rows if row["start"] == "motions")
    rows = [row for row in rows if row["frames"] == 8 and row["fingerprint"]["environment"] == machine]

    def pick(family: str, start: str, num_seeds: int) -> Rows:
        wanted = [(family, start, seed, fold) for seed in range(num_seeds) for fold in (1, 2)]
        found = {(row["family"], row["start"], row["seed"], row["fold"]): row for row in rows if not row["rounding"]}
        return [found[key] for key in wanted]

    return [*pick("r2plus1d", "scratch", 2), *pick("r3d", "scratch", 1), *pick("r3d", "motions", 2)]


BASELINES = ("majority class", "duration and aspect ratio alone")


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        ({}, "its baselines are not of the same videos, or of none"),
        ([], "baselines is []"),
        ({"majority class": {"walk": [86, 85]}}, "more videos of a class are right than there are"),
        ({"majority class": {"walk": ["1", 2]}}, "baselines.majority class.walk.0 is '1'"),
        ({name: {"walk": [85, 85]} for name in BASELINES}, "are of other videos than the rows"),
        ({"majority class": {"walk": [85, 85]}}, "its baselines are majority class, expected majority class, duration"),
        ({"a": {"walk": [1, 2]}, "b": {"walk": [1, 3]}}, "not of the same videos"),
    ],
)
def test_baselines_that_are_not_of_the_videos_are_refused(counts: object, sentence: str) -> None:
    module = load_script("real_data_rows")
    with pytest.raises(ValueError, match=re.escape(sentence)):
        module.check_baselines(counts, "the baselines of x", pick_committed_rows(), 2)


def test_a_table_has_the_seeds_that_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(REAL_DATA, tmp_path, dirs_exist_ok=True, ignore=lambda *_: ["work"])
    rows = pick_committed_rows()
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0]]))
    monkeypatch.delenv("MUYBRIDGE_REAL_VIDEO", raising=False)
    for seeds, progress in ((1, "2 of 2"), (2, "4 of 4"), (3, "4 of 6")):
        load_script("real_data").main(["-o", str(tmp_path), "--render", "--seeds", str(seeds)])
        assert f"| r2plus1d | 8 | scratch | {progress} |" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        load_script("real_data").main(["-o", str(tmp_path), "--render", "--seeds", "0"])
    assert "'0' is not a number from 1" in capsys.readouterr().err


def test_intervals_are_over_recordings() -> None:
    tables, module = load_script("real_data_tables"), load_script("real_data")
    names = [
        module._identify_video(f"/v/{recording}.mp4#{index}-{index + 1}") for recording in "ab" for index in range(3)
    ]
    assert len(set(names)) == 6 and len({name.partition("/")[0] for name in names}) == 2
    assert "/" not in module._identify_video("/v/a.mp4")
    right = [True, True, True, False, False, True]
    segments = {f"1/{name}": ["c", value] for name, value in zip(names, right, strict=True)}
    values = tables._value_recordings(segments)
    assert sorted(values) == pytest.approx(
        [100 * (4 / 6 - 1 / 3), 100 * (4 / 6 + 1 / 3)]
    )  # 1/3 of the sums of distances
    assert values.mean() == pytest.approx(100 * 4 / 6)
    videos = {f"1/{name.partition('/')[2]}": ["c", value] for name, value in zip(names, right, strict=True)}
    assert sorted(tables._value_recordings(videos)) == pytest.approx([0, 0, 100, 100, 100, 100])


def test_rows_of_no_or_another_version_are_counted() -> None:
    tables = load_script("real_data_tables")
    unknown, known = [{"seed": 0}, {"seed": 1}], [{"seed": 2, "fingerprint": {}}]
    assert tables.describe_hidden_rows(known, known) == ""
    assert tables.describe_hidden_rows([*known, *known], known) == ""  # of two versions
    sentence = tables.describe_hidden_rows(known, [*unknown, *known])
    assert sentence == "Not shown, since another version or recipe made them: 2 rows."


def test_a_table_is_of_one_version() -> None:
    tables = load_script("real_data_tables")
    versions = [Version({"device": "cpu"}, {"a": bits}) for bits in ("fp32 1", "fp32 2")]
    fingerprints = [{"environment": {"device": "cpu"}, "micro_runs": dict(version.micro_runs)} for version in versions]

    def make_row(family: str, seed: int, version: int, *, start: str = "scratch") -> dict[str, Any]:
        cell = {"family": family, "frames": 8, "start": start, "seed": seed, "fold": 1}
        return {**cell, "videos": {"v": ["a", seed > 0]}, "fingerprint": fingerprints[version]}

    first, second = ([make_row("r3d", seed, version) for seed in range(3 - version)] for version in (0, 1))
    no_version = [{**make_row("r3d", 9, 0), "fingerprint": None}] * 9
    assert tables.select_versions([*second, *first, *no_version], versions, 1) == [first]
    second.append(make_row("f_r2d", 0, 1))  # which the first lacks
    assert tables.select_versions([*second[1:], *first], versions, 1) == [first, second[1:]]
    assert tables.select_versions([*second[1:], *first], versions, 2) == [first]  # not all of its folds
    assert tables.select_versions([], [], 1) == []
    grid = tables.Grid(1, 3, ("r3d", "f_r2d"), (8,), ("scratch",))
    shown = tables.render_versions([first, second[1:]], {"majority class": {"0": ["a", True]}}, grid)
    above, below = shown.split("Rows of another version of the code or another kind of machine")
    assert "| r3d | 8 | scratch | 3 of 3 |" in above and "Not run: f_r2d (8 frames from scratch)." in above
    assert "| f_r2d | 8 | scratch | 1 of 3 |" in below and "Not run" not in below


def test_the_page_shows_the_committed_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """python benchmarks/real_data.py -o benchmarks/results/real_data --render --docs docs/reproduction.md"""
    page = tmp_path / "page.md"
    shutil.copy(ROOT / "docs" / "reproduction.md", page)
    shutil.copytree(ROOT / "benchmarks" / "results" / "real_data", tmp_path / "rows", ignore=lambda *_: ["work"])
    monkeypatch.delenv("MUYBRIDGE_REAL_VIDEO", raising=False)
    argv = ["real_data", "-o", str(tmp_path / "rows"), "--render", "--docs", str(page)]
    monkeypatch.setattr(sys, "argv", argv)
    load_script("real_data").main()
    assert page.read_text() == (ROOT / "docs" / "reproduction.md").read_text()
