"""Optical flow stored with a prepared video, so that training on flow reads as fast as training on RGB.

Input: the scaled frames of a video, in order. Output: the same number of pictures, encoded as the video itself is. Picture n
is the flow from frame n to frame n + 1, computed on the whole scaled frame; the last one is zero. It holds x above y, 8 bits a
value, linear from -FLOW_BOUND to +FLOW_BOUND pixels, clipped beyond. `make_stored_flow_view` converts codes back to flow.

Stored flow differs from flow computed on the fly (`video.flow`) at the border of the crop, since it is computed on the whole
frame, and by the encoding. The first difference is larger (docs/flow.md has both in pixels), so the encoder is set as for RGB.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from muybridge.records import Preprocessing, YuvClip
from muybridge.video.flow import convert_frame_to_gray, farneback
from muybridge.video.flow_fields import chain_flows
from muybridge.video.flow_pictures import FlowPictures
from muybridge.video.views import FlowView, View

FLOW_BOUND = 20.0  # pixels; the usual bound of two-stream networks since Wang et al., ECCV 2016
_ZERO_CODE = 128
_MAX_CODE_OFFSET = 127  # the code of FLOW_BOUND minus that of zero


def encode_flow(fields_thwc: NDArray[np.float32], bound: float = FLOW_BOUND) -> YuvClip:
    """Flows (T, H, W, 2) as pictures of H lines of x above H lines of y: luma only, full range."""
    codes = np.rint(_ZERO_CODE + np.clip(fields_thwc / bound, -1, 1) * _MAX_CODE_OFFSET).astype(np.uint8)
    luma_thw = np.concatenate([codes[..., 0], codes[..., 1]], axis=1)
    num_frames, height, width = luma_thw.shape
    chroma = np.full((2, num_frames, (height + 1) // 2, (width + 1) // 2), _ZERO_CODE, np.uint8)
    return YuvClip(luma_thw, chroma, "bt601", full_range=True)


def decode_flow(codes_thw: NDArray[np.uint8], bound: float = FLOW_BOUND) -> NDArray[np.float32]:
    """The reverse of `encode_flow`: luma (T, 2 H, W) to flows (T, H, W, 2) in pixels."""
    height = codes_thw.shape[1] // 2
    pixels = (codes_thw.astype(np.float32) - _ZERO_CODE) * np.float32(bound / _MAX_CODE_OFFSET)
    return np.stack([pixels[:, :height], pixels[:, height:]], axis=-1)


def compute_encoded_flow(blocks: Iterable[YuvClip]) -> Iterator[YuvClip]:
    """The codes of the flow of a video whose frames come in `blocks`, in order; as many pictures as frames."""
    previous_gray: NDArray[np.uint8] | None = None
    for block in blocks:
        full_view = View(block.luma_thw, block.chroma_cthw, 0, 0, False, block.matrix, block.full_range)
        fields = []
        for frame_index in range(len(block.luma_thw)):
            gray = convert_frame_to_gray(full_view, frame_index)
            if previous_gray is not None:
                fields.append(farneback(previous_gray, gray))
            previous_gray = gray
        if fields:
            yield encode_flow(np.stack(fields))
    assert previous_gray is not None, "a video has frames"
    yield encode_flow(np.zeros((1, *previous_gray.shape, 2), np.float32))


def encode_flow_pictures(flow: FlowPictures, ticks: NDArray[np.int64], size: tuple[int, int]) -> Iterator[YuvClip]:
    """The codes of flow that is stored as pictures, from each frame at `ticks` to the following one; the last is zero."""
    for start, end in pairwise(ticks):
        yield encode_flow(flow.read_flows(np.array([start, end]), 2, size, {}))
    yield encode_flow(np.zeros((1, *size, 2), np.float32))


def can_use_stored_flow(preprocessing: Preprocessing, stored_frames_per_second: float | None) -> bool:
    """Whether stored flow, which leads from each stored frame to the next, can make the flow clips of `preprocessing`."""
    is_frame_to_frame = preprocessing.flow_gap == 1 or preprocessing.flow_chain
    return is_frame_to_frame and preprocessing.frames_per_second in (None, stored_frames_per_second)


def select_stored_ticks(ticks: NDArray[np.int64], preprocessing: Preprocessing) -> NDArray[np.int64]:
    """The ticks of a flow clip (`ClipTimes`) at which stored flow is read: those of all frames but the last of each flow.

    Raises ValueError for flow over a gap without a chain, since only flow from frame to frame is stored.
    """
    if preprocessing.flow_gap > 1 and not preprocessing.flow_chain:
        raise ValueError(
            f"flow over {preprocessing.flow_gap} frames at once cannot be read from stored flow, which leads from frame "
            "to frame; add --clips.flow-chain true, or read raw videos"
        )
    group = len(preprocessing.frame_offsets)
    return ticks.reshape(-1, group)[:, :-1].reshape(-1)


def make_stored_flow_view(
    codes: YuvClip, corner: tuple[int, int], preprocessing: Preprocessing, *, mirror: bool, bound: float = FLOW_BOUND
) -> FlowView:
    """The crop at `corner` (top, left) of stored flow read at `select_stored_ticks`; mirroring also negates x."""
    top, left, crop = *corner, preprocessing.crop
    height = codes.luma_thw.shape[1] // 2
    luma = codes.luma_thw[:, :, left : left + crop]
    cropped = np.concatenate([luma[:, top : top + crop], luma[:, height + top : height + top + crop]], axis=1)
    fields = decode_flow(cropped, bound)
    if mirror:
        fields = fields[:, :, ::-1] * np.array([-1, 1], np.float32)
    steps = len(preprocessing.frame_offsets) - 1
    total = fields[::steps]
    for step in range(1, steps):
        total = np.stack([chain_flows(*pair) for pair in zip(total, fields[step::steps], strict=True)])
    return FlowView(np.ascontiguousarray(total.transpose(3, 0, 1, 2)))
