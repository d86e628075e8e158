"""The full-size studies for a GPU, rehearsed on a CPU at toy size: resumable rows, real clips as planes, a table with floor."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from muybridge.kernels.convolution import set_execution
from muybridge.models.family import FAMILIES
from scripts import BENCHMARKS, load_script
from videos import write_video

SCRIPT = BENCHMARKS / "gpu_studies.py"
TOY = ("--toy", "--device", "cpu", "--workers", "0", "--seeds", "1")


@pytest.fixture(scope="module")
def studies() -> ModuleType:
    return load_script("gpu_studies")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of real files: bright and dark."""
    folder = tmp_path_factory.mktemp("real")
    rows = ["path,label,split"]
    for number in range(8):
        label = ("dark", "bright")[number % 2]
        write_video(
            folder / f"{number}.mp4",
            20,
            height=48,
            width=64,
            paint=lambda _, level=60 + 120 * (number % 2): np.full((48, 64, 3), level, np.uint8),
        )
        rows.append(f"{number}.mp4,{label},{'test' if number >= 6 else 'train'}")
    (folder / "data.csv").write_text("\n".join(rows) + "\n")
    path = folder / "clips.npz"
    load_script("pack_clips").main(["--data", str(folder / "data.csv"), "-o", str(path)])
    return path


def test_real_clips_are_packed_as_planes_and_come_back_as_pixels(studies: ModuleType, clips: Path) -> None:
    assert clips.stat().st_size <= 20 * 2**20
    videos = studies.load_videos("real", clips, studies.TOY, 0)
    assert videos.train.shape[:2] == (6, 16) and videos.test.shape[0] == 2
    assert videos.test_labels.tolist() != [0, 0]
    levels = videos.train.reshape(6, -1).mean(axis=1)
    bright = videos.train_labels == videos.train_labels[1]
    assert np.allclose(levels[bright], 180, atol=4) and np.allclose(levels[~bright], 60, atol=4)


def test_the_most_telling_networks_come_first_and_all_twelve_come(studies: ModuleType) -> None:
    jobs = list(studies.list_jobs(("motions", "real"), 2))
    assert [job.family for job in jobs[:6]] == ["r3d", "r2plus1d", "f_r2d", "r2d", "mc3", "rmc3"]
    assert {job.family for job in jobs} == set(FAMILIES)
    assert len({job.key for job in jobs}) == len(jobs) == 2 * (2 * 12 + 8)


