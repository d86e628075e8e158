"""Manifest benchmark: time and memory to open a prepared manifest of 1.1 million videos, and cost of a draw and a worker.

`python benchmarks/manifest.py [--videos 1100000] [-o RESULTS.json]`
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from harness import report_results
from muybridge.datasets.manifest import SCHEMA
from muybridge.loading.clip_reader import open_clip_reader
from muybridge.loading.datasets import TrainingDataset
from muybridge.loading.open_data import open_data
from muybridge.prepared.dataset import STORED_COLUMNS, DatasetDescription, compute_manifest_sha256
from muybridge.records import Preprocessing


def write_manifest(folder: Path, num_videos: int) -> None:
    rng = np.random.default_rng(0)
    names = pa.array([f"{n:011d}_{n % 997:06d}.mp4" for n in range(num_videos)])
    values = {
        "video": names,
        "labels": pa.array(rng.integers(0, 487, (num_videos, 1)).tolist(), pa.list_(pa.int32())),
        "split": pa.array(
            np.where(
                np.arange(num_videos) % 10 < 8, "train", np.where(np.arange(num_videos) % 10 < 9, "validation", "test")
            )
        ),
        "group": names,
        "num_frames": pa.array(np.full(num_videos, 4500), pa.int32()),
        "duration_seconds": pa.array(np.full(num_videos, 300.0)),
        "frames_per_second": pa.array(np.full(num_videos, 15.0)),
        "width": pa.array(np.full(num_videos, 640), pa.int32()),
        "height": pa.array(np.full(num_videos, 360), pa.int32()),
        "status": pa.array(["ok"] * num_videos),
        "reason": pa.array([""] * num_videos),
        "sha256": pa.array([rng.bytes(32).hex() for _ in range(num_videos)]),
        "shard": pa.array(np.arange(num_videos) // 256, pa.int32()),
        "offset": pa.array(np.arange(num_videos) * 1000),
        "num_bytes": pa.array(np.full(num_videos, 900)),
    }
    fields = [field for field in (*SCHEMA, *STORED_COLUMNS) if field.name != "path"]
    columns = [values.get(field.name, pa.nulls(num_videos, field.type)) for field in fields]
    table = pa.Table.from_arrays(
        [column.cast(field.type) for column, field in zip(columns, fields, strict=True)], schema=pa.schema(fields)
    )
    pq.write_table(table, folder / "manifest.parquet", compression="zstd", row_group_size=65536)
    description = DatasetDescription(
        classes=tuple(f"class {index}" for index in range(487)),
        scale_height=128,
        scale_width=171,
        frames_per_second=15.0,
        flow_bound=None,
        num_folds=0,
        notes=(),
        manifest_sha256=compute_manifest_sha256(str(folder)),
        shards=(),
    )
    (folder / "dataset.json").write_text(json.dumps(description.to_json()), encoding="utf-8")


def measure_private_megabytes() -> float:
    """Resident memory that belongs only to this process, in MB."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


def measure_opening(folder: str) -> dict[str, float]:
    before = measure_private_megabytes()
    start = time.perf_counter(), time.process_time()
    data = open_data(folder)
    seconds = time.perf_counter() - start[0], time.process_time() - start[1]
    opened = measure_private_megabytes()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    train = data.select_split("train")
    del data
    dataset = TrainingDataset(train, open_clip_reader(folder, Preprocessing()), mirror=True, seed=0)
    start_draws = time.process_time()
    for draw in range(2000):
        train.get_path(dataset.find_video_index(draw))
    draw_seconds = (time.process_time() - start_draws) / 2000
    pickled = pickle.dumps(dataset)
    before_worker = measure_private_megabytes()
    copy = pickle.loads(pickled)
    for draw in range(2000):
        copy.manifest.get_path(copy.find_video_index(draw))
    return {
        "open_seconds": seconds[0],
        "open_processor_seconds": seconds[1],
        "before_open_megabytes": before,
        "open_megabytes": opened - before,
        "peak_of_process_megabytes": peak,
        "draw_microseconds": 1e6 * draw_seconds,
        "sent_to_a_worker_megabytes": len(pickled) / 2**20,
        "worker_megabytes": measure_private_megabytes() - before_worker,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=1_100_000)
    parser.add_argument("--open", help=argparse.SUPPRESS)
    parser.add_argument("-o", "--output")
    args = parser.parse_args()
    if args.open:
        print(json.dumps(measure_opening(args.open)))
        return
    results = {}
    for num_videos in (args.videos // 100, args.videos):
        with tempfile.TemporaryDirectory() as folder:
            write_manifest(Path(folder), num_videos)
            command = [sys.executable, os.fspath(Path(__file__)), "--open", folder]
            results[str(num_videos)] = json.loads(
                subprocess.run(command, check=True, capture_output=True, text=True).stdout
            )
    report_results(results, args.output)


if __name__ == "__main__":
    main()
