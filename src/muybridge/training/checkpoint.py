"""What a run needs to go on: weights, optimiser state and the step, in a folder that is whole or absent.

checkpoints/step-00001234/ holds network.safetensors, optimizer.pt and state.json with the sha256 of both and of itself.
Nothing in it is a pickle that could run: optimizer.pt is read with weights_only=True. Draws need no state: they are functions
of the step (design decision 7). A damaged checkpoint is set aside under another name, and the one before is used.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

FORMAT = 1
WEIGHTS, MOMENTS, STATE = "network.safetensors", "optimizer.pt", "state.json"


@dataclass(frozen=True)
class Progress:
    """How far a run is: `step` steps are done; what was counted on the way, in clips of all ranks."""

    step: int
    num_drawn: int = 0
    num_failed: int = 0
    num_looped: int = 0  # of videos shorter than a clip
    num_skipped_steps: int = 0  # whose gradients were not finite
    best_accuracy: float | None = None  # video@1 on validation
    best_step: int | None = None  # after which it was measured
    validated_step: int = 0  # the last step after which the validation videos were scored


@dataclass(frozen=True)
class Snapshot:
    """A run at one step, in memory that training does not touch any more."""

    weights: Mapping[str, Tensor]
    moments: Mapping[str, Any]
    progress: Progress


class DamagedCheckpoint(ValueError):
    """A checkpoint that cannot be read, or not as it was written."""


def snapshot(network: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress) -> Snapshot:
    """Copies weights and optimiser state to the memory of the processor."""
    weights = {name: _copied(tensor) for name, tensor in network.state_dict().items()}
    return Snapshot(weights, _copied(optimizer.state_dict()), progress)


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        copy = torch.empty(value.shape, dtype=value.dtype, device="cpu")
        return copy.copy_(value.detach())
    if isinstance(value, dict):
        return {key: _copied(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_copied(inner) for inner in value]
    return value


def save_checkpoint(
    folder: Path, network: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress, keep: int
) -> Path:
    """Writes checkpoints/step-N and removes older ones; see `write_checkpoint`."""
    return write_checkpoint(folder, snapshot(network, optimizer, progress), keep=keep)


def write_checkpoint(folder: Path, taken: Snapshot, *, keep: int, keep_best: bool = False) -> Path:
    """Writes checkpoints/step-N, then removes all but the newest `keep` and, if asked for, the one of the best validation.

    A full disk is an OSError and changes nothing.
    """
    progress = taken.progress
    target = folder / step_name(progress.step)
    partial, replaced = folder / f".{target.name}.partial", folder / f".{target.name}.replaced"
    files = encoded(taken)
    for leftover in (partial, replaced):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        for name, content in files.items():
            with (partial / name).open("wb") as file:
                file.write(content)
                os.fsync(file.fileno())
        sync_folder(partial)
        if target.exists():  # the same step once more, now with its validation
            target.rename(replaced)
        partial.rename(target)
        sync_folder(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(replaced, ignore_errors=True)
    best = step_name(progress.best_step) if keep_best and progress.best_step is not None else ""
    for old in checkpoints(folder)[:-keep]:
        if old.name != best:
            remove(old)
    return target


def encoded(taken: Snapshot) -> dict[str, bytes | memoryview]:
    """The files of a checkpoint. In memory: torch and safetensors have errors of their own for a full disk."""
    moments = io.BytesIO()
    torch.save(taken.moments, moments)
    files: dict[str, bytes | memoryview] = {
        WEIGHTS: safetensors.torch.save(dict(taken.weights)),
        MOMENTS: moments.getbuffer(),
    }
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    state = {"format": FORMAT, "progress": asdict(taken.progress), "sha256": sums}
    return {**files, STATE: json.dumps({**state, "state_sha256": _state_sha256(state)}, indent=1).encode() + b"\n"}


def _state_sha256(state: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def step_name(step: int) -> str:
    """The folder of the checkpoint after `step` steps."""
    return f"step-{step:08d}"


def sync_folder(folder: Path) -> None:
    """Makes names in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(checkpoint: Path) -> None:
    """Removes a checkpoint; killed on the way, what is left of it does not pass for one."""
    doomed = checkpoint.with_name(f".{checkpoint.name}.removed")
    shutil.rmtree(doomed, ignore_errors=True)
    checkpoint.rename(doomed)
    shutil.rmtree(doomed)


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run, oldest first by step; one that was being replaced when the run died counts again."""
    for aside in folder.glob(".step-*.replaced"):
        original = aside.with_name(aside.name.removeprefix(".").removesuffix(".replaced"))
        if not original.exists():
            aside.rename(original)
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


def steps_done(folder: Path) -> int:
    """How many steps the newest checkpoint is of; 0 without any."""
    found = checkpoints(folder)
    return int(found[-1].name.removeprefix("step-")) if found else 0


def newest_snapshot(folder: Path) -> tuple[Snapshot | None, list[str]]:
    """The newest checkpoint that is whole, if any, and a sentence for every newer one that is not.

    Those are set aside as `.step-N.damaged`, where they neither count nor are used again. A checkpoint of another format is
    a ValueError.
    """
    sentences: list[str] = []
    for path in reversed(checkpoints(folder)):
        try:
            return read_checkpoint(path), sentences
        except DamagedCheckpoint as error:
            aside = path.with_name(f".{path.name}.damaged")
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
            sentences.append(f"{error}; it is set aside as {aside.name}, and the one before is used")
    return None, sentences


def read_checkpoint(path: Path) -> Snapshot:
    """What `write_checkpoint` wrote. DamagedCheckpoint where a byte of it is another one; ValueError for another format."""
    try:
        state: dict[str, Any] = json.loads((path / STATE).read_text(encoding="utf-8"))
        found = state.get("format") if isinstance(state, dict) else None
        if isinstance(found, int) and found != FORMAT:
            raise ForeignCheckpoint(f"the checkpoint {path} is of format {found}; use the version that wrote it")
        _require(state.pop("state_sha256") == _state_sha256(state), STATE)
        files = {name: (path / name).read_bytes() for name in (WEIGHTS, MOMENTS)}
        for name, content in files.items():
            _require(hashlib.sha256(content).hexdigest() == state["sha256"][name], name)
        weights = safetensors.torch.load(files[WEIGHTS])
        moments = torch.load(io.BytesIO(files[MOMENTS]), map_location="cpu", weights_only=True)
    except ForeignCheckpoint:
        raise
    except (
        *(OSError, ValueError, KeyError, AttributeError, SafetensorError, RuntimeError, EOFError),
        pickle.UnpicklingError,
    ) as error:
        cause = str(error).partition("\n")[0]
        raise DamagedCheckpoint(f"the checkpoint {path} is damaged ({cause})") from error
    if set(state["progress"]) != {field.name for field in fields(Progress)}:
        raise ValueError(f"the checkpoint {path} is of another version of muybridge; use the one that wrote it")
    return Snapshot(weights, moments, Progress(**state["progress"]))


class ForeignCheckpoint(ValueError):
    """A checkpoint of a format that this version does not read."""


def _require(matches: bool, name: str) -> None:
    if not matches:
        raise DamagedCheckpoint(f"{name} is not what was written")


def put_in_place(taken: Snapshot, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Weights and optimiser state of a snapshot into the run's; ValueError where they are of another network."""
    ours = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    theirs = {name: tuple(tensor.shape) for name, tensor in taken.weights.items()}
    if ours != theirs:
        raise ValueError(
            f"the checkpoint after step {taken.progress.step} is of another network than the settings describe"
        )
    network.load_state_dict(dict(taken.weights))
    optimizer.load_state_dict(dict(taken.moments))


def load_checkpoint(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
    """Puts a checkpoint's weights and optimiser state in place; a damaged or foreign one is a ValueError that names it."""
    taken = read_checkpoint(path)
    put_in_place(taken, network, optimizer)
    return taken.progress
