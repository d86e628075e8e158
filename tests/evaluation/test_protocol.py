from __future__ import annotations

import json

import pytest

from muybridge.evaluation.protocol import EvaluationProtocol
from muybridge.records import FLOW_MEAN, FLOW_STD, Modality, Preprocessing
from muybridge.settings import EvaluationSettings


def test_the_default_is_the_papers() -> None:
    protocol = EvaluationProtocol.from_settings(EvaluationSettings(), Preprocessing())
    assert protocol.format_sentence() == "10 uniform centre-crop clips of 16 frames a video, softmax averaged"


def test_what_is_not_the_papers_is_said() -> None:
    preprocessing = Preprocessing(
        modality="flow",
        clip_length=8,
        frame_stride=2,
        frames_per_second=15.0,
        scale_height=64,
        scale_width=80,
        crop=56,
        mean=FLOW_MEAN,
        std=FLOW_STD,
    )
    protocol = EvaluationProtocol.from_settings(EvaluationSettings(clips=1, average="logits"), preprocessing)
    assert protocol.format_sentence() == (
        "1 uniform centre-crop clip of 8 frames (one frame in 2, 15 frames a second) a video, logits averaged, "
        "56x56 of 64x80, optical flow"
    )


def test_the_gap_of_flow_is_said_and_survives_json() -> None:
    flow = Preprocessing(modality="flow", mean=FLOW_MEAN, std=FLOW_STD, flow_gap=2, flow_chain=True)
    protocol = EvaluationProtocol.from_settings(EvaluationSettings(), flow)
    assert protocol.format_sentence().endswith("optical flow over 2 frames, chained")
    assert EvaluationProtocol.from_json(json.loads(json.dumps(protocol.to_json()))) == protocol


def test_the_clock_of_a_player_is_recorded_and_said() -> None:
    protocols = [
        EvaluationProtocol.from_settings(EvaluationSettings(), Preprocessing(), origin)
        for origin in ("picture", "container")
    ]
    assert ["time_origin" in protocol.to_json() for protocol in protocols] == [False, True]
    assert protocols[1].format_sentence() == f"{protocols[0].format_sentence()}, segments by the clock of a player"
    assert protocols[0] != protocols[1]
    for protocol in protocols:
        assert EvaluationProtocol.from_json(json.loads(json.dumps(protocol.to_json()))) == protocol


@pytest.mark.parametrize("rate", [None, 29.97])
def test_it_survives_json(rate: float | None) -> None:
    protocol = EvaluationProtocol.from_settings(EvaluationSettings(clips=3), Preprocessing(frames_per_second=rate))
    assert EvaluationProtocol.from_json(json.loads(json.dumps(protocol.to_json()))) == protocol


def test_unknown_keys_and_values_are_refused() -> None:
    values = EvaluationProtocol.from_settings(EvaluationSettings(), Preprocessing()).to_json()
    with pytest.raises(ValueError, match="flip is not known"):
        EvaluationProtocol.from_json({**values, "flip": True})
    with pytest.raises(ValueError, match="clips is missing"):
        EvaluationProtocol.from_json({key: value for key, value in values.items() if key != "clips"})
    with pytest.raises(ValueError, match="crop is 'four', expected centre or three"):
        EvaluationProtocol.from_json({**values, "crop": "four"})
    with pytest.raises(ValueError, match="average is 'max', expected softmax, logits, sigmoid or values"):
        EvaluationProtocol.from_json({**values, "average": "max"})
    with pytest.raises(ValueError, match="clips is 0, expected a number greater than or equal to 1"):
        EvaluationProtocol.from_json({**values, "clips": 0})


@pytest.mark.parametrize("modality", ["rgb", "flow"])
def test_keys_in_a_file_stay(modality: Modality) -> None:
    keys = (
        *("placement", "clips", "clip_length", "frame_stride", "frames_per_second", "scale_height", "scale_width"),
        *("crop", "crop_size", "average", "modality"),
    )
    protocol = EvaluationProtocol.from_settings(EvaluationSettings(), Preprocessing(modality=modality))
    assert tuple(protocol.to_json()) == (*keys, *(("flow_gap", "flow_chain") if modality == "flow" else ()))
    assert protocol.to_json()["crop"] == "centre"
    assert protocol.to_json()["crop_size"] == 112


def test_what_a_file_does_not_hold_does_not_tell_protocols_apart() -> None:
    other = Preprocessing(mean=(0.0,) * 3, std=(1.0,) * 3)
    protocols = [EvaluationProtocol.from_settings(EvaluationSettings(), each) for each in (Preprocessing(), other)]
    assert protocols[0] == protocols[1]


def test_three_larger_crops_are_recorded_and_said() -> None:
    protocol = EvaluationProtocol.from_settings(EvaluationSettings(clips=5, crops=3, crop_size=128), Preprocessing())
    assert protocol.num_views == 15
    assert protocol.to_json()["crop"] == "three"
    assert protocol.to_json()["crop_size"] == 128
    assert EvaluationProtocol.from_json(json.loads(json.dumps(protocol.to_json()))) == protocol
    assert protocol.format_sentence() == (
        "5 uniform three-crop clips of 16 frames a video, softmax averaged, 128x128 of 128x171"
    )
    with pytest.raises(ValueError, match="crop"):
        EvaluationProtocol.from_settings(EvaluationSettings(crop_size=129), Preprocessing())
