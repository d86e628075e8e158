"""Fields of optical flow, and how they are chained over several frames. Without torch: what decodes videos imports it.

Input and output: float32 (H, W, 2), x then y in pixels.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

FlowField: TypeAlias = "NDArray[np.float32]"  # (H, W, 2)
FlowCache: TypeAlias = "dict[tuple[int, int], FlowField]"  # key: the ticks of the two frames


def chain_flows(first_hwc: FlowField, second_hwc: FlowField) -> FlowField:
    """The flow over two steps: the first, plus the second at the position it leads to, rounded to a pixel of the frame."""
    height, width = first_hwc.shape[:2]
    columns = np.arange(width) + first_hwc[..., 0]
    rows = np.arange(height)[:, None] + first_hwc[..., 1]
    # cvRound and rint both round halves to even.
    columns = np.clip(np.rint(columns), 0, width - 1).astype(np.intp)
    rows = np.clip(np.rint(rows), 0, height - 1).astype(np.intp)
    total: FlowField = first_hwc + second_hwc[rows, columns]
    return total
