"""Reads recipes, the YAML files of `muybridge/recipes`, and settings in their plain form.

`recipes/*.yaml` and `recipes/fine_tuning/` are whole runs, given with `--config`. `recipes/training/` has a file for each value
of `--recipe`, with defaults of the training group alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml

from muybridge.settings import RecipeName, TrainSettings

RECIPE_FOLDER = Path(__file__).parents[1] / "recipes"  # package data: present in an installed wheel too


def load_recipe(name: str, folder: Path = RECIPE_FOLDER) -> TrainSettings:
    """The settings of `<folder>/<name>.yaml` without data and output. ValueError for an unknown name."""
    path = folder / f"{name}.yaml"
    if not path.is_file():
        raise ValueError(f"there is no recipe {name!r} in {folder}; use the name of one of its files without .yaml")
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    values.pop("recipe", None)  # whoever loads a whole recipe sets every value
    return build_train_settings(values)


def read_training_recipe(name: RecipeName) -> dict[str, Any]:
    """The settings of `--recipe name`, nested as in YAML."""
    values = yaml.safe_load((RECIPE_FOLDER / "training" / f"{name}.yaml").read_text(encoding="utf-8"))
    assert isinstance(values, dict), "a packaged file holds settings"
    return values


def build_train_settings(plain: Mapping[str, Any]) -> TrainSettings:
    """The inverse of `settings.settings_to_dict`. ValueError for an unknown name."""
    factories: dict[str, Any] = {field.name: field.default_factory for field in fields(TrainSettings)}
    groups = {name: group for name, group in factories.items() if isinstance(group, type) and is_dataclass(group)}
    values = {
        name: groups[name](**_check_fields(groups[name], value, name)) if name in groups else value
        for name, value in plain.items()
    }
    return TrainSettings(**_check_fields(TrainSettings, values))


def _check_fields(settings: type, values: Any, group: str = "") -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise ValueError(f"{group} is {values!r}, expected a group of settings such as {group}.NAME")
    unknown = sorted(values.keys() - {field.name for field in fields(settings)})
    if unknown:
        raise ValueError(f"there is no setting {group}{'.' if group else ''}{unknown[0]}")
    return {name: _convert_lists(value) for name, value in values.items()}


def _convert_lists(value: Any) -> Any:
    return tuple(_convert_lists(inner) for inner in value) if isinstance(value, list | tuple) else value
