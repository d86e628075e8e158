"""Addresses of weights: a run folder, a .safetensors file, a name of the catalogue, or a repository on the Hugging Face Hub.

Input: an address as on a command line. Output: its file, or its network and card. Weights of the catalogue are downloaded on
first use (`download.py`).
"""

from __future__ import annotations

from pathlib import Path

import torch

from muybridge.distributed.process_group import ProcessGroup
from muybridge.files.run_folder import UNFINISHED_REMARK, read_unfinished
from muybridge.models.network import VideoResNet
from muybridge.records import Checkpoint
from muybridge.text import sanitize_text
from muybridge.weights.card import SUFFIX, Card, load_card, load_network
from muybridge.weights.catalogue import find_entry, suggest_names
from muybridge.weights.download import download_weights
from muybridge.weights.hub import download_from_hub, is_hub_address

CHECKPOINTS: tuple[Checkpoint, ...] = ("best", "last")  # of a run folder, in order of preference
RUN_FILES = tuple(f"{name}{SUFFIX}" for name in CHECKPOINTS)


def resolve_weights_file(address: str | Path) -> Path:
    """The weights file of `address`: the file itself, the best else the last of a run folder, or that of the catalogue."""
    if is_hub_address(address):
        return download_from_hub(str(address))
    if not str(address):
        raise ValueError("the name of the weights is empty; give a run folder, a .safetensors file or a catalogue name")
    path = Path(address)
    if path.is_dir():
        candidates = [path / name for name in RUN_FILES if (path / name).is_file()]
        if not candidates:
            raise ValueError(f"the folder {path} holds neither {' nor '.join(RUN_FILES)}; give a run folder")
        return candidates[0]
    if not path.exists():
        entry = find_entry(str(address))
        if entry is None:
            suggestions = suggest_names(str(address))
            hint = (
                f"did you mean {' or '.join(suggestions)}?"
                if suggestions
                else "`muybridge weights show` lists public weights"
            )
            raise ValueError(
                f"there is no {path}; give a run folder, a {SUFFIX} file or a name of the catalogue; {hint}"
            )
        return download_weights(entry)
    if path.suffix == ".pt2":
        raise ValueError(
            f"{path} is an exported program, which has no card; name the run or the {SUFFIX} file it was exported from"
        )
    if path.suffix != SUFFIX:
        raise ValueError(
            f"{path} is neither a run folder nor a {SUFFIX} file; "
            f"for other weights run `muybridge weights import {path} -o {path.stem}{SUFFIX}` first"
        )
    return path


def select_checkpoint(address: str | Path, checkpoint: Checkpoint | None) -> str:
    """The weights of a run folder that `checkpoint` names; without one the address as it is.

    Raises ValueError for an address that is no run folder, and where the run has no such weights.
    """
    if checkpoint is None:
        return str(address)
    folder = Path(address)
    if not folder.is_dir():
        raise ValueError(
            f"--checkpoint chooses between the weights of a run folder, and {address} is none; leave it out"
        )
    file = folder / f"{checkpoint}{SUFFIX}"
    if not file.is_file():
        reason = "a run without validation videos has none; use --checkpoint last" if checkpoint == "best" else ""
        raise ValueError(f"{folder} has no {file.name}{': ' * bool(reason)}{reason}")
    return str(file)


def find_run_folder(address: str | Path) -> Path | None:
    """The run folder of weights: the address itself, or that of a file in one; None for other weights."""
    path = Path(address)
    folder = path if path.is_dir() else path.parent
    names_file = path.is_dir() or path.suffix in (SUFFIX, ".onnx")  # not a name of the catalogue
    return folder if names_file and (folder / "settings.yaml").is_file() else None


def describe_unfinished(*addresses: str | Path) -> list[str]:
    """A sentence for each of these weights that is of a run which has not finished."""
    folders = dict.fromkeys(folder for address in addresses if (folder := find_run_folder(address)))
    return [
        f"{UNFINISHED_REMARK}, {sanitize_text(str(folder))}: {unfinished}"
        for folder in folders
        if (unfinished := read_unfinished(folder))
    ]


def find_checkpoint(address: str | Path, tensors_sha256: str) -> Checkpoint | None:
    """Which weights of a run folder these are: its best or last ones, or exported or copied from those. None for others.

    `tensors_sha256` is that of their card.
    """
    run = find_run_folder(address)
    if run is None:
        return None
    path = Path(address)
    file = resolve_weights_file(path) if path.is_dir() else path
    named = next((name for name in CHECKPOINTS if file.name == f"{name}{SUFFIX}"), None)
    return named or match_checkpoint(run, tensors_sha256)


def match_checkpoint(run: Path, tensors_sha256: str) -> Checkpoint | None:
    """Which weights of a run folder have these tensors: its best or last ones. None where neither has, or has a card."""
    return next((name for name in CHECKPOINTS if _has_tensors(run / f"{name}{SUFFIX}", tensors_sha256)), None)


def _has_tensors(file: Path, tensors_sha256: str) -> bool:
    try:
        return load_card(file).tensors_sha256 == tensors_sha256
    except (ValueError, OSError):  # not there, or damaged
        return False


def is_default_checkpoint(address: str | Path, checkpoint: Checkpoint | None) -> bool:
    """Whether `checkpoint` names the weights that a run folder stands for anyway."""
    return checkpoint is None or resolve_weights_file(address).name == f"{checkpoint}{SUFFIX}"


def load_weights(address: str | Path, device: torch.device | str = "cpu") -> tuple[VideoResNet, Card]:
    """`load_network` of the file that `address` resolves to: a run folder, a file or a name of the catalogue."""
    return load_network(resolve_weights_file(address), device)


def download_once_per_node(address: str, process_group: ProcessGroup) -> None:
    """Download weights of the catalogue on rank 0, then on the first rank of every other node.

    Nodes that share a cache with rank 0 find the file there, and so does every other rank.
    """
    for has_turn in (process_group.is_rank0, process_group.rank.local_rank == 0):
        if has_turn:
            resolve_weights_file(address)
        process_group.all_gather_object(None)
