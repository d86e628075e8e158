"""Figure 6 (appendix): what the stem of R(2+1)D learns, its spatial filters as pictures and its temporal ones as a matrix.

Claim: the spatial filters are edges and colours as a 2-D network has them, and the temporal filters compare frames rather
than average them. The second can be counted: the share of a temporal filter's energy that is change, which is 2/3 for three
taps drawn at random.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from muybridge.studies.execute import WEIGHTS
from muybridge.studies.intervals import Estimate, estimate
from muybridge.studies.plan import Run
from muybridge.studies.scales import from_scratch, seeds
from muybridge.studies.study import Picture, Results, Setting, Study, Table, Told, cell, compared, concluded
from muybridge.weights.card import load_network

LENGTH = 16
ENLARGED, GAP = 3, 1  # times, and pixels of the filters' own size between them
WHITE = 255
AT_RANDOM = 2 / 3  # of three independent taps' energy lies off their mean
CLAIM = (
    "The stem's temporal filters compare frames: more of their energy is change over time than of random filters. Whether its "
    "spatial filters look like those of a 2-D network is for eyes: see the pictures."
)
Floats = NDArray[np.float32]


def members(setting: Setting) -> list[Run]:
    """Table 2's R(2+1)D, seed by seed."""
    return seeds(setting, from_scratch(setting, "r2plus1d", LENGTH))


def tell(setting: Setting, results: Results) -> Told:
    """Pictures of seed 0, the count for every seed whose weights are there."""
    weights = {run.seed: results.folder / run.name / WEIGHTS for run in members(setting)}
    stems = {seed: stem_filters(path) for seed, path in weights.items() if path.exists()}
    shares = {seed: share_of_change(temporal) for seed, (_, temporal) in stems.items()}
    found = estimate([100 * share for share in shares.values()])
    rows = (("share of change in temporal filters, percent", cell(found), round(100 * AT_RANDOM, 1)),)
    note = "mean over seeds [95 % t-interval]; read from the weights of the runs, so it needs their folders"
    table = Table("Figure 6, temporal filters", ("", "ours", "at random"), rows, note)
    above = None if found is None else shifted(found, -100 * AT_RANDOM)
    verdict = concluded([compared("more change than at random", above)])
    pictures = pictures_of(*stems[min(stems)]) if stems else ()
    return Told(verdict, (table,), (), pictures)


def stem_filters(path: Path) -> tuple[Floats, Floats]:
    """Spatial filters (mid, channels, 7, 7) and temporal ones (out, mid, 3) of a weights file."""
    network, _ = load_network(path)
    state = network.state_dict()
    return state["stem.0.weight"][:, :, 0].numpy(), state["stem.3.weight"][:, :, :, 0, 0].numpy()


def share_of_change(temporal: Floats) -> float:
    """How much of the filters' energy is not their mean over time, 0 to 1."""
    energy = float((temporal**2).sum())
    mean = temporal.mean(axis=2, keepdims=True)
    return 1.0 - float((np.broadcast_to(mean, temporal.shape) ** 2).sum()) / energy


def shifted(found: Estimate, by: float) -> Estimate:
    """An estimate of a difference from a fixed number."""
    low, high = (None if end is None else end + by for end in (found.low, found.high))
    return Estimate(found.mean + by, low, high, found.num)


def pictures_of(spatial: Floats, temporal: Floats) -> tuple[Picture, ...]:
    """Spatial filters in a grid, in colour where they see colours; temporal ones as a matrix of time by channel."""
    tiles = [levels(one.transpose(1, 2, 0)) if one.shape[0] == 3 else levels(one[0]) for one in spatial]
    matrices = [levels(one) for one in temporal]
    num, taps = temporal.shape[1], temporal.shape[2]
    return (
        Picture(
            f"{len(tiles)} spatial filters of the stem",
            tuple(enlarged(grid(tiles)).tolist()),
            f"{len(tiles)} filters of 7x7 pixels as small pictures, each scaled to its own range.",
        ),
        Picture(
            f"{len(matrices)} temporal filters of the stem",
            tuple(enlarged(grid(matrices)).tolist()),
            f"{len(matrices)} filters as matrices of {num} channels by {taps} frames; gray is zero, white positive.",
        ),
    )


def levels(values: Floats) -> NDArray[np.uint8]:
    """Weights as levels: 0 is middle gray, the largest weight of the filter black or white."""
    largest = float(np.abs(values).max()) or 1.0
    return np.round(127.5 + 127.5 * values / largest).astype(np.uint8)


def grid(tiles: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Equal tiles in about a square, with white between them."""
    across = math.ceil(math.sqrt(len(tiles) * tiles[0].shape[0] / tiles[0].shape[1]))
    down = math.ceil(len(tiles) / across)
    height, width = (size + GAP for size in tiles[0].shape[:2])
    canvas = np.full((down * height - GAP, across * width - GAP, *tiles[0].shape[2:]), WHITE, np.uint8)
    for number, tile in enumerate(tiles):
        top, left = height * (number // across), width * (number % across)
        canvas[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return canvas


def enlarged(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Every pixel as a square of pixels."""
    return pixels.repeat(ENLARGED, axis=0).repeat(ENLARGED, axis=1)


STUDY = Study("figure6", "Figure 6: filters of the R(2+1)D stem", CLAIM, members, tell)
