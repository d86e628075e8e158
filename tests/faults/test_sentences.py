"""Errors on the command line: one sentence, the right exit code, and no partial file."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from shutil import copyfile, copytree
from typing import Any

import pytest
import torch
import yaml

from muybridge.settings import settings_to_dict
from muybridge.training.checkpoint import find_last_step, list_checkpoints, load_checkpoint
from muybridge.training.network import initialize_network
from muybridge.training.optimizer import build_optimizer
from muybridge.weights.address import load_weights
from runs import tiny_run
from videos import write_picture, write_sound


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A file of the tiny run's settings, without data and output."""
    plain = settings_to_dict(tiny_run("", tmp_path))
    for name in ("data", "output"):
        del plain[name]
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(plain))
    return tmp_path / "tiny.yaml"


def files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def assert_refused(told: Any, code: int, words: str) -> None:
    assert told.code == code, told
    assert told.out == ""
    assert told.err.startswith("muybridge")
    assert told.err.count("\n") == 1, told.err
    assert "Traceback" not in told.err
    assert "--debug" not in told.err
    assert re.search(words, told.err), told.err


# What is wrong with a folder of videos: what is done to a copy of a good one, and what is said.


def empty_class(data: Path) -> None:
    (data / "train" / "jump").mkdir()


def one_class(data: Path) -> None:
    for split in ("train", "validation", "test"):
        (data / split / "right").rename(data / f"{split}_right")
    for split in ("train", "validation", "test"):
        for path in (data / f"{split}_right").iterdir():
            path.unlink()
        (data / f"{split}_right").rmdir()


def unseen_label(data: Path) -> None:
    (data / "test" / "right").rename(data / "test" / "jump")


def no_classes(data: Path) -> None:
    for split in ("train", "validation", "test"):
        for label in ("left", "right"):
            for path in (data / split / label).iterdir():
                path.unlink()
            (data / split / label).rmdir()


def nothing_readable(data: Path) -> None:
    for path in (data / "train").rglob("*.mp4"):
        path.write_bytes(b"no video at all")


def sounds(data: Path) -> None:
    for path in (data / "train").rglob("*.mp4"):
        write_sound(path)


