"""Reads recipes, the YAML files of `muybridge/recipes`, and settings in their plain form."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from muybridge.parsing import parse_record, read_yaml
from muybridge.settings import TrainSettings

RECIPE_FOLDER = Path(__file__).parents[1] / "recipes"  # package data: present in an installed wheel too


def load_recipe(name: str, folder: Path = RECIPE_FOLDER) -> TrainSettings:
    """The settings of `<folder>/<name>.yaml` without data and output. ValueError for an unknown name."""
    path = folder / f"{name}.yaml"
    if not path.is_file():
        raise ValueError(f"there is no recipe {name!r} in {folder}; use the name of one of its files without .yaml")
    return build_train_settings({"data": "", **read_yaml(path)})


def build_train_settings(plain: Mapping[str, Any]) -> TrainSettings:
    """The inverse of `settings.settings_to_dict`. ValueError for an unknown name."""
    return parse_record(TrainSettings, plain, "the settings", optional=None)
