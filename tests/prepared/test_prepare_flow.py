"""Flow stored by `prepare --flow`: read without OpenCV, the flow of the frames beside it, and the same bytes each time."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from muybridge.cli.main import main
from muybridge.loading.clip_reader import FlowReader, StoredFlowReader, open_clip_reader
from muybridge.loading.datasets import EvaluationDataset, TrainingDataset
from muybridge.loading.open_data import open_data
from muybridge.records import FLOW_MEAN, FLOW_STD, Preprocessing
from muybridge.synthetic.dataset import write_motion_dataset
from muybridge.synthetic.motions import MotionSettings
from muybridge.video.views import FlowView

MOTIONS = MotionSettings(
    classes=("left", "right"),
    train_videos_per_class=4,
    validation_videos_per_class=1,
    test_videos_per_class=2,
    num_frames=16,
    height=48,
    width=48,
)
SIZES = {"scale_height": 48, "scale_width": 48, "crop": 40}
FLOW = Preprocessing(modality="flow", clip_length=6, mean=FLOW_MEAN, std=FLOW_STD, **SIZES)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepare_flow")
    write_motion_dataset(folder / "raw", MOTIONS)
    argv = ["prepare", str(folder / "raw"), "--scale", "48", "48", "--workers", "1"]
    assert main([*argv, "--flow", "-o", str(folder / "with")]) == 0
    assert main([*argv, "--flow", "-o", str(folder / "again")]) == 0
    assert main([*argv, "-o", str(folder / "without")]) == 0
    return folder


def evaluation_flows(address: Path) -> list[FlowView]:
    data = open_data(str(address)).select_split("test")
    videos = EvaluationDataset(data, open_clip_reader(data.root, FLOW), 3)
    found = [view for index in range(len(data)) for view in videos[index].views]
    assert len(found) == 3 * len(data)
    assert all(isinstance(view, FlowView) for view in found)
    return found  # type: ignore[return-value]


def test_it_says_what_it_holds(folder: Path) -> None:
    assert json.loads((folder / "with" / "dataset.json").read_text())["flow_bound"] == 20.0
    assert json.loads((folder / "without" / "dataset.json").read_text())["flow_bound"] is None


def test_the_same_bytes_each_time(folder: Path) -> None:
    for name in ("dataset.json", "manifest.parquet", "shards/000000.tar"):
        assert (folder / "with" / name).read_bytes() == (folder / "again" / name).read_bytes()


def test_stored_flow_is_that_of_the_frames_beside_it(folder: Path) -> None:
    assert isinstance(open_clip_reader(str(folder / "with"), FLOW), StoredFlowReader)
    assert isinstance(open_clip_reader(str(folder / "without"), FLOW), FlowReader)
    stored, computed = evaluation_flows(folder / "with"), evaluation_flows(folder / "without")
    differences = [np.abs(one.flow_cthw - two.flow_cthw) for one, two in zip(stored, computed, strict=True)]
    assert np.median(differences) < 0.1
    inside = np.concatenate([difference[..., 8:-8, 8:-8].ravel() for difference in differences])
    assert np.mean(inside) < 0.3
    moving = np.concatenate([view.flow_cthw[0].ravel() for view in computed])
    kept = np.concatenate([view.flow_cthw[0].ravel() for view in stored])
    assert np.corrcoef(moving, kept)[0, 1] > 0.9


def test_a_training_clip_is_the_crop_that_rgb_would_get(folder: Path) -> None:
    data = open_data(str(folder / "with")).select_split("train")
    stored = open_clip_reader(data.root, FLOW)
    plain = open_data(str(folder / "without")).select_split("train")
    computed = open_clip_reader(plain.root, FLOW)
    for draw in range(12):
        one = TrainingDataset(data, stored, mirror=True, seed=3)[draw]
        two = TrainingDataset(plain, computed, mirror=True, seed=3)[draw]
        assert one.video == two.video  # type: ignore[union-attr]
        difference = np.abs(one.view.flow_cthw - two.view.flow_cthw)[..., 8:-8, 8:-8]  # type: ignore[union-attr]
        turned = np.abs(one.view.flow_cthw[..., ::-1] - two.view.flow_cthw)[..., 8:-8, 8:-8]  # type: ignore[union-attr]
        assert difference.mean() < turned.mean()


def test_it_is_read_without_opencv(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert evaluation_flows(folder / "with")
    with pytest.raises(ImportError, match="optical flow needs OpenCV"):
        open_clip_reader(str(folder / "without"), FLOW)
    assert main(["prepare", str(folder / "raw"), "--flow", "-o", str(folder / "other")]) == 1
    assert "pip install 'muybridge[flow]'" in capsys.readouterr().err
    assert not (folder / "other").exists()


def test_a_gap_at_once_is_computed_from_frames(folder: Path) -> None:
    gap = Preprocessing(modality="flow", mean=FLOW_MEAN, std=FLOW_STD, flow_gap=2, **SIZES)  # type: ignore[arg-type]
    other_rate = Preprocessing(modality="flow", mean=FLOW_MEAN, std=FLOW_STD, frames_per_second=12.0, **SIZES)  # type: ignore[arg-type]
    for asked in (gap, other_rate):
        assert isinstance(open_clip_reader(str(folder / "with"), asked), FlowReader)


def test_damage_to_flow_is_named(folder: Path, tmp_path: Path, capsys: Any) -> None:
    assert main(["prepare", "--check", str(folder / "with")]) == 0
    data = open_data(str(folder / "with"))
    row = data.table.slice(0, 1).to_pylist()[0]
    shard = folder / "again" / "shards" / "000000.tar"
    content = bytearray(shard.read_bytes())
    content[row["flow_offset"] + row["flow_num_bytes"] - 5] ^= 1
    shard.write_bytes(bytes(content))
    capsys.readouterr()
    assert main(["prepare", "--check", str(folder / "again")]) == 1
    assert f"{row['video']} (flow)" in capsys.readouterr().out
