"""From a recipe file, or a plan, to `TrainSettings`: the runs of studies at paper scale are the recipes themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml

from muybridge.settings import TrainSettings

FOLDER = Path(__file__).parents[3] / "recipes"  # of the source tree; an installed package has none


def groups() -> dict[str, type[Any]]:
    """The groups of settings by name: `clips`, `training`, ..."""
    factories: dict[str, Any] = {field.name: field.default_factory for field in fields(TrainSettings)}
    return {name: kind for name, kind in factories.items() if isinstance(kind, type) and is_dataclass(kind)}


def train_settings(plain: Mapping[str, Any]) -> TrainSettings:
    """The settings from their plain form, as `settings.settings_to_dict` writes it; an unknown name is a ValueError."""
    kinds = groups()
    values = {
        name: kinds[name](**_known(kinds[name], value)) if name in kinds else value for name, value in plain.items()
    }
    return TrainSettings(**_known(TrainSettings, values))


def recipe(name: str, folder: Path = FOLDER) -> TrainSettings:
    """The settings of `recipes/<name>.yaml`, data and output left open; ValueError where the file is not there."""
    path = folder / f"{name}.yaml"
    if not path.is_file():
        raise ValueError(
            f"there is no recipe {path}; recipes come with the source of muybridge: run studies at paper scale from there"
        )
    return train_settings({"data": "", **yaml.safe_load(path.read_text(encoding="utf-8"))})


def _known(group: type, values: Mapping[str, Any]) -> dict[str, Any]:
    unknown = values.keys() - {field.name for field in fields(group)}
    if unknown:
        raise ValueError(f"there is no setting {sorted(unknown)[0]} in {group.__name__}")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
