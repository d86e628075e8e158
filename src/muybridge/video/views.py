"""Decoded planes to network input: crop, mirror, colour conversion, normalisation (paper section 4; docs/protocol.md).

Input: `YuvClip`s, scaled 4:2:0 planes, cropped in the worker that decoded them, or optical flow computed from them
(`video.flow`). Output: normalised float clips (N, C, T, H, W), converted batch by batch on the device that uses them.
Training and evaluation views are two functions, not a flag: a forgotten flag must not be able to evaluate random crops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from muybridge.records import ColorMatrix, Preprocessing, YuvClip


@dataclass(frozen=True)
class View:
    """One clip, cut to the whole chroma samples that its crop touches.

    luma_thw uint8 (T, 2h, 2w); chroma_cthw uint8 (2, T, h, w); the crop starts at (`top`, `left`), 0 to 2, of the luma block.
    """

    luma_thw: NDArray[np.uint8]
    chroma_cthw: NDArray[np.uint8]
    top: int
    left: int
    mirror: bool
    matrix: ColorMatrix
    full_range: bool
    jitter: Jitter | None = None


@dataclass(frozen=True)
class Jitter:
    """How training varies the colours of a clip: factors of brightness, contrast (about medium grey) and saturation."""

    brightness: float
    contrast: float
    saturation: float

    def apply(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """The matrix (3, 4) from (Y, Cb, Cr, 1) to RGB of a varied clip; `matrix` is that of the clip itself."""
        chroma_offset = 128 * (1 - self.saturation)
        saturate = np.array(
            [
                [1, 0, 0, 0],
                [0, self.saturation, 0, chroma_offset],
                [0, 0, self.saturation, chroma_offset],
                [0, 0, 0, 1],
            ]
        )
        varied: NDArray[np.float64] = self.contrast * self.brightness * (matrix @ saturate)
        varied[:, 3] += 128 * (1 - self.contrast)
        return varied


def jitter_view(view: AnyView, strength: float, generator: np.random.Generator) -> AnyView:
    """The view with random colours: brightness, contrast and saturation times 1 +- `strength`. Flow stays as it is.

    The colour conversion applies them (`collate_views`), so they cost nothing a pixel.
    """
    if isinstance(view, FlowView):
        return view
    brightness, contrast, saturation = generator.uniform(1 - strength, 1 + strength, 3)
    return replace(view, jitter=Jitter(float(brightness), float(contrast), float(saturation)))


@dataclass(frozen=True)
class FlowView:
    """Optical flow of one clip, cropped and mirrored: float32 (2, T, crop, crop), x then y, in pixels."""

    flow_cthw: NDArray[np.float32]


AnyView: TypeAlias = View | FlowView


def sample_crop(
    size: tuple[int, int], crop: int, *, mirror: bool, generator: np.random.Generator
) -> tuple[tuple[int, int], bool]:
    """A random corner (top, left) of a crop in frames of `size` (height, width), and whether to mirror: half of the time if
    `mirror` is true, else never."""
    top, left = (int(generator.integers(0, side - crop + 1)) for side in size)
    return (top, left), mirror and bool(generator.random() < 0.5)


def compute_center_corner(size: tuple[int, int], crop: int) -> tuple[int, int]:
    """The corner of the centre crop, rounded down as in the authors' code: (8, 29) for 112 out of 128x171."""
    height, width = size
    return (height - crop) // 2, (width - crop) // 2


def list_crop_corners(size: tuple[int, int], crop: int, num_crops: int) -> list[tuple[int, int]]:
    """The corners of one centre crop, or of three along the longer side of frames of `size` (height, width)."""
    center_top, center_left = compute_center_corner(size, crop)
    if num_crops == 1:
        return [(center_top, center_left)]
    height, width = size
    if width >= height:
        return [(center_top, left) for left in (0, center_left, width - crop)]
    return [(top, center_left) for top in (0, center_top, height - crop)]


def crop_flow(fields_thwc: NDArray[np.float32], corner: tuple[int, int], crop: int, *, mirror: bool) -> FlowView:
    """The crop at `corner` (top, left) of flow (T, H, W, 2) of whole frames; mirroring also negates x."""
    top, left = corner
    fields = fields_thwc[:, top : top + crop, left : left + crop]
    if mirror:
        fields = fields[:, :, ::-1] * np.array([-1, 1], np.float32)
    return FlowView(np.ascontiguousarray(fields.transpose(3, 0, 1, 2)))


def make_training_view(clip: YuvClip, crop: int, *, mirror: bool, generator: np.random.Generator) -> View:
    """A random crop, the same for all frames of the clip, mirrored half of the time if `mirror` is true."""
    corner, mirrored = sample_crop(clip.luma_thw.shape[1:], crop, mirror=mirror, generator=generator)
    return _crop_clip(clip, crop, corner, mirror=mirrored)


def make_evaluation_view(clip: YuvClip, crop: int) -> View:
    """The centre crop."""
    return make_evaluation_views(clip, crop, 1)[0]


