"""Two streams from files to fused scores, by the verbs alone: train, evaluate, fuse, predict, extract."""

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from muybridge.cli.main import main
from muybridge.models.network import create_model
from muybridge.synthetic.dataset import write_motion_dataset
from muybridge.synthetic.motions import MotionSettings
from muybridge.weights.address import load_weights

MOTIONS = MotionSettings(
    classes=("left", "right"),
    train_videos_per_class=4,
    validation_videos_per_class=1,
    test_videos_per_class=2,
    num_frames=12,
    height=32,
    width=32,
)
SMALL = [
    *["--model", "r2plus1d_10", "--network.width", "4", "--device", "cpu"],
    *["--clips.length", "4", "--clips.scale", "[32, 32]", "--clips.crop", "32", "--clips.mirror", "false"],
    *["--training.epochs", "1", "--training.batch_size", "4", "--training.clips_per_epoch", "8"],
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two_streams")
    write_motion_dataset(folder / "data", MOTIONS)
    data = ["--data", str(folder / "data")]
    here = ["--loading.workers", "0"]
    assert main(["train", *data, "-o", str(folder / "rgb"), *SMALL, *here]) == 0
    # Flow in a worker process, from the RGB network's weights.
    flow = ["--modality", "flow", "--init", str(folder / "rgb"), "--loading.workers", "1"]
    assert main(["train", *data, "-o", str(folder / "flow"), *SMALL, *flow]) == 0
    for stream in ("rgb", "flow"):
        assert main(["evaluate", str(folder / stream), *data, "--device", "cpu", *here]) == 0
    return folder


def scores(folder: Path) -> list[str]:
    return [str(folder / stream / "scores" / "test.parquet") for stream in ("rgb", "flow")]


def test_the_flow_network_has_two_channels_and_the_papers_stem(folder: Path) -> None:
    network, card = load_weights(folder / "flow")
    assert card.preprocessing.modality == "flow"
    assert network.state_dict()["stem.0.weight"].shape[1] == 2
    with torch.device("meta"):
        papers = create_model("r2plus1d_34", num_classes=400, clip_length=32, input_channels=2)
    assert papers.state_dict()["stem.0.weight"].shape == (45, 2, 1, 7, 7)
    assert sum(parameter.numel() for parameter in papers.parameters()) == 63_694_970


def test_fused_scores_are_those_that_prediction_fuses_on_the_spot(folder: Path, capsys: Any) -> None:
    assert main(["fuse", *scores(folder), "--weights", "0.6", "0.4", "--json"]) == 0
    captured = json.loads(capsys.readouterr().out)
    assert captured["level"] == "view"
    assert captured["fused"]["num_videos"] == 4
    right = 0
    for label in ("left", "right"):
        videos = sorted((folder / "data" / "test" / label).iterdir())
        words = ["predict", str(folder / "rgb"), "--with", str(folder / "flow"), "--device", "cpu", "--json"]
        assert main([*words, "--weights", "0.6", "0.4", *map(str, videos)]) == 0
        for line in capsys.readouterr().out.splitlines():
            prediction = json.loads(line)
            assert prediction["status"] == "ok"
            assert sum(row["probability"] for row in prediction["classes"]) == pytest.approx(1)
            right += prediction["classes"][0]["label"] == label
    assert right == captured["fused"]["video_top1"]["of_all"]["right"]


def test_features_of_flow(folder: Path) -> None:
    video = next((folder / "data" / "test" / "left").iterdir())
    output = folder / "features.parquet"
    words = ["extract", str(folder / "flow"), str(video), "-o", str(output), "--clips", "3", "--device", "cpu"]
    assert main(words) == 0
    assert len(pq.read_table(output)) == 3


def test_fuse_says_what_differs(folder: Path, capsys: Any) -> None:
    data = ["--data", str(folder / "data"), "--split", "validation", "--device", "cpu", "--loading.workers", "0"]
    other = folder / "validation.parquet"
    assert main(["evaluate", str(folder / "flow"), *data, "-o", str(other)]) == 0
    capsys.readouterr()
    assert main(["fuse", scores(folder)[0], str(other)]) == 2
    assert "has split test" in capsys.readouterr().err
    assert main(["fuse", scores(folder)[0]]) == 2
    assert "fusion needs at least two members, not 1" in capsys.readouterr().err
    assert (
        main(
            ["fuse", scores(folder)[0], scores(folder)[1], f"{folder}/./{Path(scores(folder)[0]).relative_to(folder)}"]
        )
        == 2
    )
    assert "is given twice; name each score file once" in capsys.readouterr().err


def test_other_numbers_of_clips_are_fused_by_video(folder: Path, capsys: Any) -> None:
    few = folder / "few.parquet"
    data = ["--data", str(folder / "data"), "--evaluation.clips", "3", "--device", "cpu", "--loading.workers", "0"]
    assert main(["evaluate", str(folder / "flow"), *data, "-o", str(few)]) == 0
    capsys.readouterr()
    assert main(["fuse", scores(folder)[0], str(few)]) == 0
    assert "fused by video" in capsys.readouterr().out


def test_training_flow_without_opencv_says_how_to_get_it(
    folder: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    words = ["train", "--data", str(folder / "data"), "-o", str(folder / "none"), *SMALL, "--modality", "flow"]
    assert main(words) == 1
    assert "get it with: pip install 'muybridge[flow]'" in capsys.readouterr().err
