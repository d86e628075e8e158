"""Every recipe parses, builds its network, and states in its first lines what the paper reports for it."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
import torch
import yaml

from muybridge.cli.options import parse_settings
from muybridge.cli.train import train
from muybridge.models.family import FAMILIES
from muybridge.settings import TrainSettings
from muybridge.training.network import initialize_network
from muybridge.training.recipes import RECIPE_FOLDER

FOLDER = RECIPE_FOLDER
RECIPES = sorted(path for path in FOLDER.glob("*.yaml") if not path.name.startswith("modern_"))

# What the paper prints: family -> clip@1 and video@1 at 8 frames, then at 16 (Table 2, 18 layers).
TABLE_2 = {
    "r2d": (46.7, 59.5, 47.0, 58.9),
    "f_r2d": (48.1, 59.4, 50.3, 60.5),
    "r3d": (49.4, 61.8, 52.5, 64.2),
    "mc2": (50.2, 62.5, 53.1, 64.2),
    "mc3": (50.7, 62.9, 53.7, 64.7),
    "mc4": (50.5, 62.5, 53.7, 65.1),
    "mc5": (50.3, 62.5, 53.7, 65.1),
    "rmc2": (49.8, 62.1, 53.1, 64.9),
    "rmc3": (49.8, 62.3, 53.2, 65.0),
    "rmc4": (49.9, 62.3, 53.4, 65.1),
    "rmc5": (49.4, 61.2, 52.1, 63.1),
    "r2plus1d": (52.8, 64.8, 56.8, 68.0),
}
EXPECTED: dict[str, dict[str, float]] = {
    f"kinetics400_{family}_18_{length}f": {"clip@1": row[column], "video@1": row[column + 1]}
    for family, row in TABLE_2.items()
    for length, column in ((8, 0), (16, 2))
} | {
    "kinetics400_r2plus1d_18_32f": {"clip@1": 60.1, "video@1": 69.4},  # Table 3
    "kinetics400_r2plus1d_34_32f_rgb": {"video@1": 72.0, "video@5": 90.0},  # Table 5
    "kinetics400_r2plus1d_34_32f_flow": {"video@1": 67.5, "video@5": 87.2},
    "sports1m_r3d_34_8f": {"clip@1": 53.8},  # Table 4
    "sports1m_r2plus1d_34_8f": {"clip@1": 56.1, "video@1": 72.0, "video@5": 91.2},
    "sports1m_r2plus1d_34_32f": {"clip@1": 57.0, "video@1": 73.0, "video@5": 91.5},
}


@cache
def settings_of(recipe: Path) -> TrainSettings:
    return parse_settings(train, TrainSettings, ["--config", str(recipe), "--data", "d", "-o", "run"])


def comment_of(recipe: Path) -> str:
    """The lines before the first setting, as one."""
    text = recipe.read_text(encoding="utf-8")
    return " ".join(line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#"))


def test_the_recipes_are_the_papers_runs() -> None:
    assert {recipe.stem for recipe in RECIPES} == EXPECTED.keys()
    assert set(TABLE_2) == set(FAMILIES)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_a_recipe_parses_and_builds_its_network(recipe: Path) -> None:
    settings = settings_of(recipe)
    match = re.fullmatch(r"(kinetics400|sports1m)_(\w+_\d+)_(\d+)f(?:_(rgb|flow))?", recipe.stem)
    assert match
    data_set, model, length, modality = match.groups()
    assert settings.model == model
    assert settings.clips.length == int(length)
    assert settings.modality == (modality or "rgb")
    num_classes = {"kinetics400": 400, "sports1m": 487}[data_set]
    with torch.device("meta"):
        network = initialize_network(settings, num_classes)
        clips = torch.empty(1, settings.preprocessing.input_channels, int(length), 112, 112)
    assert network.eval()(clips).shape == (1, num_classes)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_a_recipe_is_the_papers_schedule_and_nothing_else(recipe: Path) -> None:
    settings = settings_of(recipe)
    training = settings.training
    assert (training.optimizer, training.learning_rate, training.epochs) == ("sgd", 0.01, 45)
    assert (training.resolved_warmup_epochs, training.resolved_decay_epochs) == (10, (20, 30, 40))
    assert training.clips_per_epoch == 1_000_000
    assert settings.clips.mirror
    assert settings.evaluation.clips == (100 if recipe.stem.startswith("sports1m") else 10)
    stated = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    assert set(stated) <= {"model", "modality", "clips", "training", "evaluation", "validation"}
    # Kinetics gives validation videos; the official training list of Sports-1M is trained on whole.
    assert settings.validation == ("none" if recipe.stem.startswith("sports1m") else "auto")


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_the_first_lines_state_the_expected_accuracy(recipe: Path) -> None:
    comment = comment_of(recipe)
    claim = re.search(r"Expected \(paper, \w+\): (.*?)\. Not yet rerun", comment)
    assert claim, comment
    stated = {name: float(value) for name, value in re.findall(r"(clip@1|video@1|video@5) ([\d.]+\d)", claim[1])}
    assert stated == EXPECTED[recipe.stem]
    assert re.search(r"Table [2345] of the paper", comment)
    assert "Hardware: " in comment
    assert ("Schedule: not published, taken from Kinetics" in comment) == recipe.stem.startswith("sports1m")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("modern_*.yaml")), ids=lambda path: path.stem)
def test_a_modern_recipe_differs_from_the_papers_in_training_alone(path: Path) -> None:
    modern, paper = settings_of(path), settings_of(FOLDER / path.name.removeprefix("modern_"))
    assert (modern.model, modern.clips, modern.evaluation) == (paper.model, paper.clips, paper.evaluation)
    assert modern.training.clips_per_epoch == paper.training.clips_per_epoch
    assert (modern.training.epochs, modern.training.learning_rate) == (45, 0.01)
    assert modern.training.multigrid == ((0.5, 8, 80),)
