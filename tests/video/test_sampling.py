"""Clip placement against what the definitions say, by brute force over small videos."""

from __future__ import annotations

import math
import tracemalloc
from collections import Counter
from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from muybridge.records import FLOW_MEAN, FLOW_STD, ClipTimes, FrameTimes, Preprocessing, VideoError
from muybridge.video.sampling import (
    compute_sampling_grid,
    compute_timestep_edges,
    sample_center_clip,
    sample_clips_over,
    sample_dense_clips,
    sample_random_clip,
    sample_uniform_clips,
    trim_frame_times,
)

UNEVEN = (3, 4, 9, 10, 24, 25, 26, 44)  # a variable frame rate


def regular(num_frames: int, step: int = 10, start: int = 0, tick_seconds: Fraction = Fraction(1, 100)) -> FrameTimes:
    ticks = start + step * np.arange(num_frames, dtype=np.int64)
    return FrameTimes(ticks, tick_seconds, start + step * num_frames)


def uneven() -> FrameTimes:
    return FrameTimes(np.array(UNEVEN, np.int64), Fraction(1, 30), 50)


def shape(length: int, stride: int = 1, frames_per_second: float | None = None) -> Preprocessing:
    return Preprocessing(clip_length=length, frame_stride=stride, frames_per_second=frames_per_second)


def indices(clip: ClipTimes, times: FrameTimes) -> list[int]:
    return np.searchsorted(times.ticks, clip.ticks).tolist()


def picture(clip: ClipTimes, times: FrameTimes) -> str:
    taken = indices(clip, times)
    return "".join("f" if index in taken else "x" for index in range(len(times)))


@pytest.mark.parametrize(
    ("num_frames", "length", "stride", "num_clips", "pictures"),
    [
        (7, 3, 3, 1, ["fxxfxxf"]),
        (7, 3, 2, 2, ["fxfxfxx", "xxfxfxf"]),
        (7, 3, 1, 3, ["fffxxxx", "xxfffxx", "xxxxfff"]),
        (7, 3, 1, 1, ["xxfffxx"]),
        (6, 2, 1, 4, ["ffxxxx", "xffxxx", "xxffxx", "xxxxff"]),
        (3, 3, 1, 2, ["fff", "fff"]),
        (2, 5, 1, 2, ["ff", "ff"]),
    ],
)
def test_uniform_clips_as_drawn(num_frames: int, length: int, stride: int, num_clips: int, pictures: list[str]) -> None:
    times = regular(num_frames)
    assert [picture(clip, times) for clip in sample_uniform_clips(times, shape(length, stride), num_clips)] == pictures


@pytest.mark.parametrize(
    ("num_frames", "step", "pictures"),
    [
        (6, 2, ["fffxxx", "xxfffx", "xxxfff"]),
        (6, 3, ["fffxxx", "xxxfff"]),
        (7, 3, ["fffxxxx", "xxxfffx", "xxxxfff"]),
        (5, 1, ["fffxx", "xfffx", "xxfff"]),
        (3, 9, ["fff"]),
        (2, 1, ["ff"]),
    ],
)
def test_dense_clips_as_drawn(num_frames: int, step: int, pictures: list[str]) -> None:
    times = regular(num_frames)
    assert [picture(clip, times) for clip in sample_dense_clips(times, shape(3), step)] == pictures


@pytest.mark.parametrize(
    ("first", "last", "pictures"),
    [
        (2, 5, ["xfffxxxxx", "xxxxfffxx"]),
        (4, 4, ["xxxfffxxx"]),
        (0, 0, ["fffxxxxxx"]),
        (8, 8, ["xxxxxxfff"]),
        (6, 8, ["xxxxxxfff"]),
        (5, 8, ["xxxxfffxx", "xxxxxxfff"]),
        (0, 8, ["fffxxxxxx", "xxxxxxfff"]),  # two at most: the one between them is left out
    ],
)
@pytest.mark.parametrize("rate", [None, 10])
def test_clips_over_a_part_as_drawn(first: int, last: int, pictures: list[str], rate: float | None) -> None:
    times = regular(9, start=70)
    end_seconds = times.to_seconds(times.ticks[0] + 10 * (last + 1))
    clips = sample_clips_over(times, shape(3, 1, rate), times.to_seconds(times.ticks[first]), end_seconds, 2)
    assert [picture(clip, times) for clip in clips] == pictures
    assert [clip.start_seconds for clip in clips] == [drawn.index("f") / 10 for drawn in pictures]


