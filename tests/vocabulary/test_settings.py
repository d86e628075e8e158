"""Defaults are the paper's recipe; what does not fit is refused by name."""

import re
from dataclasses import fields, replace
from pathlib import Path

import pytest

from muybridge.parsing import parse_record
from muybridge.records import FLOW_FIELDS, FLOW_MEAN, Modality, Preprocessing
from muybridge.settings import (
    PREPROCESSING_NAMES,
    ClipSettings,
    EvaluationSettings,
    LoadingSettings,
    NetworkSettings,
    TrainSettings,
    settings_to_dict,
)
from muybridge.training.given_settings import diff_settings
from muybridge.training_settings import TrainingSettings


def test_the_defaults_are_the_papers_recipe() -> None:
    settings = TrainSettings(data="x")
    training = settings.training
    assert (training.optimizer, training.learning_rate, training.momentum) == ("sgd", 0.01, 0.9)
    assert (training.weight_decay, training.epochs, training.batch_size) == (1e-4, 45, 32)
    assert training.resolved_warmup_epochs == 10
    assert training.resolved_decay_epochs == (20, 30, 40)
    assert settings.preprocessing == Preprocessing()
    clips = settings.clips  # section 4.1: frames of 128 x 171, crops of 112 x 112, consecutive frames
    assert (clips.scale, clips.crop, clips.length, clips.stride) == ((128, 171), 112, 16, 1)
    assert (settings.evaluation.clips, settings.evaluation.average) == (10, "softmax")


def test_the_documentation_says_when_failed_clips_end_a_run() -> None:
    data = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    stated = re.search(r"`loading.max_failed_share` of the drawn clips fail \((\d+) %, checked from (\d+) draws", data)
    assert stated is not None
    assert LoadingSettings().max_failed_share == int(stated[1]) / 100


def test_the_number_of_epochs_scales_the_schedule() -> None:
    training = TrainingSettings(epochs=9)
    assert training.resolved_warmup_epochs == 2
    assert training.resolved_decay_epochs == (4, 6, 8)
    assert TrainingSettings(epochs=9, warmup_epochs=0, decay_epochs=(3,)).resolved_decay_epochs == (3,)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ClipSettings(crop=200), r"clips\.crop 200 .*clips\.scale 128x171"),
        (lambda: ClipSettings(flow_gap=0), r"clips\.flow_gap"),
        (lambda: ClipSettings(length=0), r"clips\.length"),
        (lambda: TrainingSettings(learning_rate=0), r"training\.learning_rate"),
        (lambda: TrainingSettings(epochs=1, warmup_epochs=2), r"warmup_epochs 2 .*epochs 1"),
        (lambda: TrainingSettings(decay_epochs=(3, 2)), r"decay_epochs"),
        (lambda: TrainingSettings(batch_size=0), r"batch_size"),
        (lambda: EvaluationSettings(clips=0), r"evaluation\.clips"),
        (lambda: LoadingSettings(max_failed_share=1.5), r"max_failed_share"),
        (lambda: TrainSettings(data="x", fold=4), r"fold"),
        (
            lambda: with_channels(2, "rgb"),
            r"network\.input_channels is 2, but rgb frames have 3 channels; leave it out",
        ),
        (lambda: with_channels(3, "flow"), r"network\.input_channels is 3, but flow frames have 2 channels"),
        (lambda: TrainSettings(data="x", seed=-1), r"seed"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(make, words) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def with_channels(input_channels: int | None, modality: Modality) -> TrainSettings:
    return TrainSettings(data="x", modality=modality, network=NetworkSettings(input_channels=input_channels))


@pytest.mark.parametrize(("channels", "modality"), [(3, "rgb"), (2, "flow"), (None, "rgb"), (None, "flow")])
def test_channels_are_those_of_the_modality(channels: int | None, modality: Modality) -> None:
    assert with_channels(channels, modality).network.input_channels == channels


def test_every_setting_of_clips_is_on_the_card() -> None:
    """A field of Preprocessing is set by a field of ClipSettings or decided by the modality; only mirroring is not on cards."""
    clips = {PREPROCESSING_NAMES.get(field.name, field.name) for field in fields(ClipSettings)}
    clips = clips - {"scale", "mirror"} | {"scale_height", "scale_width"}
    assert clips | {"modality", "interpolation", "mean", "std"} == {field.name for field in fields(Preprocessing)}
    assert ClipSettings().make_preprocessing("rgb") == Preprocessing()


def test_flow_brings_its_own_statistics() -> None:
    preprocessing = TrainSettings(data="x", modality="flow").preprocessing
    assert preprocessing.mean == FLOW_MEAN
    assert preprocessing.input_channels == 2


def test_differences_name_the_setting() -> None:
    left = TrainSettings(data="x")
    right = replace(left, model="r3d_18", clips=ClipSettings(length=8))
    assert diff_settings(settings_to_dict(left), settings_to_dict(right)) == {
        "clips.length": (16, 8),
        "model": ("r2plus1d_18", "r3d_18"),
    }


def test_a_gap_is_of_flow_only() -> None:
    gap = TrainSettings(data="x", modality="flow", clips=ClipSettings(flow_gap=2, flow_chain=True)).preprocessing
    assert (gap.flow_gap, gap.flow_chain, gap.clip_span) == (2, True, 18)
    with pytest.raises(ValueError, match="add --modality flow"):
        TrainSettings(data="x", clips=ClipSettings(flow_gap=2))
    with pytest.raises(ValueError, match="do not suit rgb"):
        Preprocessing(flow_gap=2)
    with pytest.raises(ValueError, match="flow_gap is 0, expected a whole number from 1"):
        Preprocessing(modality="flow", flow_gap=0)


def test_preprocessing_survives_json() -> None:
    preprocessing = Preprocessing(clip_length=8, frames_per_second=15.0)
    assert parse_record(Preprocessing, preprocessing.to_json(), "preprocessing", optional=FLOW_FIELDS) == preprocessing
    assert not [name for name in preprocessing.to_json() if name.startswith("flow")]
    flow = Preprocessing(modality="flow", mean=FLOW_MEAN, std=(1.0, 1.0), flow_gap=2)
    assert parse_record(Preprocessing, flow.to_json(), "preprocessing", optional=FLOW_FIELDS) == flow
    with pytest.raises(ValueError, match="clip_length is missing"):
        parse_record(Preprocessing, {"crop": 112}, "preprocessing")


def test_whole_videos_make_a_batch() -> None:
    assert EvaluationSettings(clips=10, batch_size=40).videos_per_batch == 4
    assert EvaluationSettings(clips=100, batch_size=40).videos_per_batch == 1
