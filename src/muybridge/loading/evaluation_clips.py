"""The clips of one video as evaluation views, each frame read once, and each flow computed once, however many clips share it.

Enter: where the clips lie in a video, in order. Leave: one view a clip, or the reason why there is none, in that order, with
no more frames in memory than a block of them. Clips that lie close together are read as one stretch and then cut apart; clips
far apart are read one by one, so that nothing between them is decoded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from muybridge.prepared.shards import ShardFlowSource
from muybridge.prepared.stored_flow import make_stored_flow_view, select_stored_ticks
from muybridge.records import ClipTimes, FrameSource, Preprocessing, VideoError, YuvClip
from muybridge.video.flow import FlowCache, compute_modality
from muybridge.video.views import AnyView, make_evaluation_view

BLOCK_FRAMES = 1024  # 34 MB of frames of 128x171; between blocks, decoding goes back to a key frame once more


def read_views(
    source: FrameSource, video: str, clips: Sequence[ClipTimes], preprocessing: Preprocessing
) -> Iterator[AnyView | VideoError]:
    """The centre crop of every clip, or why it could not be read; clips are in order of time."""
    if isinstance(source, ShardFlowSource):
        yield from _read_stored_flow(source, video, clips, preprocessing)
        return
    flow_cache: FlowCache = {}
    for block in group_into_blocks(clips):
        for clip, frames in _read_block(source, video, block):
            if isinstance(frames, VideoError):
                yield frames
                continue
            first = int(clip.ticks.min())
            for pair in [pair for pair in flow_cache if pair[0] < first]:
                del flow_cache[pair]  # no later clip needs it
            yield compute_modality(
                make_evaluation_view(frames, preprocessing.crop), clip.ticks, preprocessing, flow_cache
            )


def _read_stored_flow(
    source: ShardFlowSource, video: str, clips: Sequence[ClipTimes], preprocessing: Preprocessing
) -> Iterator[AnyView | VideoError]:
    height, width, crop = preprocessing.scale_height, preprocessing.scale_width, preprocessing.crop
    corner = (height - crop) // 2, (width - crop) // 2
    flow_clips = [replace(clip, ticks=select_stored_ticks(clip.ticks, preprocessing)) for clip in clips]
    for block in group_into_blocks(flow_clips):
        for _, codes in _read_block(source, video, block):
            if isinstance(codes, VideoError):
                yield codes
            else:
                yield make_stored_flow_view(codes, corner, preprocessing, mirror=False)


def group_into_blocks(clips: Sequence[ClipTimes]) -> Iterator[list[ClipTimes]]:
    """Runs of clips to read as one stretch: of BLOCK_FRAMES frames at most, no gap in it longer than the clip after it."""
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
    """Each clip of the block with its frames, or why there are none."""
    ticks = np.unique(np.concatenate([clip.ticks for clip in block]))
    try:
        frames = source.read(video, ticks)
    except VideoError as error:
        if len(block) == 1:
            yield block[0], error
        else:  # the fault is in some of the clips; halve the block until those stand alone
            middle = len(block) // 2
            yield from _read_block(source, video, block[:middle])
            yield from _read_block(source, video, block[middle:])
        return
    for clip in block:
        yield clip, _select_frames(frames, np.searchsorted(ticks, clip.ticks))


def _select_frames(frames: YuvClip, frame_indices: NDArray[np.int64]) -> YuvClip:
    return YuvClip(
        frames.luma_thw[frame_indices], frames.chroma_cthw[:, frame_indices], frames.matrix, frames.full_range
    )
