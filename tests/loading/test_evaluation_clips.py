from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from gray_frames import GrayFrames
from muybridge.loading import evaluation_clips
from muybridge.loading.clip_reader import create_clip_reader
from muybridge.loading.evaluation_clips import group_into_blocks
from muybridge.records import FLOW_MEAN, FLOW_STD, ClipTimes, Preprocessing, VideoError
from muybridge.video.sampling import sample_dense_clips, sample_uniform_clips
from muybridge.video.views import AnyView, FlowView, View, compute_center_corner, list_crop_corners


def shape(**sampling: Any) -> Preprocessing:
    return Preprocessing(scale_height=20, scale_width=24, crop=16, **sampling)


def flow(**sampling: Any) -> Preprocessing:
    return shape(modality="flow", mean=FLOW_MEAN, std=FLOW_STD, **sampling)


def numbers_of(view: AnyView | VideoError) -> list[int]:
    """Which frames a view is made of."""
    assert isinstance(view, View)
    assert (view.luma_thw == view.luma_thw[:, :1, :1]).all()
    return [int(luma[0, 0]) for luma in view.luma_thw]


def expected(clips: Sequence[ClipTimes]) -> list[list[int]]:
    return [[int(tick) // 10 for tick in clip.ticks] for clip in clips]


@pytest.mark.parametrize(
    "preprocessing",
    [
        shape(clip_length=4),
        shape(clip_length=3, frame_stride=5),
        shape(clip_length=4, frames_per_second=10.0),
        shape(clip_length=4, frames_per_second=60.0),
        shape(clip_length=150),  # more frames than there are: it loops
    ],
)
def test_every_clip_gets_its_own_frames(preprocessing: Preprocessing) -> None:
    source = GrayFrames(100)
    for clips in (
        sample_dense_clips(source.times, preprocessing, 3),
        sample_uniform_clips(source.times, preprocessing, 7),
    ):
        views = list(create_clip_reader(source, preprocessing).read_evaluation_views("x", clips))
        assert [numbers_of(view) for view in views] == expected(clips)


def test_shared_frames_are_read_once() -> None:
    source = GrayFrames(100)
    preprocessing = shape(clip_length=16)
    clips = sample_dense_clips(source.times, preprocessing, 2)
    list(create_clip_reader(source, preprocessing).read_evaluation_views("x", clips))
    assert source.reads == [list(range(100))]


def test_memory_is_bounded_by_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation_clips, "BLOCK_FRAMES", 40)
    source = GrayFrames(200)
    preprocessing = shape(clip_length=16)
    clips = sample_dense_clips(source.times, preprocessing, 4)
    views = list(create_clip_reader(source, preprocessing).read_evaluation_views("x", clips))
    assert [numbers_of(view) for view in views] == expected(clips)
    assert max(len(numbers) for numbers in source.reads) <= 40
    assert sum(len(numbers) for numbers in source.reads) < 2 * 200


def test_views_come_before_the_whole_video_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation_clips, "BLOCK_FRAMES", 40)
    source = GrayFrames(200)
    preprocessing = shape(clip_length=16)
    clips = sample_dense_clips(source.times, preprocessing, 4)
    views = create_clip_reader(source, preprocessing).read_evaluation_views("x", clips)
    next(views)
    assert len(source.reads) == 1


def test_a_clip_longer_than_a_block_is_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation_clips, "BLOCK_FRAMES", 8)
    times = GrayFrames(100).times
    assert [len(block) for block in group_into_blocks(sample_dense_clips(times, shape(clip_length=16), 42))] == [
        1,
        1,
        1,
    ]


def test_clips_far_apart_are_read_alone() -> None:
    times = GrayFrames(100).times
    preprocessing = shape(clip_length=4)
    assert [len(block) for block in group_into_blocks(sample_uniform_clips(times, preprocessing, 5))] == [1] * 5
    assert [len(block) for block in group_into_blocks(sample_dense_clips(times, preprocessing, 4))] == [25]  # touching
    assert [len(block) for block in group_into_blocks(sample_dense_clips(times, preprocessing, 6))] == [
        17
    ]  # gaps shorter than a clip
    assert list(group_into_blocks([])) == []


