"""Decoded frames to scaled 4:2:0 planes: the one place where frames are scaled (paper section 4: 128x171, aspect ignored).

Input: frames of any size and pixel format. Output: a `YuvClip`. Scaling is swscale's bilinear filter on the YUV planes.
Matrix and range of the file are kept, since the conversion to RGB on the device handles both; only formats outside of these
(RGB, palettes, BT.2020) are converted. Display rotation is applied, which PyAV does not do.
"""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
from av.video.plane import VideoPlane
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from muybridge.records import ColorMatrix, VideoError, YuvClip

# AVColorSpace of a stream -> swscale's name for the same coefficients; unspecified is BT.601, as swscale assumes.
_SOURCE_MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}
_BT709_LIKE = (Colorspace.ITU709, Colorspace.SMPTE240M, Colorspace.BT2020)
# Display matrices (a, b, c, d) by quarter turns counter-clockwise.
_ROTATION_MATRICES = ((1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0))


class YuvClipBuilder:
    """The planes of one clip while it is decoded: `write_frame` in any order, then `build_clip`.

    It keeps its scaling context, which costs more to set up than a frame to decode. Not for use from several threads.
    """

    def __init__(self, num_frames: int, scale_height: int, scale_width: int) -> None:
        chroma_size = ((scale_height + 1) // 2, (scale_width + 1) // 2)
        self._luma_thw = np.empty((num_frames, scale_height, scale_width), np.uint8)
        self._chroma_cthw = np.empty((2, num_frames, *chroma_size), np.uint8)
        self._reformatter = VideoReformatter()
        self._color_format: tuple[ColorMatrix, bool] | None = None

    def write_frame(self, index: int, frame: av.VideoFrame) -> None:
        """Scale `frame` into position `index`. The first frame written sets the clip's matrix and range.

        Raises VideoError("unreadable") for a pixel format that swscale cannot read.
        """
        if self._color_format is None:
            self._color_format = detect_color_format(frame)
        transposed, flip_rows, flip_columns = read_orientation(frame)
        height, width = self._luma_thw.shape[1:]
        scaled = self._scale(frame, *((width, height) if transposed else (height, width)))
        targets = (self._luma_thw[index], self._chroma_cthw[0, index], self._chroma_cthw[1, index])
        for target, plane in zip(targets, scaled.planes, strict=True):
            rows = _view_plane_rows(plane).T if transposed else _view_plane_rows(plane)
            pixels = rows[: target.shape[0], : target.shape[1]]
            pixels = pixels[::-1] if flip_rows else pixels
            target[...] = pixels[:, ::-1] if flip_columns else pixels

    def build_clip(self, indices: NDArray[np.int64]) -> YuvClip:
        """The clip of the frames written at `indices` (L,), repeats included."""
        assert self._color_format is not None, "a clip has frames"
        matrix, full_range = self._color_format
        if len(indices) == len(self._luma_thw) and bool(np.all(np.diff(indices) == 1)):
            return YuvClip(self._luma_thw, self._chroma_cthw, matrix, full_range)
        return YuvClip(self._luma_thw[indices], self._chroma_cthw[:, indices], matrix, full_range)

    def _scale(self, frame: av.VideoFrame, height: int, width: int) -> av.VideoFrame:
        assert self._color_format is not None
        matrix, full_range = self._color_format
        try:
            return self._reformatter.reformat(
                _convert_to_progressive(frame),
                width=width,
                height=height,
                format="yuv420p",
                interpolation=Interpolation.BILINEAR,
                src_colorspace=_find_source_matrix(frame),
                dst_colorspace=Colorspace.ITU709 if matrix == "bt709" else Colorspace.ITU601,
                src_color_range=ColorRange.JPEG if _is_full_range(frame) else ColorRange.MPEG,
                dst_color_range=ColorRange.JPEG if full_range else ColorRange.MPEG,
                threads=1,  # many workers decode side by side
            )
        except av.error.FFmpegError as error:
            reason = f"frames of pixel format {frame.format.name} cannot be scaled ({error.strerror})"
            raise VideoError("unreadable", reason) from error


def detect_color_format(frame: av.VideoFrame) -> tuple[ColorMatrix, bool]:
    """Matrix and full range of a frame after scaling; RGB and palettes become BT.601 in limited range."""
    if _is_rgb(frame):
        return "bt601", False
    return ("bt709" if _find_source_matrix(frame) in _BT709_LIKE else "bt601"), _is_full_range(frame)


def read_orientation(frame: av.VideoFrame) -> tuple[bool, bool, bool]:
    """The operations that make a decoded frame upright: transpose, then flip rows, flip columns.

    The display matrix sends column x and row y of the frame to column a*x + c*y and row b*x + d*y (libavutil/display.h); it
    is rounded to the nearest quarter turn. A reflection without rotation is ignored.
    """
    if frame.rotation == 0:
        return False, False, False
    try:
        matrix = bytes(frame.side_data["DISPLAYMATRIX"])  # type: ignore[typeddict-item]  # missing from PyAV's stub
        a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5]
    except ValueError:  # PyAV fails on side data of a type unknown to it anywhere on the frame
        a, b, c, d = _ROTATION_MATRICES[round(frame.rotation / 90) % 4]
    if abs(int(b)) > abs(int(a)):
        return True, bool(b < 0), bool(c < 0)
    return False, bool(d < 0), bool(a < 0)


