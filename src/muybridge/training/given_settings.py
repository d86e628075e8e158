"""Settings of which some are given and the others open, nested as in YAML. No torch.

Input: what a command line and its `--config` files name, or the settings.yaml of a run. `resolve.py` fills in the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from muybridge.bounds import find_nested_problems, show_value
from muybridge.datasets.columns import AS_VERSION_0_1
from muybridge.files.run_folder import read_settings
from muybridge.settings import TrainSettings, settings_to_dict


@dataclass(frozen=True)
class GivenSettings:
    """The settings that a command line and its `--config` files name, nested as in YAML. All others are open."""

    values: Mapping[str, Any]

    def __post_init__(self) -> None:
        problems = list(find_nested_problems(self.values, TrainSettings))
        if problems:
            raise ValueError("; ".join(problems))

    def find(self, name: str) -> Any:
        """The value of a setting such as `training.epochs`, None if it is open."""
        group, _, setting = name.rpartition(".")
        values = self.values.get(group) or {} if group else self.values
        return values.get(setting)


def merge_settings(*sources: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings in one; later sources replace earlier ones, setting by setting."""
    merged: dict[str, Any] = {}
    for source in sources:
        for name, value in source.items():
            both_groups = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
            merged[name] = {**merged[name], **value} if both_groups else value
    return merged


def build_settings(values: Mapping[str, Any]) -> TrainSettings:
    """The settings of nested values. Those that are open have their defaults. ValueError for what the settings refuse."""
    if problems := list(_find_unknown_names(values, TrainSettings)):
        raise ValueError(f"the settings cannot be used: {'; '.join(problems)}")
    factories: dict[str, Any] = {field.name: field.default_factory for field in fields(TrainSettings)}
    groups = {name: group for name, group in factories.items() if isinstance(group, type) and is_dataclass(group)}
    built: dict[str, Any] = {
        name: groups[name](**_convert_lists(value)) if name in groups else _convert_lists(value)
        for name, value in values.items()
    }
    return TrainSettings(**built)


def _find_unknown_names(values: Mapping[str, Any], settings: type, group: str = "") -> Iterator[str]:
    """Names that are no setting, and groups that are a single value."""
    hints = get_type_hints(settings)
    for name, value in values.items():
        hint = hints.get(name)
        if hint is None:
            yield f"{group}{name} is not known"
        elif isinstance(hint, type) and is_dataclass(hint):
            if isinstance(value, Mapping):
                yield from _find_unknown_names(value, hint, f"{name}.")
            else:
                yield f"{name} is {show_value(value)}, expected an object with named values"


def _convert_lists(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _convert_lists(inner) for name, inner in value.items()}
    return tuple(_convert_lists(inner) for inner in value) if isinstance(value, list | tuple) else value


def read_saved_settings(path: Path) -> dict[str, Any]:
    """The settings.yaml of a run. Settings that did not exist when it began have the meaning that they had then.

    That is the default, fp32 without TF32, and columns as version 0.1 read them.
    """
    then = {
        "columns": AS_VERSION_0_1,
        "time_origin": "picture",
        "background": False,
        "training": {"precision": "fp32", "tf32": False},
    }
    defaults = settings_to_dict(TrainSettings())
    return merge_settings(defaults, then, read_settings(path))


def diff_settings(left: dict[str, Any], right: dict[str, Any], prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """The settings in which two nested dicts differ: `group.name` -> (left, right)."""
    changed: dict[str, tuple[Any, Any]] = {}
    for name in sorted(left.keys() | right.keys()):
        left_value, right_value = left.get(name), right.get(name)
        if isinstance(left_value, dict) and isinstance(right_value, dict):
            changed |= diff_settings(left_value, right_value, f"{prefix}{name}.")
        elif left_value != right_value:
            changed[f"{prefix}{name}"] = (left_value, right_value)
    return changed
