"""TSN's folders from training to prediction: the flow in the pictures is what networks see, prepared or not."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flow_pictures import write_flow_folder
from muybridge.cli.main import main
from muybridge.loading.clip_reader import FlowReader, open_clip_reader
from muybridge.loading.datasets import EvaluationDataset, TrainingDataset
from muybridge.loading.open_data import open_data
from muybridge.records import Preprocessing
from muybridge.video.sampling import compute_timestep_ticks
from muybridge.video.views import FlowView

pytest.importorskip("cv2", reason="OpenCV is not installed: pip install 'muybridge[flow]'")

CODES = {"left": (90, 128), "right": (165, 128)}  # x, y
NUM_STEPS = 12
FLOW = Preprocessing(modality="flow", clip_length=4, scale_height=32, scale_width=32, crop=24, mean=(0, 0), std=(1, 1))
TRAINING = ["--clips.length", "4", "--clips.scale", "[32,32]", "--clips.crop", "24", "--network.width", "4"]


def write_data(root: Path, *, frames: bool) -> Path:
    gray = np.random.default_rng(1).integers(0, 255, (NUM_STEPS + 1, 32, 32, 3), dtype=np.uint8) if frames else None
    for split, count in (("train", 4), ("validation", 1), ("test", 2)):
        for name, codes in CODES.items():
            for number in range(count):
                flow = np.broadcast_to(np.array(codes, np.uint8)[None, :, None, None], (NUM_STEPS, 2, 32, 32))
                write_flow_folder(root / split / name / f"{name}_{number}", flow, gray)
    return root


@pytest.mark.parametrize("frames", [True, False])
def test_every_reading_sees_the_pictures(tmp_path: Path, frames: bool) -> None:
    data = open_data(str(write_data(tmp_path / "data", frames=frames)))
    reader = open_clip_reader(data.root, FLOW)
    assert isinstance(reader, FlowReader)
    expected = {name: np.array(codes) / 255 * 40 - 20 for name, codes in CODES.items()}
    for view, label in _read_views(data, reader):
        x, y = expected[data.classes[label]]
        np.testing.assert_allclose(view.flow_cthw[0], x, atol=1e-4)
        np.testing.assert_allclose(view.flow_cthw[1], y, atol=1e-4)


def _read_views(data: Any, reader: FlowReader) -> list[tuple[Any, int]]:
    found = []
    evaluation = EvaluationDataset(data.select_split("test"), reader, 3)
    for index in range(len(evaluation.manifest)):
        found += [(view, evaluation.manifest.get_labels(index)[0]) for view in evaluation[index].views]
        path = evaluation.manifest.get_path(index)
        ticks = compute_timestep_ticks(reader.source.read_frame_times(path), FLOW)
        found += [(view, evaluation.manifest.get_labels(index)[0]) for view in reader.read_timesteps(path, ticks)]
    training = TrainingDataset(data.select_split("train"), reader, mirror=False, seed=0)
    draws = [training[draw] for draw in range(8)]
    return found + [(draw.view, draw.label) for draw in draws]  # type: ignore[union-attr]


def test_a_mirrored_clip_moves_the_other_way(tmp_path: Path) -> None:
    data = open_data(str(write_data(tmp_path / "data", frames=False))).select_split("train")
    training = TrainingDataset(data, open_clip_reader(data.root, FLOW), mirror=True, seed=0)
    for index, name in enumerate(data.classes):
        x = CODES[name][0] / 255 * 40 - 20
        draws = [training[draw] for draw in range(40)]
        signs = {float(np.sign(d.view.flow_cthw[0].mean() * x)) for d in draws if d.label == index}  # type: ignore[union-attr]
        assert signs == {1.0, -1.0}


def train_argv(data: Path, run: Path) -> list[str]:
    argv = ["train", "--data", str(data), "-o", str(run), "--model", "r2plus1d_10", *TRAINING]
    argv += ["--training.batch-size", "4", "--training.epochs", "6", "--training.clips-per-epoch", "24"]
    argv += ["--training.learning-rate", "0.1", "--training.warmup-epochs", "1", "--clips.mirror", "false"]
    return [*argv, "--device", "cpu", "--loading.workers", "0"]


def prepare(data: Path, output: Path, *options: str) -> int:
    return main(["prepare", str(data), "--scale", "32", "32", "--workers", "1", "-o", str(output), *options])


@pytest.mark.parametrize(("frames", "prepared"), [(True, False), (True, True), (False, True)])
def test_from_training_to_prediction(tmp_path: Path, capsys: Any, frames: bool, prepared: bool) -> None:
    data = write_data(tmp_path / "data", frames=frames)
    if prepared:
        assert prepare(data, tmp_path / "prepared", "--flow") == 0
        data = tmp_path / "prepared"
    run = str(tmp_path / "run")
    assert main([*train_argv(data, tmp_path / "run"), "--modality", "flow"]) == 0
    capsys.readouterr()
    videos = [str(tmp_path / "data" / "test" / name / f"{name}_0") for name in CODES]
    # The last weights: the best ones are the first that are right on two videos, by little.
    assert main(["predict", run, *videos, "--checkpoint", "last", "--json", "--device", "cpu"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["classes"][0]["label"] for line in lines] == list(CODES)
    assert main(["evaluate", run, "--data", str(data), "--json", "--device", "cpu", "--loading.workers", "0"]) == 0
    assert json.loads(capsys.readouterr().out)["video_top1"]["of_readable"]["of"] == 4


def test_frames_of_such_a_folder_are_rgb(tmp_path: Path) -> None:
    data = open_data(str(write_data(tmp_path / "data", frames=True))).select_split("test")
    rgb = Preprocessing(clip_length=4, scale_height=32, scale_width=32, crop=24)
    evaluation = EvaluationDataset(data, open_clip_reader(data.root, rgb), 1)
    assert len(open_clip_reader(data.root, rgb).source.read_frame_times(data.get_path(0))) == NUM_STEPS + 1
    assert not any(isinstance(view, Exception) for view in evaluation[0].views)


def test_prepared_flow_without_frames_is_read_as_flow_only(tmp_path: Path, capsys: Any) -> None:
    assert prepare(write_data(tmp_path / "data", frames=False), tmp_path / "prepared", "--flow") == 0
    data = open_data(str(tmp_path / "prepared"))
    assert set(data.table["status"].to_pylist()) == {"ok"} and data.table["offset"].null_count == len(data)
    flow = EvaluationDataset(data.select_split("test"), open_clip_reader(data.root, FLOW), 1)
    expected = {name: np.array(codes) / 255 * 40 - 20 for name, codes in CODES.items()}
    for index in range(len(flow.manifest)):
        (view,) = flow[index].views
        x, y = expected[data.classes[flow.manifest.get_labels(index)[0]]]
        assert isinstance(view, FlowView)
        np.testing.assert_allclose(view.flow_cthw[0], x, atol=0.2)  # 8 bits, encoded
        np.testing.assert_allclose(view.flow_cthw[1], y, atol=0.2)
    capsys.readouterr()
    assert main(train_argv(tmp_path / "prepared", tmp_path / "run")) == 2
    assert "holds optical flow without frames" in capsys.readouterr().err
    assert main(["prepare", "--check", str(tmp_path / "prepared")]) == 0
    shard = tmp_path / "prepared" / "shards" / "000000.tar"
    shard.write_bytes(shard.read_bytes().replace(b"mdat", b"mdax"))
    capsys.readouterr()
    assert main(["prepare", "--check", str(tmp_path / "prepared")]) == 1
    damaged = capsys.readouterr().out
    assert damaged.count("(flow)") == len(data) and "left_0," not in damaged


def test_a_folder_without_frames_fails_in_words_where_no_flow_is_stored(tmp_path: Path, capsys: Any) -> None:
    assert prepare(write_data(tmp_path / "data", frames=False), tmp_path / "prepared") == 1
    captured = capsys.readouterr()
    assert "without its frames; store it with --flow" in captured.out + captured.err


def test_folders_with_frames_and_without_may_be_mixed(tmp_path: Path) -> None:
    write_data(tmp_path / "data", frames=True)
    for path in (tmp_path / "data" / "test" / "left" / "left_0").glob("img_*"):
        path.unlink()
    assert prepare(tmp_path / "data", tmp_path / "prepared", "--flow") == 0
    data = open_data(str(tmp_path / "prepared")).select_split("test")
    rgb = Preprocessing(clip_length=4, scale_height=32, scale_width=32, crop=24)
    statuses = {}
    for preprocessing in (rgb, FLOW):
        videos = EvaluationDataset(data, open_clip_reader(data.root, preprocessing), 1)
        views = [videos[index].planned_views[0] for index in range(len(data))]
        statuses[preprocessing.modality] = [view.status for view in views]
    assert statuses == {"rgb": ["no_video", "ok", "ok", "ok"], "flow": ["ok"] * 4}
