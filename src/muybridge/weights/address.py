"""What a person may call weights: a run folder, a .safetensors file, or a name of the catalogue.

Enters: an address as given on a command line. Leaves: the file it means, or the network and its card. Names of the
catalogue are fetched on first use (`download.py`).
"""

from __future__ import annotations

from pathlib import Path

import torch

from muybridge.distributed.process_group import Ranks
from muybridge.models.network import VideoResNet
from muybridge.weights.card import SUFFIX, Card, load_network
from muybridge.weights.catalogue import find, nearest
from muybridge.weights.download import fetched

RUN_FILES = ("best.safetensors", "last.safetensors")  # what a run folder is known by, the first one present


def weights_file(address: str | Path) -> Path:
    """The weights that `address` means: a file itself, of a run folder the best, else the last, or the catalogue's."""
    path = Path(address)
    if path.is_dir():
        found = [path / name for name in RUN_FILES if (path / name).is_file()]
        if not found:
            raise ValueError(f"the folder {path} holds neither {' nor '.join(RUN_FILES)}; give the folder of a run")
        return found[0]
    if not path.exists():
        entry = find(str(address))
        if entry is None:
            near = nearest(str(address))
            hint = f"did you mean {' or '.join(near)}?" if near else "`muybridge weights show` lists public weights"
            raise ValueError(
                f"there is no {path}; give a run folder, a {SUFFIX} file or a name of the catalogue; {hint}"
            )
        return fetched(entry)
    if path.suffix != SUFFIX:
        raise ValueError(
            f"{path} is neither a run folder nor a {SUFFIX} file; "
            f"for weights of others run `muybridge weights import {path} -o {path.stem}{SUFFIX}` first"
        )
    return path


def load_weights(address: str | Path, device: torch.device | str = "cpu") -> tuple[VideoResNet, Card]:
    """`load_network` of the file that `address`, a run folder, a file or a name of the catalogue, means."""
    return load_network(weights_file(address), device)


def fetch_in_turn(address: str, ranks: Ranks) -> None:
    """Weights with a name of the catalogue are fetched by rank 0, then by the first rank of every other machine.

    Those find it where machines share a cache; all other ranks find it in any case.
    """
    for has_turn in (ranks.is_first, ranks.place.local_rank == 0):
        if has_turn:
            weights_file(address)
        ranks.everyones(None)
