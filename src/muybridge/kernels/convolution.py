"""3-D convolutions in the fastest form of execution.

Input: clips (N, C, T, H, W) and the 5-D weight of a bias-free `nn.Conv3d`. Output: its maps, equal in every form up to
rounding. In channels-last memory (N, T, H, W, C) a 1 x k x k convolution is a 2-D one on a view of the frames and a t x 1 x 1
convolution a 2-D one on a view of the pixels, and torch's 2-D kernels are faster than its 3-D ones for such filters.
`choose_execution_form` selects the form, and `should_use_winograd` selects Winograd's algorithm for 3x3 filters.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from muybridge.kernels import winograd
from muybridge.kernels.temporal import convolve_temporal

Execution = Literal["fast", "plain"]
ExecutionForm = Literal["frames", "pixels", "conv3d"]
Triple = tuple[int, int, int]  # time, height, width
IntTuple = tuple[int, ...]  # the same, as nn.Conv3d types it


class Convolution3d(nn.Conv3d):
    """A bias-free `nn.Conv3d` that runs in the fastest form; with `execution` "plain" it runs as torch's conv3d."""

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel_size: Triple, stride: Triple = (1, 1, 1), padding: Triple
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, bias=False)
        self.execution: Execution = "fast"

    def forward(self, clips: Tensor) -> Tensor:
        """(N, C, T, H, W) -> (N, out_channels, T', H', W'), in channels-last memory unless "plain"."""
        if self.execution == "plain":
            return super().forward(clips)
        return self.convolve(clips, self.weight)

    def convolve(self, clips: Tensor, weight: Tensor) -> Tensor:
        """Convolve with another weight of this kernel size, in the fastest form."""
        assert not isinstance(self.padding, str), "padding is three numbers"
        # Copies only in the first convolution; batch norm, ReLU and sums keep the memory format through the network.
        clips = clips.contiguous(memory_format=torch.channels_last_3d)
        match choose_execution_form(self.kernel_size, self.stride, self.padding):
            case "frames":
                return _convolve_frames(clips, weight, stride=self.stride, padding=self.padding)
            case "pixels":
                return _convolve_pixels(clips, weight, stride=self.stride, padding=self.padding)
            case "conv3d" if _should_use_winograd(clips, weight, self.stride, self.padding):
                return winograd.convolve_winograd(clips, weight, stride=self.stride[0], padding=self.padding[0])
            case "conv3d":
                return functional.conv3d(clips, weight, None, self.stride, self.padding)


def choose_execution_form(kernel_size: IntTuple, stride: IntTuple, padding: IntTuple) -> ExecutionForm:
    """The fastest form by measurement: (2+1)D gains most; full 3-D filters gain from the memory format only."""
    per_frame = (kernel_size[0], stride[0], padding[0]) == (1, 1, 0)
    per_pixel = (kernel_size[1:], stride[1:], padding[1:]) == ((1, 1), (1, 1), (0, 0))
    if per_frame == per_pixel:  # neither: full 3-D or a strided shortcut; both: 1 x 1 x 1
        return "conv3d"
    return "frames" if per_frame else "pixels"


def _convolve_frames(clips: Tensor, weight: Tensor, *, stride: IntTuple, padding: IntTuple) -> Tensor:
    """A 1 x k x k convolution, frame by frame. Channels-last clips (N, C, T, H, W) are not copied."""
    frames, filters = flatten_clips(clips, "frames"), weight.squeeze(2)
    if _should_use_winograd(clips, weight, stride, padding):
        maps = winograd.convolve_winograd(frames, filters)
    else:
        maps = functional.conv2d(frames, filters, None, stride[1:], padding[1:])
    return unflatten_maps(maps, clips, "frames")


def _convolve_pixels(clips: Tensor, weight: Tensor, *, stride: IntTuple, padding: IntTuple) -> Tensor:
    """A t x 1 x 1 convolution, pixel by pixel. Channels-last clips (N, C, T, H, W) are not copied."""
    rows, taps = flatten_clips(clips, "pixels"), weight.squeeze(4)
    # Only where torch's weight gradient is known to be slow: not on a GPU, nor under a compiler, which must see the operators.
    if _is_eager_on_cpu(clips):
        maps = convolve_temporal(rows, taps, stride=stride[0], padding=padding[0])
    else:
        maps = functional.conv2d(rows, taps, None, (stride[0], 1), (padding[0], 0))
    return unflatten_maps(maps, clips, "pixels")


def _is_eager_on_cpu(clips: Tensor) -> bool:
    """Whether clips are on a CPU, without autocast and without torch.compile."""
    on_cpu = clips.device.type == "cpu"
    return on_cpu and not torch.is_autocast_enabled("cpu") and not torch.compiler.is_compiling()


def _should_use_winograd(clips: Tensor, weight: Tensor, stride: IntTuple, padding: IntTuple) -> bool:
    """Whether Winograd's algorithm is faster, including the transformation of the filters."""
    return (
        clips.dtype == torch.float32
        and winograd.is_applicable(weight, stride, padding)
        and winograd.is_worthwhile_in_training(clips)
        and _is_eager_on_cpu(clips)
        and has_onednn()
    )


def has_onednn() -> bool:
    """Whether this build of torch has the oneDNN operators that Winograd's algorithm and `optimize` call by name."""
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return available and hasattr(torch.ops.mkldnn, "_convolution_pointwise_")


