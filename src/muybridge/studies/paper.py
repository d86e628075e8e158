"""The paper's printed numbers as data: Tran et al., "A Closer Look at Spatiotemporal Convolutions for Action Recognition",
CVPR 2018 (arXiv 1711.11248v3), transcribed (docs/reproduction.md says how far that is trusted).

Each table by its number, each row by its name in the paper; accuracies in percent; None is not printed, or not known.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Table2Row:
    """Table 2: Kinetics-400 validation, 18 layers, from scratch, clips of 8 and of 16 frames at 112x112."""

    family: str
    clip_top1_8f: float
    video_top1_8f: float
    clip_top1_16f: float
    video_top1_16f: float
    parameters_millions: float
    """One column in the paper: weights of convolutions and classifier, R2D's those of the 8-frame network."""


@dataclass(frozen=True)
class Table3Row:
    """Table 3: R(2+1)D-18 on Kinetics-400; frames of a clip in training, fine-tuning and testing; hours on 64 GPUs."""

    train: int
    finetune: int | None
    test: int
    train_hours: float
    clip_top1: float
    video_top1: float


@dataclass(frozen=True)
class Table4Row:
    """Table 4: Sports-1M, R(2+1)D and R3D of 34 layers."""

    method: str
    clip_top1: float | None
    video_top1: float | None
    video_top5: float | None


@dataclass(frozen=True)
class Table5Row:
    """Table 5: Kinetics-400 validation, R(2+1)D of 34 layers with clips of 32 frames."""

    method: str
    pretraining: str
    video_top1: float
    video_top5: float


@dataclass(frozen=True)
class Table6Row:
    """Table 6: UCF101 and HMDB51, video@1, mean of three splits, R(2+1)D of 34 layers with clips of 32 frames."""

    method: str
    pretraining: str
    ucf101: float
    hmdb51: float | None


TABLE2 = (
    Table2Row("r2d", 46.7, 59.5, 47.0, 58.9, 11.4),
    Table2Row("f_r2d", 48.1, 59.4, 50.3, 60.5, 11.4),
    Table2Row("r3d", 49.4, 61.8, 52.5, 64.2, 33.4),
    Table2Row("mc2", 50.2, 62.5, 53.1, 64.2, 11.4),
    Table2Row("mc3", 50.7, 62.9, 53.7, 64.7, 11.7),
    Table2Row("mc4", 50.5, 62.5, 53.7, 65.1, 12.7),
    Table2Row("mc5", 50.3, 62.5, 53.7, 65.1, 16.9),
    Table2Row("rmc2", 49.8, 62.1, 53.1, 64.9, 33.3),
    Table2Row("rmc3", 49.8, 62.3, 53.2, 65.0, 33.0),
    Table2Row("rmc4", 49.9, 62.3, 53.4, 65.1, 32.0),
    Table2Row("rmc5", 49.4, 61.2, 52.1, 63.1, 27.9),
    Table2Row("r2plus1d", 52.8, 64.8, 56.8, 68.0, 33.3),
)

TABLE3 = (
    Table3Row(8, None, 8, 11.8, 52.8, 64.8),
    Table3Row(8, None, 32, 11.8, 51.6, 59.0),
    Table3Row(32, None, 32, 59.8, 60.1, 69.4),
    Table3Row(8, 32, 32, 20.5, 59.8, 68.0),
)

TABLE4 = (
    Table4Row("DeepVideo", 41.9, 60.9, 80.2),
    Table4Row("C3D", 46.1, 61.1, 85.2),
    Table4Row("2D ResNet-152", 46.5, 64.6, 86.4),
    Table4Row("Conv pooling", None, 71.7, 90.4),
    Table4Row("P3D", 47.9, 66.4, 87.4),
    Table4Row("R3D-RGB-8frame", 53.8, None, None),
    Table4Row("R(2+1)D-RGB-8frame", 56.1, 72.0, 91.2),
    Table4Row("R(2+1)D-Flow-8frame", 44.5, 65.5, 87.2),
    Table4Row("R(2+1)D-Two-Stream-8frame", None, 72.2, 91.4),
    Table4Row("R(2+1)D-RGB-32frame", 57.0, 73.0, 91.5),
    Table4Row("R(2+1)D-Flow-32frame", 46.4, 68.4, 88.7),
    Table4Row("R(2+1)D-Two-Stream-32frame", None, 73.3, 91.9),
)

