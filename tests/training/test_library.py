from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

import muybridge
from muybridge.records import Preprocessing
from muybridge.settings import ClipSettings, NetworkSettings
from muybridge.training.checkpoint import list_checkpoints
from muybridge.training.events import StepDone, ValidationDone
from muybridge.training_settings import TrainingSettings

OPTIONS: dict[str, Any] = {
    "network": NetworkSettings(width=4),
    "clips": {"length": 4, "scale": (32, 32), "crop": 28},
    "training": {"batch_size": 4, "epochs": 2, "clips_per_epoch": 12, "optimizer": "adamw", "learning_rate": 0.02},
    "evaluation": {"clips": 2},
    "loading": {"workers": 0},
    "device": "cpu",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames in folders: bright ones and dark ones."""
    root = tmp_path_factory.mktemp("data")
    for label, level in (("dark", 40), ("light", 200)):
        for number in range(6):
            folder = root / label / f"clip {number}"
            folder.mkdir(parents=True)
            for index in range(6):
                Image.fromarray(np.full((32, 32, 3), level + 2 * index, np.uint8)).save(folder / f"{index}.png")
    return root


def test_a_run_from_python_is_that_of_the_command_line(data: Path, tmp_path: Path) -> None:
    run = muybridge.train(data, "r2plus1d_10", output=tmp_path / "run", **OPTIONS)
    assert run.num_steps == 6
    assert run.num_failed_clips == 0
    assert run.validation_accuracy is not None
    assert {"settings.yaml", "log.jsonl", "last.safetensors"} <= {path.name for path in run.folder.iterdir()}
    recognizer = muybridge.load(run, "cpu")
    assert recognizer.classes == ("dark", "light")
    assert recognizer.predict(data / "dark" / "clip 0").status == "ok"


def test_events_are_what_the_log_has(data: Path, tmp_path: Path) -> None:
    events = list(muybridge.iterate_training(data, "r2plus1d_10", output=tmp_path / "run", **OPTIONS))
    steps = [event for event in events if isinstance(event, StepDone)]
    validations = [event for event in events if isinstance(event, ValidationDone)]
    assert [event.step for event in steps] == [1, 2, 3, 4, 5, 6]
    assert all(event.num_clips == 4 and event.loss > 0 for event in steps)
    assert steps[-1].epoch == pytest.approx(2)
    assert validations[-1].step == 6
    assert validations[-1].to_metrics()["video_top1"] == validations[-1].accuracy.video_top1.of_all.share
    assert set(steps[0].to_metrics()) >= {"loss", "learning_rate", "epoch"}


def test_leaving_early_saves_and_resume_ends_as_if_nothing_was(data: Path, tmp_path: Path) -> None:
    for event in muybridge.iterate_training(data, "r2plus1d_10", output=tmp_path / "run", **OPTIONS):
        if event.step == 2:
            break
    assert [folder.name for folder in list_checkpoints(tmp_path / "run" / "checkpoints")] == ["step-00000002"]
    run = muybridge.train(data, "r2plus1d_10", output=tmp_path / "run", resume=True, **OPTIONS)
    whole = muybridge.train(data, "r2plus1d_10", output=tmp_path / "whole", **OPTIONS)
    names = ("last.safetensors",)
    assert [(run.folder / name).read_bytes() for name in names] == [
        (whole.folder / name).read_bytes() for name in names
    ]


def test_defaults_of_a_dataclass_do_not_replace_those_of_weights_and_recipe(data: Path, tmp_path: Path) -> None:
    preprocessing = Preprocessing(
        clip_length=4, frames_per_second=25.0, scale_height=32, scale_width=32, crop=28, mean=(127.5,) * 3
    )
    network = muybridge.create_model("r3d_10", num_classes=2, clip_length=4, width=4)
    weights = tmp_path / "weights.safetensors"
    muybridge.save(network, weights, classes=["dark", "light"], preprocessing=preprocessing)
    few = {"epochs": 0.5, "clips_per_epoch": 8, "batch_size": 4}
    common = {**OPTIONS, "init": weights, "network": NetworkSettings()}
    saved = []
    for name, groups in (
        ("dict", {"clips": {"mirror": False}, "training": few}),
        ("dataclass", {"clips": ClipSettings(mirror=False), "training": TrainingSettings(**few)}),
    ):
        muybridge.train(data, output=tmp_path / name, **{**common, **groups})
        saved.append(yaml.safe_load((tmp_path / name / "settings.yaml").read_text()) | {"output": ""})
    assert saved[0] == saved[1]
    assert (saved[1]["clips"]["frames_per_second"], saved[1]["clips"]["mirror"]) == (25.0, False)
    assert (saved[1]["training"]["learning_rate"], saved[1]["training"]["epochs"]) == (0.003, 0.5)


@pytest.mark.parametrize(
    ("arguments", "options", "sentence"),
    [
        ((["a.mp4"],), {}, "data is the path of a folder or a list of videos, not list"),
        (("data", 3), {}, "model is a name such as r2plus1d_18, not int"),
        (("data",), {"epochs": 3}, "train has no option 'epochs'; the options are data, model, output"),
        (("data",), {"training": {"lr": 3}}, "training has no setting 'lr'; the settings are"),
        (("data",), {"training": dict.fromkeys("zyxwvutsr", 3)}, "training has no setting 'r'; the settings are"),
        (("data",), {"training": 3}, "training is a TrainingSettings or a dict of its fields, not int"),
    ],
)
def test_wrong_input_is_a_sentence(arguments: tuple[Any, ...], options: dict[str, Any], sentence: str) -> None:
    for function in (muybridge.train, muybridge.iterate_training):
        with pytest.raises(TypeError, match=sentence):
            function(*arguments, **options)
