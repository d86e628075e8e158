"""The settings of a run from their sources: command line, `--config`, `--recipe`, the card of `--init`, defaults.

Input: the given settings, nested as in YAML, and the run folder. Output: `TrainSettings` with every value set, and sentences on
where values come from. Earlier sources take precedence. A run that is resumed has its saved settings for recipe and card.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muybridge.files.run_folder import find_address
from muybridge.prepared.dataset import is_prepared
from muybridge.records import STATISTICS
from muybridge.settings import (
    PREPROCESSING_NAMES,
    RecipeName,
    TimeoutSettings,
    TrainSettings,
    settings_to_dict,
)
from muybridge.training.checkpoint import list_checkpoints
from muybridge.training.given_settings import (
    GivenSettings,
    build_settings,
    diff_settings,
    merge_settings,
    read_saved_settings,
)
from muybridge.training.open_run import READING_SETTINGS
from muybridge.training.recipes import build_train_settings, read_training_recipe
from muybridge.weights.address import resolve_weights_file
from muybridge.weights.card import Card, load_card

NETWORK_FIELDS = ("width", "mid_channel_rule", "norm_epsilon", "stem_pool", "middle_relu")
SCHEDULE = ("warmup_epochs", "decay_epochs")


@dataclass(frozen=True)
class ResolvedSettings:
    """Settings without an open value, and sentences on where they come from."""

    settings: TrainSettings
    notes: tuple[str, ...] = ()


def resolve_settings(given: GivenSettings, *, resume: bool) -> ResolvedSettings:
    """The settings of a new run, or of the run in `output` where `resume` is on and it has begun.

    May download weights of the catalogue. Raises ValueError where settings are missing or do not fit each other.
    """
    saved = _read_saved_settings(given) if resume else None
    if saved is not None:
        return _resolve_resumed_run(given, saved)
    if not given.find("data"):
        hint = f"; {given.find('output') or TrainSettings.output} contains no run to resume" if resume else ""
        raise ValueError(f"--data must be given{hint}; muybridge train --help lists the options")
    init = given.find("init")
    recipe_name: RecipeName | None = given.values.get("recipe", "own_videos" if init else "paper")
    recipe = _scale_schedule(read_training_recipe(recipe_name), given) if recipe_name else {"training": {}}
    card = load_card(resolve_weights_file(init)) if init else None
    card_values = _make_card_settings(card, given.find("modality")) if card else {}
    settings = build_settings(merge_settings(card_values, recipe, given.values, {"recipe": recipe_name}))
    notes = _describe_recipe(recipe_name, recipe, given)
    if card:
        notes += _describe_card_settings(str(init), card_values, settings)
    return ResolvedSettings(settings, tuple(notes))


def find_device_and_timeout(given: GivenSettings, *, resume: bool) -> tuple[str, float]:
    """The device and `timeouts.start_minutes` of a run, needed before the ranks have met. Reads the run folder only."""
    saved = (_read_saved_settings(given) if resume else None) or {}
    values = merge_settings(saved, given.values)
    minutes = (values.get("timeouts") or {}).get("start_minutes", TimeoutSettings.start_minutes)
    return str(values.get("device", TrainSettings.device)), float(minutes)


def _make_card_settings(card: Card, modality: str | None = None) -> dict[str, Any]:
    """Network and preprocessing of a card as plain settings. Those of its modality are left out where another is given."""
    specification, preprocessing = card.specification, card.preprocessing
    names = {field: name for name, field in PREPROCESSING_NAMES.items()}
    clips: dict[str, Any] = {
        names.get(field, field): getattr(preprocessing, field)
        for field in ("clip_length", "frame_stride", "frames_per_second", "crop", "flow_gap", "flow_chain")
    }
    clips["scale"] = [preprocessing.scale_height, preprocessing.scale_width]
    defaults = STATISTICS[preprocessing.modality]
    clips |= {
        name: [] if value == default else list(value)
        for name, value, default in zip(("mean", "std"), (preprocessing.mean, preprocessing.std), defaults, strict=True)
    }
    if modality not in (None, preprocessing.modality):
        for name in ("mean", "std", "flow_gap", "flow_chain"):
            del clips[name]
    return {
        "model": specification.name,
        "modality": preprocessing.modality,
        "network": {name: getattr(specification, name) for name in NETWORK_FIELDS},
        "clips": clips,
    }


def _describe_recipe(name: str | None, recipe: Mapping[str, Any], given: GivenSettings) -> list[str]:
    """A sentence with the settings that come from the recipe, if any does."""
    used = {
        setting: value for setting, value in recipe["training"].items() if given.find(f"training.{setting}") is None
    }
    listed = ", ".join(f"{setting} {_show(value)}" for setting, value in used.items())
    return [f"recipe {name}: {listed}"] if used else []


def _describe_card_settings(init: str, card_values: Mapping[str, Any], settings: TrainSettings) -> list[str]:
    """What is taken from the weights where that is no default, and both values where an option replaces one of theirs."""
    plain = settings_to_dict(settings)
    theirs = merge_settings(plain, card_values)  # not built: other settings need not suit them
    defaults = settings_to_dict(TrainSettings())
    replaced = diff_settings(plain, theirs)
    of_card = {*card_values, *(f"{group}.{name}" for group in ("network", "clips") for name in card_values[group])}
    taken = {
        name: value
        for name, (value, _) in diff_settings(plain, defaults).items()
        if name in of_card and name not in replaced
    }
    lines = []
    if taken:
        lines.append(f"as {init} was trained: {', '.join(f'{name} {_show(value)}' for name, value in taken.items())}")
    if replaced:
        listed = "; ".join(
            f"{name} is {_show(ours)}, theirs is {_show(value)}" for name, (ours, value) in replaced.items()
        )
        lines.append(f"other than {init} was trained: {listed}")
    return lines


def _show(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_show, value))}]"
    return "the file's own" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _scale_schedule(recipe: Mapping[str, Any], given: GivenSettings) -> Mapping[str, Any]:
    """The recipe with warm-up and decay at their shares of the epochs that were given."""
    training, epochs = recipe["training"], given.find("training.epochs")
    if epochs is None:
        return recipe
    factor = epochs / training["epochs"]
    scaled = {name: _multiply(training[name], factor) for name in SCHEDULE if name in training}
    return {**recipe, "training": {**training, **scaled}}


def _multiply(value: Any, factor: float) -> Any:
    return [inner * factor for inner in value] if isinstance(value, list) else value * factor


def _read_saved_settings(given: GivenSettings) -> dict[str, Any] | None:
    """The settings of the run in `output`, None without one. One without a checkpoint counts if nothing else was given."""
    folder = Path(given.find("output") or TrainSettings.output)
    path = folder / "settings.yaml"
    if not path.is_file() or not (list_checkpoints(folder / "checkpoints") or not given.find("data")):
        return None
    saved = read_saved_settings(path)
    # The folder may have been moved, and the data is not looked for in the current folder.
    return {**saved, "output": str(folder), "data": find_address(folder, "data", str(saved["data"]))}


def _resolve_resumed_run(given: GivenSettings, saved: Mapping[str, Any]) -> ResolvedSettings:
    """Saved settings, with what is given; a higher number of epochs adds a phase.

    Of a run that goes on with what was prepared of its data, what says how its list is read is left out.
    """
    data = str(saved.get("data", ""))
    if not given.find("data") and "://" not in data and not Path(data).exists():
        raise ValueError(f"{data}, the data of the run, is not there; if it has moved, add --data with its new place")
    training = dict(given.values.get("training") or {})
    saved_settings = build_train_settings(saved)
    saved = settings_to_dict(saved_settings)
    if is_prepared(str(given.find("data") or "")) and not is_prepared(data):
        saved |= READING_SETTINGS
    phases = _extend_phases(saved_settings, training)
    values = merge_settings(saved, given.values, {"training": merge_settings(saved["training"], training)})
    values["recipe"] = given.find("recipe") or saved["recipe"]
    values["training"]["phases"] = phases
    return ResolvedSettings(build_settings(values))


def _extend_phases(saved: TrainSettings, training: dict[str, Any]) -> list[list[float]]:
    """The phases that are given, else those of the run, with one more where more epochs are given than it has.

    Takes phases, and epochs and rate of a phase, out of `training`. The line that added a phase resumes it too: it names the
    epochs in total that the run has by then. Raises ValueError where what is given cannot all be meant.
    """
    phases = [list(phase) for phase in saved.training.phases]
    given_phases = [list(phase) for phase in training.pop("phases", ())]
    epochs, total = training.get("epochs", saved.training.epochs), saved.training.total_epochs
    names_total = epochs != saved.training.epochs
    if given_phases and given_phases != phases:  # the check of the run folder refuses any but added ones
        if names_total:
            raise ValueError(
                f"training.epochs is {epochs:g} and training.phases is {given_phases}, which both say how the run goes on; "
                "leave one of them out"
            )
        return given_phases
    is_total = names_total and math.isclose(epochs, total)
    if not names_total or (epochs < total and not is_total):
        return phases  # where it is lower, the check of the run folder refuses it
    last_rate = phases[-1][1] if phases else saved.training.learning_rate
    rate = training.pop("learning_rate", last_rate)
    del training["epochs"]
    if not is_total:
        return [*phases, [float(epochs - total), float(rate)]]
    if rate != last_rate:
        raise ValueError(
            f"training.learning_rate is {rate:g}, the last phase of the run has {last_rate:g}; leave it out, or raise "
            "training.epochs to add a phase"
        )
    return phases
