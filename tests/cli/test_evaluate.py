"""`muybridge evaluate` from outside: the printed numbers are those of the file, and unreadable videos are counted."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
import yaml

from muybridge.evaluation.aggregate import compute_video_scores
from muybridge.evaluation.metrics import compute_accuracy
from muybridge.evaluation.scores import read_scores
from muybridge.report.build import build_page
from muybridge.report.page import render_html


def test_json_is_the_accuracy_of_the_file(
    finished_run: Path, motions: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    target = tmp_path / "deep" / "scores.parquet"
    told = cli("evaluate", finished_run, "--data", motions, "-o", target, "--json", "--loading.workers", 0)
    assert (told.code, told.err) == (0, "")
    found = json.loads(told.out)
    assert found == {
        "scores": str(target),
        "num_looped_videos": 0,
        "checkpoint": "best",
        "cost": 1.0,
        "overlap": {"num_training": 0, "num_validation": 0, "problem": ""},
        "remarks": [],
        **json.loads(json.dumps(compute_accuracy(compute_video_scores(read_scores(target))).to_json())),
    }
    assert (found["num_videos"], found["num_views"], found["split"]) == (6, 60, "test")


@pytest.mark.parametrize("timeline", [(), ("--timeline",)])
def test_what_is_not_read_of_the_data_is_said(
    finished_run: Path, motions: Path, tmp_path: Path, cli: Callable[..., Any], timeline: tuple[str, ...]
) -> None:
    """On standard error, so that JSON stays alone on standard output."""
    videos = [(f"{motions}/test/{label}/00000.mp4", label) for label in ("left", "right")]
    rows = "".join(f"{video},{label},0.0,0.4,happy,test\n" for video, label in videos)
    (tmp_path / "l.csv").write_text(f"path,label,start_seconds,end_seconds,mood,split\n{rows}")
    line = ("--data", tmp_path / "l.csv", "--source-fps", 5, *timeline, "-o", tmp_path / "s.parquet", "--json")
    told = cli("evaluate", finished_run, *line, *(() if timeline else ("--loading.workers", 0)))
    assert told.code == 0
    assert told.err.count("l.csv that are not read: mood.") == 1
    assert told.err.count("--source-fps is not used") == 1
    assert json.loads(told.out)


def test_people_read_the_protocol_and_both_denominators(
    finished_run: Path, motions: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    copytree(motions, tmp_path / "data")
    (tmp_path / "data" / "test" / "left" / "00001.mp4").write_bytes(b"no video at all")
    target = tmp_path / "scores.parquet"
    told = cli(
        "evaluate",
        finished_run,
        "--data",
        tmp_path / "data",
        "-o",
        target,
        "--evaluation.clips=4",
        "--loading.workers=0",
    )
    assert told.code == 3
    measured = compute_accuracy(compute_video_scores(read_scores(target)))
    lines = told.out.splitlines()
    assert lines[0] == (
        "4 uniform centre-crop clips of 4 frames a video, softmax averaged, 28x28 of 32x32, "
        "0.4 times the default's multiply-adds; split test"
    )
    row = next(line for line in lines if line.startswith("video@1"))
    shares = [float(share) for share in re.findall(r"([\d.]+) %", row)]
    rates = measured.video_top1
    assert shares == [round(100 * rates.of_all.right / 6, 1), round(100 * rates.of_readable.right / 5, 1)]
    assert "6 videos, 1 of them unreadable and counted as wrong under 'all'" in told.out
    assert lines[-1] == f"scores: {target}"


def test_a_run_that_has_not_finished_is_said_to_be_so(
    finished_run: Path, motions: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    copytree(finished_run, tmp_path / "run")
    path = tmp_path / "run" / "settings.yaml"
    settings = yaml.safe_load(path.read_text())
    words = (
        "evaluate",
        tmp_path / "run",
        "--data",
        motions,
        "--evaluation.clips=2",
        "--loading.workers=0",
        "-o",
        tmp_path / "run" / "scores" / "test.parquet",
    )
    assert "unfinished" not in cli(*words).out
    epochs = settings["training"]["epochs"]
    settings["training"]["epochs"] = 3 * epochs
    path.write_text(yaml.safe_dump(settings))
    sentence = (
        f"the weights are of an unfinished run, {tmp_path / 'run'}: stopped at epoch {epochs:.1f} of {3 * epochs:g}"
    )
    assert f"{sentence}\n" in cli(*words).out
    folder_page, file_page = (
        render_html(build_page([str(address)]))
        for address in (tmp_path / "run", tmp_path / "run" / "scores" / "test.parquet")
    )
    assert "The run has not finished: stopped at" in folder_page
    assert "unfinished run" not in folder_page  # said once
    assert "the weights are of an unfinished run" in file_page
    video = tmp_path / "run" / "video.npz"
    np.savez(video, frames=np.zeros((13, 32, 32, 3), np.uint8), fps=np.array(8.0))
    assert f"{sentence}\n" in cli("predict", tmp_path / "run", video, "--clips=1").err
    features = tmp_path / "features.parquet"
    assert f"{sentence}\n" in cli("extract", tmp_path / "run", video, "--step=4", "-o", features).err
    assert f"{sentence}\n" in cli("similar", features, f"{video}#0-1").err


def test_other_splits_and_the_place_of_scores(
    finished_run: Path, motions: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    run = copytree(finished_run, tmp_path / "run")
    words = ("--data", motions, "--loading.workers=0", "--evaluation.clips=2", "--split")
    assert cli("evaluate", run, "--data", motions, "--loading.workers=0", "--split", "train").code == 0
    assert read_scores(run / "scores" / "train.parquet").header.num_videos == 16
    assert cli("evaluate", run / "last.safetensors", *words, "validation").code == 0
    (last_scores,) = run.glob("last.validation-data-*.parquet")
    assert read_scores(last_scores).header.num_videos == 4
    # The last weights give the scores that training wrote, but for rounding: batch norm is folded when nothing is learnt.
    ours, in_training = (
        read_scores(last_scores).table,
        read_scores(run / "scores" / "validation.parquet").table,
    )
    assert ours.drop_columns("logits").equals(in_training.drop_columns("logits"))
    assert np.allclose(ours["logits"].to_pylist(), in_training["logits"].to_pylist(), atol=1e-5)


@pytest.mark.parametrize("num_broken", [1, 6])
def test_exit_codes_of_unreadable_videos(
    num_broken: int, finished_run: Path, motions: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    copytree(motions, tmp_path / "data")
    for path in sorted((tmp_path / "data" / "test").rglob("*.mp4"))[:num_broken]:
        path.write_bytes(b"no video at all")
    target = tmp_path / "scores.parquet"
    told = cli("evaluate", finished_run, "--data", tmp_path / "data", "-o", target, "--loading.workers=0", "--json")
    assert told.code == (3 if num_broken == 1 else 1)
    found = json.loads(told.out)
    assert (found["num_videos"], found["num_failed_videos"]) == (6, num_broken)
    assert found["video_top1"]["of_all"]["of"] == 6
    assert found["video_top1"]["of_readable"]["of"] == 6 - num_broken


def test_a_split_that_is_not_there(finished_run: Path, motions: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    copytree(motions / "train", tmp_path / "data" / "train")
    told = cli("evaluate", finished_run, "--data", tmp_path / "data", "-o", tmp_path / "s.parquet")
    assert (told.code, told.out, told.err.count("\n")) == (2, "", 1)
    assert "has no videos in the split test; it has train, validation" in told.err


def test_scores_of_other_data_and_protocols_replace_none_of_the_run(
    finished_run: Path, motions: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    run = copytree(finished_run, tmp_path / "run")
    copytree(motions, tmp_path / "other videos")
    own, fewer_clips = ("--data", motions), ("--data", motions, "--evaluation.clips=2")
    paths = []
    for words in (own, fewer_clips, ("--data", tmp_path / "other videos"), own):
        told = cli("evaluate", run, *words, "--loading.workers=0", "--json")
        assert told.code == 0
        paths.append(Path(json.loads(told.out)["scores"]))
    assert paths[0] == paths[3] == run / "scores" / "test.parquet"
    assert re.fullmatch(r"test-data-[0-9a-f]{8}\.parquet", paths[1].name)
    assert re.fullmatch(r"test-other_videos-[0-9a-f]{8}\.parquet", paths[2].name)
    assert read_scores(paths[0]).header.protocol.clips == 10
    assert len(set(paths)) == 3
