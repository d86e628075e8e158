"""How a convolution is executed, apart from how it is stored.

Enters: clips (N, C, T, H, W) and the 5-D weight of a bias-free `nn.Conv3d`. Leaves: the same maps whatever the form, up to
rounding. In channels-last memory (N, T, H, W, C) a 1 x k x k convolution is a 2-D one on a free view of the frames and a
t x 1 x 1 convolution a 2-D one on a free view of the pixels, and torch's 2-D kernels are better than its 3-D ones for such
filters. `choose_execution_form` decides which form runs, and `should_use_winograd` whether its 3x3 filters take a quarter
of the
multiplications.
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
    """A bias-free `nn.Conv3d` in parameters and result. `execution` is how it runs: "plain" is torch's own conv3d."""

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
        """The same with another weight of this kernel size, in the fastest form."""
        assert not isinstance(self.padding, str), "padding is three numbers"
        # The first convolution lays the clips out; batch norm, ReLU and sums keep that layout through the network.
        clips = clips.contiguous(memory_format=torch.channels_last_3d)
        match choose_execution_form(self.kernel_size, self.stride, self.padding):
            case "frames":
                return convolve_frames(clips, weight, stride=self.stride, padding=self.padding)
            case "pixels":
                return convolve_pixels(clips, weight, stride=self.stride, padding=self.padding)
            case "conv3d" if should_use_winograd(clips, weight, self.stride, self.padding):
                return winograd.convolve_winograd(clips, weight, stride=self.stride[0], padding=self.padding[0])
            case "conv3d":
                return functional.conv3d(clips, weight, None, self.stride, self.padding)


def choose_execution_form(kernel_size: IntTuple, stride: IntTuple, padding: IntTuple) -> ExecutionForm:
    """The form that is measured fastest: (2+1)D gains most, and full 3-D filters gain by the memory layout alone."""
    per_frame = (kernel_size[0], stride[0], padding[0]) == (1, 1, 0)
    per_pixel = (kernel_size[1:], stride[1:], padding[1:]) == ((1, 1), (1, 1), (0, 0))
    if per_frame == per_pixel:  # neither: full 3-D or a strided shortcut; both: 1 x 1 x 1
        return "conv3d"
    return "frames" if per_frame else "pixels"


def convolve_frames(clips: Tensor, weight: Tensor, *, stride: IntTuple, padding: IntTuple) -> Tensor:
    """A 1 x k x k convolution, frame by frame. Channels-last clips (N, C, T, H, W) are not copied."""
    frames, filters = flatten_clips(clips, "frames"), weight.squeeze(2)
    if should_use_winograd(clips, weight, stride, padding):
        maps = winograd.convolve_winograd(frames, filters)
    else:
        maps = functional.conv2d(frames, filters, None, stride[1:], padding[1:])
    return unflatten_maps(maps, clips, "frames")


def convolve_pixels(clips: Tensor, weight: Tensor, *, stride: IntTuple, padding: IntTuple) -> Tensor:
    """A t x 1 x 1 convolution, pixel by pixel. Channels-last clips (N, C, T, H, W) are not copied."""
    rows, taps = flatten_clips(clips, "pixels"), weight.squeeze(4)
    # Elsewhere torch's own weight gradient stands: on a GPU it is not known to be slow, and a compiler sees through it.
    if is_eager_on_cpu(clips):
        maps = convolve_temporal(rows, taps, stride=stride[0], padding=padding[0])
    else:
        maps = functional.conv2d(rows, taps, None, (stride[0], 1), (padding[0], 0))
    return unflatten_maps(maps, clips, "pixels")


def is_eager_on_cpu(clips: Tensor) -> bool:
    """Neither on a GPU, nor in another precision than its own, nor seen by a compiler."""
    on_cpu = clips.device.type == "cpu"
    return on_cpu and not torch.is_autocast_enabled("cpu") and not torch.compiler.is_compiling()


def should_use_winograd(clips: Tensor, weight: Tensor, stride: IntTuple, padding: IntTuple) -> bool:
    """Whether a quarter of the multiplications is also less time, filters that have to be transformed for it included."""
    return (
        clips.dtype == torch.float32
        and winograd.is_applicable(weight, stride, padding)
        and winograd.is_worthwhile_in_training(clips)
        and is_eager_on_cpu(clips)
        and has_onednn()
    )


def has_onednn() -> bool:
    """Whether this build of torch has the CPU kernels that are called by name here and in `muybridge.inference.folded`."""
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return available and hasattr(torch.ops.mkldnn, "_convolution_pointwise_")


def flatten_clips(clips: Tensor, form: ExecutionForm) -> Tensor:
    """Clips (N, C, T, H, W) as the 4-D view of a form: frames (N*T, C, H, W), pixels (N, C, T, H*W)."""
    # Flattening (N, T, H, W, C) and not (N, C, T, H, W): for N = 1 the latter leaves a batch stride by which torch no
    # longer sees that channels lie last, and it would copy the clip (measured: a sixth of R(2+1)D's time).
    pixels = clips.permute(0, 2, 3, 4, 1)  # (N, T, H, W, C)
    match form:
        case "frames":
            return pixels.flatten(0, 1).permute(0, 3, 1, 2)
        case "pixels":
            return pixels.flatten(2, 3).permute(0, 3, 1, 2)
        case "conv3d":
            return clips


def unflatten_maps(maps: Tensor, clips: Tensor, form: ExecutionForm) -> Tensor:
    """What a form made of the view of `clips`, as (N, C', T', H', W') again."""
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

    Without `relu` nothing stands in the third place, and the two halves are one linear map up to batch norm.

    Between the halves lie 45, 230, 460 or 921 channels, which tensor cores cannot divide by 8: at execution they are
    padded to a multiple with filters of zero, whose maps stay zero through batch norm and ReLU and meet weights of zero.
    `channel_multiple` None is 8 on a GPU and 1 elsewhere. Stored weights and statistics keep their shapes.
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
        assert isinstance(spatial, Convolution3d) and isinstance(temporal, Convolution3d), "the halves"
        extra_channels = -spatial.out_channels % (self.channel_multiple or (8 if clips.is_cuda else 1))
        # Another norm than torch's own (one that is synchronised between processes) cannot be padded from here.
        if extra_channels == 0 or spatial.execution == "plain" or type(norm) is not nn.BatchNorm3d:
            return super().forward(clips)  # type: ignore[no-any-return, no-untyped-call]
        maps: Tensor = spatial.convolve(clips, functional.pad(spatial.weight, (0, 0) * 4 + (0, extra_channels)))
        maps = self[2](apply_padded_norm(norm, maps, extra_channels))
        maps = temporal.convolve(maps, functional.pad(temporal.weight, (0, 0) * 3 + (0, extra_channels)))
        for module in list(self.children())[4:]:
            maps = module(maps)
        return maps


def apply_padded_norm(norm: nn.BatchNorm3d, maps: Tensor, extra_channels: int) -> Tensor:
    """Batch norm of maps that have `extra` channels of zeros behind those of `norm`; they stay zero."""
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
    """Run every convolution of `net` as `execution` says: "plain" is the reference that tests compare with."""
    for module in net.modules():
        if isinstance(module, Convolution3d):
            module.execution = execution


def set_channel_multiple(net: nn.Module, multiple: int | None) -> None:
    """Pad the channels inside (2+1)D convolutions to this multiple; None leaves it to the device."""
    for module in net.modules():
        if isinstance(module, FactorizedConvolution):
            module.channel_multiple = multiple
