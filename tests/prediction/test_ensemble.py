from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from muybridge.cli.main import main
from muybridge.models.heads import Head, make_ordinal_outputs
from muybridge.models.network import create_model
from muybridge.prediction.ensemble import create_ensemble
from muybridge.prediction.recognizer import Recognizer, load
from muybridge.records import FLOW_MEAN, FLOW_STD, Preprocessing
from muybridge.weights.card import save

CLASSES = ("clap", "wave", "jump")
RGB = Preprocessing(clip_length=4, scale_height=20, scale_width=24, crop=16)
FLOW = replace(RGB, modality="flow", mean=FLOW_MEAN, std=FLOW_STD)


def recognizer(
    folder: Path, preprocessing: Preprocessing, classes: Sequence[str] = CLASSES, head: Head | None = None
) -> Recognizer:
    torch.manual_seed(len(classes[0]))
    num_outputs = len(head.outputs) if head else 3
    network = create_model(
        "mc2_10", num_classes=num_outputs, width=4, clip_length=4, input_channels=preprocessing.input_channels
    ).eval()
    path = folder / f"{preprocessing.modality}.safetensors"
    save(network, path, classes=classes, preprocessing=preprocessing, head=head)
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


def test_the_mean_of_other_tasks(tmp_path: Path, new_video: Callable[..., Path]) -> None:
    video = new_video(tmp_path / "video.mp4", 20)
    numbers = [
        Head("regression", names, "identity", units, mean, (2.0, 3.0))
        for names, units, mean in ((("ef", "esv"), ("%", ""), (50.0, 9.0)), (("ESV", "EF"), ("ml", "%"), (7.0, 40.0)))
    ]
    members = [
        recognizer(tmp_path, preprocessing, head.outputs, head)
        for preprocessing, head in zip((RGB, FLOW), numbers, strict=True)
    ]
    (one, two) = ([value for _, value, _ in member.predict(video, clips=3).values] for member in members)
    prediction = create_ensemble(members, [3, 1]).predict(video, clips=3)
    assert [(name, unit) for name, _, unit in prediction.values] == [("ef", "%"), ("esv", "")]
    expected = [0.75 * one[0] + 0.25 * two[1], 0.75 * one[1] + 0.25 * two[0]]
    assert [value for _, value, _ in prediction.values] == pytest.approx(expected)

    labels = Head("multi_label", CLASSES, "sigmoid", thresholds=(0.0, 1.0, 0.5))
    members = [recognizer(tmp_path, preprocessing, CLASSES, labels) for preprocessing in (RGB, FLOW)]
    prediction = create_ensemble(members, [1, 1]).predict(video, clips=3, top=1)
    assert prediction.labels is not None
    assert ("clap" in prediction.labels, "wave" in prediction.labels) == (True, False)
    assert len(prediction.classes) == 1

    levels = Head("ordinal", make_ordinal_outputs(CLASSES), "cumulative_sigmoid")
    members = [recognizer(tmp_path, preprocessing, CLASSES, levels) for preprocessing in (RGB, FLOW)]
    prediction = create_ensemble(members, [1, 1]).predict(video, clips=3, top=3)
    one, two = (dict(member.predict(video, clips=3, top=3).classes) for member in members)
    mean = {name: (one[name] + two[name]) / 2 for name in CLASSES}
    assert dict(prediction.classes) == pytest.approx(mean)
    median = "clap" if mean["clap"] >= 0.5 else "wave" if mean["clap"] + mean["wave"] >= 0.5 else "jump"
    assert prediction.labels == (median,)


def test_a_video_that_cannot_be_read_is_failed(tmp_path: Path) -> None:
    prediction = create_ensemble([recognizer(tmp_path, RGB), recognizer(tmp_path, FLOW)], [1, 1]).predict(
        tmp_path / "no.mp4"
    )
    assert (prediction.status, prediction.reason, prediction.classes) == ("missing", "rgb: the file does not exist", ())


def test_other_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the networks have different classes: .*run is not among clap, wave, jump"):
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
