"""Reads recipes, the YAML files of `muybridge/recipes`, and settings in their plain form.

`recipes/*.yaml` and `recipes/fine_tuning/` are whole runs, given with `--config`. `recipes/training/` has a file for each value
of `--recipe`, with defaults of the training group alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from muybridge.parsing import parse_record, read_yaml
from muybridge.settings import RecipeName, TrainSettings

RECIPE_FOLDER = Path(__file__).parents[1] / "recipes"  # package data: present in an installed wheel too


@cache
def load_recipe(name: str, folder: Path = RECIPE_FOLDER) -> TrainSettings:
    """The settings of `<folder>/<name>.yaml` without data and output. ValueError for an unknown name."""
    path = folder / f"{name}.yaml"
    if not path.is_file():
        raise ValueError(f"there is no recipe {name!r} in {folder}; use the name of one of its files without .yaml")
    values = read_yaml(path)
    values.pop("recipe", None)  # whoever loads a whole recipe sets every value
    return build_train_settings(values)


def read_training_recipe(name: RecipeName) -> dict[str, Any]:
    """The settings of `--recipe name`, nested as in YAML."""
    values = read_yaml(RECIPE_FOLDER / "training" / f"{name}.yaml")
    assert isinstance(values, dict), "a packaged file holds settings"
    return values


def build_train_settings(plain: Mapping[str, Any]) -> TrainSettings:
    """The inverse of `settings.settings_to_dict`. ValueError for an unknown name."""
    return parse_record(TrainSettings, plain, "the settings", optional=None)