def test_the_clip_at_a_point_is_centred_on_its_frame() -> None:
    times = regular(9)
    for seconds, start in ((0.4, 3), (0.49, 3), (-1.0, 0), (50.0, 6)):
        (clip,) = sample_clips_over(times, shape(3), seconds, seconds, 2)
        assert indices(clip, times) == [start, start + 1, start + 2]


@pytest.mark.parametrize(
    ("num_frames", "length", "stride", "order"),
    [
        (3, 5, 1, [0, 1, 2, 0, 1]),
        (3, 5, 2, [0, 2, 1, 0, 2]),
        (1, 4, 3, [0, 0, 0, 0]),
        (4, 3, 2, [0, 2, 0]),
    ],
)
def test_short_videos_repeat_in_a_loop(num_frames: int, length: int, stride: int, order: list[int]) -> None:
    times = regular(num_frames)
    clips = [
        sample_random_clip(times, shape(length, stride), np.random.default_rng(0)),
        sample_center_clip(times, shape(length, stride)),
        *sample_uniform_clips(times, shape(length, stride), 3),
        *sample_dense_clips(times, shape(length, stride), 2),
    ]
    for clip in clips:
        assert indices(clip, times) == order
        assert clip.looped
        assert (clip.start_seconds, clip.end_seconds) == (0.0, pytest.approx(times.duration_seconds))


@pytest.mark.parametrize("times", [regular(n) for n in range(1, 14)] + [uneven()], ids=len)
def test_every_clip_is_where_the_definition_says(times: FrameTimes) -> None:
    for length, stride, num_clips in product((1, 2, 3, 4, 7), (1, 2, 3), (1, 2, 3, 5, 10)):
        preprocessing, num_frames = shape(length, stride), len(times)
        span = (length - 1) * stride + 1
        clips = sample_uniform_clips(times, preprocessing, num_clips)
        assert len(clips) == num_clips
        for number, clip in enumerate(clips):
            if num_frames < span:
                assert clip.looped
                continue
            exact = (
                Fraction(num_frames - span, 2)
                if num_clips == 1
                else Fraction(number * (num_frames - span), num_clips - 1)
            )
            start = math.floor(exact)
            assert indices(clip, times) == [start + index * stride for index in range(length)]
            assert not clip.looped


@pytest.mark.parametrize(("num_frames", "length", "stride"), list(product((5, 6, 9, 16), (1, 2, 4), (1, 2))))
def test_random_clips_reach_every_place_about_equally(num_frames: int, length: int, stride: int) -> None:
    times, preprocessing = regular(num_frames), shape(length, stride)
    generator = np.random.default_rng(5)
    num_places, draws = max(1, num_frames - preprocessing.clip_span + 1), 1500
    starts = Counter(indices(sample_random_clip(times, preprocessing, generator), times)[0] for _ in range(draws))
    assert set(starts) == set(range(num_places))
    # Five standard deviations of a fair draw.
    share = draws / num_places
    assert all(abs(count - share) <= 5 * math.sqrt(share) for count in starts.values())


@pytest.mark.parametrize(
    "times", [regular(7), regular(5, step=512, start=-1024, tick_seconds=Fraction(1, 12800)), uneven()]
)
@pytest.mark.parametrize("rate", [1, 4, 7.5, 10, 12, 15, 23.976, 25, 29.97, 30, 30000 / 1001, 60, 1000, 0.3])
def test_the_grid_shows_the_latest_frame_of_every_moment(times: FrameTimes, rate: float) -> None:
    exact_rate = Fraction(rate).limit_denominator(1_000_000)
    expected = []
    moment = Fraction(0)
    while moment < (times.end_tick - int(times.ticks[0])) * times.tick_seconds:
        shown = [tick for tick in times.ticks.tolist() if (tick - int(times.ticks[0])) * times.tick_seconds <= moment]
        expected.append(max(shown))
        moment += 1 / exact_rate
    assert compute_sampling_grid(times, rate).tolist() == expected


def test_the_native_grid_is_every_frame() -> None:
    assert compute_sampling_grid(uneven(), None).tolist() == list(UNEVEN)