def test_a_fault_costs_the_clips_that_hold_it_and_no_others() -> None:
    source = GrayFrames(40, broken=[21])
    preprocessing = shape(clip_length=4)
    clips = sample_dense_clips(source.times, preprocessing, 2)
    views = list(create_clip_reader(source, preprocessing).read_evaluation_views("x", clips))
    for view, numbers in zip(views, expected(clips), strict=True):
        if 21 in numbers:
            assert isinstance(view, VideoError)
            assert view.reason == "frame 21 is damaged"
        else:
            assert numbers_of(view) == numbers
    assert sum(isinstance(view, VideoError) for view in views) == 2


@pytest.mark.parametrize("sampling", [{}, {"flow_gap": 2, "flow_chain": True}, {"frame_stride": 3}])
@pytest.mark.parametrize("num_frames", [40, 5])
def test_a_flow_is_computed_once_however_many_clips_share_it(
    sampling: dict[str, Any], num_frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = []

    def noted(first: Any, second: Any) -> Any:
        computed.append((int(first[0, 0]), int(second[0, 0])))
        return np.zeros((16, 16, 2), np.float32)

    monkeypatch.setattr("muybridge.video.flow.farneback", noted)
    source, preprocessing = GrayFrames(num_frames), flow(clip_length=8, **sampling)
    clips = sample_uniform_clips(source.times, preprocessing, 10)
    views = list(create_clip_reader(source, preprocessing).read_evaluation_views("x", clips))
    assert all(isinstance(view, FlowView) and view.flow_cthw.shape == (2, 8, 16, 16) for view in views)
    assert len(computed) == len(set(computed))
    assert {second - first for first, second in computed} == {1}
    num_pairs = num_frames - 1
    assert len(computed) == num_pairs if num_frames == 5 or not sampling else len(computed) <= num_pairs


def test_flow_is_the_same_alone_and_beside_other_clips() -> None:
    source, preprocessing = GrayFrames(30, textured=True), flow(clip_length=4, flow_gap=2, flow_chain=True)
    clips = sample_dense_clips(source.times, preprocessing, 3)
    together = create_clip_reader(source, preprocessing).read_evaluation_views("x", clips)
    for clip, view in zip(clips, together, strict=True):
        (alone,) = create_clip_reader(source, preprocessing).read_evaluation_views("x", [clip])
        assert isinstance(view, FlowView)
        assert isinstance(alone, FlowView)
        assert np.abs(view.flow_cthw).max() > 0.5
        assert np.array_equal(view.flow_cthw, alone.flow_cthw)


@pytest.mark.parametrize(("height", "width"), [(20, 30), (30, 20), (21, 21)])
def test_three_crops_lie_at_both_ends_and_in_the_middle(height: int, width: int) -> None:
    crop, luma = 16, np.arange(height * width, dtype=np.int64).reshape(1, height, width)
    corners = list_crop_corners((height, width), crop, 3)
    assert corners[1] == compute_center_corner((height, width), crop)
    assert list_crop_corners((height, width), crop, 1) == [corners[1]]
    crops = [luma[0, top : top + crop, left : left + crop] for top, left in corners]
    assert all(part.shape == (crop, crop) for part in crops)
    seen = np.unique(np.concatenate([part.ravel() for part in crops]))
    longer = 1 if width >= height else 0
    assert set(np.unravel_index(seen, (height, width))[longer]) == set(range(max(height, width)))


def test_the_crops_of_a_clip_follow_each_other() -> None:
    source, preprocessing = GrayFrames(40, broken=[21]), shape(clip_length=4)
    clips = sample_dense_clips(source.times, preprocessing, 2)
    reader = create_clip_reader(source, preprocessing)
    one, three = (list(reader.read_evaluation_views("x", clips, num_crops=number)) for number in (1, 3))
    assert len(three) == 3 * len(one)
    for index, view in enumerate(one):
        followers = three[3 * index : 3 * index + 3]
        if isinstance(view, VideoError):
            assert [str(each) for each in followers] == [str(view)] * 3
        else:
            assert [numbers_of(each) for each in followers] == [numbers_of(view)] * 3