def make_evaluation_views(clip: YuvClip, crop: int, num_crops: int) -> list[View]:
    """The crops at `list_crop_corners`."""
    corners = list_crop_corners(clip.luma_thw.shape[1:], crop, num_crops)
    return [_crop_clip(clip, crop, corner, mirror=False) for corner in corners]


def _crop_clip(clip: YuvClip, crop: int, corner: tuple[int, int], *, mirror: bool) -> View:
    rows, top = _compute_chroma_span(corner[0], crop, clip.chroma_cthw.shape[2])
    columns, left = _compute_chroma_span(corner[1], crop, clip.chroma_cthw.shape[3])
    luma = clip.luma_thw[:, 2 * rows.start : 2 * rows.stop, 2 * columns.start : 2 * columns.stop]
    missing = (2 * (rows.stop - rows.start) - luma.shape[1], 2 * (columns.stop - columns.start) - luma.shape[2])
    if any(missing):  # odd height or width: the last chroma sample covers one luma line, which is repeated to make two
        luma = np.pad(luma, ((0, 0), (0, missing[0]), (0, missing[1])), mode="edge")
    chroma = clip.chroma_cthw[:, :, rows, columns]
    return View(luma, chroma, top, left, mirror, clip.matrix, clip.full_range)


def _compute_chroma_span(offset: int, crop: int, available: int) -> tuple[slice, int]:
    """The chroma samples of [offset, offset + crop), the same number for every offset, and the crop's start in their luma."""
    count = min(crop // 2 + 1, available)
    start = min(offset // 2, available - count)
    return slice(start, start + count), offset - 2 * start


@dataclass(frozen=True)
class ViewBatch:
    """N views as tensors: luma uint8 (N, T, 2h, 2w), chroma uint8 (N, 2, T, h, w), colour float (N, 3, 4)."""

    luma_nthw: Tensor
    chroma_ncthw: Tensor
    color_matrices_n34: Tensor
    corners: tuple[tuple[int, int], ...]
    mirrors: tuple[bool, ...]

    def __len__(self) -> int:
        return len(self.corners)

    def pin_memory(self) -> ViewBatch:
        """A copy in page-locked memory, so that the copy to a GPU overlaps the previous step (called by torch's DataLoader)."""
        return ViewBatch(
            self.luma_nthw.pin_memory(),
            self.chroma_ncthw.pin_memory(),
            self.color_matrices_n34.pin_memory(),
            self.corners,
            self.mirrors,
        )

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors that `to` moves."""
        return self.luma_nthw, self.chroma_ncthw, self.color_matrices_n34

    def to(self, device: torch.device) -> ViewBatch:
        """The same batch on `device`; asynchronous if the memory is page-locked."""
        luma, chroma, color_matrices = (tensor.to(device, non_blocking=True) for tensor in self.tensors)
        return ViewBatch(luma, chroma, color_matrices, self.corners, self.mirrors)


@dataclass(frozen=True)
class FlowBatch:
    """N flow views as a tensor, float32 (N, 2, T, crop, crop), in pixels."""

    flow_ncthw: Tensor

    def __len__(self) -> int:
        return len(self.flow_ncthw)

    def pin_memory(self) -> FlowBatch:
        """See `ViewBatch.pin_memory`."""
        return FlowBatch(self.flow_ncthw.pin_memory())

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """See `ViewBatch.tensors`."""
        return (self.flow_ncthw,)

    def to(self, device: torch.device) -> FlowBatch:
        """See `ViewBatch.to`."""
        return FlowBatch(self.flow_ncthw.to(device, non_blocking=True))


AnyBatch: TypeAlias = ViewBatch | FlowBatch


def collate_views(views: Sequence[AnyView]) -> AnyBatch:
    """Views of one preprocessing as a batch; all are of one modality."""
    flows = [view.flow_cthw for view in views if isinstance(view, FlowView)]
    if flows:
        assert len(flows) == len(views), "a batch is of one modality"
        return FlowBatch(torch.from_numpy(np.stack(flows)))
    return _collate_yuv_views([view for view in views if isinstance(view, View)])


def _collate_yuv_views(views: Sequence[View]) -> ViewBatch:
    return ViewBatch(
        torch.from_numpy(np.stack([view.luma_thw for view in views])),
        torch.from_numpy(np.stack([view.chroma_cthw for view in views])),
        torch.from_numpy(np.stack([_compute_color_matrix(view) for view in views])),
        tuple((view.top, view.left) for view in views),
        tuple(view.mirror for view in views),
    )


def _compute_color_matrix(view: View) -> NDArray[np.float32]:
    matrix = compute_yuv_to_rgb_matrix(view.matrix, view.full_range)
    return matrix if view.jitter is None else view.jitter.apply(matrix.astype(np.float64)).astype(np.float32)


def prepare_network_input(batch: AnyBatch, preprocessing: Preprocessing, device: torch.device) -> Tensor:
    """Network input on `device`: float32 (N, 3 or 2, T, crop, crop), normalised."""
    match batch:
        case ViewBatch():
            return _prepare_rgb_input(batch, preprocessing, device)
        case FlowBatch():
            mean, std = torch.tensor([preprocessing.mean, preprocessing.std], device=device)[..., None, None, None]
            return batch.flow_ncthw.to(device, non_blocking=True).sub(mean).div_(std)


def _prepare_rgb_input(batch: ViewBatch, preprocessing: Preprocessing, device: torch.device) -> Tensor:
    """Float32 (N, 3, T, crop, crop), normalised.

    Chroma is repeated, not interpolated, as swscale does for 4:2:0 -> RGB by default; values are clamped to 0..255 and not
    rounded. Normalisation is folded into the matrix and the bounds, and the chroma term is computed once per chroma sample,
    which leaves two passes over the pixels of each channel. On a CPU clips are converted one by one, so that each stays in
    the cache; on a GPU all clips with equal crop, mirroring and matrix are converted together.
    """
    luma, chroma = (planes.to(device, non_blocking=True) for planes in (batch.luma_nthw, batch.chroma_ncthw))
    crop = preprocessing.crop
    clips = torch.empty((len(batch), 3, luma.shape[1], crop, crop), device=device)
    for view_indices, parameters in _group_equal_views(batch, merge=device.type != "cpu"):
        index = slice(view_indices[0], view_indices[0] + 1) if len(view_indices) == 1 else view_indices
        target = clips[index]  # a slice is a view, a list of indices makes a copy
        _convert_yuv_to_rgb(luma[index], chroma[index], parameters, preprocessing, target)
        if len(view_indices) > 1:
            clips[index] = target
    return clips


@dataclass(frozen=True)
class _ViewParameters:
    """The parameters that clips converted together share."""

    top: int
    left: int
    mirror: bool
    color_matrix: tuple[tuple[float, ...], ...]  # rows R, G, B; columns Y, Cb, Cr, 1


def _group_equal_views(batch: ViewBatch, *, merge: bool) -> list[tuple[list[int], _ViewParameters]]:
    """Indices of the views with equal parameters; each view is its own group unless `merge` is true."""
    groups: dict[tuple[_ViewParameters, int], list[int]] = {}
    color_matrices = [tuple(map(tuple, rows)) for rows in batch.color_matrices_n34.tolist()]
    for view_index, (corner, mirror) in enumerate(zip(batch.corners, batch.mirrors, strict=True)):
        key = _ViewParameters(*corner, mirror, color_matrices[view_index]), 0 if merge else view_index
        groups.setdefault(key, []).append(view_index)
    return [(view_indices, parameters) for (parameters, _), view_indices in groups.items()]


def _convert_yuv_to_rgb(
    luma: Tensor, chroma: Tensor, parameters: _ViewParameters, preprocessing: Preprocessing, clips_ncthw: Tensor
) -> None:
    """Fill `clips_ncthw` from luma (N, T, 2h, 2w) and chroma (N, 2, T, h, w)."""
    crop, left = preprocessing.crop, parameters.left
    if parameters.mirror:
        luma, chroma, left = luma.flip(-1), chroma.flip(-1), luma.shape[-1] - left - crop
    shape = luma.shape
    luma = luma.float().view(*shape[:2], shape[2] // 2, 2, shape[3])  # (.., h, 2, 2w): two lines share a line of chroma
    doubled_chroma = (
        (chroma.to(torch.int16) * 257).view(torch.uint8).float()
    )  # each sample twice: c * 257 is the byte c twice
    for channel, (mean, std) in enumerate(zip(preprocessing.mean, preprocessing.std, strict=True)):
        from_luma, from_blue, from_red, constant = (factor / std for factor in parameters.color_matrix[channel])
        chroma_term = None
        for plane, factor in ((0, from_blue), (1, from_red)):
            if factor:
                product = doubled_chroma[:, plane]
                chroma_term = product * factor if chroma_term is None else chroma_term.add_(product, alpha=factor)
        assert chroma_term is not None, "every channel of RGB depends on chroma"
        chroma_term += constant - mean / std
        plane_nthw = torch.add(chroma_term.unsqueeze(3), luma, alpha=from_luma).view(shape)
        block = plane_nthw[..., parameters.top : parameters.top + crop, left : left + crop]
        torch.clamp(block, -mean / std, (255 - mean) / std, out=clips_ncthw[:, channel])


@lru_cache(maxsize=4)
def compute_yuv_to_rgb_matrix(matrix: ColorMatrix, full_range: bool) -> NDArray[np.float32]:
    """The matrix (3, 4) from 8-bit (Y, Cb, Cr, 1) to RGB on the 0-255 scale (ITU-R BT.601, BT.709)."""
    red, blue = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}[matrix]
    green = 1 - red - blue
    from_differences = np.array(
        [
            [1, 0, 2 * (1 - red)],
            [1, -2 * blue * (1 - blue) / green, -2 * red * (1 - red) / green],
            [1, 2 * (1 - blue), 0],
        ]
    )
    luma_gain, luma_zero, chroma_gain = (1.0, 0.0, 1.0) if full_range else (255 / 219, 16.0, 255 / 224)
    gains = from_differences * np.array([luma_gain, chroma_gain, chroma_gain])
    zero = gains @ np.array([luma_zero, 128.0, 128.0])
    return np.concatenate([gains, -zero[:, None]], axis=1).astype(np.float32)
