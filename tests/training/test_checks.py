"""Settings that fit neither machine nor data are refused before a run."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from muybridge.loading.open_data import open_data
from muybridge.models.family import build_specification
from muybridge.records import Preprocessing
from muybridge.settings import ClipSettings, EvaluationSettings, TrainSettings
from muybridge.training import checks as checks_module
from muybridge.training.checks import check_clips_fit, check_passes, check_supported, describe_unused_settings
from muybridge.training.schedule import build_schedule
from muybridge.training_settings import TrainingSettings
from videos import write_video

TINY_CLIPS = Preprocessing(clip_length=4, scale_height=32, scale_width=32, crop=28)


def test_one_readable_video_is_enough_to_start(tmp_path: Path) -> None:
    for name in ("a/broken.mp4", "a/good.mp4", "b/broken.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"no video")
    every = open_data(str(tmp_path)).select_split("train")
    with pytest.raises(ValueError, match=rf"none of {len(every)} training videos checked can be read; the first is"):
        check_clips_fit(every, TINY_CLIPS)
    for index in range(len(every)):
        write_video(tmp_path / every.get_video(index), 4)
        check_clips_fit(every, TINY_CLIPS)


def test_a_long_list_is_looked_at_here_and_there(motions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks_module, "NUM_VIDEOS_CHECKED", 4)
    train = open_data(str(motions)).select_split("train")
    looked_at = []

    def noting(source: Any, manifest: Any, index: int) -> Any:
        looked_at.append(index)
        return original(source, manifest, index)

    original = checks_module.read_segment_times
    monkeypatch.setattr(checks_module, "read_segment_times", noting)
    check_clips_fit(train, TINY_CLIPS)
    assert looked_at == [0, 4, 8, 12]


@pytest.mark.parametrize(
    ("model", "scored_length", "is_refused"),
    [
        ("r2d_18", None, False),
        ("r2d_18", 8, False),
        ("r2d_18", 16, True),
        ("f_r2d_18", 16, False),
        ("r3d_18", 16, False),
    ],
)
def test_networks_that_take_frames_as_channels_score_clips_of_their_length_alone(
    model: str, scored_length: int | None, is_refused: bool
) -> None:
    evaluation = EvaluationSettings(clip_length=scored_length)
    settings = TrainSettings(data="x", model=model, clips=ClipSettings(length=8), evaluation=evaluation)
    if not is_refused:
        check_supported(settings, torch.device("cpu"))
        return
    with pytest.raises(ValueError, match="has clips of 16 frames, but r2d_18 takes the 8 frames of a clip as channels"):
        check_supported(settings, torch.device("cpu"))


@pytest.mark.parametrize(
    ("given", "note"),
    [
        ({"schedule": "cosine"}, None),
        ({"decay_epochs": (20.0,)}, None),
        (
            {"schedule": "cosine", "decay_epochs": (20.0,), "decay_factor": 0.5},
            "not used: training.decay_epochs, training.decay_factor, since the schedule cosine has no decays",
        ),
        ({"mixup_alpha": 0.2, "batch_size": 2}, None),
        (
            {"mixup_alpha": 0.2, "batch_size": 1},
            "not used: training.mixup_alpha and training.cutmix_alpha, since a batch of one clip has no other to mix in",
        ),
        (
            {"cutmix_alpha": 1.0, "batch_size": 2, "repeated_augmentation": 2},
            "not used: training.mixup_alpha and training.cutmix_alpha, since training.repeated_augmentation 2 fills a batch of "
            "2 with clips of one video",
        ),
        ({"mixup_alpha": 0.2, "batch_size": 3, "repeated_augmentation": 2}, None),
        ({"batch_size": 2, "repeated_augmentation": 2}, None),
    ],
)
def test_settings_that_change_nothing_are_named(given: dict[str, Any], note: str | None) -> None:
    settings = TrainSettings(data="x", training=TrainingSettings(**given))
    assert describe_unused_settings(settings) == ([note] if note else [])


SMALL_GRID = ((0.25, 2, 16), (0.25, 4, 16))


@pytest.mark.parametrize(
    ("given", "world_size", "is_refused"),
    [
        ({"batch_size": 1, "global_batch": 4, "multigrid": SMALL_GRID}, 1, True),
        ({"batch_size": 2, "global_batch": 4, "multigrid": SMALL_GRID}, 1, False),
        ({"batch_size": 2, "global_batch": 7, "multigrid": SMALL_GRID}, 2, True),
        ({"batch_size": 2, "global_batch": 7, "multigrid": SMALL_GRID, "synchronise_norm": True}, 2, False),
        ({"batch_size": 1, "multigrid": ((0.25, 4, 17),)}, 1, False),  # two positions a side
        ({"batch_size": 1}, 1, False),
    ],
)
def test_a_pass_of_one_clip_of_one_position_is_refused(
    given: dict[str, Any], world_size: int, is_refused: bool
) -> None:
    clips = ClipSettings(length=4, scale=(32, 32), crop=32)
    settings = TrainSettings(data="x", model="r2plus1d_10", clips=clips, training=TrainingSettings(**given))
    global_batch = build_schedule(settings.training, num_videos=9, world_size=world_size).global_batch
    with (
        pytest.raises(ValueError, match="2 frames of 16x16 pixels leave batch norm one value per channel")
        if is_refused
        else nullcontext()
    ):
        check_passes(settings, build_specification("r2plus1d_10"), global_batch=global_batch, world_size=world_size)


def test_three_equal_crops_are_noted() -> None:
    for scale, note in (
        ((48, 48), ["not used: evaluation.crops 3, since crops of 48 pixels are equal in frames of 48x48"]),
        ((48, 49), []),
    ):
        clips = ClipSettings(scale=scale, crop=48)
        assert (
            describe_unused_settings(TrainSettings(data="x", clips=clips, evaluation=EvaluationSettings(crops=3)))
            == note
        )
