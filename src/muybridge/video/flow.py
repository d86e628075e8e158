"""Optical flow as the authors computed it: Farneback on gray crops, on the fly (paper section 4; docs/flow.md).

Input: a `View`, the cropped frames of one clip. Output: a `FlowView`, float32 (2, T, crop, crop), x then y in pixels to the
right and down: the point at (x, y) of a frame is at (x, y) + flow in the frame `flow_gap` later. Frames are cropped and
mirrored before flow is computed, so mirrored flow needs no change of sign. Parameters, order of steps and chaining over gaps
are those of Caffe2's video_io.cc (ClipTransformOpticalFlow) and optical_flow.cc; values are neither clipped nor rounded.

OpenCV is the optional extra `flow`: it is imported when the first flow is computed.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muybridge.records import Preprocessing
from muybridge.video.flow_fields import FlowCache, FlowField, chain_flows
from muybridge.video.views import FlowView, View, compute_yuv_to_rgb_matrix

_RGB_TO_GRAY = np.array([0.299, 0.587, 0.114])  # cv::COLOR_RGB2GRAY


def import_opencv() -> Any:
    """The module cv2. Raises ImportError naming the extra to install."""
    try:
        import cv2  # noqa: PLC0415 - an optional dependency
    except ImportError as error:
        raise ImportError("optical flow needs OpenCV; get it with: pip install 'muybridge[flow]'") from error
    return cv2


def farneback(first_hw: NDArray[np.uint8], second_hw: NDArray[np.uint8]) -> FlowField:
    """The flow from one gray frame (H, W) to another, float32 (H, W, 2), with the authors' parameters."""
    cv2 = import_opencv()
    flow: FlowField = cv2.calcOpticalFlowFarneback(
        first_hw,
        second_hw,
        np.empty((*first_hw.shape, 2), np.float32),
        pyr_scale=2**0.5 / 2,
        levels=5,
        winsize=10,
        iterations=2,
        poly_n=7,
        poly_sigma=1.5,
        flags=cv2.OPTFLOW_FARNEBACK_GAUSSIAN,
    )
    return flow


def convert_frame_to_gray(view: View, frame_index: int, crop: int | None = None) -> NDArray[np.uint8]:
    """Frame number `frame_index` of a view in gray, uint8: cropped and mirrored (crop, crop), or all of it without `crop`.

    One step from YUV instead of the authors' YUV -> RGB -> gray. For BT.601 this is luma on the full range; results differ
    only for colours outside RGB, which the authors clip channel by channel.
    """
    luma_gain, blue_gain, red_gain, zero = _RGB_TO_GRAY @ compute_yuv_to_rgb_matrix(view.matrix, view.full_range)
    gray = view.luma_thw[frame_index] * np.float32(luma_gain) + np.float32(zero)
    if abs(blue_gain) > 1e-6 or abs(red_gain) > 1e-6:  # BT.709
        blue, red = view.chroma_cthw[:, frame_index]
        chroma = (blue * np.float32(blue_gain) + red * np.float32(red_gain)).repeat(2, 0).repeat(2, 1)
        gray += chroma[: gray.shape[0], : gray.shape[1]]
    if crop is not None:
        gray = gray[view.top : view.top + crop, view.left : view.left + crop]
    gray = np.clip(np.rint(gray), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(gray[:, ::-1]) if view.mirror else gray


def compute_flow_view(
    view: View, ticks: NDArray[np.int64], preprocessing: Preprocessing, flow_cache: FlowCache
) -> FlowView:
    """The flows of a clip. `view` holds the frames at `ticks` (L * G,), the G frames of each flow after another.

    `flow_cache` holds flows of the same crop, which are not computed again; the flows of this clip are added to it.
    """
    group = len(preprocessing.frame_offsets)
    crop = preprocessing.crop
    grays: dict[int, NDArray[np.uint8]] = {}

    def get_gray(frame_index: int) -> NDArray[np.uint8]:
        tick = int(ticks[frame_index])
        if tick not in grays:
            grays[tick] = convert_frame_to_gray(view, frame_index, crop)
        return grays[tick]

    fields = []
    for first in range(0, len(ticks), group):
        total = None
        for source_index, target_index in pairwise(range(first, first + group)):
            pair = int(ticks[source_index]), int(ticks[target_index])
            if pair not in flow_cache:
                flow_cache[pair] = farneback(get_gray(source_index), get_gray(target_index))
            total = flow_cache[pair] if total is None else chain_flows(total, flow_cache[pair])
        assert total is not None, "a flow has at least two frames"
        fields.append(total)
    return FlowView(np.ascontiguousarray(np.stack(fields).transpose(3, 0, 1, 2)))
