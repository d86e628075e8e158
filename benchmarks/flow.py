"""Optical flow: clips a processor second, what sharing saves in evaluation, what storing costs in accuracy, Farneback's error.

    python benchmarks/flow.py [--result RESULT.json] [--repeats 5]

Clips are of 16 frames, cropped to 112x112 of 128x171 and made into what the network sees; random places, one thread, the ways
take turns. Videos: generated motions, and the real ones in the folder MUYBRIDGE_REAL_VIDEO where it is set. Flow of generated
motions is known exactly, so the end-point error of Farneback is measured on it.
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

from muybridge.files.atomic import write_json
from muybridge.files.run_folder import collect_environment
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
Ways = dict[str, Callable[[int], int]]  # each turns the number of a turn into a number of clips


def prepared(video: Path, folder: Path) -> tuple[YuvClip, FrameTimes, dict[str, int]]:
    """Stores at most 10 s of a video and its flow in a shard each; the frames, their times, and the bytes of both."""
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
    return clip, times, sizes


def stored(folder: Path, name: str) -> tuple[ShardFrameSource, str]:
    height = 128 if name == "rgb" else 256
    return ShardFrameSource(str(folder / name), scale_height=height, scale_width=171), (
        folder / f"{name}.member"
    ).read_text()


def drawn(source: FrameSource, video: str, preprocessing: Preprocessing, number: int) -> int:
    """One training clip from frames, up to what the network sees."""
    chance = make_generator(0, "clip", number)
    clip_times = sample_random_clip(source.read_frame_times(video), preprocessing, chance)
    reader = create_clip_reader(source, preprocessing)
    view = reader.read_training_view(video, clip_times.ticks, mirror=True, generator=chance)
    prepare_network_input(collate_views([view]), preprocessing, CPU)
    return 1


def drawn_of_stored_flow(source: FrameSource, video: str, number: int) -> int:
    """One training clip from stored flow."""
    chance = make_generator(0, "clip", number)
    ticks = select_stored_ticks(sample_random_clip(source.read_frame_times(video), FLOW, chance).ticks, FLOW)
    corner = int(chance.integers(0, 17)), int(chance.integers(0, 60))
    view = make_stored_flow_view(source.read(video, ticks), corner, FLOW, mirror=bool(chance.random() < 0.5))
    prepare_network_input(collate_views([view]), FLOW, CPU)
    return 1


def evaluated(source: FrameSource, video: str, *, share: bool) -> int:
    """The 10 uniform clips of a video, with or without sharing."""
    preprocessing = replace(FLOW, clip_length=32)
    clips = sample_uniform_clips(source.read_frame_times(video), preprocessing, 10)
    groups = [clips] if share else [[clip] for clip in clips]
    for group in groups:
        for view in create_clip_reader(source, preprocessing).read_evaluation_views(video, group):
            assert not isinstance(view, Exception), "the video can be read"
            prepare_network_input(collate_views([view]), preprocessing, CPU)
    return len(clips)


def clips_per_second(ways: Ways, repeats: int) -> dict[str, float]:
    """Median clips a processor second; the ways take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, way in ways.items():
            began = time.process_time()
            num_clips = sum(way(10 * turn + number) for number in range(1 if "evaluation" in name else 6))
            if turn:  # the first turn opens files and imports
                seconds[name].append((time.process_time() - began) / num_clips)
    return {name: round(1 / statistics.median(taken), 2) for name, taken in seconds.items()}


def speed(video: Path, folder: Path, repeats: int) -> dict[str, float]:
    raw = VideoFiles("", scale_height=128, scale_width=171)
    frames, frames_member = stored(folder, "rgb")
    flows, flows_member = stored(folder, "flow")
    ways: Ways = {
        "raw_rgb": lambda number: drawn(raw, str(video), RGB, number),
        "raw_flow": lambda number: drawn(raw, str(video), FLOW, number),
        "prepared_rgb": lambda number: drawn(frames, frames_member, RGB, number),
        "prepared_flow": lambda number: drawn(frames, frames_member, FLOW, number),
        "stored_flow": lambda number: drawn_of_stored_flow(flows, flows_member, number),
        "evaluation_flow_32f_shared": lambda _: evaluated(frames, frames_member, share=True),
        "evaluation_flow_32f_clip_by_clip": lambda _: evaluated(frames, frames_member, share=False),
    }
    return clips_per_second(ways, repeats)


