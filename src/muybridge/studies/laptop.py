"""Settings of runs that take a laptop a minute or two, on generated motions: the demo's, and those of studies.

A study at this scale keeps the form of every network (Figure 1 of the paper) and reduces depth, width, frame size and schedule.
Its motions are hard enough that networks differ; docs/reproduction.md says how they were chosen.
"""

from __future__ import annotations

from dataclasses import replace

from muybridge.settings import ClipSettings, EvaluationSettings, LoadingSettings, NetworkSettings, TrainSettings
from muybridge.synthetic.motions import CLASS_NAMES, MotionSettings
from muybridge.training_settings import TrainingSettings

STUDY_DEPTHS = (10, 18)  # the second where a study compares two depths, as the paper does 18 and 34
# Clips a video in evaluations. 32 frames minus a clip of 4, 8, ... frames is a multiple of 4: clips are placed symmetrically.
STUDY_CLIPS = 5
STUDY_MOTIONS = MotionSettings(
    # The first four pairs, and two pairs of the same motions in another order: only a long clip tells those apart.
    classes=(*CLASS_NAMES[:8], "right_then_up", "down_then_left", "up_then_right", "left_then_down"),
    train_videos_per_class=80,
    validation_videos_per_class=6,
    test_videos_per_class=84,  # 1,008 in all: an accuracy has an interval of 3 points to either side, not 6
    num_frames=32,
    height=48,
    width=48,
    contrast=0.6,
    noise=8.0,
    distractors=2,
    spread=0.3,
)
# With one distractor the best networks pass 95 %. Recipes are compared, and networks for real video pre-trained, on these.
CLEARER_MOTIONS = replace(STUDY_MOTIONS, distractors=1)
# With two, optical flow does (98.7 %): where it stands beside RGB, objects are crowded and pixels noisy.
STREAM_MOTIONS = replace(STUDY_MOTIONS, noise=20.0, distractors=4)
OTHER_MOTIONS = replace(STREAM_MOTIONS, classes=CLASS_NAMES[8:18], seed=1)  # disjoint classes, for pre-training
# Few videos, in place of Table 6's small data sets; hmdb51's are fewer and fainter.
TARGET_MOTIONS = {
    "ucf101": replace(OTHER_MOTIONS, train_videos_per_class=12),
    "hmdb51": replace(OTHER_MOTIONS, train_videos_per_class=8, contrast=0.5),
}


def motion_run(model: str, data: str, output: str, *, epochs: float = 10.0, seed: int = 0) -> TrainSettings:
    """Settings of the demo's network on generated motions: as for a user's own videos, only smaller."""
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
            mirror=False,  # a mirrored `left` is a `right` and would keep its label
        ),
        training=TrainingSettings(
            optimizer="adamw",  # reaches in a thousand clips what the paper's SGD needs its long warm-up for
            learning_rate=3e-3,
            epochs=epochs,
            clips_per_epoch=800,
            validate_every_epochs=epochs,
        ),
    )


def build_laptop_settings(model: str, length: int) -> TrainSettings:
    """One run of a study at laptop scale: consecutive frames as in the paper, 9,000 clips, five validations.

    A run must end where its reruns end (docs/reproduction.md has what was tried): batches of 24 and not of 8, a long warm-up,
    clipped gradients, and a rate that falls to 0 move reruns that differ by rounding from 5 points apart to under one. With the
    paper's shares (decay from 20/45 of the epochs on) so short a run learns little.
    """
    return TrainSettings(
        data="",
        model=model,
        device="cpu",
        network=NetworkSettings(width=8),
        clips=ClipSettings(length=length, scale=(48, 48), crop=40, mirror=False),
        training=TrainingSettings(
            optimizer="adamw",
            learning_rate=2.7e-3,
            batch_size=24,
            epochs=5,
            warmup_epochs=1.0,
            schedule="cosine",
            max_gradient_norm=1.0,
            clips_per_epoch=1800,
        ),
        evaluation=EvaluationSettings(clips=STUDY_CLIPS),
        loading=LoadingSettings(workers=0),  # a study keeps the cores busy with several runs at once
    )
