from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from muybridge.cli.main import main
from muybridge.models.network import create_model
from muybridge.prediction.ensemble import create_ensemble
from muybridge.prediction.recognizer import Recognizer, load
from muybridge.records import FLOW_MEAN, FLOW_STD, Preprocessing
from muybridge.weights.card import save

CLASSES = ("clap", "wave", "jump")
RGB = Preprocessing(clip_length=4, scale_height=20, scale_width=24, crop=16)
FLOW = replace(RGB, modality="flow", mean=FLOW_MEAN, std=FLOW_STD)


def recognizer(folder: Path, preprocessing: Preprocessing, classes: Sequence[str] = CLASSES) -> Recognizer:
    torch.manual_seed(len(classes[0]))
    network = create_model(
        "mc2_10", num_classes=3, width=4, clip_length=4, input_channels=preprocessing.input_channels
    ).eval()
    path = folder / f"{preprocessing.modality}.safetensors"
    save(network, path, classes=classes, preprocessing=preprocessing)
    return load(path, "cpu")


def test_the_mean_of_two_streams(tmp_path: Path, new_video: Callable[..., Path]) -> None:
    video = new_video(tmp_path / "video.mp4", 20)
    rgb, flow = recognizer(tmp_path, RGB), recognizer(tmp_path, FLOW, ("Jump", "clap", "WAVE"))
    prediction = create_ensemble([rgb, flow], [3, 1]).predict(video, clips=3, top=3)
    one, two = (dict(member.predict(video, clips=3, top=3).classes) for member in (rgb, flow))
    expected = {
        "clap": (one["clap"], two["clap"]),
        "wave": (one["wave"], two["WAVE"]),
        "jump": (one["jump"], two["Jump"]),
    }
    assert prediction.status == "ok"
    assert [probability for _, probability in prediction.classes] == sorted(
        dict(prediction.classes).values(), reverse=True
    )
    assert dict(prediction.classes) == pytest.approx({name: 0.75 * a + 0.25 * b for name, (a, b) in expected.items()})
    assert len(create_ensemble([rgb, flow], [1, 1]).predict(video, clips=3, top=1).classes) == 1


def test_a_video_that_cannot_be_read_is_failed(tmp_path: Path) -> None:
    prediction = create_ensemble([recognizer(tmp_path, RGB), recognizer(tmp_path, FLOW)], [1, 1]).predict(
        tmp_path / "no.mp4"
    )
    assert (prediction.status, prediction.reason, prediction.classes) == ("missing", "rgb: the file does not exist", ())


def test_other_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the networks have different classes: .*jump is not among clap, wave, run"):
        create_ensemble([recognizer(tmp_path, RGB), recognizer(tmp_path, FLOW, ("clap", "wave", "run"))], [1, 1])


def test_on_the_command_line(tmp_path: Path, new_video: Callable[..., Path], capsys: Any) -> None:
    video = str(new_video(tmp_path / "video.mp4", 20))
    rgb, flow = recognizer(tmp_path, RGB), recognizer(tmp_path, FLOW)
    arguments = ["predict", str(tmp_path / "rgb.safetensors"), "--with", str(tmp_path / "flow.safetensors")]
    assert main([*arguments, "--weights", "1", "3", "--top", "1", "--clips", "2", video]) == 0
    ((label, probability),) = create_ensemble([rgb, flow], [1, 3]).predict(video, clips=2, top=1).classes
    assert capsys.readouterr().out == f"{video}\n  {100 * probability:5.1f} %  {label}\n"
    assert main([*arguments, video, "--timeline"]) == 2
    assert "leave out --with" in capsys.readouterr().err
    assert main(["predict", str(tmp_path / "rgb.safetensors"), video, "--weights", "1", "1"]) == 2
    assert "name the second one with --with" in capsys.readouterr().err