def _is_rgb(frame: av.VideoFrame) -> bool:
    return bool(frame.format.is_rgb or frame.format.has_palette)


def _find_source_matrix(frame: av.VideoFrame) -> Colorspace:
    return _SOURCE_MATRICES.get(int(frame.colorspace), Colorspace.ITU601)


def _is_full_range(frame: av.VideoFrame) -> bool:
    if frame.color_range != ColorRange.UNSPECIFIED:
        return bool(frame.color_range == ColorRange.JPEG)
    # As swscale assumes: unspecified is limited, except for JPEG formats, RGB and luma-only pictures.
    is_luma_only = all(component.is_luma or component.is_alpha for component in frame.format.components)
    return frame.format.name.startswith("yuvj") or _is_rgb(frame) or is_luma_only


def _convert_to_progressive(frame: av.VideoFrame) -> av.VideoFrame:
    """The frame without its interlaced flag: swscale would scale the two fields separately, which combs at 128 lines."""
    if not frame.interlaced_frame:
        return frame
    copy = av.VideoFrame(frame.width, frame.height, frame.format.name)
    for target, source in zip(copy.planes, frame.planes, strict=True):
        num_bytes = min(target.line_size, source.line_size)
        rows = _view_plane_rows(target)
        rows[:, :num_bytes] = _view_plane_rows(source)[: len(rows), :num_bytes]
    return copy


def _view_plane_rows(plane: VideoPlane) -> NDArray[np.uint8]:
    """The plane's memory, one row per line; lines are padded, so the last bytes of a row may not be pixels."""
    memory: NDArray[np.uint8] = np.frombuffer(plane, np.uint8)  # type: ignore[call-overload]  # a plane supports the buffer protocol
    return memory.reshape(-1, plane.line_size)


def make_frame(block: YuvClip, index: int, pts: int) -> av.VideoFrame:
    """Frame number `index` of a clip for an encoder, with even height and width; the last row or column is repeated."""
    _, height, width = block.luma_thw.shape
    frame = av.VideoFrame(width + width % 2, height + height % 2, "yuv420p")
    for plane, pixels in zip(frame.planes, (block.luma_thw[index], *block.chroma_cthw[:, index]), strict=True):
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)  # type: ignore[call-overload]  # a buffer
        rows[: plane.height, : plane.width] = np.pad(
            pixels, ((0, plane.height - pixels.shape[0]), (0, plane.width - pixels.shape[1])), mode="edge"
        )
    frame.pts = pts
    frame.time_base = Fraction(1, 25)
    return frame
