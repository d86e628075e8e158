"""Optical flow as the authors computed it: Farneback on gray crops, on the fly (paper section 4; docs/flow.md).

Enter: a cut `View`, decoded frames of one clip. Leaves: a `FlowView`, float32 (2, T, crop, crop), x then y in pixels to the
right and down: what is at (x, y) in a frame is at (x, y) + flow in the frame `flow_gap` later. The crop is cut and mirrored
before flow is computed, so a mirrored flow needs no change of sign. Parameters, order of steps and the chaining over gaps are
those of Caffe2's video_io.cc (ClipTransformOpticalFlow) and optical_flow.cc; there is neither clipping nor rounding.

OpenCV is the extra `flow`: it is imported where the first flow is computed.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from muybridge.records import Preprocessing
from muybridge.video.views import FlowView, View, compute_yuv_to_rgb_matrix

FlowField: TypeAlias = "NDArray[np.float32]"  # (H, W, 2)
FlowCache: TypeAlias = "dict[tuple[int, int], FlowField]"  # flows by the ticks of their two frames

_RGB_TO_GRAY = np.array([0.299, 0.587, 0.114])  # cv::COLOR_RGB2GRAY


def import_opencv() -> Any:
    """The module cv2. Raises ImportError with a sentence where it is not installed."""
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


def chain_flows(first_hwc: FlowField, second_hwc: FlowField) -> FlowField:
    """The flow over two steps: where the first one leads, rounded to a pixel inside of the frame, the second one is added."""
    height, width = first_hwc.shape[:2]
    columns = np.arange(width) + first_hwc[..., 0]
    rows = np.arange(height)[:, None] + first_hwc[..., 1]
    # cvRound and rint both round halves to even.
    columns = np.clip(np.rint(columns), 0, width - 1).astype(np.intp)
    rows = np.clip(np.rint(rows), 0, height - 1).astype(np.intp)
    total: FlowField = first_hwc + second_hwc[rows, columns]
    return total


def convert_frame_to_gray(view: View, frame_index: int, crop: int | None = None) -> NDArray[np.uint8]:
    """Frame `number` of a view as gray on the scale 0-255, cropped and mirrored, uint8 (crop, crop); by default all of it.

    The authors' RGB -> gray of decoded RGB frames as one step from YUV. For BT.601 it is luma on the full range; the only
    difference is colours outside of RGB, which they clip channel by channel.
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
    """The flows of a clip. `view` holds the frames at `ticks`, one after another for each flow.

    `known` are flows of the same crop that need not be computed again; those of this clip are added to it.
    """
    group = len(preprocessing.frame_offsets)
    crop = preprocessing.crop
    grays: dict[int, NDArray[np.uint8]] = {}

    def get_gray(place: int) -> NDArray[np.uint8]:
        tick = int(ticks[place])
        if tick not in grays:
            grays[tick] = convert_frame_to_gray(view, place, crop)
        return grays[tick]

    fields = []
    for first in range(0, len(ticks), group):
        total = None
        for source_index, target_index in pairwise(range(first, first + group)):
            pair = int(ticks[source_index]), int(ticks[target_index])
            if pair not in flow_cache:
                flow_cache[pair] = farneback(get_gray(source_index), get_gray(target_index))
            total = flow_cache[pair] if total is None else chain_flows(total, flow_cache[pair])
        assert total is not None, "a flow is made of two frames at least"
        fields.append(total)
    return FlowView(np.ascontiguousarray(np.stack(fields).transpose(3, 0, 1, 2)))


def compute_modality(
    view: View, ticks: NDArray[np.int64], preprocessing: Preprocessing, flow_cache: FlowCache | None = None
) -> View | FlowView:
    """The view as the modality sees it; `known` as for `compute_flow_view`."""
    match preprocessing.modality:
        case "rgb":
            return view
        case "flow":
            return compute_flow_view(view, ticks, preprocessing, {} if flow_cache is None else flow_cache)
