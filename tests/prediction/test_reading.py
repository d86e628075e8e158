from collections.abc import Callable, Sequence
from typing import Any

import pytest

from muybridge.data.clips import dense_clips, uniform_clips
from muybridge.data.views import View
from muybridge.prediction import reading
from muybridge.prediction.reading import blocks, read_views
from muybridge.records import ClipTimes, Preprocessing, VideoError

NewFrames = Callable[..., Any]  # of conftest.py


def numbers_of(view: View | VideoError) -> list[int]:
    """Which frames a view is made of."""
    assert isinstance(view, View)
    assert (view.luma_thw == view.luma_thw[:, :1, :1]).all()
    return [int(luma[0, 0]) for luma in view.luma_thw]


def wanted(clips: Sequence[ClipTimes]) -> list[list[int]]:
    return [[int(tick) // 10 for tick in clip.ticks] for clip in clips]


@pytest.mark.parametrize(
    "preprocessing",
    [
        Preprocessing(clip_length=4),
        Preprocessing(clip_length=3, frame_stride=5),
        Preprocessing(clip_length=4, frames_per_second=10.0),
        Preprocessing(clip_length=4, frames_per_second=60.0),
        Preprocessing(clip_length=150),  # more frames than there are: it loops
    ],
)
def test_every_clip_gets_its_own_frames(frames: NewFrames, preprocessing: Preprocessing) -> None:
    source = frames(100)
    for clips in (dense_clips(source.times, preprocessing, 3), uniform_clips(source.times, preprocessing, 7)):
        views = list(read_views(source, "x", clips, crop=16))
        assert [numbers_of(view) for view in views] == wanted(clips)


def test_shared_frames_are_read_once(frames: NewFrames) -> None:
    source = frames(100)
    list(read_views(source, "x", dense_clips(source.times, Preprocessing(clip_length=16), 2), crop=16))
    assert source.reads == [list(range(100))]


def test_memory_is_bounded_by_blocks(frames: NewFrames, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BLOCK_FRAMES", 40)
    source = frames(200)
    clips = dense_clips(source.times, Preprocessing(clip_length=16), 4)
    views = list(read_views(source, "x", clips, crop=16))
    assert [numbers_of(view) for view in views] == wanted(clips)
    assert max(len(numbers) for numbers in source.reads) <= 40
    assert sum(len(numbers) for numbers in source.reads) < 2 * 200


def test_views_come_before_the_whole_video_was_read(frames: NewFrames, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BLOCK_FRAMES", 40)
    source = frames(200)
    views = read_views(source, "x", dense_clips(source.times, Preprocessing(clip_length=16), 4), crop=16)
    next(views)
    assert len(source.reads) == 1


def test_a_clip_longer_than_a_block_is_a_block(frames: NewFrames, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BLOCK_FRAMES", 8)
    times = frames(100).times
    assert [len(block) for block in blocks(dense_clips(times, Preprocessing(clip_length=16), 42))] == [1, 1, 1]


def test_clips_far_apart_are_read_alone(frames: NewFrames) -> None:
    times = frames(100).times
    preprocessing = Preprocessing(clip_length=4)
    assert [len(block) for block in blocks(uniform_clips(times, preprocessing, 5))] == [1] * 5
    assert [len(block) for block in blocks(dense_clips(times, preprocessing, 4))] == [25]  # touching
    assert [len(block) for block in blocks(dense_clips(times, preprocessing, 6))] == [17]  # gaps shorter than a clip
    assert list(blocks([])) == []


def test_a_fault_costs_the_clips_that_hold_it_and_no_others(frames: NewFrames) -> None:
    source = frames(40, broken=[21])
    clips = dense_clips(source.times, Preprocessing(clip_length=4), 2)
    views = list(read_views(source, "x", clips, crop=16))
    for view, numbers in zip(views, wanted(clips), strict=True):
        if 21 in numbers:
            assert isinstance(view, VideoError)
            assert view.reason == "frame 21 is damaged"
        else:
            assert numbers_of(view) == numbers
    assert sum(isinstance(view, VideoError) for view in views) == 2