def difference(clip: YuvClip, folder: Path) -> dict[str, float]:
    """Stored flow against flow computed on the centre crop, in pixels, and the part of it that encoding makes."""
    top, left, crop = 8, 29, 112
    whole = View(clip.luma_thw, clip.chroma_cthw, 0, 0, False, clip.matrix, clip.full_range)
    grays = [convert_frame_to_gray(whole, number) for number in range(len(clip.luma_thw))]
    pairs = list(pairwise(grays))
    part = (slice(top, top + crop), slice(left, left + crop))
    of_whole = np.stack([farneback(first, second)[part] for first, second in pairs])
    of_crop = np.stack(
        [farneback(np.ascontiguousarray(first[part]), np.ascontiguousarray(second[part])) for first, second in pairs]
    )
    source, member = stored(folder, "flow")
    found = decode_flow(source.read(member, source.read_frame_times(member).ticks[:-1]).luma_thw)
    found = found[:, part[0], part[1]]
    return {
        "whole_frame_against_crop_mean": float(np.abs(of_whole - of_crop).mean()),
        "encoding_mean": float(np.abs(found - np.clip(of_whole, -FLOW_BOUND, FLOW_BOUND)).mean()),
        "stored_against_crop_mean": float(np.abs(found - of_crop).mean()),
        "stored_against_crop_median": float(np.median(np.abs(found - of_crop))),
        "beyond_bound_share": float((np.abs(of_whole) > FLOW_BOUND).mean()),
        "mean_magnitude": float(np.abs(of_crop).mean()),
    }


def end_point_error(noise: float, contrast: float) -> dict[str, float]:
    """Mean distance in pixels from Farneback's flow to the true one, on the moving object and off it."""
    settings = MotionSettings(noise=noise, contrast=contrast, height=112, width=112)
    on, off, moved = [], [], []
    for number, label in enumerate(settings.class_names):
        motion = render_motion(label, np.random.default_rng(number), settings=settings)
        for time_index in range(0, settings.num_frames - 1, 4):
            first, second = (
                import_opencv().cvtColor(motion.frames_thwc[place], import_opencv().COLOR_RGB2GRAY)
                for place in (time_index, time_index + 1)
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


def videos(folder: Path) -> dict[str, Path]:
    """Generated motions, and the real videos where they are."""
    motions = folder / "motions.mp4"
    write_untrimmed_video(motions, MOTIONS, labels=UNTRIMMED)
    real = os.environ.get("MUYBRIDGE_REAL_VIDEO")
    if not real:
        print("real videos are left out: MUYBRIDGE_REAL_VIDEO is not set", file=sys.stderr)
        return {"generated motions": motions}
    return {"generated motions": motions, **{Path(name).stem: Path(real) / name for name in REAL}}


def main() -> None:
    """Writes the result as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--result", type=Path, help="the JSON file to write")
    found = parser.parse_args()
    torch.set_num_threads(1)
    import_opencv().setNumThreads(1)
    result: dict[str, Any] = {"videos": {}}
    with tempfile.TemporaryDirectory() as temporary:
        for name, video in videos(Path(temporary)).items():
            folder = Path(temporary) / name
            clip, _, sizes = prepared(video, folder)
            result["videos"][name] = {
                "num_frames": len(clip.luma_thw),
                **sizes,
                "clips_per_processor_second": speed(video, folder, found.repeats),
                "difference_pixels": difference(clip, folder),
            }
            print(f"{name}: {json.dumps(result['videos'][name], indent=2)}", flush=True)
    levels = ((3.0, 1.0), (16.0, 1.0), (16.0, 0.5), (24.0, 0.3))
    result["end_point_error"] = [end_point_error(noise, contrast) for noise, contrast in levels]
    print(json.dumps(result["end_point_error"], indent=2))
    facts = {key: value for key, value in collect_environment().items() if key != "command"}
    if found.result:
        write_json(found.result, {"environment": facts, "opencv": import_opencv().__version__, **result})


if __name__ == "__main__":
    main()