def pictures(data: Path) -> None:
    for path in (data / "train").rglob("*.mp4"):
        write_picture(path.with_suffix(".png")).rename(path)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (empty_class, r"class folders without videos: train/jump; fill or remove them"),
        (one_class, r"only one class, 'left'; training needs at least two"),
        (unseen_label, r"labels for validation or test that no training video has: jump; add training videos"),
        (no_classes, r"split folders without class folders; expected .*train/CLASS/video\.mp4"),
        (
            nothing_readable,
            r"none of 16 training videos checked can be read; the first is train/left/00000\.mp4: .*damaged",
        ),
        (sounds, r"none of 16 .* the file holds sound and no video"),
        (pictures, r"none of 16 .* the file is a picture"),
    ],
)
def test_data_that_cannot_be_trained_on(
    spoil: Callable[[Path], None], words: str, motions: Path, tiny: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    data = copytree(motions, tmp_path / "data")
    spoil(data)
    before = files(tmp_path)
    told = cli("train", "--data", data, "--config", tiny, "-o", tmp_path / "run")
    assert_refused(told, 2, words)
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--data nowhere", r"there is no folder or CSV file 'nowhere'"),
        ("--data {tiny}", r"tiny\.yaml is neither a folder of class folders nor a \.csv file"),
        ("--data {data} --model r2plus1d_8", r"no network is called 'r2plus1d_8'; did you mean r2plus1d_18"),
        ("--data {data} --model resnet", r"no network is called 'resnet'; .*`muybridge models` lists all"),
        (
            "--data {data} --clips.length 14",
            r"a clip spans 14 frames, but the longest of the training videos checked has 13",
        ),
        ("--data {data} --device tpu", r"device 'tpu' is unknown; use auto, cpu, cuda or cuda:N"),
        ("--data {data} --device cuda:99", r"device cuda:99 does not exist; this machine has \d+ CUDA devices"),
        ("--data {data} --init nowhere.safetensors", r"nowhere\.safetensors"),
        ("--data {data} --fold 1", r"no official folds"),
    ],
)
def test_settings_that_do_not_fit(
    words: str, sentence: str, motions: Path, tiny: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    line = words.format(tiny=tiny, data=motions).split()
    before = files(tmp_path)
    assert_refused(cli("train", "--config", tiny, "-o", tmp_path / "run", *line), 2, sentence)
    assert files(tmp_path) == before


def test_output_folders_that_do_not_fit(
    motions: Path, tiny: Path, tmp_path: Path, finished_run: Path, cli: Callable[..., Any]
) -> None:
    words = ("train", "--data", motions, "--config", tiny, "-o")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    before = files(tmp_path)
    assert_refused(cli(*words, tiny), 2, r"tiny\.yaml is a file; name a folder with -o")
    assert_refused(cli(*words, tiny / "run"), 1, r"cannot use .*tiny\.yaml/run: Not a directory")
    assert_refused(cli(*words, tmp_path / "mine"), 2, r"mine contains something other than a run")
    assert_refused(cli(*words, finished_run), 2, r"already contains a run; add --resume")
    changed = cli(*words, finished_run, "--resume", "--seed", 1)
    assert_refused(changed, 2, r"trained with other settings \(seed is 1, the run has 0\)")
    assert files(tmp_path) == before


@pytest.fixture
def wrong_weights(finished_run: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Something else than a run folder, by name."""

    def make(name: str) -> Path:
        whole = (finished_run / "best.safetensors").read_bytes()
        path = tmp_path / name
        match name:
            case "checkpoint.pt":
                torch.save({"model": load_weights(finished_run)[0].state_dict()}, path)
            case "text.safetensors":
                path.write_text("hello")
            case "truncated.safetensors":
                path.write_bytes(whole[: len(whole) // 2])
            case "flipped.safetensors":
                path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
            case "checkpoint.safetensors":
                copyfile(list_checkpoints(finished_run / "checkpoints")[-1] / "network.safetensors", path)
            case "folder":
                path.mkdir()
            case "run_without_weights":
                path.mkdir()
                copyfile(finished_run / "settings.yaml", path / "settings.yaml")
        return path

    return make


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("absent.safetensors", r"absent\.safetensors"),
        (
            "checkpoint.pt",
            r"neither a run folder nor a \.safetensors file; .*`muybridge weights import .*checkpoint\.pt",
        ),
        ("text.safetensors", r"is not a safetensors file, or is truncated"),
        ("truncated.safetensors", r"is not a safetensors file, or is truncated"),
        ("flipped.safetensors", r"is damaged"),
        ("checkpoint.safetensors", r"has no card"),
        ("folder", r"holds neither best\.safetensors nor last\.safetensors"),
        ("run_without_weights", r"holds neither best\.safetensors nor last\.safetensors"),
    ],
)
def test_wrong_weights(
    name: str, words: str, wrong_weights: Callable[[str], Path], motions: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    path = wrong_weights(name)
    before = files(tmp_path)
    video = motions / "test" / "left" / "00000.mp4"
    assert_refused(cli("predict", path, video), 2, words)
    assert_refused(cli("evaluate", path, "--data", motions, "-o", tmp_path / "s.parquet"), 2, words)
    assert_refused(cli("extract", path, video, "-o", tmp_path / "f.parquet"), 2, words)
    assert_refused(cli("weights", "show", path), 2, words) if name != "flipped.safetensors" else None
    assert files(tmp_path) == before


def test_data_with_a_class_that_the_network_does_not_know(
    finished_run: Path, motions: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    copytree(motions, tmp_path / "data")
    for split in ("train", "validation", "test"):
        (tmp_path / "data" / split / "right").rename(tmp_path / "data" / split / "jump")
    told = cli("evaluate", finished_run, "--data", tmp_path / "data", "-o", tmp_path / "s.parquet")
    assert_refused(told, 2, r"classes cannot be matched by name: jump is not among left, right")
    assert not (tmp_path / "s.parquet").exists()


def test_a_damaged_checkpoint(
    finished_run: Path, motions: Path, tiny: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    run = copytree(finished_run, tmp_path / "run")
    newest = list_checkpoints(run / "checkpoints")[-1]
    content = (newest / "optimizer.pt").read_bytes()
    (newest / "optimizer.pt").write_bytes(content[: len(content) // 2])
    told = cli("train", "--data", motions, "--config", tiny, "-o", run, "--resume")
    assert told.code == 0
    assert re.search(r"step-00000012.*damaged", told.err)
    assert "resuming at step 6 of 12" in told.err
    assert find_last_step(run / "checkpoints") == 12


def test_a_run_of_which_every_checkpoint_is_damaged(
    finished_run: Path, motions: Path, tiny: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    run = copytree(finished_run, tmp_path / "run")
    for checkpoint in list_checkpoints(run / "checkpoints"):
        (checkpoint / "network.safetensors").write_bytes(b"nonsense")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for more in ([], ["--training.epochs", "3"]):
        told = cli("train", "--data", motions, "--config", tiny, "-o", run, "--resume", *more)
        assert (told.code, told.out) == (2, "")
        assert "has no other that is intact" in told.err.splitlines()[-1]
        assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """`full_disk(n)`: n more files can be made safe, then the disk is full."""

    def arrange(num_files: int) -> None:
        left = num_files

        def sync(descriptor: int) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", sync)

    return arrange


# Of 15: settings, environment, two logs, then scores, best, a checkpoint's three and last; scores and so on once more.
@pytest.mark.parametrize("num_files", [0, 2, 5, 8, 12, 14])
def test_a_full_disk_stops_a_run_and_leaves_what_was_whole(
    num_files: int,
    motions: Path,
    tiny: Path,
    tmp_path: Path,
    cli: Callable[..., Any],
    full_disk: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = tmp_path / "run"
    full_disk(num_files)
    words = ("train", "--data", motions, "--config", tiny, "-o", run)
    told = cli(*words)
    assert (told.code, told.out) == (1, "")
    assert told.err.splitlines()[-1] == (
        "muybridge: the disk is full; free some space, then run the same command again (a training run with --resume)"
    )
    for name in ("best.safetensors", "last.safetensors"):
        if (run / name).exists():
            load_weights(run / name)
    settings = tiny_run(motions, run)
    for checkpoint in list_checkpoints(run / "checkpoints"):
        network = initialize_network(settings, 2)
        load_checkpoint(checkpoint, network, build_optimizer(network, settings.training))
    hidden = [path for path in files(run) if path.name.startswith(".")] if run.exists() else []
    assert hidden == []
    monkeypatch.undo()
    assert cli(*words, "--resume").code == 0


def test_a_full_disk_leaves_no_half_written_results(
    finished_run: Path,
    motions: Path,
    tmp_path: Path,
    cli: Callable[..., Any],
    full_disk: Callable[[int], None],
) -> None:
    video = motions / "test" / "left" / "00000.mp4"
    torch.save(load_weights(finished_run)[0].state_dict(), tmp_path / "state.pt")
    (tmp_path / "old.parquet").write_bytes(b"what was there before")
    full_disk(0)
    words = r"the disk is full"
    before = files(tmp_path)
    for target in ("old.parquet", "new.parquet"):
        output = ("-o", tmp_path / target)
        assert_refused(cli("evaluate", finished_run, "--data", motions, *output, "--loading.workers=0"), 1, words)
        assert_refused(cli("extract", finished_run, video, *output), 1, words)
    assert_refused(cli("weights", "import", tmp_path / "state.pt", "-o", tmp_path / "w.safetensors"), 1, words)
    told = cli("predict", finished_run, video, "--timeline", "csv", "-o", tmp_path / "line.csv")
    assert (told.code, told.err.count("\n")) == (1, 1)
    assert {path for path in files(tmp_path) - before if not path.name.startswith(".")} == set()
    assert (tmp_path / "old.parquet").read_bytes() == b"what was there before"


def test_a_folder_that_is_in_the_way_of_results(
    finished_run: Path, motions: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    video = motions / "test" / "left" / "00000.mp4"
    below, taken = tmp_path / "file" / "x.parquet", tmp_path / "folder"
    evaluate = ("evaluate", finished_run, "--data", motions, "--loading.workers=0", "--evaluation.clips=1", "-o")
    assert_refused(cli(*evaluate, below), 1, r"cannot use .*file.*: (File exists|Not a directory)")
    assert_refused(cli(*evaluate, taken), 2, r"is a folder")
    assert_refused(cli("extract", finished_run, video, "-o", below), 1, r"cannot use .*file")
    assert_refused(cli("extract", finished_run, video, "--clips", 1, "-o", taken), 2, r"is a folder")
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith(".")) == ["file", "folder"]
    assert list(taken.iterdir()) == []


@pytest.mark.long
def test_a_limit_of_the_system_on_what_may_be_written(motions: Path, tiny: Path, tmp_path: Path) -> None:
    """The kernel itself refuses to write more than 100 kB into a file; weights are 228 kB."""
    program = (
        "import resource, signal, sys\n"
        "from muybridge.cli.main import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    command = [sys.executable, "-c", program, "train", "--data", str(motions), "--config", str(tiny), "-o"]
    done = subprocess.run([*command, str(tmp_path / "run")], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1].startswith("muybridge: the file is larger than the system allows")
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "run").rglob("*.safetensors"))
    assert list_checkpoints(tmp_path / "run" / "checkpoints") == []


@pytest.mark.long
def test_no_export_is_half_written_where_the_system_allows_no_more(finished_run: Path, tmp_path: Path) -> None:
    """As on a full disk: writers in C++ end in a sentence, not in an abort, and what was there stays."""
    program = (
        "import resource, signal, sys\n"
        "from muybridge.cli.main import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "for kind, name in (('onnx', 'x.onnx'), ('torch-export', 'x.pt2'), ('state-dict', 'x.pth')):\n"
        "    print(main(['weights', 'export', sys.argv[1], '--to', kind, '-o', name]))\n"
    )
    for name in ("x.onnx", "x.pt2", "x.pth"):
        (tmp_path / name).write_text("what was there before")
    command = [sys.executable, "-c", program, str(finished_run)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout.split()) == (0, ["1", "1", "1"]), done.stderr
    assert "Traceback" not in done.stderr
    sentences = [line for line in done.stderr.splitlines() if line.startswith("muybridge: ")]
    assert len(sentences) == 3
    assert all("the file is larger than the system allows" in line or "disk" in line for line in sentences), sentences
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.onnx", "x.pt2", "x.pth"]
    assert {path.read_text() for path in tmp_path.iterdir()} == {"what was there before"}
