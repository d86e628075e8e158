"""Flow against known translations, the authors' order of steps written out pixel by pixel, and OpenCV's own gray."""

from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from muybridge.randomness import make_generator
from muybridge.records import FLOW_MEAN, FLOW_STD, Preprocessing, YuvClip
from muybridge.video.flow import compute_flow_view, convert_frame_to_gray, farneback
from muybridge.video.flow_fields import chain_flows
from muybridge.video.views import (
    FlowBatch,
    View,
    collate_views,
    make_evaluation_view,
    make_training_view,
    prepare_network_input,
)

CPU = torch.device("cpu")


def hills(height: int, width: int, *, right: float = 0.0, down: float = 0.0) -> NDArray[np.uint8]:
    """A smooth picture moved by so many pixels."""
    x, y = np.arange(width) - right, np.arange(height)[:, None] - down
    waves = np.sin(x / 5) + np.sin(y / 4) + np.sin((x + y) / 3) + np.sin((x - 2 * y) / 9)
    return np.rint(128 + 28 * waves).astype(np.uint8)


def moving(num_frames: int, right: float, down: float, **colour: Any) -> YuvClip:
    luma = np.stack([hills(64, 80, right=n * right, down=n * down) for n in range(num_frames)])
    chroma = np.full((2, num_frames, 32, 40), 128, np.uint8)
    return YuvClip(luma, chroma, **{"matrix": "bt601", "full_range": True, **colour})


def view_of(clip: YuvClip, indices: list[int]) -> View:
    """The frames at `places`, as a source gives them for a clip."""
    return make_evaluation_view(YuvClip(clip.luma_thw[indices], clip.chroma_cthw[:, indices], "bt601", True), 48)


def preprocessing(**sampling: Any) -> Preprocessing:
    sizes = {"scale_height": 64, "scale_width": 80, "crop": 48}
    return Preprocessing(modality="flow", mean=FLOW_MEAN, std=FLOW_STD, **sizes, **sampling)


def require_about(flow_thw: NDArray[np.float32], pixels: float) -> None:
    """Nearly all of the flow away from the border, where frames show different things, is of so many pixels."""
    error = np.abs(flow_thw[..., 8:-8, 8:-8] - pixels)
    assert np.median(error) < 0.05
    assert np.mean(error < 0.2) > 0.85


@pytest.mark.parametrize(("right", "down"), [(1, 0), (-2, 0), (0, 1.5), (0, -1), (2, -3), (0.25, 0.5), (0, 0)])
def test_sign_and_scale_of_a_known_translation(right: float, down: float) -> None:
    """Pixels to the right, then pixels down, from a frame to the next one."""
    flow_preprocessing = preprocessing(clip_length=3)
    indices = [0, 1, 1, 2, 2, 3]
    flow = compute_flow_view(view_of(moving(6, right, down), indices), np.array(indices), flow_preprocessing, {})
    assert flow.flow_cthw.shape == (2, 3, 48, 48)
    assert flow.flow_cthw.dtype == np.float32
    require_about(flow.flow_cthw[0], right)
    require_about(flow.flow_cthw[1], down)


def test_mirrored_frames_flow_the_other_way() -> None:
    clip = moving(2, 2, 1)
    views = [make_training_view(clip, 48, mirror=True, generator=make_generator(0, "mirror", n)) for n in range(20)]
    flows = {view.mirror: compute_flow_view(view, np.array([0, 1]), preprocessing(clip_length=1), {}) for view in views}
    assert set(flows) == {True, False}
    for mirror, flow in flows.items():
        require_about(flow.flow_cthw[0], (-2 if mirror else 2))
        require_about(flow.flow_cthw[1], 1)