def test_halving_the_rate_takes_every_other_frame() -> None:
    times = FrameTimes(np.arange(300, dtype=np.int64) * 1001, Fraction(1, 30000), 300300)
    assert compute_sampling_grid(times, 30000 / 1001 / 2).tolist() == times.ticks[::2].tolist()


def test_the_grid_of_a_long_video_with_fine_ticks_does_not_overflow() -> None:
    num_frames = 300_000  # nearly three hours
    times = FrameTimes(np.arange(num_frames, dtype=np.int64) * 40_000_000, Fraction(1, 10**9), num_frames * 40_000_000)
    grid = compute_sampling_grid(times, 14.985)
    assert len(grid) == math.ceil(12000 * Fraction("14.985"))
    assert grid[-1] == (len(grid) - 1) / Fraction("14.985") // Fraction(1, 25) * 40_000_000


def test_an_impossible_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="frames_per_second must be at least 1e-06"):
        compute_sampling_grid(uneven(), 1e-9)


@pytest.mark.parametrize("times", [regular(8, step=1001, start=77, tick_seconds=Fraction(1, 30000)), uneven()])
def test_bounds_computed_from_time_stamps_find_those_frames(times: FrameTimes) -> None:
    for first in range(len(times)):
        for last in range(first + 1, len(times)):
            bounds = times.to_seconds(int(times.ticks[first])), times.to_seconds(int(times.ticks[last]))
            kept = trim_frame_times(times, *bounds)
            assert kept.ticks.tolist() == times.ticks[first:last].tolist()
            assert kept.end_tick == times.ticks[last]


def test_bounds_as_people_write_them() -> None:
    times = regular(25, step=512, tick_seconds=Fraction(1, 12800))  # 25 frames a second
    assert len(trim_frame_times(times, None, None)) == 25
    assert trim_frame_times(times, 0.2, 0.4).ticks.tolist() == [512 * index for index in range(5, 10)]
    assert trim_frame_times(times, 0.21, None).ticks.tolist() == [512 * index for index in range(6, 25)]
    beyond = trim_frame_times(times, 0.9, 7.0)
    assert (len(beyond), beyond.end_tick) == (2, times.end_tick)


def test_bounds_without_frames_are_too_short() -> None:
    with pytest.raises(VideoError, match=r"no frames between 3 s and its end: the video lasts 0.80 s") as caught:
        trim_frame_times(regular(8), 3.0, None)
    assert caught.value.status == "too_short"
    with pytest.raises(VideoError, match=r"no frames between 0.11 s and 0.19 s"):
        trim_frame_times(regular(8), 0.11, 0.19)


def test_seconds_are_counted_from_the_origin() -> None:
    whole = regular(10, start=500)
    part = trim_frame_times(whole, 0.4, 0.8)
    clip = sample_center_clip(part, shape(2))
    assert (clip.start_seconds, clip.end_seconds) == (pytest.approx(0.1), pytest.approx(0.3))
    clip = sample_center_clip(part, shape(2), origin_tick=int(whole.ticks[0]))
    assert (clip.start_seconds, clip.end_seconds) == (pytest.approx(0.5), pytest.approx(0.7))


@pytest.mark.parametrize("rate", [None, 5.0, 10.0, 20.0])
def test_clips_side_by_side_cover_the_video_without_gaps(rate: float | None) -> None:
    times = regular(12, start=30)  # 10 frames a second
    clips = sample_dense_clips(times, shape(3, frames_per_second=rate), 3)
    assert clips[0].start_seconds == 0
    assert clips[-1].end_seconds == pytest.approx(times.duration_seconds)
    assert [clip.end_seconds for clip in clips[:-1]] == [clip.start_seconds for clip in clips[1:]]


def test_a_clip_at_a_lower_rate_passes_over_frames() -> None:
    times = regular(9)
    assert picture(sample_uniform_clips(times, shape(3, frames_per_second=5), 2)[0], times) == "fxfxfxxxx"


