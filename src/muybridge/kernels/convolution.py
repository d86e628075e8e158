"""3-D convolutions in the fastest form of execution.

Input: clips (N, C, T, H, W) and the 5-D weight of a bias-free `nn.Conv3d`. Output: its maps, equal in every form up to
rounding. In channels-last memory (N, T, H, W, C) a 1 x k x k convolution is a 2-D one on a view of the frames and a t x 1 x 1
convolution a 2-D one on a view of the pixels, and torch's 2-D kernels are faster than its 3-D ones for such filters.
On a CPU `choose_execution_form` selects the form, and Winograd's algorithm is used for 3x3 filters; on a
GPU `kernels.cuda` selects one for each direction.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from muybridge.kernels import winograd
from muybridge.kernels.batch_norm import apply_layers, apply_norm
from muybridge.kernels.cuda import (
    ConvolutionForms,
    ConvolutionGeometry,
    convolve_in_forms,
    convolve_on_cuda,
)
from muybridge.kernels.forms import ExecutionForm, IntTuple, flatten_clips, unflatten_maps
from muybridge.kernels.temporal import convolve_temporal
from muybridge.kernels.transforms import is_transformed

Execution = Literal["fast", "plain"]
Triple = tuple[int, int, int]  # time, height, width
ONEDNN_BLOCK = 16  # channels, of its widest kernels in float32


class Convolution3d(nn.Conv3d):
    """A bias-free `nn.Conv3d` that runs in the fastest form; with `execution` "plain" it runs as torch's conv3d."""

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel_size: Triple, stride: Triple = (1, 1, 1), padding: Triple
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, bias=False)
        self.execution: Execution = "fast"
        self.forms: ConvolutionForms | None = None  # None: by the rules of the device
        self.num_parts = 1  # of a batch, convolved one after the other

    def forward(self, clips: Tensor) -> Tensor:
        """(N, C, T, H, W) -> (N, out_channels, T', H', W'), in channels-last memory unless "plain"."""
        return self.convolve(clips, self.weight)

    def convolve(self, clips: Tensor, weight: Tensor) -> Tensor:
        """Convolve with another weight of this kernel size."""
        if self.num_parts == 1:
            return self._convolve(clips, weight)
        return torch.cat([self._convolve(part, weight) for part in clips.chunk(self.num_parts)])

    def _convolve(self, clips: Tensor, weight: Tensor) -> Tensor:
        if self.execution == "plain":
            return _convolve_3d(clips, weight, self.stride, self.padding)
        assert not isinstance(self.padding, str), "padding is three numbers"
        if is_transformed():  # torch.func cannot change the memory format of what it maps
            return functional.conv3d(clips, weight, None, self.stride, self.padding)
        geometry = ConvolutionGeometry(tuple(weight.shape), self.stride, self.padding)
        if clips.is_cuda and not self.forms:
            return convolve_on_cuda(clips, weight, geometry)
        # Copies only in the first convolution; batch norm, ReLU and sums keep the memory format through the network.
        clips = clips.contiguous(memory_format=torch.channels_last_3d)
        if self.forms:
            return convolve_in_forms(clips, weight, geometry, self.forms)
        match choose_execution_form(self.kernel_size, self.stride, self.padding):
            case "frames":
                return _convolve_frames(clips, weight, stride=self.stride, padding=self.padding)
            case "pixels":
                return _convolve_pixels(clips, weight, stride=self.stride, padding=self.padding)
            case "conv3d" if _should_use_winograd(clips, weight, self.stride, self.padding):
                return winograd.convolve_winograd(clips, weight, stride=self.stride[0], padding=self.padding[0])
            case "conv3d":
                return _convolve_3d(clips, weight, self.stride, self.padding)


def choose_execution_form(kernel_size: IntTuple, stride: IntTuple, padding: IntTuple) -> ExecutionForm:
    """The fastest form on a CPU by measurement: (2+1)D gains most; full 3-D filters gain from the memory format only."""
    per_frame = (kernel_size[0], stride[0], padding[0]) == (1, 1, 0)
    per_pixel = (kernel_size[1:], stride[1:], padding[1:]) == ((1, 1), (1, 1), (0, 0))
    if per_frame == per_pixel:  # neither: full 3-D or a strided shortcut; both: 1 x 1 x 1
        return "conv3d"
    return "frames" if per_frame else "pixels"


def _convolve_3d(clips: Tensor, weight: Tensor, stride: IntTuple, padding: IntTuple | str) -> Tensor:
    """torch's conv3d; under autocast on a CPU in float32 for two frames and several taps along time.

    There oneDNN's gradient of the weight is memory that nothing wrote (torch 2.13): conv5 of clips of 16 frames, in bf16.
    """
    has_fault = clips.device.type == "cpu" and clips.shape[2] == 2 and weight.shape[2] > 1
    if not (has_fault and torch.is_autocast_enabled("cpu")):
        return functional.conv3d(clips, weight, None, stride, padding)
    dtype = torch.get_autocast_dtype("cpu")
    with torch.autocast("cpu", enabled=False):
        return functional.conv3d(clips.float(), weight.float(), None, stride, padding).to(dtype)


def _convolve_frames(clips: Tensor, weight: Tensor, *, stride: IntTuple, padding: IntTuple) -> Tensor:
    """A 1 x k x k convolution, frame by frame. Channels-last clips (N, C, T, H, W) are not copied, but for narrow shortcuts."""
    frames, filters = flatten_clips(clips, "frames"), weight.squeeze(2)
    if _is_narrow_shortcut(clips, weight, stride):
        zeros = (0, 0) * 2 + (0, ONEDNN_BLOCK - weight.shape[1])
        frames, filters = functional.pad(frames, zeros), functional.pad(filters, zeros)
    if _should_use_winograd(clips, weight, stride, padding):
        maps = winograd.convolve_winograd(frames, filters)
    else:
        maps = functional.conv2d(frames, filters, None, stride[1:], padding[1:])
    return unflatten_maps(maps, clips, "frames")


