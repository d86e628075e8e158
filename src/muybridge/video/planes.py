"""Decoded frames to scaled 4:2:0 planes: the one place where a frame is scaled (paper section 4: 128x171, aspect ignored).

What enters are frames of any size and pixel format; what leaves is a `YuvClip`. Scaling is swscale's bilinear filter on the
YUV planes. Matrix and range stay as the file says, since the conversion to RGB on the device knows both; only what has no
such form (RGB, palettes, BT.2020) is converted. Display rotation is applied: PyAV leaves frames as they were coded.
"""

from __future__ import annotations

import av
import numpy as np
from av.video.plane import VideoPlane
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from muybridge.records import ColorMatrix, VideoError, YuvClip

# AVColorSpace of a stream -> swscale's name for the same coefficients. Unspecified is BT.601, as swscale itself assumes.
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
    """The planes of one clip while it is decoded: `put` frames in any order, then take the `clip`.

    One of these a clip: it keeps its scaling context, which costs more to set up than a frame to decode, and is shared
    with no other thread or process.
    """

    def __init__(self, num_frames: int, scale_height: int, scale_width: int) -> None:
        chroma_size = ((scale_height + 1) // 2, (scale_width + 1) // 2)
        self._luma_thw = np.empty((num_frames, scale_height, scale_width), np.uint8)
        self._chroma_cthw = np.empty((2, num_frames, *chroma_size), np.uint8)
        self._reformatter = VideoReformatter()
        self._color_format: tuple[ColorMatrix, bool] | None = None

    def write_frame(self, index: int, frame: av.VideoFrame) -> None:
        """Scale `frame` into `place`. Its first frame decides the clip's matrix and range.

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
        """The clip made of the frames put at `places` (L,), repeats included."""
        assert self._color_format is not None, "frames were put before the clip is taken"
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
    """Matrix and full range that a frame keeps when scaled; RGB and palettes become BT.601 in limited range."""
    if _is_rgb(frame):
        return "bt601", False
    return ("bt709" if _find_source_matrix(frame) in _BT709_LIKE else "bt601"), _is_full_range(frame)


def read_orientation(frame: av.VideoFrame) -> tuple[bool, bool, bool]:
    """What makes a decoded frame upright: (transposed, then rows flipped, columns flipped).

    The display matrix sends column x and row y of the frame to column a*x + c*y and row b*x + d*y (libavutil/display.h),
    read here to the nearest quarter turn. A mirror image without any rotation is shown as it was coded.
    """
    if frame.rotation == 0:
        return False, False, False
    try:
        matrix = bytes(frame.side_data["DISPLAYMATRIX"])  # type: ignore[typeddict-item]  # missing from PyAV's stub
        a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5]
    except ValueError:  # PyAV has no name for a newer kind of side data on the same frame, and then shows none of them
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
    # As swscale assumes: what says nothing is limited, except for JPEG's formats, RGB and pictures of luma alone.
    is_luma_only = all(component.is_luma or component.is_alpha for component in frame.format.components)
    return frame.format.name.startswith("yuvj") or _is_rgb(frame) or is_luma_only


def _convert_to_progressive(frame: av.VideoFrame) -> av.VideoFrame:
    """The frame without its interlaced mark: swscale would scale the two fields apart, which combs at 128 lines."""
    if not frame.interlaced_frame:
        return frame
    copy = av.VideoFrame(frame.width, frame.height, frame.format.name)
    for target, source in zip(copy.planes, frame.planes, strict=True):
        num_bytes = min(target.line_size, source.line_size)
        rows = _view_plane_rows(target)
        rows[:, :num_bytes] = _view_plane_rows(source)[: len(rows), :num_bytes]
    return copy


def _view_plane_rows(plane: VideoPlane) -> NDArray[np.uint8]:
    """The plane's memory, a row a line: lines are padded, so the last bytes of each may be no pixels."""
    memory: NDArray[np.uint8] = np.frombuffer(plane, np.uint8)  # type: ignore[call-overload]  # a buffer all the same
    return memory.reshape(-1, plane.line_size)
