"""The whole road on folders of frames: prepared, trained on, evaluated, predicted, as RGB and as optical flow."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest

from muybridge.loading.open_data import open_data
from muybridge.training.train import train
from runs import tiny_run


@pytest.fixture(scope="module")
def frames(motions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The videos of `motions` as folders of PNG files, in the same tree."""
    root = tmp_path_factory.mktemp("frames")
    for video in sorted(motions.rglob("*.mp4")):
        folder = root / video.relative_to(motions).with_suffix("")
        folder.mkdir(parents=True)
        with av.open(str(video)) as container:
            for number, frame in enumerate(container.decode(video=0)):
                frame.to_image().save(folder / f"img_{number + 1}.png")
    return root


def test_frames_are_trained_on_evaluated_and_predicted(
    frames: Path, motions: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    assert len(open_data(str(frames))) == len(open_data(str(motions)))
    train(tiny_run(frames, tmp_path / "run", {"source_fps": 30.0}))
    evaluated = cli("evaluate", tmp_path / "run", "--data", frames, "--evaluation.clips", 2, "--json")
    assert evaluated.code == 0, evaluated.err
    assert json.loads(evaluated.out)["num_videos"] == 6
    told = cli("predict", tmp_path / "run", frames / "test", "--json", "--workers", 2)
    predictions = [json.loads(line) for line in told.out.splitlines()]
    assert told.code == 0
    assert [Path(prediction["video"]).parent.name for prediction in predictions] == ["left"] * 3 + ["right"] * 3
    assert {prediction["status"] for prediction in predictions} == {"ok"}
    assert "6 videos are stored as frames without a rate" in told.err
    alone = cli("predict", tmp_path / "run", predictions[0]["video"], "--json", "--source-fps", 30)
    assert json.loads(alone.out)["classes"] == predictions[0]["classes"]
    assert "without a rate" not in alone.err


def test_prepared_frames_have_the_rate_that_was_given(frames: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    pytest.importorskip("cv2")
    told = cli("prepare", frames, "-o", tmp_path / "data", "--source-fps", 50, "--scale", 32, 32, "--flow")
    assert told.code == 0, told.err
    table = open_data(str(tmp_path / "data")).table
    assert table["frames_per_second"].to_pylist() == pytest.approx([50.0] * len(table))
    assert set(table["num_frames"].to_pylist()) == {13}
    for data in (frames, tmp_path / "data"):
        run = tmp_path / f"flow of {data.name}"
        changes = {"modality": "flow", "training.epochs": 1, "training.clips_per_epoch": 8}
        assert train(tiny_run(data, run, changes)).train_state.num_failed == 0
        assert cli("evaluate", run, "--data", data, "--evaluation.clips", 2).code == 0
