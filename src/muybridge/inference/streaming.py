"""Run a network along a long video, computing once what overlapping windows share.

Input: an optimized network and the frames of a video in order. Output: logits or features of windows of L frames each.

`SplitNetwork` is exact: layers that see single frames (the spatial half of R(2+1)D's stem, all of f-R2D) run once for each
frame, the others once for each window, since a window is padded with zeros in time.

`FeatureStream` is fully convolutional in time: every layer runs once along the whole video, and the output of the last one is
averaged over each window. It differs from the network on single windows only at their borders, where it sees the video instead
of zeros. A layer of temporal stride 2 runs at both phases where windows need both,

    window starts     0   4   8   12        frames
    conv3_x, 4_x      0   2   4    6        every position is even: one phase
    conv5_x           0 1 2 3               both phases, each over every second position

so that the first step of every window is centred on its first frame. This is the network with strides replaced by dilations,
at the cost of the strided one. Layers keep the few frames that the next chunk needs, so memory does not grow with the length
of the video, and results do not depend on the chunks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from muybridge.inference.finite import check_finite_outputs, find_unusable, invalidate
from muybridge.inference.folded import FoldedBlock, FoldedConvolution, InferenceNetwork
from muybridge.models.family import ConvolutionKind


class SplitNetwork:
    """An optimized network split into the layers that see single frames and the rest; either may be empty.

    After frames that are not finite all logits are NaN, so that no step waits for the device; `fetch` raises the error.
    """

    def __init__(self, network: InferenceNetwork) -> None:
        layers = [*network.stem, *network.blocks]
        num_frame_layers = next((index for index, layer in enumerate(layers) if not _is_per_frame(layer)), len(layers))
        self.network = network
        self.frame_layers = nn.Sequential(*layers[:num_frame_layers])
        self.window_layers = nn.Sequential(*layers[num_frame_layers:])
        self._is_unusable: Tensor | None = None  # bool (): whether any frames so far were

    @torch.inference_mode()
    def compute_frame_maps(self, frames_ncthw: Tensor) -> Tensor:
        """Normalised frames (N, C, T, H, W) -> maps (N, C', T, H', W'), each frame by itself."""
        is_unusable = find_unusable(frames_ncthw)
        self._is_unusable = is_unusable if self._is_unusable is None else self._is_unusable | is_unusable
        maps: Tensor = self.frame_layers(self.network.lay_out(frames_ncthw))
        return maps

    @torch.inference_mode()
    def compute_logits(self, maps_ncthw: Tensor) -> Tensor:
        """Maps of whole windows (N, C', L, H', W'), channels last -> logits (N, classes); `maps_ncthw` may be overwritten."""
        maps: Tensor = self.window_layers(maps_ncthw)
        return self.classify(maps.mean(dim=(2, 3, 4), dtype=self.network.classifier_weight.dtype))

    @torch.inference_mode()
    def classify(self, features: Tensor) -> Tensor:
        """Features (N, F) -> logits (N, classes)."""
        logits = self.network.compute_logits(features)
        return logits if self._is_unusable is None else invalidate(logits, self._is_unusable)

    def fetch(self, logits: Tensor) -> Tensor:
        """Logits as float32 on the CPU. Raises ValueError if they are not finite."""
        fetched = logits.float().cpu()
        if not bool(fetched.isfinite().all()) and self._is_unusable is not None and bool(self._is_unusable):
            raise ValueError(
                "the clips hold numbers that are not finite or too large, so no answer is given; check their normalisation"
            )
        return check_finite_outputs(fetched, "logits")


def _is_per_frame(layer: nn.Module) -> bool:
    """Whether all convolutions of the layer have temporal size and stride 1, and its max-pool too."""
    if isinstance(layer, nn.MaxPool3d):
        return layer.stride == (1, 2, 2)
    return all(conv.temporal_geometry[:2] == (1, 1) for conv in layer.modules() if isinstance(conv, FoldedConvolution))


def check_streamable(network: InferenceNetwork) -> None:
    """Raise ValueError for a network that cannot run along a video."""
    spec = network.specification
    if spec.stem is ConvolutionKind.TIME_AS_CHANNELS:
        raise ValueError(
            f"{spec.name} takes the {spec.clip_length} frames of a clip as channels, so it cannot run along a video; "
            "score it window by window"
        )
    if spec.stem_pool_time_stride != 1:
        raise ValueError(
            f"this {spec.name} has a max-pool over time after its stem, so it cannot run along a video; "
            "score it window by window"
        )


class FeatureStream:
    """Features of windows of `length` frames that begin at `starts` (increasing), for maps that are pushed in order.

    Maps are those of `SplitNetwork.compute_frame_maps` as (T, H, W, C), from `first_frame` on: no window depends on earlier
    frames.
    """

    def __init__(self, split: SplitNetwork, starts: Sequence[int], length: int) -> None:
        check_streamable(split.network)
        groups = _group_by_stride(split.window_layers)
        for _ in groups[1:]:
            length = -(-length // 2)  # rounded up, as the padding makes it
        self.first_frame = max(0, starts[0] - _compute_temporal_radius(groups[0]) - _compute_strided_radius(groups[1:]))
        windows = [(window_index, start - self.first_frame) for window_index, start in enumerate(starts)]
        self._branch = _StreamBranch(groups, windows, length, num_dropped=0, first_center=0)

    @torch.inference_mode()
    def push(self, maps_thwc: Tensor) -> list[tuple[int, Tensor]]:
        """Windows that these maps complete: their indices in `starts`, and features (F,)."""
        return self._branch.push(maps_thwc, last=False)

    @torch.inference_mode()
    def finish(self) -> list[tuple[int, Tensor]]:
        """The remaining windows, at the end of the video."""
        return self._branch.push(None, last=True)


def _group_by_stride(layers: nn.Sequential) -> list[list[nn.Module]]:
    """Layers in groups between temporal strides; every group but the first begins with a layer of stride 2."""
    groups: list[list[nn.Module]] = [[]]
    for layer in layers:
        if any(conv.temporal_geometry[1] == 2 for conv in layer.modules() if isinstance(conv, FoldedConvolution)):
            groups.append([])
        groups[-1].append(layer)
    return groups


def _compute_temporal_radius(layers: Sequence[nn.Module]) -> int:
    """How many frames before and after a frame its output depends on, strided convolutions excluded."""
    convolutions = [conv for layer in layers for conv in layer.modules() if isinstance(conv, FoldedConvolution)]
    return sum(conv.temporal_geometry[2] for conv in convolutions if conv.temporal_geometry[1] == 1)


def _compute_strided_radius(groups: Sequence[Sequence[nn.Module]]) -> int:
    """The same for groups that begin with a stride, in input frames of the first."""
    if not groups:
        return 0
    return 1 + 2 * (_compute_temporal_radius(groups[0]) + _compute_strided_radius(groups[1:]))


class _StreamBranch:
    """Layers between two strides, followed by a branch for each phase of the next stride or, in the last, by pooling.

    `windows` are (window index, first position) in output frames. The first `num_dropped` input frames are discarded; the first
    strided convolution is centred on frame `first_center` of the others.
    """

    def __init__(
        self,
        groups: Sequence[Sequence[nn.Module]],
        windows: Sequence[tuple[int, int]],
        length: int,
        *,
        num_dropped: int,
        first_center: int,
    ) -> None:
        self._num_to_drop = num_dropped
        self._layers = [
            _make_stream_layer(layer, first_center if index == 0 else 0) for index, layer in enumerate(groups[0])
        ]
        self._branches: list[_StreamBranch] = []
        self._pool = _WindowPool(windows, length) if len(groups) == 1 else None
        for phase in (0, 1) if len(groups) > 1 else ():
            phase_windows = [(window_index, start // 2) for window_index, start in windows if start % 2 == phase]
            if phase_windows:
                radius = _compute_temporal_radius(groups[1]) + _compute_strided_radius(groups[2:])
                begin = max(0, phase_windows[0][1] - radius)
                center = 2 * begin + phase
                dropped = max(0, center - 1)  # the filter reaches one frame back
                phase_windows = [(window_index, start - begin) for window_index, start in phase_windows]
                self._branches.append(
                    _StreamBranch(groups[1:], phase_windows, length, num_dropped=dropped, first_center=center - dropped)
                )

    def push(self, maps: Tensor | None, *, last: bool) -> list[tuple[int, Tensor]]:
        if maps is not None:
            dropped = min(self._num_to_drop, len(maps))
            self._num_to_drop -= dropped
            maps = maps[dropped:] if dropped < len(maps) else None
        for layer in self._layers:
            maps = layer.push(maps, last=last)
        if self._pool is not None:
            return [] if maps is None else self._pool.push(maps)
        return [window_features for branch in self._branches for window_features in branch.push(maps, last=last)]


class _WindowPool:
    """Average over space, then over the `length` steps of each window."""

    def __init__(self, windows: Sequence[tuple[int, int]], length: int) -> None:
        self._windows = deque(windows)
        self._length = length
        self._first_frame = 0
        self._pending: Tensor | None = None

    def push(self, maps: Tensor) -> list[tuple[int, Tensor]]:
        dtype = torch.float32 if maps.dtype == torch.bfloat16 else maps.dtype
        rows = maps.mean(dim=(1, 2), dtype=dtype)  # (T, F)
        rows = rows if self._pending is None else torch.cat([self._pending, rows])
        completed = []
        while self._windows and self._windows[0][1] + self._length <= self._first_frame + len(rows):
            window_index, start = self._windows.popleft()
            begin = start - self._first_frame
            completed.append((window_index, rows[begin : begin + self._length].mean(0)))
        needed = self._windows[0][1] if self._windows else self._first_frame + len(rows)
        passed = min(max(0, needed - self._first_frame), len(rows))
        self._first_frame += passed
        self._pending = rows[passed:].clone()
        return completed


def _make_stream_layer(layer: nn.Module, first_center: int) -> _StreamConvolution | _StreamBlock | _StreamPerFrame:
    match layer:
        case FoldedConvolution():
            return _StreamConvolution(layer, first_center)
        case FoldedBlock():
            return _StreamBlock(layer, first_center)
        case _:
            return _StreamPerFrame(layer)


class _StreamPerFrame:
    """A max-pool over space."""

    def __init__(self, layer: nn.Module) -> None:
        self._layer = layer

    def push(self, maps: Tensor | None, *, last: bool) -> Tensor | None:
        return None if maps is None else _to_frames(self._layer(_view_as_clip(maps)))


class _StreamConvolution:
    """A convolution of frames that are pushed in chunks; a strided one is first centred on frame `first_center`, 0 or 1."""

    def __init__(self, layer: FoldedConvolution, first_center: int = 0) -> None:
        self._convolve = layer.copy_without_temporal_padding()
        self._kernel, self._stride, self._padding = layer.temporal_geometry
        before = self._padding - (first_center if self._stride == 2 else 0)
        self._num_leading_zeros, self._num_to_skip = max(0, before), max(0, -before)
        self._pending: Tensor | None = None

    def push(self, maps: Tensor | None, *, last: bool) -> Tensor | None:
        """The outputs that can be computed so far, None for none. `last`: no frame follows these."""
        ready = self.take_ready_frames(maps, last=last)
        return None if ready is None else self.convolve(ready)

    def take_ready_frames(self, maps: Tensor | None, *, last: bool) -> Tensor | None:
        """The input frames of the next outputs; those that later outputs need are kept."""
        pieces = [piece for piece in (self._pending, maps) if piece is not None]
        if not pieces:
            return None
        zeros = pieces[0].new_zeros((1, *pieces[0].shape[1:]))
        before, self._num_leading_zeros = self._num_leading_zeros, 0
        frames = torch.cat([zeros] * before + pieces + [zeros] * (self._padding if last else 0))
        skipped = min(self._num_to_skip, len(frames))
        self._num_to_skip -= skipped
        frames = frames[skipped:]
        count = self.count_outputs(frames)
        used = count * self._stride
        self._num_to_skip += max(0, used - len(frames))
        self._pending = frames[used:].clone()
        return frames[: (count - 1) * self._stride + self._kernel] if count else None

    def count_outputs(self, frames: Tensor) -> int:
        """The number of outputs of these frames."""
        return max(0, (len(frames) - self._kernel) // self._stride + 1)

    def convolve(self, frames: Tensor, residual: Tensor | None = None) -> Tensor:
        """(T, H, W, C) -> (T', H', W', C'); `residual` is added and may be overwritten."""
        return _to_frames(self._convolve(_view_as_clip(frames), None if residual is None else _view_as_clip(residual)))


class _StreamBlock:
    """A residual block. Outputs of the shortcut are kept until the convolutions reach the same frame."""

    def __init__(self, block: FoldedBlock, first_center: int) -> None:
        # Before the stride, frames are those of the input: `first_center` concerns only the strided convolution.
        folded = [layer for layer in block.convolutions if isinstance(layer, FoldedConvolution)]
        self._convolutions = [_StreamConvolution(layer, first_center) for layer in folded]
        shortcut = [] if block.shortcut is None else block.shortcut.children()
        self._shortcut = [
            _StreamConvolution(layer, first_center) for layer in shortcut if isinstance(layer, FoldedConvolution)
        ]
        self._residual: Tensor | None = None

    def push(self, maps: Tensor | None, *, last: bool) -> Tensor | None:
        shortcut_maps = maps
        for convolution in self._shortcut:
            shortcut_maps = convolution.push(shortcut_maps, last=last)
        pieces = [piece for piece in (self._residual, shortcut_maps) if piece is not None]
        for convolution in self._convolutions[:-1]:
            maps = convolution.push(maps, last=last)
        final = self._convolutions[-1]
        ready = final.take_ready_frames(maps, last=last)
        if not pieces:
            return None
        residual = torch.cat(pieces)  # a copy, which the last convolution may overwrite
        count = 0 if ready is None else final.count_outputs(ready)
        self._residual = residual[count:].clone()
        return None if ready is None else final.convolve(ready, residual[:count])


def _view_as_clip(frames_thwc: Tensor) -> Tensor:
    """Frames as one clip (1, C, T, H, W), channels last, without a copy."""
    return frames_thwc.unsqueeze(0).permute(0, 4, 1, 2, 3)


def _to_frames(clip: Tensor) -> Tensor:
    """One clip (1, C, T, H, W) as frames (T, H, W, C)."""
    return clip.permute(0, 2, 3, 4, 1).squeeze(0).contiguous()
