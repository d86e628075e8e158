"""Planes to pixels: against the standards' formula, against swscale, and crop by crop."""

from dataclasses import replace

import av
import numpy as np
import pytest
import torch

from muybridge.randomness import make_generator
from muybridge.records import Preprocessing, YuvClip
from muybridge.video.views import (
    FlowView,
    Jitter,
    collate_views,
    compute_yuv_to_rgb_matrix,
    jitter_view,
    make_evaluation_view,
    make_training_view,
    prepare_network_input,
)

UNNORMALISED = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def random_clip(num_frames: int, height: int, width: int, **colour) -> YuvClip:
    chance = np.random.default_rng(0)
    chroma = chance.integers(16, 240, (2, num_frames, (height + 1) // 2, (width + 1) // 2), dtype=np.uint8)
    return YuvClip(
        chance.integers(16, 235, (num_frames, height, width), dtype=np.uint8),
        chroma,
        **{"matrix": "bt601", "full_range": False, **colour},
    )


def plain_rgb(clip: YuvClip) -> np.ndarray:
    """The formula written out pixel by pixel, float64 (3, T, H, W)."""
    red, blue = (0.299, 0.114) if clip.matrix == "bt601" else (0.2126, 0.0722)
    green = 1 - red - blue
    _, height, width = clip.luma_thw.shape
    chroma = clip.chroma_cthw.astype(float).repeat(2, 2).repeat(2, 3)[:, :, :height, :width] - 128
    luma = clip.luma_thw.astype(float)
    if not clip.full_range:
        luma, chroma = (luma - 16) * 255 / 219, chroma * 255 / 224
    r = luma + 2 * (1 - red) * chroma[1]
    b = luma + 2 * (1 - blue) * chroma[0]
    return np.clip(np.stack([r, (luma - red * r - blue * b) / green, b]), 0, 255)


@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
@pytest.mark.parametrize("full_range", [False, True])
def test_colours_follow_the_formula(matrix: str, full_range: bool) -> None:
    clip = random_clip(3, 16, 16, matrix=matrix, full_range=full_range)
    preprocessing = Preprocessing(scale_height=16, scale_width=16, crop=16, clip_length=3, **UNNORMALISED)
    converted = prepare_network_input(
        collate_views([make_evaluation_view(clip, 16)]), preprocessing, torch.device("cpu")
    )[0].numpy()
    inside = (plain_rgb(clip) > 0) & (plain_rgb(clip) < 255)  # the plain form clips r and b before it makes g
    assert np.abs(converted - plain_rgb(clip))[inside].max() < 1e-3 or np.abs(converted - plain_rgb(clip)).max() < 1e-3


def test_named_colours() -> None:
    """Black, white and the BT.601 primaries as ITU-R gives their codes."""
    codes = {(16, 128, 128): (0, 0, 0), (235, 128, 128): (255, 255, 255), (81, 90, 240): (255, 0, 0)}
    codes |= {(145, 54, 34): (0, 255, 0), (41, 240, 110): (0, 0, 255)}
    for yuv, rgb in codes.items():
        actual = compute_yuv_to_rgb_matrix("bt601", False) @ np.array([*yuv, 1.0])
        assert np.abs(actual - rgb).max() < 2, yuv


def test_close_to_swscale() -> None:
    clip = random_clip(1, 32, 32)
    frame = av.VideoFrame(32, 32, "yuv420p")
    for plane, values in zip(frame.planes, (clip.luma_thw[0], *clip.chroma_cthw[:, 0]), strict=True):
        padded = np.zeros((plane.height, plane.line_size), np.uint8)
        padded[:, : plane.width] = values
        plane.update(padded.tobytes())
    reference = frame.to_ndarray(format="rgb24").transpose(2, 0, 1)
    preprocessing = Preprocessing(scale_height=32, scale_width=32, crop=32, clip_length=1, **UNNORMALISED)
    converted = prepare_network_input(
        collate_views([make_evaluation_view(clip, 32)]), preprocessing, torch.device("cpu")
    )[0, :, 0].numpy()
    difference = np.abs(converted - reference)
    assert difference.max() <= 4
    assert difference.mean() <= 1


@pytest.mark.parametrize(
    ("height", "width", "crop"), [(128, 171, 112), (17, 23, 12), (16, 16, 16), (15, 15, 15), (9, 9, 8)]
)
def test_every_crop_is_that_part_of_the_whole_frame(height: int, width: int, crop: int) -> None:
    clip = random_clip(2, height, width, full_range=True)
    sizes = {"scale_height": height, "scale_width": width, "crop": crop, "clip_length": 2}
    whole = plain_rgb(clip)
    preprocessing = Preprocessing(**sizes)
    mean, std = np.array(preprocessing.mean)[:, None, None, None], np.array(preprocessing.std)[:, None, None, None]
    views, expected = [], []
    for number in range(12):
        view = make_training_view(clip, crop, mirror=True, generator=make_generator(0, "test", number))
        chance = make_generator(0, "test", number)  # the same draws in the same order
        top, left = int(chance.integers(0, height - crop + 1)), int(chance.integers(0, width - crop + 1))
        part = whole[:, :, top : top + crop, left : left + crop]
        views.append(view)
        expected.append((part[..., ::-1] if chance.random() < 0.5 else part) - mean)
    converted = prepare_network_input(collate_views(views), preprocessing, torch.device("cpu")).numpy()
    agrees = np.abs(converted - np.stack(expected) / std) < 0.01
    assert agrees.mean() > 0.7  # the rest: green where the plain form clipped red or blue first
    assert agrees[:, [0, 2]].all()
    assert {view.mirror for view in views} == {True, False}


def test_the_centre_is_where_the_authors_crop() -> None:
    clip = random_clip(1, 128, 171)
    view = make_evaluation_view(clip, 112)
    assert np.array_equal(view.luma_thw[0, view.top :, view.left :][:112, :112], clip.luma_thw[0, 8:120, 29:141])


def test_mirroring_can_be_switched_off() -> None:
    clip = random_clip(1, 20, 20)
    views = [make_training_view(clip, 16, mirror=False, generator=make_generator(0, "m", n)) for n in range(30)]
    assert not any(view.mirror for view in views)


@pytest.mark.parametrize("full_range", [True, False])
def test_jitter_varies_rgb_as_it_says(full_range: bool) -> None:
    """Colours far from black and white, so that nothing is clamped: brightness and contrast of RGB itself, as elsewhere in the
    field. A share of white that is added, not multiplied, is twice as strong at mid-grey.
    """
    clip = random_clip(2, 16, 16, full_range=full_range)
    clip = replace(clip, luma_thw=clip.luma_thw // 4 + 96, chroma_cthw=clip.chroma_cthw // 8 + 112)
    preprocessing = Preprocessing(scale_height=16, scale_width=16, crop=16, clip_length=2, **UNNORMALISED)
    view = make_evaluation_view(clip, 16)

    def convert(jitter: Jitter | None) -> np.ndarray:
        batch = collate_views([replace(view, jitter=jitter)])
        return prepare_network_input(batch, preprocessing, torch.device("cpu"))[0].numpy().astype(float)

    plain = convert(None)
    assert np.abs(convert(Jitter(0.7, 1.0, 1.0)) - 0.7 * plain).max() < 1e-3
    assert np.abs(convert(Jitter(1.1, 0.8, 1.0)) - (0.8 * (1.1 * plain - 128) + 128)).max() < 1e-3
    gray = np.tensordot([0.299, 0.587, 0.114], plain, 1)
    assert np.abs(convert(Jitter(1.0, 1.0, 0.5)) - (gray + 0.5 * (plain - gray))).max() < 0.05


def test_jitter_is_drawn_within_its_strength() -> None:
    view = make_evaluation_view(random_clip(2, 16, 16), 16)
    drawn = [jitter_view(view, 0.3, make_generator(0, "jitter", draw)).jitter for draw in range(300)]
    values = np.array([(jitter.brightness, jitter.contrast, jitter.saturation) for jitter in drawn]) - 1
    assert np.abs(values).max() < 0.3
    assert (values.max(0) > 0.28).all() and (values.min(0) < -0.28).all()
    flow = FlowView(np.zeros((2, 2, 16, 16), np.float32))
    assert jitter_view(flow, 0.3, make_generator(0, "jitter", 0)) is flow
