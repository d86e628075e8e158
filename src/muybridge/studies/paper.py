"""The paper's printed numbers as data: Tran et al., "A Closer Look at Spatiotemporal Convolutions for Action Recognition",
CVPR 2018 (arXiv 1711.11248v3). Accuracies in percent, each table by its number.
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


TABLE2 = (
    Table2Row("r2d", 46.7, 59.5, 47.0, 58.9),
    Table2Row("f_r2d", 48.1, 59.4, 50.3, 60.5),
    Table2Row("r3d", 49.4, 61.8, 52.5, 64.2),
    Table2Row("mc2", 50.2, 62.5, 53.1, 64.2),
    Table2Row("mc3", 50.7, 62.9, 53.7, 64.7),
    Table2Row("mc4", 50.5, 62.5, 53.7, 65.1),
    Table2Row("mc5", 50.3, 62.5, 53.7, 65.1),
    Table2Row("rmc2", 49.8, 62.1, 53.1, 64.9),
    Table2Row("rmc3", 49.8, 62.3, 53.2, 65.0),
    Table2Row("rmc4", 49.9, 62.3, 53.4, 65.1),
    Table2Row("rmc5", 49.4, 61.2, 52.1, 63.1),
    Table2Row("r2plus1d", 52.8, 64.8, 56.8, 68.0),
)
