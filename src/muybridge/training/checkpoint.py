"""What a run needs to go on: weights, optimiser state and the step, in a folder that is whole or absent.

checkpoints/step-00001234/ holds network.safetensors, optimizer.pt and state.json. Nothing in it is a pickle that could run:
optimizer.pt is read with weights_only=True. Draws need no state: they are functions of the step (design decision 7).
"""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

FORMAT = 1


@dataclass(frozen=True)
class Progress:
    """How far a run is: `step` steps are done; what was counted on the way, in clips."""

    step: int
    num_drawn: int = 0
    num_failed: int = 0
    num_looped: int = 0  # of videos shorter than a clip
    best_accuracy: float | None = None  # video@1 on validation
    validated_step: int = 0  # the last step after which the validation videos were scored


def save_checkpoint(
    folder: Path, network: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress, keep: int
) -> Path:
    """Writes checkpoints/step-N, then removes all but the newest `keep`. A full disk is an OSError and changes nothing."""
    target = folder / f"step-{progress.step:08d}"
    partial, replaced = folder / f".{target.name}.partial", folder / f".{target.name}.replaced"
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    moments = io.BytesIO()
    torch.save(optimizer.state_dict(), moments)
    files: dict[str, bytes | memoryview] = {
        # Bytes, not files: torch and safetensors have errors of their own for a full disk.
        "network.safetensors": safetensors.torch.save(tensors),
        "optimizer.pt": moments.getbuffer(),
        "state.json": (json.dumps({"format": FORMAT, **progress.__dict__}) + "\n").encode(),
    }
    for leftover in (partial, replaced):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        for name, content in files.items():
            with (partial / name).open("wb") as file:
                file.write(content)
                os.fsync(file.fileno())
        if target.exists():  # the same step once more, now with its validation
            target.rename(replaced)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(replaced, ignore_errors=True)
    for old in checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return target


def checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints of a run, oldest first."""
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


def steps_done(folder: Path) -> int:
    """How many steps the newest checkpoint is of; 0 without any."""
    found = checkpoints(folder)
    return int(found[-1].name.removeprefix("step-")) if found else 0


def load_checkpoint(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
    """Puts a checkpoint's weights and optimiser state in place; a damaged or foreign one is a ValueError that names it."""
    try:
        state: dict[str, Any] = json.loads((path / "state.json").read_text(encoding="utf-8"))
        weights = load_file(path / "network.safetensors")
        moments = torch.load(path / "optimizer.pt", map_location="cpu", weights_only=True)
    except (OSError, ValueError, SafetensorError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"the checkpoint {path} is damaged ({str(error).partition(chr(10))[0]}); "
            "delete that folder to go on from the one before"
        ) from error
    if state.pop("format", None) != FORMAT or set(state) != {field.name for field in fields(Progress)}:
        raise ValueError(f"the checkpoint {path} is of another format than {FORMAT}; use the version that wrote it")
    ours = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    theirs = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if ours != theirs:
        raise ValueError(f"the checkpoint {path} is of another network than the settings describe")
    network.load_state_dict(weights)
    optimizer.load_state_dict(moments)
    return Progress(**state)
