"""The authors' networks as a plain evaluation of their operators, without any of our code: an oracle for imported weights.

Follows VMZ's model builder (r3d_model.py, builder/video_model.py): ConvNd, SpatialBN in test mode, Relu, Sum,
AveragePool, FC, under its blob names. A blob that is asked for and not there is drawn; so one run of a network
on a clip makes its weights, and another evaluates them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

EPSILON = 1e-3
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 152: (3, 8, 36, 3)}
# Which of conv2..conv5 are 3-D, and the temporal extent of conv1 (None: the clip's length).
KINDS = {
    "r2d": ("....", None), "r2df": ("....", 1), "r3d": ("3333", 3), "r2plus1d": ("++++", 3),
    "mc2": ("....", 3), "mc3": ("3...", 3), "mc4": ("33..", 3), "mc5": ("333.", 3),
    "rmc2": ("3333", 1), "rmc3": (".333", 1), "rmc4": ("..33", 1), "rmc5": ("...3", 1),
}  # fmt: skip


class Workspace:
    """Blobs by name; those that are missing are drawn from a seeded generator."""

    def __init__(self, blobs: dict[str, Tensor] | None = None, seed: int = 0) -> None:
        self.blobs = {} if blobs is None else blobs
        self.generator = torch.Generator().manual_seed(seed)

    def blob(self, name: str, *shape: int) -> Tensor:
        if name not in self.blobs:
            drawn = torch.randn(shape, generator=self.generator)
            if name.endswith(("_s", "_riv")):
                drawn = drawn.abs() * 0.4 + 0.3  # spread widely around epsilon's reach: its place shows
            elif name.endswith(("_rm", "_b")):
                drawn = drawn * 0.1
            else:
                drawn = drawn * (2 / drawn[0].numel()) ** 0.5
            self.blobs[name] = drawn
        assert self.blobs[name].shape == shape, name
        return self.blobs[name]

    def conv(self, x: Tensor, name: str, out: int, kernel: tuple[int, ...], stride=(1, 1, 1), pad=(0, 0, 0)) -> Tensor:
        return functional.conv3d(x, self.blob(f"{name}_w", out, x.shape[1], *kernel), None, stride, pad)

    def spatial_bn(self, x: Tensor, name: str) -> Tensor:
        s, b, mean, variance = (self.blob(f"{name}_{part}", x.shape[1]) for part in ("s", "b", "rm", "riv"))
        wide = [part.double()[:, None, None, None] for part in (s, b, mean, variance)]
        return ((x.double() - wide[2]) / (wide[3] + EPSILON).sqrt() * wide[0] + wide[1]).float()


def evaluate(
    blobs: dict[str, Tensor], clips: Tensor, *, name: str, depth: int, classes: int, width: int, pool: bool = False
) -> Tensor:
    """Logits (N, classes) of the network `name` (VMZ's spelling) of `depth`; missing blobs are drawn into `blobs`."""
    space = Workspace(blobs)
    kinds, length = KINDS[name]
    time = clips.shape[2] if length is None else length
    if name == "r2plus1d":
        mid = max(1, round(45 * width / 64))
        x = space.conv(clips, "conv1_middle", mid, (1, 7, 7), (1, 2, 2), (0, 3, 3))
        x = space.spatial_bn(x, "conv1_middle_spatbn_relu").relu()
        x = space.conv(x, "conv1", width, (3, 1, 1), pad=(1, 0, 0))
    else:
        x = space.conv(clips, "conv1", width, (time, 7, 7), (1, 2, 2), (1 if time == 3 else 0, 3, 3))
    x = space.spatial_bn(x, "conv1_spatbn_relu").relu()
    if pool:
        x = functional.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))
    number = 0
    for stage, count in enumerate(BLOCKS[depth]):
        for block in range(count):
            down = stage > 0 and block == 0
            stride = ((2 if kinds[stage] != "." else 1), 2, 2) if down else (1, 1, 1)
            x = residual_block(space, x, number, kinds[stage], width * 2**stage, stride, depth)
            number += 1
    features = x.mean((2, 3, 4))
    head = f"last_out_L{classes}"
    return features @ space.blob(f"{head}_w", classes, features.shape[1]).T + space.blob(f"{head}_b", classes)


def residual_block(space, x, number, kind, base, stride, depth):  # type: ignore[no-untyped-def]
    def convolve(y, index, out, kernel, stride=(1, 1, 1)):  # type: ignore[no-untyped-def]
        name, pad = f"comp_{number}_conv_{index}", tuple(size // 2 for size in kernel)
        if kind == "+" and kernel == (3, 3, 3):
            entering = y.shape[1]
            mid = int(3 * entering * out * 9 / (entering * 9 + 3 * out))
            y = space.conv(y, f"{name}_middle", mid, (1, 3, 3), (1, *stride[1:]), (0, 1, 1))
            y = space.spatial_bn(y, f"comp_{number}_spatbn_{index}_middle").relu()
            y = space.conv(y, name, out, (3, 1, 1), (stride[0], 1, 1), (1, 0, 0))
        else:
            y = space.conv(y, name, out, kernel, stride, pad)
        return space.spatial_bn(y, f"comp_{number}_spatbn_{index}")

    wide = (1, 3, 3) if kind == "." else (3, 3, 3)
    if depth <= 34:
        leaving = base
        y = convolve(convolve(x, 1, base, wide, stride).relu(), 2, base, wide)
    else:
        leaving = 4 * base
        y = convolve(x, 1, base, (1, 1, 1)).relu()
        y = convolve(convolve(y, 2, base, wide, stride).relu(), 3, leaving, (1, 1, 1))
    if leaving != x.shape[1] or stride != (1, 1, 1):
        x = space.conv(x, f"shortcut_projection_{number}", leaving, (1, 1, 1), stride)
        x = space.spatial_bn(x, f"shortcut_projection_{number}_spatbn")
    return (x + y).relu()
