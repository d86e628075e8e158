"""Figure 6: how much filters change over time, and the images of them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from muybridge.models.network import create_model
from muybridge.records import Preprocessing
from muybridge.studies.execute import WEIGHTS
from muybridge.studies.stem_filters import compute_change_share, estimate_change_share, render_images
from muybridge.weights.card import save


def test_the_share_of_change_is_that_of_energy_off_the_mean() -> None:
    assert compute_change_share(np.ones((2, 3, 3), np.float32)) == pytest.approx(0.0)
    assert compute_change_share(np.array([[[1, 0, -1]]], np.float32)) == pytest.approx(1.0)
    random = np.random.default_rng(0).normal(size=(64, 45, 3)).astype(np.float32)
    assert compute_change_share(random) == pytest.approx(2 / 3, abs=0.02)


def test_the_estimate_is_in_percent_over_the_weights_that_are_there(tmp_path: Path) -> None:
    shares = []
    for name in ("a", "b"):
        network = create_model("r2plus1d_10", num_classes=2, width=4)
        (tmp_path / name).mkdir()
        save(network, tmp_path / name / WEIGHTS, classes=("x", "y"), preprocessing=Preprocessing())
        shares.append(100 * compute_change_share(network.stem[3].weight.detach().numpy()[..., 0, 0]))
    runs = tuple(SimpleNamespace(name=name) for name in ("a", "b", "not run"))
    results: Any = SimpleNamespace(grid={"stem": SimpleNamespace(members=runs)}, run_folder=tmp_path)
    share = estimate_change_share(results)
    assert share is not None
    assert (share.mean, share.num) == (pytest.approx(np.mean(shares)), 2)


def test_filters_are_images_in_a_grid() -> None:
    spatial, temporal = np.zeros((5, 3, 7, 7), np.float32), np.zeros((4, 5, 3), np.float32)
    spatial[0, 0, 0, 0] = 1.0
    colour, matrices = render_images(spatial, temporal)
    pixels = np.array(colour.pixels)
    assert pixels.shape == (
        3 * 15,
        3 * 23,
        3,
    )  # two rows of three filters of 7x7, a pixel between, three times as large
    assert pixels[0, 0].tolist() == [255, 128, 128]
    assert np.array(matrices.pixels).ndim == 2
    gray, _ = render_images(spatial[:, :1], temporal)
    assert np.array(gray.pixels).ndim == 2
