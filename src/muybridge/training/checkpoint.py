"""What a run needs to go on: weights, optimiser state and the step, in a folder that is whole or absent.

checkpoints/step-00001234/ holds network.safetensors, optimizer.pt and state.json. Nothing in it is a pickle that could run:
optimizer.pt is read with weights_only=True. Draws need no state: they are functions of the step (design decision 7).
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

FORMAT = 1


@dataclass(frozen=True)
class Progress:
    """How far a run is: `step` steps are done; what was counted on the way."""

    step: int
    num_drawn: int = 0
    num_failed: int = 0
    best_accuracy: float | None = None


def save_checkpoint(
    folder: Path, network: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress, keep: int
) -> Path:
    """Writes checkpoints/step-N and removes all but the newest `keep`."""
    target = folder / f"step-{progress.step:08d}"
    partial = folder / f".{target.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        save_file(
            {name: tensor.contiguous() for name, tensor in network.state_dict().items()},
            partial / "network.safetensors",
        )
        torch.save(optimizer.state_dict(), partial / "optimizer.pt")
        (partial / "state.json").write_text(
            json.dumps({"format": FORMAT, **progress.__dict__}) + "\n", encoding="utf-8"
        )
        for file in partial.iterdir():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
        if target.exists():
            shutil.rmtree(target)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    for old in checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return target


def checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints of a run, oldest first."""
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


def load_checkpoint(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
    """Puts a checkpoint's weights and optimiser state in place; a damaged one is a ValueError that names it."""
    try:
        state: dict[str, Any] = json.loads((path / "state.json").read_text(encoding="utf-8"))
        weights = load_file(path / "network.safetensors")
        moments = torch.load(path / "optimizer.pt", map_location="cpu", weights_only=True)
    except (OSError, ValueError, SafetensorError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"the checkpoint {path} is damaged ({error}); delete that folder to go on from the one before"
        ) from error
    if state.pop("format") != FORMAT:
        raise ValueError(f"the checkpoint {path} is of another format than {FORMAT}; use the version that wrote it")
    ours = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    theirs = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if ours != theirs:
        raise ValueError(f"the checkpoint {path} is of another network than the settings describe")
    network.load_state_dict(weights)
    optimizer.load_state_dict(moments)
    return Progress(**state)
