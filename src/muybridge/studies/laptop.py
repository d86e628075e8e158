"""Training runs that a laptop does in a minute or two, on generated motions: the demo's, and those of studies.

A study at this scale keeps the form of every network (Figure 1 of the paper) and makes depth, width, picture and schedule
smaller. Its motions are hard enough that networks differ; how they were chosen stands in docs/reproduction.md.
"""

from __future__ import annotations

from muybridge.settings import (
    ClipSettings,
    EvaluationSettings,
    LoadingSettings,
    NetworkSettings,
    TrainingSettings,
    TrainSettings,
)
from muybridge.synthetic.motions import CLASS_NAMES, MotionSettings

STUDY_DEPTH = 10
STUDY_DEEPER = 18  # where a study compares two depths, as the paper does 18 and 34
STUDY_CLIPS = (
    5  # a video, in tests; 32 frames minus a clip of 4, 8, ... frames is a multiple of 4: clips lie symmetrically
)
STUDY_MOTIONS = MotionSettings(
    # The first four pairs, and two whose videos hold the same two motions in another order: only a long clip tells those apart.
    classes=(
        *CLASS_NAMES[:8],
        *("right_then_up", "down_then_left", "up_then_right", "left_then_down"),
    ),
    train_videos_per_class=80,
    validation_videos_per_class=6,
    test_videos_per_class=24,
    num_frames=32,
    height=48,
    width=48,
    contrast=0.8,
    noise=4.0,
    distractors=1,
    spread=0.3,
)


def motion_run(model: str, data: str, output: str, *, epochs: float = 10.0, seed: int = 0) -> TrainSettings:
    """Settings for one network on generated motions: everything as for a user's own videos, only smaller."""
    return TrainSettings(
        data=data,
        model=model,
        output=output,
        seed=seed,
        network=NetworkSettings(width=16),
        clips=ClipSettings(
            length=8,
            stride=2,
            scale=(64, 64),
            crop=56,
            mirror=False,  # a mirrored `left` is a `right`, but would keep its label
        ),
        training=TrainingSettings(
            optimizer="adamw",  # reaches in a thousand clips what the paper's SGD needs its long warm-up for
            learning_rate=3e-3,
            epochs=epochs,
            clips_per_epoch=800,
            validate_every_epochs=epochs,
        ),
    )


def study_run(model: str, length: int) -> TrainSettings:
    """One run of a study at laptop scale: consecutive frames as in the paper, 3,000 clips, validated five times.

    Most of the schedule is spent at the full rate: with the paper's shares (decays from 20/45 on) so short a run learns little.
    """
    return TrainSettings(
        data="",
        model=model,
        device="cpu",
        network=NetworkSettings(width=8),
        clips=ClipSettings(length=length, scale=(48, 48), crop=40, mirror=False),
        training=TrainingSettings(
            optimizer="adamw",
            learning_rate=8e-3,
            batch_size=8,
            epochs=5,
            warmup_epochs=0.5,
            decay_epochs=(3.5, 4.5),
            clips_per_epoch=600,
        ),
        evaluation=EvaluationSettings(clips=STUDY_CLIPS),
        loading=LoadingSettings(workers=0),  # one process a run: a study keeps the cores busy with several runs
    )
