"""Optical flow that is stored as pairs of gray pictures, as the tools of Temporal Segment Networks write it.

    img_00001.jpg   flow_x_00001.jpg   flow_y_00001.jpg          pair n leads from frame n to frame n + 1

Input: a folder, a zip or a tar of such pictures, with or without the frames. Output: the flow of a pair, float32 (H, W, 2), x
then y, in pixels of the scaled frame. A gray value v is v / 255 * 40 - 20 pixels of the stored size (Wang et al., ECCV 2016).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from muybridge.records import VideoError
from muybridge.text import format_count
from muybridge.video.flow_fields import FlowCache, FlowField, chain_flows
from muybridge.video.pictures import FLOW_NAME, StoredPictures, read_stored_picture

_BOUND = 20.0  # pixels at the gray values 0 and 255


@dataclass(frozen=True)
class FlowPictures:
    """The pairs of one video, in order: the names of x and y."""

    pairs: Sequence[tuple[str, str]]
    stored: StoredPictures

    def read_size(self) -> tuple[int, int]:
        """Height and width of the first picture. Raises VideoError if it cannot be read."""
        with read_stored_picture(self.pairs[0][0], self.stored.open_picture) as image:
            return image.height, image.width

    def read_pair(self, index: int, size: tuple[int, int]) -> FlowField:
        """The flow from frame `index` to the next, scaled to `size` (height, width). Raises VideoError if there is none."""
        if index >= len(self.pairs):
            raise VideoError(
                "unreadable",
                f"the {self.stored.kind} holds flow for {format_count(len(self.pairs), 'step')}, but "
                f"that after frame {index} was requested",
            )
        return np.stack([self._read_channel(name, size, axis) for axis, name in enumerate(self.pairs[index])], axis=-1)

    def read_flows(
        self, ticks: NDArray[np.int64], group: int, size: tuple[int, int], flow_cache: FlowCache
    ) -> NDArray[np.float32]:
        """The flows (L, H, W, 2) of a clip at `ticks` (L * group,), from the first to the last frame of each group.

        Over several frames, the flows from frame to frame are chained. `flow_cache` holds flows of this size.
        """
        fields = []
        for flow_ticks in ticks.reshape(-1, group):
            total: FlowField | None = None
            for index in range(int(flow_ticks[0]), int(flow_ticks[-1])):
                if (index, index + 1) not in flow_cache:
                    flow_cache[index, index + 1] = self.read_pair(index, size)
                field = flow_cache[index, index + 1]
                total = field if total is None else chain_flows(total, field)
            fields.append(np.zeros((*size, 2), np.float32) if total is None else total)
        return np.stack(fields)

    def _read_channel(self, name: str, size: tuple[int, int], axis: int) -> NDArray[np.float32]:
        with read_stored_picture(name, self.stored.open_picture) as image:
            stored_length = (image.width, image.height)[axis]
            gray = image.convert("L")
        if gray.size != size[::-1]:
            gray = gray.convert("F").resize(size[::-1], Image.Resampling.BILINEAR)
        pixels = np.asarray(gray, np.float32) * np.float32(2 * _BOUND / 255) - np.float32(_BOUND)
        return pixels * np.float32((size[1], size[0])[axis] / stored_length)


def open_flow_pictures(path: Path) -> FlowPictures | None:
    """The stored flow of a video, None if it has none. Raises VideoError where a picture of a pair is missing."""
    stored = StoredPictures.open(path)
    if stored is None:
        return None
    channels = {"x": stored.list_flow("x"), "y": stored.list_flow("y")}
    if not any(channels.values()):
        return None
    steps = {axis: {FLOW_NAME.sub(r"\1flow", name) for name in names} for axis, names in channels.items()}
    if alone := sorted(steps["x"] ^ steps["y"]):
        raise VideoError(
            "unreadable",
            f"the {stored.kind} holds {len(channels['x'])} flow_x and {len(channels['y'])} flow_y pictures, expected pairs; "
            f"{alone[0]} is alone",
        )
    return FlowPictures(list(zip(channels["x"], channels["y"], strict=True)), stored)
