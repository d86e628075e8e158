"""The frames of many clips of one video, each frame decoded once even if clips overlap.

Input: the clips of a video in order of time. Output: each clip's frames, or the reason why there are none, in that order, with
at most BLOCK_FRAMES frames in memory. Clips that are close together are read as one block and then cut apart; clips
far apart are read one by one, so that nothing between them is decoded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from muybridge.records import ClipTimes, FrameSource, VideoError, YuvClip

BLOCK_FRAMES = 1024  # 34 MB of frames of 128x171; every further block makes decoding seek back to a key frame


def read_clips(
    source: FrameSource, video: str, clips: Sequence[ClipTimes]
) -> Iterator[tuple[ClipTimes, YuvClip | VideoError]]:
    """Each clip with its frames, or with the error that reading it raised; clips are in order of time."""
    for block in group_into_blocks(clips):
        yield from _read_block(source, video, block)


def group_into_blocks(clips: Sequence[ClipTimes]) -> Iterator[list[ClipTimes]]:
    """Runs of clips to read at once: at most BLOCK_FRAMES frames, and no gap longer than the clip after it."""
    block: list[ClipTimes] = []
    ticks: set[int] = set()
    for clip in clips:
        merged_ticks = ticks.union(clip.ticks.tolist())
        if block and (_is_far(block[-1], clip) or len(merged_ticks) > BLOCK_FRAMES):
            yield block
            block, merged_ticks = [], set(clip.ticks.tolist())
        block.append(clip)
        ticks = merged_ticks
    if block:
        yield block


def _is_far(before: ClipTimes, after: ClipTimes) -> bool:
    first, last = after.ticks.min(), after.ticks.max()
    return bool(first - before.ticks.max() > last - first)


def _read_block(
    source: FrameSource, video: str, block: Sequence[ClipTimes]
) -> Iterator[tuple[ClipTimes, YuvClip | VideoError]]:
    ticks = np.unique(np.concatenate([clip.ticks for clip in block]))
    try:
        frames = source.read(video, ticks)
    except VideoError as error:
        if len(block) == 1:
            yield block[0], error
        else:  # halve the block until only the clips that hold the damaged frame fail
            middle = len(block) // 2
            yield from _read_block(source, video, block[:middle])
            yield from _read_block(source, video, block[middle:])
        return
    for clip in block:
        yield clip, frames.select(np.searchsorted(ticks, clip.ticks))
