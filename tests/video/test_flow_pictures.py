"""Pairs flow_x, flow_y: v / 255 * 40 - 20 pixels, in the order of the frames, scaled as the frames are."""

from pathlib import Path

import numpy as np
import pytest

from flow_pictures import pack, write_flow_folder
from muybridge.records import VideoError
from muybridge.video.flow_fields import chain_flows
from muybridge.video.flow_pictures import FlowPictures, open_flow_pictures
from muybridge.video.media import MediaFiles

NUM_STEPS = 11  # flow_x_2 would come after flow_x_10 in the order of letters
RNG = np.random.default_rng(0)
CODES = RNG.integers(100, 156, (NUM_STEPS, 2, 20, 24), dtype=np.uint8)
FRAMES = np.stack([np.full((20, 24, 3), 10 * number, np.uint8) for number in range(NUM_STEPS + 1)])


def opened(path: Path) -> FlowPictures:
    flow = open_flow_pictures(path)
    assert flow is not None
    return flow


def in_pixels(codes: np.ndarray) -> np.ndarray:
    return codes.astype(np.float64) / 255 * 40 - 20


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_values_are_those_of_tsn(tmp_path: Path, kind: str) -> None:
    path = write_flow_folder(tmp_path / "video", CODES, FRAMES)
    if kind != "folder":
        path = pack(path, tmp_path / f"video.{kind}")
    flow = opened(path)
    assert len(flow.pairs) == NUM_STEPS
    for index in (0, 1, NUM_STEPS - 1):
        field = flow.read_pair(index, (20, 24))
        assert field.shape == (20, 24, 2)
        np.testing.assert_allclose(field.transpose(2, 0, 1), in_pixels(CODES[index]), atol=1e-4)


def test_displacements_shrink_with_the_frame(tmp_path: Path) -> None:
    codes = np.full((3, 2, 40, 64), 255, np.uint8)
    codes[:, 1] = 0
    field = opened(write_flow_folder(tmp_path / "video", codes)).read_pair(1, (20, 16))
    np.testing.assert_allclose(field[..., 0], 20 * 16 / 64, atol=1e-4)
    np.testing.assert_allclose(field[..., 1], -20 * 20 / 40, atol=1e-4)


def test_flow_over_several_frames_is_chained(tmp_path: Path) -> None:
    flow = opened(write_flow_folder(tmp_path / "video", CODES))
    one, two = flow.read_pair(3, (20, 24)), flow.read_pair(4, (20, 24))
    fields = flow.read_flows(np.array([3, 5, 4, 5, 6, 6]), 2, (20, 24), {})
    np.testing.assert_array_equal(fields[0], chain_flows(one, two))
    np.testing.assert_array_equal(fields[1], two)
    assert not fields[2].any()  # a frame that is shown twice
    np.testing.assert_array_equal(flow.read_flows(np.array([3, 4, 5]), 3, (20, 24), {})[0], chain_flows(one, two))


def test_flow_beside_frames_is_no_frame(tmp_path: Path) -> None:
    write_flow_folder(tmp_path / "video", CODES, FRAMES)
    source = MediaFiles(str(tmp_path), scale_height=20, scale_width=24)
    times = source.read_frame_times("video")
    assert len(times) == NUM_STEPS + 1
    luma = source.read("video", times.ticks).luma_thw.mean(axis=(1, 2))
    assert (np.diff(luma) > 0).all()
    assert source.open_flow("video") is not None


def test_flow_without_frames_has_times_and_no_pictures(tmp_path: Path) -> None:
    write_flow_folder(tmp_path / "video", CODES)
    source = MediaFiles(str(tmp_path), scale_height=20, scale_width=24)
    assert len(source.read_frame_times("video")) == NUM_STEPS + 1
    with pytest.raises(VideoError, match=r"without its frames: only networks of flow can read it"):
        source.read("video", np.array([0]))


def test_pictures_without_a_pair_are_named(tmp_path: Path) -> None:
    folder = write_flow_folder(tmp_path / "video", CODES)
    (folder / "flow_y_00003.png").unlink()
    with pytest.raises(VideoError, match=r"11 flow_x and 10 flow_y pictures, expected pairs; flow_00003\.png is alone"):
        open_flow_pictures(folder)


def test_too_few_pairs_are_named(tmp_path: Path) -> None:
    flow = opened(write_flow_folder(tmp_path / "video", CODES[:3], FRAMES))
    with pytest.raises(VideoError, match="flow for 3 steps, but that after frame 3"):
        flow.read_pair(3, (20, 24))


def test_other_videos_have_no_stored_flow(tmp_path: Path) -> None:
    np.save(tmp_path / "frames.npy", FRAMES)
    write_flow_folder(tmp_path / "frames", CODES[:0], FRAMES)
    source = MediaFiles(str(tmp_path), scale_height=20, scale_width=24)
    assert source.open_flow("frames.npy") is None
    assert source.open_flow("frames") is None
    assert source.open_flow("video.mp4") is None
