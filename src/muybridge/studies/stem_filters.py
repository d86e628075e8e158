"""The stem of R(2+1)D for Figure 6: how much its filters change over time, counted when a run ends, and images of them.

The share is in the row of a run, so the table needs rows alone; the images need the weights, in the run folder.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from muybridge.studies.intervals import Estimate, estimate_percent
from muybridge.studies.plan import WEIGHTS, FusedRun, PlannedRun
from muybridge.studies.study import GridResults, Row, StudyImage
from muybridge.weights.card import load_network

SCALE_FACTOR, GAP = 3, 1  # enlargement, and pixels between filters before it
WHITE = 255
RANDOM_CHANGE_SHARE = 2 / 3  # expected of three independent taps
Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]


def estimate_change_share(results: GridResults) -> Estimate | None:
    """The share of change in the temporal filters, in percent, over the seeds whose row or run folder is there.

    None where a row of an older version has no share and its weights are gone: the mean would be of fewer seeds than it says.
    """
    (group,) = results.grid.values()
    shares = []
    for run in _get_runs(results):
        row = results.rows.get((run.name, group.evaluation.key))
        share = _find_change_share(row or {}, results.run_folder / run.name / WEIGHTS)
        if row is not None and share is None:
            return None
        shares.append(share)
    return estimate_percent([100 * share for share in shares if share is not None])


def _find_change_share(row: Row, weights: Path) -> float | None:
    """That of a run's row; where an older row has none, that of the weights if they are there."""
    stored: float | None = (row.get("training") or {}).get("stem_change_share")
    return measure_stem(load_network(weights)[0]) if stored is None and weights.exists() else stored


def measure_stem(network: nn.Module) -> float | None:
    """The share of change in the temporal filters of a network, 0 to 1; None where its stem is not factorized."""
    stem = _get_filters(network)
    return None if stem is None else compute_change_share(stem[1])


def render_filter_images(results: GridResults) -> tuple[StudyImage, ...]:
    """Images of the first seed whose weights are there; none without weights."""
    paths = [results.run_folder / run.name / WEIGHTS for run in _get_runs(results)]
    stem = next((_get_filters(load_network(path)[0]) for path in paths if path.exists()), None)
    return () if stem is None else render_images(*stem)


def _get_filters(network: nn.Module) -> tuple[Floats, Floats] | None:
    """Spatial filters (mid, channels, 7, 7) and temporal filters (out, mid, 3) of a stem; None if it is not factorized."""
    modules = network.get_submodule("stem").modules()
    convolutions = [module.weight.detach().cpu() for module in modules if isinstance(module, nn.Conv3d)]
    if len(convolutions) != 2:
        return None
    spatial, temporal = convolutions
    return spatial[:, :, 0].numpy(), temporal[:, :, :, 0, 0].numpy()


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


def _get_runs(results: GridResults) -> tuple[PlannedRun | FusedRun, ...]:
    """The figure's runs, by seed."""
    (group,) = results.grid.values()
    return group.members