def _is_narrow_shortcut(clips: Tensor, weight: Tensor, stride: IntTuple) -> bool:
    """Whether a convolution of single pixels, with a stride, has fewer channels than a block of oneDNN's kernels.

    There oneDNN's gradient of the weight writes past its workspace in channels-last memory (torch 2.13): the process may be
    aborted, and with several threads the gradient is wrong, https://github.com/uxlfoundation/oneDNN/issues/6035. A block has 8
    channels with AVX2 and 16 with AVX-512. Padded with channels of zeros, the result is the same to the last bit.
    """
    is_strided_pixel = weight.shape[2:] == (1, 1, 1) and stride[1:] != (1, 1)
    return is_strided_pixel and clips.device.type == "cpu" and weight.shape[1] < ONEDNN_BLOCK


def _convolve_pixels(clips: Tensor, weight: Tensor, *, stride: IntTuple, padding: IntTuple) -> Tensor:
    """A t x 1 x 1 convolution, pixel by pixel. Channels-last clips (N, C, T, H, W) are not copied."""
    rows, taps = flatten_clips(clips, "pixels"), weight.squeeze(4)
    # Not under a compiler, which must see the operators, nor under autocast.
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


class FactorizedConvolution(nn.Sequential):
    """(2+1)D in the four parts of the paper's Figure 1e: 1 x d x d, batch norm, ReLU, t x 1 x 1; then `others`.

    The halves may stand in the other order, as in other projects. With `relu` false the third part is the identity, and the two
    halves are one linear map up to batch norm.

    There are 45, 230, 460 or 921 mid-channels, but tensor cores need a multiple of 8. At execution they are padded with zero
    filters to `channel_multiple`; their maps stay zero through batch norm and ReLU and are multiplied by zero weights. None is
    8 on a GPU and 1 elsewhere. Stored weights and statistics keep their shapes.
    """

    def __init__(
        self,
        first: Convolution3d,
        norm: nn.BatchNorm3d,
        second: Convolution3d,
        *others: nn.Module,
        relu: bool = True,
    ) -> None:
        between: nn.Module = nn.ReLU(inplace=True) if relu else nn.Identity()
        super().__init__(first, norm, between, second, *others)
        self.channel_multiple: int | None = None

    def forward(self, clips: Tensor) -> Tensor:
        """(N, C, T, H, W) -> (N, C', T', H', W')."""
        first, norm, second = self[0], self[1], self[3]
        assert isinstance(first, Convolution3d) and isinstance(second, Convolution3d), "two halves"
        extra_channels = -first.out_channels % (self.channel_multiple or (8 if clips.is_cuda else 1))
        # Other norms, such as those synchronized between ranks, cannot be padded here.
        if first.execution == "plain" or type(norm) is not nn.BatchNorm3d:
            extra_channels = 0
        if extra_channels == 0:
            maps = first(clips)
        else:
            maps = first.convolve(clips, functional.pad(first.weight, (0, 0) * 4 + (0, extra_channels)))
        maps = apply_norm(norm, maps, relu=isinstance(self[2], nn.ReLU), extra_channels=extra_channels)
        if extra_channels == 0:
            maps = second(maps)
        else:
            maps = second.convolve(maps, functional.pad(second.weight, (0, 0) * 3 + (0, extra_channels)))
        others = list(self.children())[4:]
        return apply_layers(others, maps) if others else maps


class NormalizedConvolution(nn.Sequential):
    """A convolution, batch norm, and perhaps ReLU and other layers."""

    def forward(self, clips: Tensor, residual: Tensor | None = None) -> Tensor:
        """(N, C, T, H, W) -> (N, C', T', H', W'). With `residual`: the sum of both, then ReLU."""
        convolution, *others = self.children()
        return apply_layers(others, convolution(clips), residual)


def set_execution(net: nn.Module, execution: Execution) -> None:
    """Set `execution` of every convolution of `net`; "plain" is the reference for tests."""
    for module in net.modules():
        if isinstance(module, Convolution3d):
            module.execution = execution


def set_num_parts(net: nn.Module, num_parts: int) -> None:
    """Convolve every batch of `net` in this many parts; results differ by rounding alone."""
    for module in net.modules():
        if isinstance(module, Convolution3d):
            module.num_parts = num_parts


def set_forms(net: nn.Module, forms: ConvolutionForms | None) -> None:
    """Force the forms of execution of every convolution of `net` that they apply to; None restores the rules."""
    for module in net.modules():
        if isinstance(module, Convolution3d):
            assert not isinstance(module.padding, str), "padding is three numbers"
            geometry = ConvolutionGeometry(tuple(module.weight.shape), module.stride, module.padding)
            possible = {"conv3d"}
            possible |= {"frames"} if geometry.is_per_frame else set()
            possible |= {"pixels"} if geometry.is_per_pixel else set()
            module.forms = forms if forms and possible >= set(forms) else None


def set_channel_multiple(net: nn.Module, multiple: int | None) -> None:
    """Pad the mid-channels of (2+1)D convolutions to this multiple at execution; None depends on the device."""
    for module in net.modules():
        if isinstance(module, FactorizedConvolution):
            module.channel_multiple = multiple
