"""Reads recipes, the YAML files of `muybridge/recipes`, and settings in their plain form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml

from muybridge.settings import TrainSettings

RECIPE_FOLDER = Path(__file__).parents[1] / "recipes"  # package data: present in an installed wheel too


def load_recipe(name: str, folder: Path = RECIPE_FOLDER) -> TrainSettings:
    """The settings of `<folder>/<name>.yaml` without data and output. ValueError for an unknown name."""
    path = folder / f"{name}.yaml"
    if not path.is_file():
        raise ValueError(f"there is no recipe {name!r} in {folder}; use the name of one of its files without .yaml")
    return build_train_settings({"data": "", **yaml.safe_load(path.read_text(encoding="utf-8"))})


def build_train_settings(plain: Mapping[str, Any]) -> TrainSettings:
    """The inverse of `settings.settings_to_dict`. ValueError for an unknown name."""
    factories: dict[str, Any] = {field.name: field.default_factory for field in fields(TrainSettings)}
    groups = {name: group for name, group in factories.items() if isinstance(group, type) and is_dataclass(group)}
    values = {
        name: groups[name](**_check_fields(groups[name], value)) if name in groups else value
        for name, value in plain.items()
    }
    return TrainSettings(**_check_fields(TrainSettings, values))


def _check_fields(group: type, values: Mapping[str, Any]) -> dict[str, Any]:
    unknown = values.keys() - {field.name for field in fields(group)}
    if unknown:
        raise ValueError(f"there is no setting {sorted(unknown)[0]} in {group.__name__}")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
