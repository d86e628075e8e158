"""The timesteps of a video, each decoded once, in order."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gray_frames import GrayFrames
from muybridge.loading.clip_reader import create_clip_reader
from muybridge.loading.frame_stream import TIMESTEPS_PER_CHUNK, read_in_order
from muybridge.records import FLOW_MEAN, FLOW_STD, Preprocessing, VideoError
from muybridge.video.decode import VideoFiles
from muybridge.video.frame_index import index_frames
from muybridge.video.sampling import compute_dense_starts, compute_timestep_ticks, sample_dense_clips
from muybridge.video.views import View
from videos import read_indices, write_video

PREPROCESSING = Preprocessing(clip_length=3, frame_stride=2, scale_height=20, scale_width=24, crop=16)
FLOW = replace(PREPROCESSING, modality="flow", mean=FLOW_MEAN, std=FLOW_STD, flow_gap=2, flow_chain=True)
FILES = {
    "long_gop.mp4": {"gop": 250},
    "open_gop.ts": {"options": {"x264-params": "open-gop=1:bframes=3:scenecut=0:keyint=12:min-keyint=12"}},
    "counted.avi": {"codec": "mpeg4", "options": {"bf": "2"}},
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("num_frames", [1, 7, 36, 100])
def test_frames_in_order_are_those_read_at_will(tmp_path: Path, name: str, num_frames: int) -> None:
    video = str(write_video(tmp_path / name, 36, **FILES[name]))  # type: ignore[arg-type]
    assert index_frames(video).uses_counting == (name == "counted.avi")
    source = VideoFiles("", scale_height=20, scale_width=24)
    ticks = source.read_frame_times(video).ticks[3:34]
    clips = list(read_in_order(source, video, ticks, num_frames))
    assert [len(clip.luma_thw) for clip in clips[:-1]] == [num_frames] * (len(clips) - 1)
    luma = np.concatenate([clip.luma_thw for clip in clips])
    assert read_indices(luma) == list(range(3, 34))
    assert np.array_equal(luma, source.read(video, ticks).luma_thw)


def test_frames_wanted_here_and_there_are_sought(tmp_path: Path) -> None:
    video = str(write_video(tmp_path / "video.mp4", 120, gop=10))
    source = VideoFiles("", scale_height=20, scale_width=24)
    expected = [0, 1, 40, 44, 90, 119]
    clips = read_in_order(source, video, source.read_frame_times(video).ticks[expected], 4)
    assert [read_indices(clip.luma_thw) for clip in clips] == [expected[:4], expected[4:]]


def test_what_is_whole_comes_before_the_fault(tmp_path: Path) -> None:
    video = write_video(tmp_path / "video.ts", 60, gop=10, options={"bf": "0"})
    source = VideoFiles("", scale_height=20, scale_width=24)
    ticks = source.read_frame_times(str(video)).ticks
    stored = video.stat()
    data = bytearray(video.read_bytes())
    data[len(data) * 3 // 4 :] = bytes(len(data) - len(data) * 3 // 4)
    video.write_bytes(data)
    os.utime(video, ns=(stored.st_atime_ns, stored.st_mtime_ns))  # the same file to its index: damage found on the way
    clips = read_in_order(source, str(video), ticks, 5)
    actual: list[int] = []
    with pytest.raises(VideoError):
        for clip in clips:
            actual += read_indices(clip.luma_thw)
    assert actual == list(range(len(actual)))
    assert 5 <= len(actual) < 60


@pytest.mark.parametrize("preprocessing", [PREPROCESSING, FLOW, replace(PREPROCESSING, frames_per_second=40.0)])
def test_dense_clips_are_made_of_timesteps(preprocessing: Preprocessing) -> None:
    times = GrayFrames(50).times
    starts, ticks = compute_dense_starts(times, preprocessing, 3), compute_timestep_ticks(times, preprocessing)
    clips = sample_dense_clips(times, preprocessing, 3)
    assert len(starts) == len(clips) > 10
    for start, clip in zip(starts, clips, strict=True):
        own = ticks[start + np.arange(preprocessing.clip_length) * preprocessing.frame_stride]
        assert own.reshape(-1).tolist() == clip.ticks.tolist()


def test_views_follow_each_other() -> None:
    source = GrayFrames(100)
    ticks = compute_timestep_ticks(source.times, PREPROCESSING)[::2]
    reader = create_clip_reader(source, PREPROCESSING)
    views = [view for view in reader.read_timesteps("x", ticks) if isinstance(view, View)]
    assert [len(view.luma_thw) for view in views] == [TIMESTEPS_PER_CHUNK, 50 - TIMESTEPS_PER_CHUNK]
    assert np.concatenate([view.luma_thw[:, 0, 0] for view in views]).tolist() == list(range(0, 100, 2))
    assert [frame for read in source.reads for frame in read] == list(range(0, 100, 2))


def test_a_frame_that_stands_twice_is_read_once() -> None:
    source = GrayFrames(100)
    preprocessing = replace(PREPROCESSING, frames_per_second=50.0)
    ticks = compute_timestep_ticks(source.times, preprocessing)
    views = list(create_clip_reader(source, preprocessing).read_timesteps("x", ticks))
    levels = [int(level) for view in views if isinstance(view, View) for level in view.luma_thw[:, 0, 0]]
    assert levels == [number // 2 for number in range(200)]
    assert [frame for read in source.reads for frame in read] == list(range(100))
