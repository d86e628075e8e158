"""Figure 6: how much filters change over time, and the images of them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from muybridge.models.network import create_model
from muybridge.records import Preprocessing
from muybridge.studies.plan import WEIGHTS
from muybridge.studies.stem_filters import (
    compute_change_share,
    estimate_change_share,
    measure_stem,
    render_images,
)
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
    share = estimate_change_share(make_results(tmp_path, {}))
    assert share is not None
    assert (share.mean, share.num) == (pytest.approx(np.mean(shares)), 2)


def make_results(folder: Path, rows: dict[tuple[str, str], Any]) -> Any:
    runs = tuple(SimpleNamespace(name=name) for name in ("a", "b", "not run"))
    group = SimpleNamespace(members=runs, evaluation=SimpleNamespace(key="test-5x16f"))
    return SimpleNamespace(grid={"stem": group}, rows=rows, run_folder=folder)


def test_a_row_that_has_the_share_needs_no_weights(tmp_path: Path) -> None:
    rows: dict[tuple[str, str], Any] = {
        ("a", "test-5x16f"): {"training": {"stem_change_share": 0.25}},
        ("b", "test-5x16f"): {"training": {"stem_change_share": 0.75}},
    }
    share = estimate_change_share(make_results(tmp_path, rows))
    assert share is not None
    assert (share.mean, share.num) == (pytest.approx(50.0), 2)
    rows["not run", "test-5x16f"] = {"training": {"parameters": 3}}  # of an older version, without its folder
    assert estimate_change_share(make_results(tmp_path, rows)) is None  # not a mean of two seeds called three


@pytest.mark.parametrize("model", ["r3d_10", "r2d_10", "mc3_10"])
def test_a_stem_that_is_not_factorized_has_no_share(model: str) -> None:
    assert measure_stem(create_model(model, num_classes=2, width=4)) is None


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
