"""RGB, optical flow and their mean on small data: generated motions under strong appearance noise, and real video.

    python benchmarks/two_stream.py -o FOLDER [--seeds 3] [--clips 3000] [--data_sets NAME ...] [--result RESULT.json]

Trains one small R(2+1)D per data set, modality and seed, scores the test videos, and fuses the score files; the first flow
network is also scored on stored flow. Completed runs are not repeated. UT-Interaction is read from the folder
MUYBRIDGE_REAL_VIDEO, and skipped if that is not set.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from rich.console import Console

from harness import describe_environment
from muybridge.datasets.splits import ValidationSplit
from muybridge.evaluation.aggregate import compute_video_scores
from muybridge.evaluation.evaluate import evaluate_split
from muybridge.evaluation.fuse import fuse
from muybridge.evaluation.scores import read_scores
from muybridge.files.atomic import write_json
from muybridge.inference.scorer import NetworkScorer
from muybridge.loading.clip_reader import open_frame_source
from muybridge.loading.datasets import read_segment_times
from muybridge.loading.open_data import open_data
from muybridge.prepared.mp4 import mux_mp4
from muybridge.prepared.shards import ShardFrameSource, ShardMember, format_shard_path
from muybridge.prepared.stored_flow import compute_encoded_flow, make_stored_flow_view, select_stored_ticks
from muybridge.prepared.transcode import encode_h264
from muybridge.records import FrameTimes, Modality
from muybridge.settings import (
    ClipSettings,
    EvaluateSettings,
    EvaluationSettings,
    LoadingSettings,
    NetworkSettings,
    TrainSettings,
)
from muybridge.synthetic.dataset import write_motion_dataset
from muybridge.synthetic.motions import MotionSettings
from muybridge.training.fit import fit
from muybridge.training.job import prepare_job
from muybridge.training_settings import TrainingSettings
from muybridge.video.sampling import compute_sampling_grid, sample_uniform_clips
from muybridge.video.views import collate_views, prepare_network_input
from muybridge.weights.address import load_weights

MOTIONS = {
    "motions": MotionSettings(
        train_videos_per_class=40, validation_videos_per_class=2, contrast=0.3, noise=24.0, distractors=1, spread=1.0
    ),
    "motions_milder": MotionSettings(
        train_videos_per_class=40, validation_videos_per_class=2, contrast=0.5, noise=16.0, distractors=1, spread=1.0
    ),
}
MODALITIES: tuple[Modality, ...] = get_args(Modality)
CPU = torch.device("cpu")
IN_THIS_PROCESS = LoadingSettings(workers=0)


def make_settings(name: str, data: Path, folder: Path, modality: Modality, seed: int, num_clips: int) -> TrainSettings:
    """Settings of one small run; between data sets only the clips differ."""
    if name in MOTIONS:
        clips = ClipSettings(length=8, stride=2, scale=(64, 64), crop=56, mirror=False)
    else:
        clips = ClipSettings(length=8, stride=2, frames_per_second=15, scale=(64, 85), crop=56)
    return TrainSettings(
        data=str(data),
        model="r2plus1d_10",
        output=str(folder / f"{name}-{modality}-{seed}"),
        modality=modality,
        device="cpu",
        seed=seed,
        network=NetworkSettings(width=8),
        clips=clips,
        training=TrainingSettings(
            optimizer="adamw",
            learning_rate=6e-3,
            batch_size=12,
            epochs=1,
            clips_per_epoch=num_clips,
            validate_every_epochs=0,
        ),
        loading=IN_THIS_PROCESS,
    )


def train_and_score(run: TrainSettings) -> Path:
    """Path of the test scores of a run's last weights; trains and scores the run if they do not exist."""
    scores = Path(run.output) / "scores" / "test.parquet"
    if not scores.exists():
        start = time.process_time()
        fit(prepare_job(run, resume=True), Console(file=sys.stderr))
        asked = EvaluateSettings(data=run.data, device="cpu", seed=run.seed, loading=IN_THIS_PROCESS)
        evaluate_split(str(Path(run.output) / "last.safetensors"), asked, scores)
        print(f"{run.output}: {time.process_time() - start:.0f} processor seconds", file=sys.stderr)
    return scores


