"""The stem of R(2+1)D for Figure 6: its filters read from weights, a count of how they change over time, and images."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from muybridge.studies.execute import WEIGHTS
from muybridge.studies.intervals import Estimate, estimate_mean
from muybridge.studies.study import GridResults, StudyImage
from muybridge.weights.card import load_network

SCALE_FACTOR, GAP = 3, 1  # enlargement, and pixels between filters before it
WHITE = 255
RANDOM_CHANGE_SHARE = 2 / 3  # expected of three independent taps
Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]


def estimate_change_share(results: GridResults) -> Estimate | None:
    """The share of change in the temporal filters, in percent, over the seeds whose weights are there."""
    return estimate_mean([100 * compute_change_share(_read_stem(path)[1]) for path in _find_weights(results)])


def render_filter_images(results: GridResults) -> tuple[StudyImage, ...]:
    """Images of the first seed whose weights are there; none without weights."""
    paths = _find_weights(results)
    return render_images(*_read_stem(paths[0])) if paths else ()


def _read_stem(path: Path) -> tuple[Floats, Floats]:
    """Spatial filters (mid, channels, 7, 7) and temporal filters (out, mid, 3) of a weights file."""
    network, _ = load_network(path)
    state = network.state_dict()
    return state["stem.0.weight"][:, :, 0].numpy(), state["stem.3.weight"][:, :, :, 0, 0].numpy()


def compute_change_share(temporal: Floats) -> float:
    """The share of the filters' energy that is not their mean over time, 0 to 1."""
    energy = float((temporal**2).sum())
    mean = temporal.mean(axis=2, keepdims=True)
    return 1.0 - float((np.broadcast_to(mean, temporal.shape) ** 2).sum()) / energy


def render_images(spatial: Floats, temporal: Floats) -> tuple[StudyImage, ...]:
    """Spatial filters as a grid, in colour for three channels; temporal filters as matrices of channel by time."""
    tiles = [_to_levels(taps.transpose(1, 2, 0) if taps.shape[0] == 3 else taps[0]) for taps in spatial]
    matrices = [_to_levels(taps) for taps in temporal]
    num_channels, num_taps = temporal.shape[1:]
    return (
        StudyImage(
            f"{len(tiles)} spatial filters of the stem",
            tuple(_draw_grid(tiles).tolist()),
            f"{len(tiles)} filters of 7x7 pixels as small pictures, each scaled to its own range.",
        ),
        StudyImage(
            f"{len(matrices)} temporal filters of the stem",
            tuple(_draw_grid(matrices).tolist()),
            f"{len(matrices)} filters as matrices of {num_channels} channels by {num_taps} frames; "
            "gray is zero, white positive.",
        ),
    )


def _to_levels(values: Floats) -> Pixels:
    """Weights as gray levels: 0 is middle gray, the largest weight of the filter black or white."""
    largest = float(np.abs(values).max()) or 1.0
    return np.round(127.5 + 127.5 * values / largest).astype(np.uint8)


def _draw_grid(tiles: list[Pixels]) -> Pixels:
    """Equal tiles in about a square with white between them, enlarged."""
    num_columns = math.ceil(math.sqrt(len(tiles) * tiles[0].shape[0] / tiles[0].shape[1]))
    num_rows = math.ceil(len(tiles) / num_columns)
    height, width = (size + GAP for size in tiles[0].shape[:2])
    canvas = np.full((num_rows * height - GAP, num_columns * width - GAP, *tiles[0].shape[2:]), WHITE, np.uint8)
    for index, tile in enumerate(tiles):
        top, left = height * (index // num_columns), width * (index % num_columns)
        canvas[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return canvas.repeat(SCALE_FACTOR, axis=0).repeat(SCALE_FACTOR, axis=1)


def _find_weights(results: GridResults) -> list[Path]:
    """Weights files of the figure's runs, by seed."""
    (group,) = results.grid.values()
    paths = [results.run_folder / run.name / WEIGHTS for run in group.members]
    return [path for path in paths if path.exists()]
