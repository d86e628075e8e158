"""R(2+1)D and R3D as other projects define them, written from their descriptions with torch's own layers and their names of
tensors: MMAction2, 3D-ResNets-PyTorch and PyTorchVideo.
"""

import torch
from torch import nn


def convolution(inputs, outputs, kernel, stride=(1, 1, 1)):
    padding = tuple(size // 2 for size in kernel)
    return nn.Conv3d(inputs, outputs, kernel, stride, padding, bias=False)


def pool_and_classify(maps, linear):
    return linear(maps.flatten(2).mean(2))


class Mmaction2Half(nn.Module):
    """`conv`: space, norm of epsilon 1e-5, ReLU, time; then `bn` of epsilon 1e-3."""

    def __init__(self, inputs, outputs, kernel, stride=(1, 1, 1)):
        super().__init__()
        t, d = kernel
        mid = 3 * inputs * outputs * d * d // (inputs * d * d + 3 * outputs)
        self.conv = nn.Module()
        self.conv.conv_s = convolution(inputs, mid, (1, d, d), (1, *stride[1:]))
        self.conv.bn_s = nn.BatchNorm3d(mid)
        self.conv.conv_t = convolution(mid, outputs, (t, 1, 1), (stride[0], 1, 1))
        self.bn = nn.BatchNorm3d(outputs, eps=1e-3)

    def forward(self, maps):
        return self.bn(self.conv.conv_t(torch.relu(self.conv.bn_s(self.conv.conv_s(maps)))))


class Mmaction2Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = Mmaction2Half(inputs, outputs, (3, 3), (stride,) * 3)
        self.conv2 = Mmaction2Half(outputs, outputs, (3, 3))
        self.downsample = None if stride == 1 else Mmaction2Half(inputs, outputs, (1, 1), (stride,) * 3)

    def forward(self, maps):
        shortcut = maps if self.downsample is None else self.downsample(maps)
        return torch.relu(self.conv2(torch.relu(self.conv1(maps))) + shortcut)


class Mmaction2(nn.Module):
    """Recognizer3D of ResNet2Plus1d and I3DHead."""

    def __init__(self, width=8, classes=5, blocks=(2, 2, 2, 2)):
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.conv1 = Mmaction2Half(3, width, (3, 7), (1, 2, 2))
        inputs = width
        for stage, count in enumerate(blocks):
            outputs = width * 2**stage
            units = [Mmaction2Block(inputs, outputs, 1 if stage == 0 else 2)]
            units += [Mmaction2Block(outputs, outputs, 1) for _ in range(count - 1)]
            self.backbone.add_module(f"layer{stage + 1}", nn.Sequential(*units))
            inputs = outputs
        self.cls_head = nn.Module()
        self.cls_head.fc_cls = nn.Linear(inputs, classes)

    def forward(self, clips):
        maps = torch.relu(self.backbone.conv1(clips))
        maps = nn.functional.max_pool3d(maps, (1, 3, 3), (1, 2, 2), (0, 1, 1))
        for stage in range(1, 5):
            maps = getattr(self.backbone, f"layer{stage}")(maps)
        return pool_and_classify(maps, self.cls_head.fc_cls)


class HaraBlock(nn.Module):
    """`factorized`: 3x3x3 convolutions as `conv1_s`, `bn1_s`, `conv1_t`, `bn1_t`, else `conv1`, `bn1`."""

    def __init__(self, inputs, channels, stride, *, factorized, bottleneck):
        super().__init__()
        outputs = channels * (4 if bottleneck else 1)
        sizes = [(inputs, channels, 1), (channels, channels, 3), (channels, outputs, 1)]
        if not bottleneck:
            sizes = [(inputs, channels, 3), (channels, channels, 3)]
        strided = 1 if bottleneck else 0
        self.steps = []
        for index, (before, after, kernel) in enumerate(sizes):
            step = stride if index == strided else 1
            number = index + 1
            if factorized and kernel == 3:
                mid = before * after * 27 // (before * 9 + 3 * after)
                self.add_module(f"conv{number}_s", convolution(before, mid, (1, 3, 3), (1, step, step)))
                self.add_module(f"bn{number}_s", nn.BatchNorm3d(mid))
                self.add_module(f"conv{number}_t", convolution(mid, after, (3, 1, 1), (step, 1, 1)))
                self.add_module(f"bn{number}_t", nn.BatchNorm3d(after))
                self.steps.append((f"{number}_s", f"{number}_t"))
            else:
                self.add_module(f"conv{number}", convolution(before, after, (kernel,) * 3, (step,) * 3))
                self.add_module(f"bn{number}", nn.BatchNorm3d(after))
                self.steps.append((str(number),))
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                convolution(inputs, outputs, (1, 1, 1), (stride,) * 3), nn.BatchNorm3d(outputs)
            )

    def forward(self, maps):
        shortcut = maps if self.downsample is None else self.downsample(maps)
        names = [name for step in self.steps for name in step]
        for name in names:
            maps = getattr(self, f"bn{name}")(getattr(self, f"conv{name}")(maps))
            maps = maps + shortcut if name == names[-1] else maps
            maps = torch.relu(maps)
        return maps


