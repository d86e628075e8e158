"""The fine-tuning recipes parse, and hold the published settings."""

from __future__ import annotations

import pytest
import torch

from muybridge.cli.options import parse_settings
from muybridge.cli.train import train
from muybridge.settings import TrainSettings
from muybridge.training.network import initialize_network
from muybridge.training.recipes import RECIPE_FOLDER
from muybridge.training.schedule import build_schedule

FOLDER = RECIPE_FOLDER / "fine_tuning"
# rate for 32 clips, epochs, decays, clips an epoch, weight decay; what the paper reports
PAPER = (0.001, 15, (4, 8, 12), 1_000_000, 1e-4)
UCF, HMDB = (0.0008, 8, (2, 4, 6), 100_000, 0.005), (0.0016, 8, (2, 4, 6), 40_000, 0.005)
EXPECTED = {
    "kinetics400_r2plus1d_34_32f_rgb": (PAPER, ("74.3", "91.4")),
    "kinetics400_r2plus1d_34_32f_flow": (PAPER, ("68.5", "88.1")),
    "kinetics400_r2plus1d_18_32f_from_8f": (PAPER, ("59.8", "68.0")),
    "ucf101_r2plus1d_34_32f_rgb": (UCF, ("96.8", "93.6")),
    "ucf101_r2plus1d_34_32f_flow": (UCF, ("95.5", "93.3")),
    "hmdb51_r2plus1d_34_32f_rgb": (HMDB, ("74.5", "66.6")),
    "hmdb51_r2plus1d_34_32f_flow": (HMDB, ("76.4", "70.1")),
}


def test_all_are_known() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == EXPECTED.keys()


@pytest.mark.parametrize("name", EXPECTED)
def test_a_recipe_holds_the_published_settings(name: str) -> None:
    words = ["--config", str(FOLDER / f"{name}.yaml"), "--data", "d", "-o", "run", "--init", "weights"]
    settings = parse_settings(train, TrainSettings, words)
    training = settings.training
    (rate, epochs, decays, clips, decay), claims = EXPECTED[name]
    assert (training.learning_rate, training.epochs, training.resolved_decay_epochs) == (rate, epochs, decays)
    assert (training.clips_per_epoch, training.weight_decay, training.warmup_epochs) == (clips, decay, 0)
    assert settings.clips.length == 32
    assert settings.clips.frames_per_second == (15 if name.startswith("kinetics") else None)
    assert settings.modality == ("flow" if name.endswith("flow") else "rgb")
    plan = build_schedule(training, num_videos=1, world_size=32 // training.batch_size)
    assert plan.compute_learning_rate(0) == pytest.approx(rate)
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    assert all(claim in text for claim in claims)
    assert f"fine_tuning/{name}" not in text
    with torch.device("meta"):
        assert initialize_network(settings, 101).specification.name == settings.model
