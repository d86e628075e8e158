"""A frame in the decoder's planes as JPEG."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from muybridge.records import YuvClip

_QUALITY = 85
# Y, Cb, Cr -> RGB for limited range, offsets (16, 128, 128) subtracted.
_RGB_MATRICES = {
    "bt601": ((1.164384, 0.0, 1.596027), (1.164384, -0.391762, -0.812968), (1.164384, 2.017232, 0.0)),
    "bt709": ((1.164384, 0.0, 1.792741), (1.164384, -0.213249, -0.532909), (1.164384, 2.112402, 0.0)),
}
_FULL_RANGE_MATRICES = {
    "bt601": ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0)),
    "bt709": ((1.0, 0.0, 1.5748), (1.0, -0.187324, -0.468124), (1.0, 1.8556, 0.0)),
}


def encode_jpeg(clip: YuvClip, size: tuple[int, int] | None = None, *, index: int = 0) -> bytes:
    """A frame of a clip as JPEG, resized to `size` (width, height)."""
    image = Image.fromarray(_convert_to_rgb(clip, index))
    target = io.BytesIO()
    (image if size is None else image.resize(size)).save(target, format="JPEG", quality=_QUALITY)
    return target.getvalue()


def _convert_to_rgb(clip: YuvClip, index: int) -> NDArray[np.uint8]:
    """A frame of a clip as RGB uint8 (H, W, 3)."""
    height, width = clip.luma_thw.shape[1:]
    chroma = np.repeat(np.repeat(clip.chroma_cthw[:, index], 2, axis=1), 2, axis=2)[:, :height, :width]
    planes = np.stack([clip.luma_thw[index], chroma[0], chroma[1]], axis=-1).astype(np.float32)
    planes -= np.array((0.0 if clip.full_range else 16.0, 128.0, 128.0), np.float32)
    matrix = (_FULL_RANGE_MATRICES if clip.full_range else _RGB_MATRICES)[clip.matrix]
    rgb = planes @ np.array(matrix, np.float32).T
    return np.clip(np.round(rgb), 0, 255).astype(np.uint8)