class Hara(nn.Module):
    """3D-ResNets-PyTorch: ResNet of models/resnet.py or models/resnet2p1d.py."""

    def __init__(self, *, factorized, bottleneck, width=8, classes=5, blocks=(2, 2, 2, 2)):
        super().__init__()
        self.factorized = factorized
        if factorized:
            mid = 3 * width * 7 * 49 // (3 * 49 + 7 * width)
            self.conv1_s, self.bn1_s = convolution(3, mid, (1, 7, 7), (1, 2, 2)), nn.BatchNorm3d(mid)
            self.conv1_t, self.bn1_t = convolution(mid, width, (7, 1, 1)), nn.BatchNorm3d(width)
        else:
            self.conv1, self.bn1 = convolution(3, width, (7, 7, 7), (1, 2, 2)), nn.BatchNorm3d(width)
        inputs = width
        for stage, count in enumerate(blocks):
            channels, units = width * 2**stage, []
            for index in range(count):
                stride = 2 if stage and not index else 1
                units.append(HaraBlock(inputs, channels, stride, factorized=factorized, bottleneck=bottleneck))
                inputs = channels * (4 if bottleneck else 1)
            self.add_module(f"layer{stage + 1}", nn.Sequential(*units))
        self.fc = nn.Linear(inputs, classes)

    def forward(self, clips):
        if self.factorized:
            maps = torch.relu(self.bn1_t(self.conv1_t(torch.relu(self.bn1_s(self.conv1_s(clips))))))
        else:
            maps = torch.relu(self.bn1(self.conv1(clips)))
        maps = nn.functional.max_pool3d(maps, 3, 2, 1)
        for stage in range(1, 5):
            maps = getattr(self, f"layer{stage}")(maps)
        return pool_and_classify(maps, self.fc)


class PyTorchVideoBlock(nn.Module):
    def __init__(self, inputs, inner, outputs, stride):
        super().__init__()
        time, space = stride
        if inputs != outputs:
            self.branch1_conv = convolution(inputs, outputs, (1, 1, 1), (time, space, space))
            self.branch1_norm = nn.BatchNorm3d(outputs)
        branch = self.branch2 = nn.Module()
        branch.conv_a, branch.norm_a = convolution(inputs, inner, (1, 1, 1)), nn.BatchNorm3d(inner)
        branch.conv_b = nn.Module()
        branch.conv_b.conv_t = convolution(inner, inner, (3, 1, 1), (time, 1, 1))
        branch.conv_b.norm = nn.BatchNorm3d(inner)
        branch.conv_b.conv_xy = convolution(inner, inner, (1, 3, 3), (1, space, space))
        branch.norm_b = nn.BatchNorm3d(inner)
        branch.conv_c, branch.norm_c = convolution(inner, outputs, (1, 1, 1)), nn.BatchNorm3d(outputs)

    def forward(self, maps):
        shortcut = self.branch1_norm(self.branch1_conv(maps)) if hasattr(self, "branch1_conv") else maps
        branch = self.branch2
        maps = torch.relu(branch.norm_a(branch.conv_a(maps)))
        maps = torch.relu(branch.conv_b.norm(branch.conv_b.conv_t(maps)))
        maps = torch.relu(branch.norm_b(branch.conv_b.conv_xy(maps)))
        return torch.relu(branch.norm_c(branch.conv_c(maps)) + shortcut)


class PyTorchVideo(nn.Module):
    """r2plus1d_r50."""

    def __init__(self, width=8, classes=5, blocks=(3, 4, 6, 3)):
        super().__init__()
        stem = nn.Module()
        stem.conv, stem.norm = convolution(3, width, (1, 7, 7), (1, 2, 2)), nn.BatchNorm3d(width)
        parts, inputs = [stem], width
        for stage, (count, time) in enumerate(zip(blocks, (1, 1, 2, 2), strict=True)):
            part, units = nn.Module(), []
            inner = width * 2**stage
            for index in range(count):
                units.append(PyTorchVideoBlock(inputs, inner, 4 * inner, (1, 1) if index else (time, 2)))
                inputs = 4 * inner
            part.res_blocks = nn.ModuleList(units)
            parts.append(part)
        head = nn.Module()
        head.proj = nn.Linear(inputs, classes)
        self.blocks = nn.ModuleList([*parts, head])

    def forward(self, clips):
        stem, *stages, head = self.blocks
        maps = torch.relu(stem.norm(stem.conv(clips)))
        for stage in stages:
            for block in stage.res_blocks:
                maps = block(maps)
        return pool_and_classify(maps, head.proj)
