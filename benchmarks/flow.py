"""Optical flow benchmark: clips a processor second, sharing in evaluation, accuracy of stored flow, Farneback's error.

    python benchmarks/flow.py [--result RESULT.json] [--repeats 5]

Random clips of 16 frames are cropped to 112x112 of 128x171 and converted to network input, on one thread; the variants
alternate. Videos: generated motions, and those in the folder MUYBRIDGE_REAL_VIDEO if it is set. The flow of generated motions
is known exactly and serves to measure the end-point error of Farneback's method.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness import describe_environment
from muybridge.files.atomic import write_json
from muybridge.loading.clip_reader import create_clip_reader
from muybridge.prepared.mp4 import mux_mp4
from muybridge.prepared.shards import ShardFrameSource, ShardMember, format_shard_path
from muybridge.prepared.stored_flow import (
    FLOW_BOUND,
    compute_encoded_flow,
    decode_flow,
    make_stored_flow_view,
    select_stored_ticks,
)
from muybridge.prepared.transcode import encode_h264
from muybridge.randomness import make_generator
from muybridge.records import FLOW_MEAN, FLOW_STD, FrameSource, FrameTimes, Preprocessing, YuvClip
from muybridge.synthetic.dataset import write_untrimmed_video
from muybridge.synthetic.motions import MotionSettings
from muybridge.synthetic.scenes import render_motion
from muybridge.video.decode import VideoFiles
from muybridge.video.flow import convert_frame_to_gray, farneback, import_opencv
from muybridge.video.sampling import compute_sampling_grid, sample_random_clip, sample_uniform_clips
from muybridge.video.views import View, collate_views, prepare_network_input

RGB = Preprocessing()
FLOW = Preprocessing(modality="flow", mean=FLOW_MEAN, std=FLOW_STD)
CPU = torch.device("cpu")
RATE = 15.0
MOTIONS = MotionSettings(height=128, width=170, num_frames=45, frames_per_second=15)
UNTRIMMED = ("left", "clockwise", "approach", "down")
REAL = (
    "videos/arm_wrestling_kinetics_340x256_28fps.mp4",
    "videos/archery_320x240_25fps_audio.avi",
    "videos/exercise_39s_384x288_10fps.avi",
)
Variants = dict[str, Callable[[int], int]]  # draw index -> number of clips read


def store_video(video: Path, folder: Path) -> tuple[YuvClip, dict[str, int]]:
    """Store at most 10 s of a video and its flow, each in a shard; returns the frames and the sizes of both in bytes."""
    source = VideoFiles("", scale_height=128, scale_width=171)
    ticks = compute_sampling_grid(source.read_frame_times(str(video)), RATE)[:150]
    clip = source.read(str(video), ticks)
    times = FrameTimes(np.arange(len(ticks), dtype=np.int64), Fraction(1, 15), len(ticks))
    sizes = {}
    for name, (content, sha256) in {
        "rgb": mux_mp4(encode_h264(iter([clip]), times)),
        "flow": mux_mp4(encode_h264(compute_encoded_flow([clip]), times)),
    }.items():
        path = folder / name / format_shard_path(0)
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        (folder / f"{name}.member").write_text(str(ShardMember(0, 0, len(content), sha256)))
        sizes[f"{name}_bytes"] = len(content)
    return clip, sizes


def open_stored(folder: Path, name: str) -> tuple[ShardFrameSource, str]:
    height = 128 if name == "rgb" else 256
    return ShardFrameSource(str(folder / name), scale_height=height, scale_width=171), (
        folder / f"{name}.member"
    ).read_text()


def read_training_clip(source: FrameSource, video: str, preprocessing: Preprocessing, draw_index: int) -> int:
    """Read one training clip from frames, up to the network input."""
    rng = make_generator(0, "clip", draw_index)
    clip_times = sample_random_clip(source.read_frame_times(video), preprocessing, rng)
    reader = create_clip_reader(source, preprocessing)
    view = reader.read_training_view(video, clip_times.ticks, mirror=True, generator=rng)
    prepare_network_input(collate_views([view]), preprocessing, CPU)
    return 1


def read_stored_flow_clip(source: FrameSource, video: str, draw_index: int) -> int:
    """Read one training clip from stored flow."""
    rng = make_generator(0, "clip", draw_index)
    ticks = select_stored_ticks(sample_random_clip(source.read_frame_times(video), FLOW, rng).ticks, FLOW)
    corner = int(rng.integers(0, 17)), int(rng.integers(0, 60))
    view = make_stored_flow_view(source.read(video, ticks), corner, FLOW, mirror=bool(rng.random() < 0.5))
    prepare_network_input(collate_views([view]), FLOW, CPU)
    return 1


def read_evaluation_clips(source: FrameSource, video: str, *, share: bool) -> int:
    """Read the 10 uniform clips of a video, with or without sharing frames and flow."""
    preprocessing = replace(FLOW, clip_length=32)
    clips = sample_uniform_clips(source.read_frame_times(video), preprocessing, 10)
    groups = [clips] if share else [[clip] for clip in clips]
    for group in groups:
        for view in create_clip_reader(source, preprocessing).read_evaluation_views(video, group):
            assert not isinstance(view, Exception), "the video can be read"
            prepare_network_input(collate_views([view]), preprocessing, CPU)
    return len(clips)


def measure_clips_per_second(variants: Variants, repeats: int) -> dict[str, float]:
    """Median clips a processor second of each variant; the variants alternate."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for round_index in range(repeats + 1):
        for name, variant in variants.items():
            start = time.process_time()
            num_clips = sum(variant(10 * round_index + offset) for offset in range(1 if "evaluation" in name else 6))
            if round_index:  # the first round opens files and imports
                seconds[name].append((time.process_time() - start) / num_clips)
    return {name: round(1 / statistics.median(times), 2) for name, times in seconds.items()}


