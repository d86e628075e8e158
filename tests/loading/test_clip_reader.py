"""Each modality reads the same clips for evaluation and for timelines, from frames or from stored flow."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gray_frames import GrayFrames
from muybridge.loading.clip_reader import (
    ClipReader,
    FlowReader,
    RgbReader,
    StoredFlowReader,
    create_clip_reader,
    open_clip_reader,
    open_frame_source,
)
from muybridge.prepared.mp4 import mux_mp4
from muybridge.prepared.shards import ShardFrameSource
from muybridge.prepared.stored_flow import compute_encoded_flow, make_stored_flow_view, select_stored_ticks
from muybridge.prepared.transcode import encode_h264
from muybridge.randomness import make_generator
from muybridge.records import FrameTimes, Preprocessing, VideoError
from muybridge.video.media import MediaFiles
from muybridge.video.sampling import compute_timestep_ticks, sample_dense_clips
from muybridge.video.views import AnyView, View
from stored import write_shard

NUM_FRAMES = 40


def shape(**sampling: Any) -> Preprocessing:
    return Preprocessing(clip_length=4, scale_height=20, scale_width=24, crop=16, **sampling)


def open_rgb(folder: Path) -> tuple[ClipReader, str]:
    return create_clip_reader(GrayFrames(NUM_FRAMES), shape(frame_stride=2)), "x"


def open_flow(folder: Path) -> tuple[ClipReader, str]:
    preprocessing = shape(modality="flow", flow_gap=2, flow_chain=True)
    return create_clip_reader(GrayFrames(NUM_FRAMES, textured=True), preprocessing), "x"


def open_stored_flow(folder: Path) -> tuple[ClipReader, str]:
    frames = GrayFrames(NUM_FRAMES, textured=True)
    times = FrameTimes(np.arange(NUM_FRAMES), Fraction(1, 25), NUM_FRAMES)
    encoded = encode_h264(compute_encoded_flow([frames.read("x", frames.times.ticks)]), times)
    (member,) = write_shard(folder, mux_mp4(encoded))
    source = ShardFrameSource(str(folder), scale_height=40, scale_width=24)
    return StoredFlowReader(source, shape(modality="flow", flow_gap=2, flow_chain=True)), str(member)


def stack(view: AnyView | VideoError) -> NDArray[Any]:
    """The timesteps of a view, (T, ...)."""
    assert not isinstance(view, VideoError)
    return view.luma_thw if isinstance(view, View) else view.flow_cthw.swapaxes(0, 1)


def test_the_modality_chooses_the_reader() -> None:
    assert isinstance(create_clip_reader(GrayFrames(4), shape()), RgbReader)
    assert isinstance(create_clip_reader(GrayFrames(4), shape(modality="flow")), FlowReader)


def test_a_folder_that_is_not_prepared_is_read_file_by_file(tmp_path: Path) -> None:
    """Prepared ones are read in `tests/prepared/test_prepare.py`."""
    assert isinstance(open_frame_source(str(tmp_path), shape()), MediaFiles)
    assert isinstance(open_clip_reader(str(tmp_path), shape()), RgbReader)
    assert isinstance(open_clip_reader(str(tmp_path), shape(modality="flow")), FlowReader)


@pytest.mark.parametrize("open_reader", [open_rgb, open_flow, open_stored_flow])
def test_clips_are_cut_from_timesteps(tmp_path: Path, open_reader: Callable[[Path], tuple[ClipReader, str]]) -> None:
    reader, video = open_reader(tmp_path)
    times = reader.source.read_frame_times(video)
    timesteps = np.concatenate(
        [stack(view) for view in reader.read_timesteps(video, compute_timestep_ticks(times, reader.preprocessing))]
    )
    assert timesteps.any()
    clips = sample_dense_clips(times, reader.preprocessing, 1)
    length, stride = reader.preprocessing.clip_length, reader.preprocessing.frame_stride
    for start, view in enumerate(reader.read_evaluation_views(video, clips)):
        assert np.array_equal(stack(view), timesteps[start : start + length * stride : stride])


@pytest.mark.parametrize(("num_crops", "corners"), [(1, [(2, 4)]), (3, [(2, 0), (2, 4), (2, 8)])])
def test_crops_of_stored_flow_lie_where_those_of_frames_do(
    tmp_path: Path, num_crops: int, corners: list[tuple[int, int]]
) -> None:
    reader, video = open_stored_flow(tmp_path)
    clip = sample_dense_clips(reader.source.read_frame_times(video), reader.preprocessing, 1)[3]
    codes = reader.source.read(video, select_stored_ticks(clip.ticks, reader.preprocessing))
    views = [stack(view) for view in reader.read_evaluation_views(video, [clip], num_crops=num_crops)]
    for view, corner in zip(views, corners, strict=True):
        assert np.array_equal(view, stack(make_stored_flow_view(codes, corner, reader.preprocessing, mirror=False)))
    assert len({view.tobytes() for view in views}) == num_crops


@pytest.mark.parametrize("open_reader", [open_rgb, open_flow, open_stored_flow])
def test_a_training_view_depends_on_its_generator_alone(
    tmp_path: Path, open_reader: Callable[[Path], tuple[ClipReader, str]]
) -> None:
    reader, video = open_reader(tmp_path)
    clip = sample_dense_clips(reader.source.read_frame_times(video), reader.preprocessing, 1)[3]
    generators = [make_generator(0, "clip", draw) for draw in (1, 1)]
    first, again = (
        stack(reader.read_training_view(video, clip.ticks, mirror=True, generator=generator))
        for generator in generators
    )
    assert np.array_equal(first, again)
    assert generators[0].random() == generators[1].random() == _draw_after_crop_and_mirror(1)


def _draw_after_crop_and_mirror(draw: int) -> float:
    """Every modality draws top, left and mirroring, in this order, so that their crops agree."""
    generator = make_generator(0, "clip", draw)
    generator.integers(0, 20 - 16 + 1)
    generator.integers(0, 24 - 16 + 1)
    generator.random()
    return float(generator.random())
