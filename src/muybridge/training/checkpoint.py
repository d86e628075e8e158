"""Checkpoints: weights, optimizer state and `TrainState`, in a folder that is written atomically.

checkpoints/step-00001234/ contains network.safetensors, optimizer.pt and state.json, which has the SHA-256 of the others and
of itself; in a run with training.ema_decay also average.safetensors, and then it is of format 2. No pickle is executed:
optimizer.pt is read with weights_only=True. Random draws need no state, since they are functions of the step. A damaged
checkpoint is renamed, and the one before it is used. Until the first is complete there is a file checkpoints/none-yet, which
tells such a run from one whose checkpoints were deleted.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from muybridge.parsing import read_json_object

FORMAT_VERSION, AVERAGE_FORMAT_VERSION = 1, 2
WEIGHTS_FILE, OPTIMIZER_FILE, STATE_FILE = "network.safetensors", "optimizer.pt", "state.json"
AVERAGE_FILE = "average.safetensors"
NONE_YET_FILE = "none-yet"
_CHECKPOINT_NAME = re.compile(r"step-([0-9]{8,})")


@dataclass(frozen=True)
class TrainState:
    """How far a run is: `step` steps are done. Clips are counted over all ranks."""

    step: int
    num_drawn: int = 0
    num_failed: int = 0
    num_looped: int = 0  # clips of videos shorter than a clip
    num_skipped_steps: int = 0  # because of a non-finite loss or gradient
    best_accuracy: float | None = None  # video@1 on validation
    best_step: int | None = None  # the step after which it was measured
    validated_step: int = 0  # the step after which the validation videos were last scored


@dataclass(frozen=True)
class Snapshot:
    """The state of a run at one step, in CPU memory of its own."""

    weights: Mapping[str, Tensor]
    optimizer_state: Mapping[str, Any]
    train_state: TrainState
    average: Mapping[str, Tensor] = field(default_factory=dict)
    """The averaged weights of a run with training.ema_decay, else empty."""


class DamagedCheckpointError(ValueError):
    """A checkpoint that cannot be read, or that differs from what was written."""


def take_snapshot(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    train_state: TrainState,
    average: Mapping[str, Tensor] | None = None,
) -> Snapshot:
    """Copies weights, optimizer state and averaged weights to CPU memory."""
    weights = {name: _copy_to_cpu(tensor) for name, tensor in network.state_dict().items()}
    return Snapshot(weights, _copy_to_cpu(optimizer.state_dict()), train_state, _copy_to_cpu(dict(average or {})))


def _copy_to_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        copy = torch.empty(value.shape, dtype=value.dtype, device="cpu")
        return copy.copy_(value.detach())
    if isinstance(value, dict):
        return {key: _copy_to_cpu(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_copy_to_cpu(inner) for inner in value]
    return value


def save_checkpoint(
    folder: Path, network: nn.Module, optimizer: torch.optim.Optimizer, train_state: TrainState, keep: int
) -> Path:
    """`write_checkpoint` of the current state."""
    return write_checkpoint(folder, take_snapshot(network, optimizer, train_state), keep=keep)


def write_checkpoint(folder: Path, snapshot: Snapshot, *, keep: int, keep_best: bool = False) -> Path:
    """Writes checkpoints/step-N atomically, then removes all but the newest `keep` and, with `keep_best`, the best one.

    Raises OSError where the disk is full; earlier checkpoints are unchanged then.
    """
    train_state = snapshot.train_state
    target = folder / _format_checkpoint_name(train_state.step)
    partial, replaced = folder / f".{target.name}.partial", folder / f".{target.name}.replaced"
    files = _serialize(snapshot)
    for leftover in (partial, replaced):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        for name, content in files.items():
            with (partial / name).open("wb") as file:
                file.write(content)
                os.fsync(file.fileno())
        _sync_folder(partial)
        if target.exists():  # the same step was saved before its validation
            target.rename(replaced)
        partial.rename(target)
        _sync_folder(folder)
        (folder / NONE_YET_FILE).unlink(missing_ok=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(replaced, ignore_errors=True)
    best = _format_checkpoint_name(train_state.best_step) if keep_best and train_state.best_step is not None else ""
    for old in list_checkpoints(folder)[:-keep]:
        if old.name != best:
            _remove_checkpoint(old)
    return target


def _serialize(snapshot: Snapshot) -> dict[str, bytes | memoryview]:
    """The files of a checkpoint, by name. In memory, since torch and safetensors do not raise OSError for a full disk."""
    optimizer_buffer = io.BytesIO()
    torch.save(snapshot.optimizer_state, optimizer_buffer)
    files: dict[str, bytes | memoryview] = {
        WEIGHTS_FILE: safetensors.torch.save(dict(snapshot.weights)),
        OPTIMIZER_FILE: optimizer_buffer.getbuffer(),
    }
    if snapshot.average:
        files[AVERAGE_FILE] = safetensors.torch.save(dict(snapshot.average))
    checksums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    format_version = AVERAGE_FORMAT_VERSION if snapshot.average else FORMAT_VERSION
    state = {"format": format_version, "progress": asdict(snapshot.train_state), "sha256": checksums}
    return {**files, STATE_FILE: json.dumps({**state, "state_sha256": _hash_state(state)}, indent=1).encode() + b"\n"}


def _hash_state(state: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _format_checkpoint_name(step: int) -> str:
    """The folder name of the checkpoint after `step` steps."""
    return f"step-{step:08d}"


def _sync_folder(folder: Path) -> None:
    """Syncs the entries of a folder, so that renames survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_checkpoint(path: Path) -> None:
    """Removes a checkpoint. It is renamed first, so that a killed process leaves nothing that looks like one."""
    doomed = path.with_name(f".{path.name}.removed")
    shutil.rmtree(doomed, ignore_errors=True)
    path.rename(doomed)
    shutil.rmtree(doomed)


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run, by step. One that was being replaced when the process died is restored.

    Folders of other names, such as a copy `step-00001234-keep`, are not the run's.
    """
    for aside in folder.glob(".step-*.replaced"):
        original = aside.with_name(aside.name.removeprefix(".").removesuffix(".replaced"))
        if _parse_step(original) is not None and not original.exists():
            aside.rename(original)
    steps = {path: step for path in folder.glob("step-*") if (step := _parse_step(path)) is not None and path.is_dir()}
    return sorted(steps, key=steps.__getitem__)


def mark_none_yet(folder: Path) -> None:
    """Says, until the first checkpoint is complete, that a run has begun which has none yet."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NONE_YET_FILE).touch()