def measure_speed(video: Path, folder: Path, repeats: int) -> dict[str, float]:
    raw = VideoFiles("", scale_height=128, scale_width=171)
    frames, frames_member = open_stored(folder, "rgb")
    flows, flows_member = open_stored(folder, "flow")
    variants: Variants = {
        "raw_rgb": lambda index: read_training_clip(raw, str(video), RGB, index),
        "raw_flow": lambda index: read_training_clip(raw, str(video), FLOW, index),
        "prepared_rgb": lambda index: read_training_clip(frames, frames_member, RGB, index),
        "prepared_flow": lambda index: read_training_clip(frames, frames_member, FLOW, index),
        "stored_flow": lambda index: read_stored_flow_clip(flows, flows_member, index),
        "evaluation_flow_32f_shared": lambda _: read_evaluation_clips(frames, frames_member, share=True),
        "evaluation_flow_32f_clip_by_clip": lambda _: read_evaluation_clips(frames, frames_member, share=False),
    }
    return measure_clips_per_second(variants, repeats)


def measure_difference(clip: YuvClip, folder: Path) -> dict[str, float]:
    """Differences in pixels between stored flow and flow computed on the centre crop, and the part due to encoding."""
    top, left, crop = 8, 29, 112
    whole = View(clip.luma_thw, clip.chroma_cthw, 0, 0, False, clip.matrix, clip.full_range)
    grays = [convert_frame_to_gray(whole, index) for index in range(len(clip.luma_thw))]
    pairs = list(pairwise(grays))
    part = (slice(top, top + crop), slice(left, left + crop))
    of_whole = np.stack([farneback(first, second)[part] for first, second in pairs])
    of_crop = np.stack(
        [farneback(np.ascontiguousarray(first[part]), np.ascontiguousarray(second[part])) for first, second in pairs]
    )
    source, member = open_stored(folder, "flow")
    stored_flow = decode_flow(source.read(member, source.read_frame_times(member).ticks[:-1]).luma_thw)
    stored_flow = stored_flow[:, part[0], part[1]]
    return {
        "whole_frame_against_crop_mean": float(np.abs(of_whole - of_crop).mean()),
        "encoding_mean": float(np.abs(stored_flow - np.clip(of_whole, -FLOW_BOUND, FLOW_BOUND)).mean()),
        "stored_against_crop_mean": float(np.abs(stored_flow - of_crop).mean()),
        "stored_against_crop_median": float(np.median(np.abs(stored_flow - of_crop))),
        "beyond_bound_share": float((np.abs(of_whole) > FLOW_BOUND).mean()),
        "mean_magnitude": float(np.abs(of_crop).mean()),
    }


def measure_end_point_error(noise: float, contrast: float) -> dict[str, float]:
    """Mean distance in pixels between Farneback's and the true flow, on the moving object and on the background."""
    settings = MotionSettings(noise=noise, contrast=contrast, height=112, width=112)
    on, off, moved = [], [], []
    for index, label in enumerate(settings.class_names):
        motion = render_motion(label, np.random.default_rng(index), settings=settings)
        for time_index in range(0, settings.num_frames - 1, 4):
            first, second = (
                import_opencv().cvtColor(motion.frames_thwc[frame_index], import_opencv().COLOR_RGB2GRAY)
                for frame_index in (time_index, time_index + 1)
            )
            truth = motion.displacement_thwc[time_index]
            error = np.hypot(*np.moveaxis(farneback(first, second) - truth, -1, 0))
            length = np.hypot(*np.moveaxis(truth, -1, 0))
            on.append(error[length > 0])
            off.append(error[length == 0])
            moved.append(length[length > 0])
    return {
        "noise": noise,
        "contrast": contrast,
        "object_end_point_error": float(np.concatenate(on).mean()),
        "object_median_end_point_error": float(np.median(np.concatenate(on))),
        "object_true_length": float(np.concatenate(moved).mean()),
        "background_end_point_error": float(np.concatenate(off).mean()),
    }


def list_videos(folder: Path) -> dict[str, Path]:
    """Generated motions, and the real videos if available."""
    motions = folder / "motions.mp4"
    write_untrimmed_video(motions, MOTIONS, labels=UNTRIMMED)
    real = os.environ.get("MUYBRIDGE_REAL_VIDEO")
    if not real:
        print("skipping real videos: MUYBRIDGE_REAL_VIDEO is not set", file=sys.stderr)
        return {"generated motions": motions}
    return {"generated motions": motions, **{Path(name).stem: Path(real) / name for name in REAL}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--result", type=Path, help="the JSON file to write")
    args = parser.parse_args()
    torch.set_num_threads(1)
    import_opencv().setNumThreads(1)
    result: dict[str, Any] = {"videos": {}}
    with tempfile.TemporaryDirectory() as temporary:
        for name, video in list_videos(Path(temporary)).items():
            folder = Path(temporary) / name
            clip, sizes = store_video(video, folder)
            result["videos"][name] = {
                "num_frames": len(clip.luma_thw),
                **sizes,
                "clips_per_processor_second": measure_speed(video, folder, args.repeats),
                "difference_pixels": measure_difference(clip, folder),
            }
            print(f"{name}: {json.dumps(result['videos'][name], indent=2)}", flush=True)
    levels = ((3.0, 1.0), (16.0, 1.0), (16.0, 0.5), (24.0, 0.3))
    result["end_point_error"] = [measure_end_point_error(noise, contrast) for noise, contrast in levels]
    print(json.dumps(result["end_point_error"], indent=2))
    if args.result:
        write_json(
            args.result, {"environment": describe_environment(), "opencv": import_opencv().__version__, **result}
        )


if __name__ == "__main__":
    main()