def score_stored_flow(run: TrainSettings) -> dict[str, int]:
    """Score the test videos from stored flow: how many are correct, and how many keep their predicted class."""
    network, card = load_weights(Path(run.output) / "last.safetensors")
    preprocessing = replace(
        card.preprocessing, frames_per_second=None
    )  # stored frames are already sampled at that rate
    videos = open_data(run.data, validation=ValidationSplit(run.seed)).select_split("test").remap_labels(card.classes)
    source = open_frame_source(videos.root, preprocessing)
    corner = (
        (preprocessing.scale_height - preprocessing.crop) // 2,
        (preprocessing.scale_width - preprocessing.crop) // 2,
    )
    frame_scores = compute_video_scores(read_scores(Path(run.output) / "scores" / "test.parquet"))
    counts = {"of": len(videos), "right": 0, "same_first_class": 0}
    for index in range(len(videos)):
        ticks = compute_sampling_grid(read_segment_times(source, videos, index), card.preprocessing.frames_per_second)
        times = FrameTimes(np.arange(len(ticks), dtype=np.int64), Fraction(1, 15), len(ticks))
        content, sha256 = mux_mp4(
            encode_h264(compute_encoded_flow([source.read(videos.get_path(index), ticks)]), times)
        )
        with tempfile.TemporaryDirectory() as folder:
            shard = Path(folder) / format_shard_path(0)
            shard.parent.mkdir()
            shard.write_bytes(content)
            stored = ShardFrameSource(
                folder, scale_height=2 * preprocessing.scale_height, scale_width=preprocessing.scale_width
            )
            member = str(ShardMember(0, 0, len(content), sha256))
            views = [
                make_stored_flow_view(
                    stored.read(member, select_stored_ticks(clip.ticks, preprocessing)),
                    corner,
                    preprocessing,
                    mirror=False,
                )
                for clip in sample_uniform_clips(times, preprocessing, EvaluationSettings().clips)
            ]
        logits = NetworkScorer(network, CPU)(prepare_network_input(collate_views(views), preprocessing, CPU))
        predicted = int(torch.softmax(logits, 1).mean(0).argmax())
        counts["right"] += predicted in videos.get_labels(index)
        video_index = frame_scores.videos.index(videos.get_video(index))
        counts["same_first_class"] += predicted == int(frame_scores.probabilities[video_index].argmax())
    return counts


def compare_streams(name: str, data: Path, folder: Path, *, seeds: int, num_clips: int) -> dict[str, object]:
    """Video and clip accuracy of each stream and of their mean, for each seed."""
    rows: list[dict[str, Any]] = []
    for seed in range(seeds):
        scores = [
            read_scores(train_and_score(make_settings(name, data, folder, modality, seed, num_clips)))
            for modality in MODALITIES
        ]
        fused = fuse(scores, [1.0, 1.0])
        accuracies = dict(zip((*MODALITIES, "fused"), (*fused.members, fused.accuracy), strict=True))
        flow_run = make_settings(name, data, folder, "flow", seed, num_clips)
        stored = {"flow_from_stored": score_stored_flow(flow_run)} if seed == 0 else {}
        rows.append(
            stored
            | {
                stream: {
                    "clip_top1": accuracy.clip_top1.of_all.to_json(),
                    "video_top1": accuracy.video_top1.of_all.to_json(),
                }
                for stream, accuracy in accuracies.items()
            }
        )
    means = {
        stream: statistics.mean(row[stream]["video_top1"]["share"] for row in rows) for stream in (*MODALITIES, "fused")
    }
    return {"seeds": rows, "mean_video_top1": means, "training_clips": num_clips}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for data and runs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--clips", type=int, default=3000, help="training clips a run")
    parser.add_argument("--data_sets", nargs="+", help="only these")
    parser.add_argument("--result", type=Path, help="the JSON file to write")
    args = parser.parse_args()
    addresses = {name: args.output / name for name in MOTIONS}
    if real := os.environ.get("MUYBRIDGE_REAL_VIDEO"):
        addresses["ut_interaction"] = Path(real) / "ut_interaction" / "manifest.csv"
    else:
        print("skipping UT-Interaction: MUYBRIDGE_REAL_VIDEO is not set", file=sys.stderr)
    addresses = {name: data for name, data in addresses.items() if name in (args.data_sets or addresses)}
    for name in addresses.keys() & MOTIONS.keys():
        if not addresses[name].exists():
            write_motion_dataset(addresses[name], MOTIONS[name])
    result = {
        name: compare_streams(name, data, args.output, seeds=args.seeds, num_clips=args.clips)
        for name, data in addresses.items()
    }
    if args.result:
        write_json(args.result, {"environment": describe_environment(), **result})
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