def has_none_yet(folder: Path) -> bool:
    """Whether a run has begun that has not completed a checkpoint; its checkpoints were not deleted."""
    return (folder / NONE_YET_FILE).exists()


def find_last_step(folder: Path) -> int:
    """The step of the newest checkpoint; 0 without any."""
    paths = list_checkpoints(folder)
    return (_parse_step(paths[-1]) or 0) if paths else 0


def _parse_step(path: Path) -> int | None:
    """The step of a checkpoint by its name; None for any other name."""
    match = _CHECKPOINT_NAME.fullmatch(path.name)
    return int(match[1]) if match else None


def read_newest_snapshot(folder: Path) -> tuple[Snapshot | None, list[str]]:
    """The newest intact checkpoint and a sentence for every newer one that is damaged; None where there is no checkpoint.

    Damaged ones are renamed to `.step-N.damaged` and ignored from then on. Raises ValueError where all are damaged, which then
    keep their names, and for one of another format; OSError where one cannot be read.
    """
    damaged: dict[Path, str] = {}
    for path in reversed(list_checkpoints(folder)):
        try:
            snapshot = read_checkpoint(path)
        except DamagedCheckpointError as error:
            damaged[path] = str(error)
        else:
            return snapshot, [_set_aside(path, problem) for path, problem in damaged.items()]
    if damaged:
        raise ValueError(
            f"{next(iter(damaged.values()))}, and the run has no other that is intact, so it cannot be resumed; restore one "
            f"from a copy, or start a new run from its weights with --init {folder.parent} and another -o"
        )
    return None, []


def _set_aside(path: Path, problem: str) -> str:
    """Renames a damaged checkpoint. Returns the problem with what became of it."""
    aside = path.with_name(f".{path.name}.damaged")
    shutil.rmtree(aside, ignore_errors=True)
    path.rename(aside)
    return f"{problem}; it is renamed to {aside.name}, and the one before is used"


def read_checkpoint(path: Path) -> Snapshot:
    """Reads a checkpoint.

    Raises `DamagedCheckpointError` where a file is missing or any byte differs, ValueError for another format, OSError where
    the system cannot read a file, which may be intact.
    """
    try:
        state: dict[str, Any] = read_json_object(path / STATE_FILE)
        format_version = state.get("format") if isinstance(state, dict) else None
        if isinstance(format_version, int) and format_version not in (FORMAT_VERSION, AVERAGE_FORMAT_VERSION):
            raise CheckpointFormatError(
                f"the checkpoint {path} is of format {format_version}; use the version of muybridge that wrote it"
            )
        _check_intact(state.pop("state_sha256") == _hash_state(state), STATE_FILE)
        names = (WEIGHTS_FILE, OPTIMIZER_FILE, *([AVERAGE_FILE] if format_version == AVERAGE_FORMAT_VERSION else []))
        files = {name: (path / name).read_bytes() for name in names}
        for name, content in files.items():
            _check_intact(hashlib.sha256(content).hexdigest() == state["sha256"][name], name)
        weights = safetensors.torch.load(files[WEIGHTS_FILE])
        average = safetensors.torch.load(files[AVERAGE_FILE]) if AVERAGE_FILE in files else {}
        optimizer_state = torch.load(io.BytesIO(files[OPTIMIZER_FILE]), map_location="cpu", weights_only=True)
    except CheckpointFormatError:
        raise
    except (
        *(FileNotFoundError, ValueError, KeyError, AttributeError, SafetensorError, EOFError),
        pickle.UnpicklingError,
    ) as error:
        cause = str(error).partition("\n")[0]
        raise DamagedCheckpointError(f"the checkpoint {path} is damaged ({cause})") from error
    if set(state["progress"]) != {field.name for field in fields(TrainState)}:
        raise ValueError(f"the checkpoint {path} is of another version of muybridge; use the version that wrote it")
    return Snapshot(weights, optimizer_state, TrainState(**state["progress"]), average)


class CheckpointFormatError(ValueError):
    """A checkpoint of a format that this version does not read."""


def _check_intact(is_intact: bool, file_name: str) -> None:
    if not is_intact:
        raise DamagedCheckpointError(f"{file_name} differs from what was written")


def restore(snapshot: Snapshot, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Loads weights and optimizer state of a snapshot. Raises ValueError where they are of another network."""
    expected_shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    snapshot_shapes = {name: tuple(tensor.shape) for name, tensor in snapshot.weights.items()}
    if expected_shapes != snapshot_shapes:
        raise ValueError(
            f"the checkpoint after step {snapshot.train_state.step} is of another network than the settings describe"
        )
    network.load_state_dict(dict(snapshot.weights))
    optimizer.load_state_dict(dict(snapshot.optimizer_state))


def load_checkpoint(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer) -> TrainState:
    """`read_checkpoint` and `restore`. Raises ValueError where it is damaged or of another network."""
    snapshot = read_checkpoint(path)
    restore(snapshot, network, optimizer)
    return snapshot.train_state