def flatten_clips(clips: Tensor, form: ExecutionForm) -> Tensor:
    """Clips (N, C, T, H, W) as the 4-D view of a form: frames (N*T, C, H, W), pixels (N, C, T, H*W)."""
    # Flatten (N, T, H, W, C) and not (N, C, T, H, W): for N = 1 the latter has a batch stride by which torch does not
    # recognise channels-last, and torch would copy the clip (measured: a sixth of R(2+1)D's time).
    pixels = clips.permute(0, 2, 3, 4, 1)  # (N, T, H, W, C)
    match form:
        case "frames":
            return pixels.flatten(0, 1).permute(0, 3, 1, 2)
        case "pixels":
            return pixels.flatten(2, 3).permute(0, 3, 1, 2)
        case "conv3d":
            return clips


def unflatten_maps(maps: Tensor, clips: Tensor, form: ExecutionForm) -> Tensor:
    """Inverse of `flatten_clips` for the output of a convolution: a view as (N, C', T', H', W')."""
    num_clips, _, num_frames, height, width = clips.shape
    match form:
        case "frames":
            pixels = torch.unflatten(maps.permute(0, 2, 3, 1), 0, (num_clips, num_frames))
        case "pixels":
            pixels = torch.unflatten(maps.permute(0, 2, 3, 1), 2, (height, width))
        case "conv3d":
            return maps
    return pixels.permute(0, 4, 1, 2, 3)


class FactorizedConvolution(nn.Sequential):
    """(2+1)D in the four parts of the paper's Figure 1e: 1 x d x d, batch norm, ReLU, t x 1 x 1; then `others`.

    With `relu` false the third part is the identity, and the two halves are one linear map up to batch norm.

    There are 45, 230, 460 or 921 mid-channels, but tensor cores need a multiple of 8. At execution they are padded with zero
    filters to `channel_multiple`; their maps stay zero through batch norm and ReLU and are multiplied by zero weights. None is
    8 on a GPU and 1 elsewhere. Stored weights and statistics keep their shapes.
    """

    def __init__(
        self,
        spatial: Convolution3d,
        norm: nn.BatchNorm3d,
        temporal: Convolution3d,
        *others: nn.Module,
        relu: bool = True,
    ) -> None:
        between: nn.Module = nn.ReLU(inplace=True) if relu else nn.Identity()
        super().__init__(spatial, norm, between, temporal, *others)
        self.channel_multiple: int | None = None

    def forward(self, clips: Tensor) -> Tensor:
        """(N, C, T, H, W) -> (N, C', T', H', W')."""
        spatial, norm, temporal = self[0], self[1], self[3]
        assert isinstance(spatial, Convolution3d) and isinstance(temporal, Convolution3d), "two halves"
        extra_channels = -spatial.out_channels % (self.channel_multiple or (8 if clips.is_cuda else 1))
        # Other norms, such as those synchronized between ranks, cannot be padded here.
        if extra_channels == 0 or spatial.execution == "plain" or type(norm) is not nn.BatchNorm3d:
            return super().forward(clips)  # type: ignore[no-any-return, no-untyped-call]
        maps: Tensor = spatial.convolve(clips, functional.pad(spatial.weight, (0, 0) * 4 + (0, extra_channels)))
        maps = self[2](_apply_padded_norm(norm, maps, extra_channels))
        maps = temporal.convolve(maps, functional.pad(temporal.weight, (0, 0) * 3 + (0, extra_channels)))
        for module in list(self.children())[4:]:
            maps = module(maps)
        return maps


def _apply_padded_norm(norm: nn.BatchNorm3d, maps: Tensor, extra_channels: int) -> Tensor:
    """Batch norm of maps with `extra_channels` channels of zeros after those of `norm`; they stay zero."""
    assert norm.momentum is not None, "running means are moving averages"
    assert norm.running_mean is not None and norm.running_var is not None, "the norm keeps statistics"
    mean = variance = None
    updates = norm.training and norm.track_running_stats
    if updates or not norm.training:
        mean, variance = (
            functional.pad(norm.running_mean, (0, extra_channels)),
            functional.pad(norm.running_var, (0, extra_channels)),
        )
    weight, bias = functional.pad(norm.weight, (0, extra_channels)), functional.pad(norm.bias, (0, extra_channels))
    maps = functional.batch_norm(maps, mean, variance, weight, bias, norm.training, norm.momentum, norm.eps)
    if updates:
        assert mean is not None and variance is not None and norm.num_batches_tracked is not None
        norm.running_mean.copy_(mean[: norm.num_features])
        norm.running_var.copy_(variance[: norm.num_features])
        norm.num_batches_tracked.add_(1)
    return maps


def set_execution(net: nn.Module, execution: Execution) -> None:
    """Set `execution` of every convolution of `net`; "plain" is the reference for tests."""
    for module in net.modules():
        if isinstance(module, Convolution3d):
            module.execution = execution


def set_channel_multiple(net: nn.Module, multiple: int | None) -> None:
    """Pad the mid-channels of (2+1)D convolutions to this multiple at execution; None depends on the device."""
    for module in net.modules():
        if isinstance(module, FactorizedConvolution):
            module.channel_multiple = multiple
