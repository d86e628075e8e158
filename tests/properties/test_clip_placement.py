"""Clip placement for any video: what must hold of every clip, whatever the stamps, rate, stride and length."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from muybridge.randomness import make_generator
from muybridge.records import ClipTimes, FrameTimes, Preprocessing
from muybridge.video.sampling import (
    compute_sampling_grid,
    compute_timestep_ticks,
    sample_center_clip,
    sample_dense_clips,
    sample_random_clip,
    sample_uniform_clips,
    trim_frame_times,
)


@st.composite
def frame_times(draw: st.DrawFn) -> FrameTimes:
    """Up to 60 frames at uneven stamps, of any clock and from any start."""
    gaps = draw(st.lists(st.integers(1, 5000), min_size=1, max_size=60))
    start = draw(st.integers(-(2**40), 2**40))
    ticks = start + np.cumsum([0, *gaps[:-1]], dtype=np.int64)
    return FrameTimes(ticks, Fraction(1, draw(st.sampled_from([1, 25, 600, 1000, 90_000]))), int(ticks[-1]) + gaps[-1])


@st.composite
def preprocessings(draw: st.DrawFn) -> Preprocessing:
    shape = {"clip_length": draw(st.integers(1, 20)), "frame_stride": draw(st.integers(1, 5))}
    if draw(st.booleans()):
        return Preprocessing(**shape)
    gap = draw(st.integers(1, 4))
    return Preprocessing(
        modality="flow", mean=(0.0, 0.0), std=(1.0, 1.0), flow_gap=gap, flow_chain=draw(st.booleans()), **shape
    )


def check_clip(clip: ClipTimes, times: FrameTimes, preprocessing: Preprocessing) -> None:
    assert len(clip.ticks) == preprocessing.clip_length * len(preprocessing.frame_offsets)
    assert np.isin(clip.ticks, times.ticks).all()  # frames of the video, none made up
    assert clip.looped == (len(times) < preprocessing.clip_span)
    assert -1e-6 <= clip.start_seconds < clip.end_seconds <= times.duration_seconds + 1e-6
    if not clip.looped:
        places = np.searchsorted(times.ticks, clip.ticks).reshape(preprocessing.clip_length, -1)
        assert (np.diff(places[:, 0]) == preprocessing.frame_stride).all()
        assert (places - places[:, :1] == np.array(preprocessing.frame_offsets)).all()


@given(frame_times(), preprocessings(), st.integers(1, 12))
def test_uniform_clips_are_spread_over_the_whole_video(
    times: FrameTimes, preprocessing: Preprocessing, count: int
) -> None:
    clips = sample_uniform_clips(times, preprocessing, count)
    assert len(clips) == count
    for clip in clips:
        check_clip(clip, times, preprocessing)
    starts = [int(np.searchsorted(times.ticks, clip.ticks[0])) for clip in clips]
    assert starts == sorted(starts)
    if count > 1:
        assert starts[0] == 0
        assert starts[-1] == max(0, len(times) - preprocessing.clip_span)
        assert max(np.diff(starts)) - min(np.diff(starts)) <= 1
    assert np.array_equal(
        sample_center_clip(times, preprocessing).ticks, sample_uniform_clips(times, preprocessing, 1)[0].ticks
    )


@given(frame_times(), preprocessings(), st.integers(1, 9))
def test_dense_clips_leave_no_frame_out(times: FrameTimes, preprocessing: Preprocessing, step: int) -> None:
    clips = sample_dense_clips(times, preprocessing, step)
    for clip in clips:
        check_clip(clip, times, preprocessing)
    assert clips[0].start_seconds == 0
    assert clips[-1].looped or abs(clips[-1].end_seconds - times.duration_seconds) < 1e-6
    if step <= preprocessing.clip_span:
        assert all(after.start_seconds <= before.end_seconds + 1e-6 for before, after in itertools.pairwise(clips))


@given(frame_times(), st.integers(1, 300), st.integers(1, 9), st.integers(1, 9))
def test_dense_clips_follow_each_other_in_time_at_any_rate(
    times: FrameTimes, num_timesteps: int, length: int, step: int
) -> None:
    rate = min(1000, num_timesteps / times.duration_seconds)
    clips = sample_dense_clips(times, Preprocessing(clip_length=length, frames_per_second=rate), step)
    for before, after in itertools.pairwise(clips):
        assert before.start_seconds < after.start_seconds and before.end_seconds < after.end_seconds


@given(frame_times(), preprocessings(), st.integers(0, 2**31), st.integers(0, 100))
def test_random_clips_fit_and_are_a_function_of_their_number(
    times: FrameTimes, preprocessing: Preprocessing, seed: int, number: int
) -> None:
    clip = sample_random_clip(times, preprocessing, make_generator(seed, "clip", number))
    check_clip(clip, times, preprocessing)
    again = sample_random_clip(times, preprocessing, make_generator(seed, "clip", number))
    assert np.array_equal(again.ticks, clip.ticks)


@given(frame_times(), st.integers(1, 120), st.sampled_from([1, 2, 1001]))
def test_a_rate_shows_at_every_moment_what_is_shown_then(times: FrameTimes, numerator: int, denominator: int) -> None:
    """Against the definition, a moment at a time, in fractions."""
    rate = numerator / denominator
    exact = Fraction(rate).limit_denominator(1_000_000)
    num_moments = int(-((-times.duration_seconds * exact) // 1)) + 2
    if num_moments > 20_000:
        return
    expected = []
    for moment in range(num_moments):
        tick = times.ticks[0] + Fraction(moment) / (exact * times.tick_seconds)
        if tick < times.end_tick:
            expected.append(max(int(shown) for shown in times.ticks if shown <= tick))
    assert compute_sampling_grid(times, rate).tolist() == expected


@given(frame_times(), preprocessings())
def test_the_timesteps_of_a_video_are_those_of_its_clips(times: FrameTimes, preprocessing: Preprocessing) -> None:
    timesteps = compute_timestep_ticks(times, preprocessing)
    clip = sample_uniform_clips(times, preprocessing, 2)[0]
    if not clip.looped:
        span = timesteps[np.arange(preprocessing.clip_length) * preprocessing.frame_stride]
        assert np.array_equal(span.reshape(-1), clip.ticks)


@given(frame_times(), st.data())
def test_a_trimmed_video_has_the_frames_between_its_bounds(times: FrameTimes, data: st.DataObject) -> None:
    first, last = sorted(data.draw(st.tuples(*[st.integers(0, len(times) - 1)] * 2)))
    bounds = [float((int(times.ticks[n]) - int(times.ticks[0])) * times.tick_seconds) for n in (first, last)]
    stop = bounds[1] if last > first else None
    trimmed = trim_frame_times(times, bounds[0], stop)
    assert trimmed.ticks.tolist() == times.ticks[first : last if stop is not None else None].tolist()
