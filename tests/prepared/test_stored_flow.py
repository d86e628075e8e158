"""Stored flow against the flow it was made of, and against known translations."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from muybridge.prepared.mp4 import mux_mp4
from muybridge.prepared.shards import ShardFrameSource
from muybridge.prepared.stored_flow import (
    FLOW_BOUND,
    compute_encoded_flow,
    decode_flow,
    encode_flow,
    make_stored_flow_view,
    select_stored_ticks,
)
from muybridge.prepared.transcode import encode_h264
from muybridge.records import FLOW_MEAN, FLOW_STD, FrameTimes, Preprocessing, YuvClip
from muybridge.video.flow import compute_flow_view, convert_frame_to_gray
from muybridge.video.sampling import sample_uniform_clips
from muybridge.video.views import View, make_evaluation_view
from stored import write_shard

HEIGHT, WIDTH, CROP = 64, 81, 48  # an odd width, as 171 is


def moving(num_frames: int, right: float, down: float) -> YuvClip:
    x = np.arange(WIDTH) - right * np.arange(num_frames)[:, None, None]
    y = np.arange(HEIGHT)[:, None] - down * np.arange(num_frames)[:, None, None]
    waves = np.sin(x / 5) + np.sin(y / 4) + np.sin((x + y) / 3) + np.sin((x - 2 * y) / 9)
    chroma = np.full((2, num_frames, HEIGHT // 2, WIDTH // 2 + 1), 128, np.uint8)
    return YuvClip(np.rint(128 + 28 * waves).astype(np.uint8), chroma, "bt601", True)


def times_of(num_frames: int) -> FrameTimes:
    return FrameTimes(4 * np.arange(num_frames, dtype=np.int64), Fraction(1, 100), 4 * num_frames)


def asked(**sampling: Any) -> Preprocessing:
    sizes = {"scale_height": HEIGHT, "scale_width": WIDTH, "crop": CROP}
    return Preprocessing(modality="flow", mean=FLOW_MEAN, std=FLOW_STD, **sizes, **sampling)


def read_back(tmp_path: Path, blocks: list[YuvClip]) -> tuple[ShardFrameSource, str]:
    num_frames = sum(len(block.luma_thw) for block in blocks)
    (member,) = write_shard(tmp_path, mux_mp4(encode_h264(compute_encoded_flow(blocks), times_of(num_frames))))
    return ShardFrameSource(str(tmp_path), scale_height=2 * HEIGHT, scale_width=WIDTH), str(member)


def taken(clip: YuvClip, ticks: NDArray[np.int64]) -> YuvClip:
    places = ticks // 4
    return YuvClip(clip.luma_thw[places], clip.chroma_cthw[:, places], clip.matrix, clip.full_range)


def test_codes_are_within_half_a_step_up_to_the_bound() -> None:
    flows = np.random.default_rng(0).uniform(-25, 25, (3, 6, 7, 2)).astype(np.float32)
    found = decode_flow(encode_flow(flows).luma_thw)
    step = FLOW_BOUND / 127
    assert np.abs(found - np.clip(flows, -FLOW_BOUND, FLOW_BOUND)).max() <= step / 2 + 1e-6
    assert not decode_flow(encode_flow(np.zeros((1, 4, 4, 2), np.float32)).luma_thw).any()


@pytest.mark.parametrize("block_frames", [9, 4])
def test_stored_flow_is_that_of_the_frames(tmp_path: Path, block_frames: int) -> None:
    video = moving(9, 3, -2)
    blocks = [taken(video, 4 * np.arange(first, min(9, first + block_frames))) for first in range(0, 9, block_frames)]
    source, member = read_back(tmp_path, blocks)
    assert source.read_frame_times(member).ticks.tolist() == (4 * np.arange(9)).tolist()
    flows = decode_flow(source.read(member, 4 * np.arange(9)).luma_thw)
    for channel, pixels in ((0, 3), (1, -2)):
        inside = flows[:8, 8:-8, 8:-8, channel]
        assert np.mean(np.abs(inside - pixels) < 0.4) > 0.85
    assert not flows[8].any()  # behind the last frame there is none


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("sampling", [{}, {"frame_stride": 2}, {"flow_gap": 3, "flow_chain": True}])
def test_stored_and_computed_flow_agree(tmp_path: Path, mirror: bool, sampling: dict[str, Any]) -> None:
    """Mirroring stored flow turns x around: the same as flow computed on mirrored frames, away from the crop's border."""
    video, preprocessing = moving(12, 2, 1), asked(clip_length=4, **sampling)
    source, member = read_back(tmp_path, [video])
    (clip,) = sample_uniform_clips(source.read_frame_times(member), preprocessing, 1)
    codes = source.read(member, select_stored_ticks(clip.ticks, preprocessing))
    stored = make_stored_flow_view(codes, (8, 16), preprocessing, mirror=mirror).flow_cthw
    view = make_evaluation_view(taken(video, clip.ticks), CROP)
    view = View(view.luma_thw, view.chroma_cthw, view.top, view.left, mirror, view.matrix, view.full_range)
    computed = compute_flow_view(view, clip.ticks, preprocessing, {}).flow_cthw
    assert stored.shape == computed.shape == (2, 4, CROP, CROP)
    assert stored.dtype == np.float32
    inside = np.abs(stored - computed)[..., 10:-10, 10:-10]
    gap = preprocessing.flow_gap
    assert np.median(inside) < 0.15 * gap
    assert np.median(stored[0]) == pytest.approx((-2 if mirror else 2) * gap, abs=0.3 * gap)
    assert np.median(stored[1]) == pytest.approx(1 * gap, abs=0.3 * gap)


def test_flow_over_a_gap_at_once_is_refused() -> None:
    with pytest.raises(ValueError, match="flow-chain true"):
        select_stored_ticks(np.array([0, 2]), asked(clip_length=1, flow_gap=2))


def test_one_frame_has_no_flow(tmp_path: Path) -> None:
    source, member = read_back(tmp_path, [moving(1, 0, 0)])
    assert not decode_flow(source.read(member, np.array([0])).luma_thw).any()


def test_gray_of_a_whole_frame() -> None:
    clip = moving(2, 1, 0)
    whole = View(clip.luma_thw, clip.chroma_cthw, 0, 0, False, "bt709", True)
    assert convert_frame_to_gray(whole, 1).shape == (HEIGHT, WIDTH)


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("top", [0, HEIGHT - CROP])
@pytest.mark.parametrize("left", [0, 1, WIDTH - CROP - 1, WIDTH - CROP])
def test_a_crop_is_the_one_asked_for_up_to_the_last_column(top: int, left: int, mirror: bool) -> None:
    """Every value is its own, so a crop that is off by one shows in all of them."""
    flows = np.zeros((1, HEIGHT, WIDTH, 2), np.float32)
    flows[..., 0], flows[..., 1] = np.arange(WIDTH) / 5, np.arange(HEIGHT)[:, None] / 5
    actual = make_stored_flow_view(encode_flow(flows), (top, left), asked(clip_length=1), mirror=mirror).flow_cthw[:, 0]
    expected = flows[0, top : top + CROP, left : left + CROP].transpose(2, 0, 1)
    if mirror:
        expected = expected[:, :, ::-1] * np.array([-1, 1])[:, None, None]
    assert actual.shape == (2, CROP, CROP)
    assert np.abs(actual - expected).max() < 0.09  # half a code; columns differ by 0.2
