"""Frames as a person sees them, cropped as the network sees them: for reports and explanations.

Input: a frame source and the ticks of a clip. Output: RGB frames, uint8 (T, crop, crop, 3). Of a clip of optical flow, the
first frame of each flow.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from muybridge.records import FrameSource, Preprocessing
from muybridge.video.views import collate_views, make_evaluation_views, prepare_network_input


def make_display_preprocessing(preprocessing: Preprocessing) -> Preprocessing:
    """The same size and crop in RGB from 0 to 255."""
    return replace(
        preprocessing, modality="rgb", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), flow_gap=1, flow_chain=False
    )


def read_display_frames(
    source: FrameSource,
    video: str,
    ticks: NDArray[np.int64],
    preprocessing: Preprocessing,
    *,
    num_crops: int = 1,
    crop_index: int = 0,
) -> NDArray[np.uint8]:
    """The frames at the ticks (L,) or (L * G,) of a clip, uint8 (L, crop, crop, 3), as crop `crop_index` of `num_crops`.

    Raises VideoError.
    """
    first_ticks = ticks.reshape(preprocessing.clip_length, -1)[:, 0]
    planes = source.read(video, first_ticks)
    batch = collate_views([make_evaluation_views(planes, preprocessing.crop, num_crops)[crop_index]])
    frames = prepare_network_input(batch, make_display_preprocessing(preprocessing), torch.device("cpu"))[0]
    return frames.permute(1, 2, 3, 0).round().to(torch.uint8).numpy()