TABLE5 = (
    Table5Row("I3D-RGB", "none", 67.5, 87.2),
    Table5Row("I3D-RGB", "ImageNet", 72.1, 90.3),
    Table5Row("I3D-Flow", "ImageNet", 65.3, 86.2),
    Table5Row("I3D-Two-Stream", "ImageNet", 75.7, 92.0),
    Table5Row("R(2+1)D-RGB", "none", 72.0, 90.0),
    Table5Row("R(2+1)D-Flow", "none", 67.5, 87.2),
    Table5Row("R(2+1)D-Two-Stream", "none", 73.9, 90.9),
    Table5Row("R(2+1)D-RGB", "Sports-1M", 74.3, 91.4),
    Table5Row("R(2+1)D-Flow", "Sports-1M", 68.5, 88.1),
    Table5Row("R(2+1)D-Two-Stream", "Sports-1M", 75.4, 91.9),
)

TABLE6 = (
    Table6Row("Two-Stream", "ImageNet", 88.0, 59.4),
    Table6Row("Action Transf.", "ImageNet", 92.4, 62.0),
    Table6Row("Conv Pooling", "Sports-1M", 88.6, None),
    Table6Row("FSTCN", "ImageNet", 88.1, 59.1),
    Table6Row("Two-Stream Fusion", "ImageNet", 92.5, 65.4),
    Table6Row("Spatiotemp. ResNet", "ImageNet", 93.4, 66.4),
    Table6Row("Temp. Segm. Net", "ImageNet", 94.2, 69.4),
    Table6Row("P3D", "ImageNet+Sports-1M", 88.6, None),
    Table6Row("I3D-RGB", "ImageNet+Kinetics", 95.6, 74.8),
    Table6Row("I3D-Flow", "ImageNet+Kinetics", 96.7, 77.1),
    Table6Row("I3D-Two-Stream", "ImageNet+Kinetics", 98.0, 80.7),
    Table6Row("R(2+1)D-RGB", "Sports-1M", 93.6, 66.6),
    Table6Row("R(2+1)D-Flow", "Sports-1M", 93.3, 70.1),
    Table6Row("R(2+1)D-TwoStream", "Sports-1M", 95.0, 72.7),
    Table6Row("R(2+1)D-RGB", "Kinetics", 96.8, 74.5),
    Table6Row("R(2+1)D-Flow", "Kinetics", 95.5, 76.4),
    Table6Row("R(2+1)D-TwoStream", "Kinetics", 97.3, 78.7),
)

# Figure 4, text of section 4.2: what R(2+1)D gains over R3D at about equal multiply-adds, video@1.
FIGURE4_GAIN = (3.0, 3.8)

# Figure 5a, R(2+1)D-18: clip length -> clip@1, video@1. The curve has 24, 40 and 48 frames too, but no printed numbers.
FIGURE5A = {8: (52.8, 64.8), 16: (56.8, 68.0), 32: (60.1, 69.4)}
FIGURE5A_LENGTHS = (8, 16, 24, 32, 40, 48)
# Figure 5b, text: averaging this many clips loses so many points of video@1 against 100, at a fifth of the cost.
FIGURE5B_CLIPS, FIGURE5B_ALL_CLIPS, FIGURE5B_LOSS = 20, 100, 0.5


@dataclass(frozen=True)
class Table1Row:
    """Table 1: a group of R3D's layers. Output time is a share of the clip's L frames; height and width for 112x112."""

    group: str
    output_share: float
    output_size: int
    kernel: tuple[int, int, int]
    channels: int
    blocks_18: int
    blocks_34: int

    def num_blocks(self, depth: int) -> int:
        """Residual blocks of the network of 18 or 34 layers."""
        return {18: self.blocks_18, 34: self.blocks_34}[depth]


TABLE1 = (
    Table1Row("conv1", 1, 56, (3, 7, 7), 64, 1, 1),
    Table1Row("conv2_x", 1, 56, (3, 3, 3), 64, 2, 3),
    Table1Row("conv3_x", 1 / 2, 28, (3, 3, 3), 128, 2, 4),
    Table1Row("conv4_x", 1 / 4, 14, (3, 3, 3), 256, 2, 6),
    Table1Row("conv5_x", 1 / 8, 7, (3, 3, 3), 512, 2, 3),
)
