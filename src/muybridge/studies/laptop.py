"""A training run that a laptop does in a minute or two, on generated motions: the scale of the demo and of small studies."""

from __future__ import annotations

from muybridge.settings import ClipSettings, NetworkSettings, TrainingSettings, TrainSettings


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