def plainly_chained(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """What Caffe2's MergeOpticalFlow does, a pixel at a time."""
    height, width, _ = first.shape
    total = first.copy()
    for y in range(height):
        for x in range(width):
            x_new = min(width - 1, max(0, round(float(first[y, x, 0]) + x)))
            y_new = min(height - 1, max(0, round(float(first[y, x, 1]) + y)))
            total[y, x] += second[y_new, x_new]
    return total


def test_chaining_follows_the_first_flow() -> None:
    chance = np.random.default_rng(0)
    first, second = chance.normal(0, 6, (2, 20, 30, 2)).astype(np.float32)
    assert np.array_equal(chain_flows(first, second), plainly_chained(first, second))


def test_a_chain_over_a_gap_is_the_way_along_all_of_it() -> None:
    """Three steps of (2, 1) pixels: a chain finds (6, 3), of flows whose frames overlap those of the next timestep."""
    clip = moving(6, 2, 1)
    flow_preprocessing = preprocessing(clip_length=2, flow_gap=3, flow_chain=True)
    indices = [0, 1, 2, 3, 1, 2, 3, 4]
    view = view_of(clip, indices)
    known: dict[Any, Any] = {}
    flow = compute_flow_view(view, np.array(indices), flow_preprocessing, known).flow_cthw
    require_about(flow[0, ..., :40, :40], 6)
    require_about(flow[1, ..., :40, :40], 3)
    assert sorted(known) == [(0, 1), (1, 2), (2, 3), (3, 4)]


def test_without_a_chain_one_flow_leads_over_the_gap() -> None:
    clip = moving(4, 1, 0)
    flow_preprocessing = preprocessing(clip_length=1, flow_gap=3)
    indices = [0, 3]
    view = view_of(clip, indices)
    known: dict[Any, Any] = {}
    flow = compute_flow_view(view, np.array(indices), flow_preprocessing, known).flow_cthw
    require_about(flow[0], 3)
    assert list(known) == [(0, 3)]


def test_the_parameters_are_the_authors() -> None:
    first, second = hills(48, 48), hills(48, 48, right=3, down=-1)
    reference = cv2.calcOpticalFlowFarneback(first, second, None, np.sqrt(2) / 2.0, 5, 10, 2, 7, 1.5, 256)
    assert np.array_equal(farneback(first, second), reference)


@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("mirror", [False, True])
def test_gray_is_that_of_rgb_frames(matrix: Any, full_range: bool, mirror: bool) -> None:
    """Against OpenCV's gray of the RGB that the network would see, wherever RGB holds the colour."""
    chance = np.random.default_rng(1)
    luma = chance.integers(60, 190, (1, 17, 23), dtype=np.uint8)
    chroma = chance.integers(110, 146, (2, 1, 9, 12), dtype=np.uint8)
    view = make_training_view(
        YuvClip(luma, chroma, matrix, full_range), 12, mirror=False, generator=make_generator(0, "gray", 3)
    )
    view = View(view.luma_thw, view.chroma_cthw, view.top, view.left, mirror, view.matrix, view.full_range)
    rgb_as_is = Preprocessing(scale_height=17, scale_width=23, crop=12, mean=(0.0,) * 3, std=(1.0,) * 3)
    rgb = prepare_network_input(collate_views([view]), rgb_as_is, CPU)[0, :, 0].permute(1, 2, 0).numpy()
    reference = cv2.cvtColor(np.ascontiguousarray(np.rint(rgb).astype(np.uint8)), cv2.COLOR_RGB2GRAY)
    difference = convert_frame_to_gray(view, 0, 12).astype(int) - reference
    assert np.abs(difference).max() <= 1
    assert abs(difference.mean()) < 0.3


def test_the_network_sees_normalised_flow() -> None:
    flow_preprocessing = preprocessing(clip_length=1)
    views = [
        compute_flow_view(make_evaluation_view(moving(2, right, 0), 48), np.array([0, 1]), flow_preprocessing, {})
        for right in (1, 2)
    ]
    batch = collate_views(views)
    assert isinstance(batch, FlowBatch)
    clips = prepare_network_input(batch, flow_preprocessing, CPU).numpy()
    assert clips.shape == (2, 2, 1, 48, 48)
    for clip, view in zip(clips, views, strict=True):
        for channel in (0, 1):
            expected = (view.flow_cthw[channel] - FLOW_MEAN[channel]) / FLOW_STD[channel]
            assert clip[channel] == pytest.approx(expected, abs=1e-6)
