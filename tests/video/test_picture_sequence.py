"""Frames in memory as a sequence of pictures."""

import numpy as np
import pytest
from tests.videos import index_picture, read_indices

from muybridge.records import VideoError
from muybridge.video.media import PictureFrames
from muybridge.video.picture_sequence import open_frames

NUM_FRAMES = 9
FRAMES = np.stack([index_picture(number, 48, 64) for number in range(NUM_FRAMES)])


def test_frames_in_memory_are_gray_or_rgb() -> None:
    gray = PictureFrames(open_frames(FRAMES[..., 0]), scale_height=32, scale_width=32)
    assert read_indices(gray.read("", np.arange(NUM_FRAMES)).luma_thw) == list(range(NUM_FRAMES))
    with pytest.raises(VideoError, match="no frames"):
        open_frames(FRAMES[:0])