def test_times_are_exact_where_the_rate_is_above_the_clock_of_the_file() -> None:
    """Three frames a second, a tick each, at ten timesteps a second: the frames are those shown then, the times are not."""
    times = regular(3, step=1, start=-7, tick_seconds=Fraction(1, 3))
    clips = sample_dense_clips(times, shape(2, frames_per_second=10), 1)
    assert [indices(clip, times)[0] for clip in clips] == [0, 0, 0, 0, 1, 1, 1, 2, 2]
    assert [clip.start_seconds for clip in clips] == [index / 10 for index in range(9)]
    assert [clip.end_seconds for clip in clips] == [index / 10 for index in range(2, 11)]
    ticks, edges = compute_timestep_edges(times, 10)
    assert edges == [-7 + index * Fraction(3, 10) for index in range(11)]
    assert ticks.tolist() == [-7, -7, -7, -7, -6, -6, -6, -5, -5, -5]


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="num_clips must be at least 1, not 0"):
        sample_uniform_clips(regular(4), shape(2), 0)
    with pytest.raises(ValueError, match="step of at least 1 frame, not 0"):
        sample_dense_clips(regular(4), shape(2), 0)


def flow_shape(length: int, stride: int = 1, gap: int = 1, chain: bool = False) -> Preprocessing:
    return Preprocessing("flow", length, stride, mean=FLOW_MEAN, std=FLOW_STD, flow_gap=gap, flow_chain=chain)


@pytest.mark.parametrize(
    ("preprocessing", "span", "first"),
    [
        (flow_shape(3), 4, [0, 1, 1, 2, 2, 3]),
        (flow_shape(2, 3), 5, [0, 1, 3, 4]),
        (flow_shape(2, 3, 2), 6, [0, 2, 3, 5]),
        (flow_shape(2, 3, 2, True), 6, [0, 1, 2, 3, 4, 5]),
        (flow_shape(2, 1, 3, True), 5, [0, 1, 2, 3, 1, 2, 3, 4]),
    ],
)
def test_flow_needs_frames_beyond_the_clip(preprocessing: Preprocessing, span: int, first: list[int]) -> None:
    """(L - 1) * stride + gap + 1 frames, the last clip's the last of the video."""
    times = regular(20)
    assert (
        preprocessing.clip_span
        == span
        == (preprocessing.clip_length - 1) * preprocessing.frame_stride + preprocessing.flow_gap + 1
    )
    clips = sample_uniform_clips(times, preprocessing, 4)
    assert indices(clips[0], times) == first
    for number, clip in enumerate(clips):
        start = number * (20 - span) // 3
        assert indices(clip, times) == [start + index for index in first]
        assert not clip.looped
        assert clip.end_seconds == pytest.approx((start + span) * 0.1)
    assert indices(clips[-1], times)[-1] == 19


def test_no_flow_leads_from_the_end_of_a_loop_to_its_beginning() -> None:
    assert indices(sample_center_clip(regular(3), flow_shape(4)), regular(3)) == [0, 1, 1, 2, 0, 1, 1, 2]
    assert indices(sample_center_clip(regular(4), flow_shape(3, 2, 2, True)), regular(4)) == [0, 1, 2, 0, 1, 2, 0, 1, 2]
    assert indices(sample_center_clip(regular(2), flow_shape(2)), regular(2)) == [0, 1, 0, 1]
    assert indices(sample_center_clip(regular(1), flow_shape(2)), regular(1)) == [0, 0, 0, 0]


def test_memory_follows_frames_and_not_seconds() -> None:
    """A thousand still pictures of ten minutes each: a week, at 15 frames a second 9 million timesteps."""
    tracemalloc.start()
    times = FrameTimes(np.arange(1000, dtype=np.int64) * 600, Fraction(1), 600_000)
    clips = sample_uniform_clips(times, Preprocessing(frames_per_second=15.0), 10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000
    assert clips[-1].end_seconds == pytest.approx(600_000)
    assert clips[-1].ticks.tolist() == [599_400] * 16


@pytest.mark.parametrize("rate", [10, 15, 24, 25, 29.97, 30, Fraction(30000, 1001), 50, 60])
def test_a_bound_half_a_frame_before_a_frame_selects_it(rate: float | Fraction) -> None:
    exact = Fraction(rate).limit_denominator(1_000_000)
    times = FrameTimes(np.arange(2000, dtype=np.int64), 1 / exact, 2000)
    for first in range(1, 1990):
        start, end = ((frame - 0.5) / float(rate) for frame in (first, first + 3))
        named = (float(f"{bound:.12g}") for bound in (start, end))  # as in the name of a segment
        for bounds in ((start, end), tuple(named)):
            assert trim_frame_times(times, *bounds).ticks.tolist() == [first, first + 1, first + 2]
