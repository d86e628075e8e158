"""Opening a run folder: a new run, or one that is resumed with settings that agree with its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from muybridge.datasets.folders import resolve_columns
from muybridge.datasets.run_videos import RunVideos, read_run_videos
from muybridge.distributed.process_group import ProcessGroup
from muybridge.files.atomic import remove_partial_files, write_json, write_text
from muybridge.files.lock import LOCK_NAME, find_folder_problem, hold_lock
from muybridge.files.run_folder import collect_environment, find_address, make_addresses
from muybridge.models.family import OPTIONAL_FIELDS, Specification
from muybridge.parsing import parse_record, read_json_object
from muybridge.prepared.dataset import is_prepared
from muybridge.settings import TrainSettings, settings_to_dict
from muybridge.training.checkpoint import has_none_yet, list_checkpoints
from muybridge.training.given_settings import diff_settings, read_saved_settings
from muybridge.weights.address import RUN_FILES

SETTINGS_CHANGEABLE_ON_RESUME = (
    *("data", "output", "device", "loading.", "checkpoints.", "timeouts."),
    *(
        "evaluation.batch_size",
        "evaluation.keep",
        "training.profile_steps",
        "training.non_finite",
        "training.deterministic",
        "training.cuda_graphs",
        "training.phases",
    ),
)
READING_SETTINGS: Mapping[str, Any] = MappingProxyType({"columns": None, "time_origin": "picture", "background": False})
"""Settings of reading folders and lists, with their values for prepared data, to which they do not apply."""


@dataclass(frozen=True)
class OpenedRun:
    """`settings` with training.global_batch resolved. The rest is of a run that is resumed; None for a new one.

    `videos` is None, too, for a run of a version that did not record them.
    """

    settings: TrainSettings
    specification: Specification | None
    notes: tuple[str, ...]
    saved_data: str | None = None
    videos: RunVideos | None = None


def open_run(settings: TrainSettings, *, resume: bool, process_group: ProcessGroup) -> OpenedRun:
    """Reads the run folder on rank 0, for all ranks, and writes nothing.

    Raises ValueError where the folder is not a run's, holds a run and `resume` is off, or holds one of other settings.
    """
    run = _read_run(settings, process_group.world_size, resume=resume) if process_group.is_rank0 else None
    run = process_group.broadcast_from_rank0(run)
    assert run is not None, "rank 0 has read it"
    return run


@contextmanager
def lock_run(folder: str, process_group: ProcessGroup) -> Iterator[None]:
    """Locks a run folder on rank 0, for all ranks. Raises ValueError on all of them where another process writes the run."""
    with ExitStack() as stack:
        problem = stack.enter_context(hold_lock(Path(folder))) if process_group.is_rank0 else ""
        if problem := process_group.broadcast_from_rank0(problem):
            raise ValueError(problem)
        if process_group.is_rank0:
            remove_partial_files(Path(folder))
        yield


def _read_run(settings: TrainSettings, world_size: int, *, resume: bool) -> OpenedRun:
    folder = Path(settings.output)
    # A run that never had a checkpoint starts again with whatever settings.
    has_checkpoint = bool(list_checkpoints(folder / "checkpoints"))
    settings_file, network_file = folder / "settings.yaml", folder / "network.json"
    saved = read_saved_settings(settings_file) if has_checkpoint and settings_file.exists() else None
    settings = _resolve_global_batch(settings, saved, world_size)
    if saved is not None:
        settings = _keep_precision(settings, saved)
    settings = _resolve_time_origin(_resolve_columns(settings, saved), saved)
    _check_run_folder(folder, settings, saved, has_checkpoint=has_checkpoint, resume=resume)
    notes = _describe_changed_settings(settings, saved)
    if saved is None or not network_file.is_file():
        return OpenedRun(settings, None, notes)
    specification = parse_record(
        Specification, read_json_object(network_file), str(network_file), optional=OPTIONAL_FIELDS
    )
    saved_data = find_address(folder, "data", str(saved["data"]))
    return OpenedRun(settings, specification, notes, saved_data, read_run_videos(folder))


def _resolve_global_batch(settings: TrainSettings, saved: Mapping[str, Any] | None, world_size: int) -> TrainSettings:
    """Sets training.global_batch where it is unset: as in the resumed run, else batch_size for each rank.

    So a run that is resumed on another number of ranks keeps its global batches.
    """
    training = settings.training
    if training.global_batch is not None:
        return settings
    saved_global_batch = (saved or {}).get("training", {}).get("global_batch")
    global_batch = saved_global_batch or training.batch_size * world_size
    return replace(settings, training=replace(training, global_batch=global_batch))


def _keep_precision(settings: TrainSettings, saved: Mapping[str, Any]) -> TrainSettings:
    """Sets training.precision and training.tf32 as in the resumed run where they are left to choose."""
    training, before = settings.training, saved["training"]
    precision = before["precision"] if training.precision == "auto" else training.precision
    tf32 = before["tf32"] if training.tf32 is None else training.tf32
    return replace(settings, training=replace(training, precision=precision, tf32=tf32))


def _resolve_columns(settings: TrainSettings, saved: Mapping[str, Any] | None) -> TrainSettings:
    """Sets what `columns` leaves open: as in the resumed run, else as guessed from the list.

    So the columns of a list are read in the same way whatever later versions guess.
    """
    if settings.columns is None and saved is not None and not _has_data_of_other_kind(settings, saved):
        return replace(settings, columns=saved["columns"])
    if is_prepared(settings.data):
        return settings
    return replace(settings, columns=resolve_columns(settings.data, settings.columns))


def _has_data_of_other_kind(settings: TrainSettings, saved: Mapping[str, Any]) -> bool:
    """Whether a resumed run goes on with what was prepared of its data, or the other way round."""
    before = find_address(Path(settings.output), "data", str(saved["data"]))
    return is_prepared(settings.data) != is_prepared(before)


def _resolve_time_origin(settings: TrainSettings, saved: Mapping[str, Any] | None) -> TrainSettings:
    """Sets `time_origin` where it is unset: as in the resumed run, else picture."""
    if settings.time_origin is not None:
        return settings
    return replace(settings, time_origin=saved["time_origin"] if saved else "picture")


def _check_run_folder(
    folder: Path, settings: TrainSettings, saved: dict[str, Any] | None, *, has_checkpoint: bool, resume: bool
) -> None:
    """Raises ValueError for a folder of something else, and for a run that would be overwritten or mixed with another."""
    if problem := find_folder_problem(folder):
        raise ValueError(problem)
    has_files = folder.exists() and any(path.name != LOCK_NAME for path in folder.iterdir())
    if has_files and not (folder / "settings.yaml").exists():
        raise ValueError(f"{folder} contains something other than a run; name another folder with -o")
    if not has_checkpoint:
        _check_without_checkpoint(folder)
        return
    if not resume:
        raise ValueError(
            f"{folder} already contains a run; add --resume to continue it, or name another folder with -o"
        )
    assert saved is not None, "a folder that is not empty has settings"
    differences = diff_settings(settings_to_dict(settings), saved)
    changeable: tuple[str, ...] = SETTINGS_CHANGEABLE_ON_RESUME
    if _has_data_of_other_kind(settings, saved):
        changeable += tuple(READING_SETTINGS)
    changed = {name: pair for name, pair in differences.items() if not name.startswith(changeable)}
    if changed:
        listed = "; ".join(f"{name} is {new}, the run has {old}" for name, (new, old) in changed.items())
        raise ValueError(
            f"{folder} was trained with other settings ({listed}); leave them out, or name another folder with -o"
        )
    phases, saved_phases = settings_to_dict(settings)["training"]["phases"], saved["training"]["phases"]
    if phases[: len(saved_phases)] != saved_phases:
        raise ValueError(f"training.phases is {phases}, the run has {saved_phases}; phases can only be added to it")


def _check_without_checkpoint(folder: Path) -> None:
    """Raises ValueError for a run whose checkpoints were deleted. One that never had any has learned nothing yet."""
    weights = [name for name in RUN_FILES if (folder / name).exists()]
    if weights and not has_none_yet(folder / "checkpoints"):
        raise ValueError(
            f"{folder} has the {' and '.join(weights)} of a run but no checkpoint to resume it from, and a new run would "
            f"replace them; to train on from its weights, add --init {folder} and name another folder with -o"
        )


def _describe_changed_settings(settings: TrainSettings, saved: dict[str, Any] | None) -> tuple[str, ...]:
    """A sentence on the settings that differ from those the resumed run was last started with, if any."""
    changed = diff_settings(settings_to_dict(settings), saved) if saved else {}
    listed = "; ".join(f"{name} is {new}, it was {old}" for name, (new, old) in changed.items())
    return (f"resuming with other settings: {listed}",) if listed else ()


def compare_execution(folder: Path, execution: Mapping[str, Any]) -> list[str]:
    """A sentence where a resumed run was last on another device or other libraries: its bits then differ, its course does not.

    `execution` is what `describe_execution` says now; a run's environment.json has what it said before.
    """
    file = folder / "environment.json"
    if not file.is_file():
        return []
    try:
        saved = read_json_object(file).get("execution")
    except ValueError as error:  # a record, not needed for resuming
        return [f"{error}; it is written again"]
    if not isinstance(saved, dict):  # of an older version
        return []
    changed = [
        f"{name} {value}, before {saved[name]}"
        for name, value in execution.items()
        if name in saved and saved[name] != value
    ]
    if not changed:
        return []
    return [f"resuming on another machine or with other libraries ({'; '.join(changed)}): exact up to rounding only"]


def write_run_description(
    settings: TrainSettings, specification: Specification, process_group: ProcessGroup, execution: Mapping[str, Any]
) -> None:
    """Writes settings.yaml, network.json and environment.json; `execution` as `describe_execution` returns it."""
    folder = Path(settings.output)
    write_text(folder / "settings.yaml", yaml.safe_dump(settings_to_dict(settings), sort_keys=False))
    write_json(folder / "network.json", specification.to_json())
    write_json(
        folder / "environment.json",
        {
            **collect_environment(),
            "addresses": make_addresses(folder, settings),
            "world_size": process_group.world_size,
            "execution": dict(execution),
        },
    )