@pytest.mark.long
def test_a_session_writes_rows_and_the_next_goes_on(
    studies: ModuleType,
    clips: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(studies, "compute_version", lambda *_: "v")
    output = tmp_path / "rows.jsonl"
    words = ["-o", str(output), "--clips", str(clips), *TOY]
    studies.main([*words, "--minutes", "0"])
    assert "no time left; next is motions r3d seed 0 rounding 0" in capsys.readouterr().out
    studies.main([*words, "--minutes", "10"])
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert len(rows) == 2 * (12 + 8) and {row["num_videos"] for row in rows} == {6, 2}
    assert "everything is done" in capsys.readouterr().out
    first = output.read_text().splitlines(keepends=True)
    output.write_text("".join(first[:-3]) + first[-3][:50])  # the session was killed while it wrote a row
    studies.main([*words, "--minutes", "10"])
    again = studies.read_rows(output)
    assert [row["right"] for row in again] == [row["right"] for row in rows]  # and the same bits
    shown = capsys.readouterr().out
    assert (
        "noise floor: " in shown and "r2plus1d" in shown and "from R3D" not in shown.split("f_r2d")[0].split("r3d")[0]
    )


def test_rows_of_another_version_or_other_clips_are_run_again(
    studies: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "rows.jsonl"
    monkeypatch.setattr(studies, "list_jobs", lambda data, seeds: iter([studies.Job("motions", "f_r2d", 0)]))
    for version in ("one", "one", "another"):
        monkeypatch.setattr(studies, "compute_version", lambda *_, version=version: version)
        studies.main(["-o", str(output), *TOY])
    assert [row["version"] for row in studies.read_rows(output)] == ["one", "another"]
    other = replace(studies.TOY, motions=replace(studies.TOY.motions, noise=1.0))
    monkeypatch.setattr(studies, "TOY", other)
    studies.main(["-o", str(output), *TOY])
    assert len(studies.read_rows(output)) == 3


def test_no_run_begins_that_is_expected_to_end_too_late(
    studies: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "rows.jsonl"
    monkeypatch.setattr(studies, "compute_version", lambda *_: "v")
    content = studies.describe_data("motions", None, studies.TOY)
    slow = make_row("rmc5", 4, [1], content=content, seconds=600.0)
    output.write_text(json.dumps(slow) + "\n")
    monkeypatch.setattr(studies, "render", lambda rows: [])
    studies.main(["-o", str(output), *TOY, "--minutes", "8"])
    assert "no time left; next is motions r3d" in capsys.readouterr().out


def test_the_version_is_that_of_the_arithmetic(studies: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studies, "FAMILIES", ("r2plus1d",))
    first = studies.compute_version(studies.TOY, torch.device("cpu"))
    assert studies.compute_version(studies.TOY, torch.device("cpu")) == first
    monkeypatch.setattr(studies, "set_execution", lambda network, execution: set_execution(network, "plain"))
    assert studies.compute_version(studies.TOY, torch.device("cpu")) != first


def make_row(family: str, seed: int, right: list[int], rounding: int = 0, **changed: object) -> dict[str, object]:
    return {
        "key": f"motions {family} seed {seed} rounding {rounding}",
        "data": "motions",
        "family": family,
        "seed": seed,
        "rounding": rounding,
        "right": np.packbits(np.array(right, np.bool_)).tobytes().hex(),
        "video_top1": 100 * sum(right) / len(right),
        "num_videos": len(right),
        "seconds": 1.0,
        "machine": "m",
        "torch": "2",
        "depth": 18,
        "width": 64,
        "content": "c",
        "version": "v",
        **changed,
    }


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"video_top1": 50.0}, "video_top1 is 50, and the results by video give 75"),
        ({"right": ""}, "right is not of 4 videos"),
        ({"right": "zz"}, "cannot be used"),
        ({"num_videos": 8}, "video_top1 is 75, and the results by video give 37.5"),
        ({"num_videos": -50}, "num_videos is -50"),
        ({"family": "r2plus1d"}, "key is 'motions r3d seed 0 rounding 0', and its values are those of"),
        ({"rounding": 1}, "and its values are those of 'motions r3d seed 0 rounding 1'"),
        ({"seed": "0"}, "seed is '0'"),
        ({"version": None}, "version is None"),
        ({"right": "70"}, "has other results than an earlier row of motions r3d seed 0 rounding 0"),
    ],
)
def test_a_row_that_is_not_what_it_says_is_refused(
    studies: ModuleType, changed: dict[str, object], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = make_row("r3d", 0, [1, 1, 1, 0])
    rows = [first, {**first, **changed}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(SystemExit) as stopped:
        studies.main(["-o", str(tmp_path / "rows.jsonl"), "--render"])
    assert stopped.value.code == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
    (tmp_path / "rows.jsonl").write_text("{}\n")
    with pytest.raises(SystemExit):
        studies.main(["-o", str(tmp_path / "rows.jsonl"), "--render"])
    assert "key is missing" in capsys.readouterr().err


def test_one_run_repeated_is_no_rerun(studies: ModuleType) -> None:
    rows = [make_row("r3d", 0, [1, 1, 1, 0])] * 5
    assert "noise floor: not measured" in "\n".join(studies.render(rows))


def test_a_table_names_what_is_decided(studies: ModuleType) -> None:
    half, most = [1] * 500 + [0] * 500, [1] * 900 + [0] * 100
    rows = [make_row(family, seed, right) for family, right in (("r3d", half), ("r2plus1d", most)) for seed in range(3)]
    assert "undecided" in "\n".join(studies.render(rows))  # the floor is not measured
    rows += [
        make_row(family, 0, right, number)
        for family, right in (("r3d", half), ("r2plus1d", most))
        for number in range(1, 5)
    ]
    text = "\n".join(studies.render(rows))
    assert "noise floor: 0.0 points" in text and "from R3D 40.0" in text and text.rstrip().endswith("above")
    swapped = [{**values, "version": "w"} if values["family"] == "r2plus1d" else values for values in rows]
    assert "from R3D" not in "\n".join(studies.render(swapped))  # rows of two versions are not compared


@pytest.mark.long
def test_it_runs_where_av_is_not_installed(clips: Path, tmp_path: Path) -> None:
    script = (
        "import sys, runpy\n"
        "sys.modules |= dict.fromkeys(('av', 'pyarrow', 'jsonargparse', 'fsspec', 'jinja2', 'matplotlib', 'tensorboard'))\n"
        f"sys.argv = ['gpu_studies', '-o', {str(tmp_path / 'rows.jsonl')!r}, '--clips', {str(clips)!r}, '--minutes', '0', "
        "'--toy', '--device', 'cpu', '--workers', '0']\n"
        f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
    )
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert "no time left" in finished.stdout


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--toy", "--device", "cpu", "--clips", "none.npz"], r"there is no file none\.npz"),
        (["--toy"], "torch finds no GPU here; --toy --device cpu rehearses"),
    ],
)
def test_what_is_not_there_is_said_in_a_sentence(
    studies: ModuleType,
    argv: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as stopped:
        studies.main(["-o", str(tmp_path / "rows.jsonl"), *argv])
    assert stopped.value.code == 2
    assert re.search(sentence, capsys.readouterr().err)
    studies.main(["-o", str(tmp_path / "rows.jsonl"), "--render"])
    assert "rows.jsonl has no rows yet" in capsys.readouterr().out
