"""A prepared manifest of 1.1 million videos: seconds and memory to open it, and what a draw and a worker cost.

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

from muybridge.datasets.manifest import SCHEMA
from muybridge.files.run_folder import collect_environment
from muybridge.loading.clip_reader import open_clip_reader
from muybridge.loading.datasets import TrainingDataset
from muybridge.loading.open_data import open_data
from muybridge.prepared.dataset import STORED_COLUMNS, DatasetDescription, compute_manifest_sha256
from muybridge.records import Preprocessing


def write_manifest(folder: Path, number: int) -> None:
    chance = np.random.default_rng(0)
    names = pa.array([f"{n:011d}_{n % 997:06d}.mp4" for n in range(number)])
    values = {
        "video": names,
        "labels": pa.array(chance.integers(0, 487, (number, 1)).tolist(), pa.list_(pa.int32())),
        "split": pa.array(
            np.where(np.arange(number) % 10 < 8, "train", np.where(np.arange(number) % 10 < 9, "validation", "test"))
        ),
        "group": names,
        "num_frames": pa.array(np.full(number, 4500), pa.int32()),
        "duration_seconds": pa.array(np.full(number, 300.0)),
        "frames_per_second": pa.array(np.full(number, 15.0)),
        "width": pa.array(np.full(number, 640), pa.int32()),
        "height": pa.array(np.full(number, 360), pa.int32()),
        "status": pa.array(["ok"] * number),
        "reason": pa.array([""] * number),
        "sha256": pa.array([chance.bytes(32).hex() for _ in range(number)]),
        "shard": pa.array(np.arange(number) // 256, pa.int32()),
        "offset": pa.array(np.arange(number) * 1000),
        "num_bytes": pa.array(np.full(number, 900)),
    }
    fields = [field for field in (*SCHEMA, *STORED_COLUMNS) if field.name != "path"]
    columns = [values.get(field.name, pa.nulls(number, field.type)) for field in fields]
    table = pa.Table.from_arrays(
        [column.cast(field.type) for column, field in zip(columns, fields, strict=True)], schema=pa.schema(fields)
    )
    pq.write_table(table, folder / "manifest.parquet", compression="zstd", row_group_size=65536)
    described = DatasetDescription(
        tuple(f"class {n}" for n in range(487)), 128, 171, 15.0, 0, (), compute_manifest_sha256(str(folder)), ()
    )
    (folder / "dataset.json").write_text(json.dumps(described.to_json()), encoding="utf-8")


def memory_now() -> float:
    """Resident memory in MB that belongs to this process alone."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


def measure_opening(folder: str) -> dict[str, float]:
    before = memory_now()
    began = time.perf_counter(), time.process_time()
    data = open_data(folder)
    seconds = time.perf_counter() - began[0], time.process_time() - began[1]
    opened = memory_now()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    train = data.select_split("train")
    del data
    draws = TrainingDataset(train, open_clip_reader(folder, Preprocessing()), mirror=True, seed=0)
    began_draw = time.process_time()
    for draw in range(2000):
        train.get_path(draws.find_video_index(draw))
    draw_seconds = (time.process_time() - began_draw) / 2000
    sent = pickle.dumps(draws)
    before_worker = memory_now()
    copy = pickle.loads(sent)
    for draw in range(2000):
        copy.manifest.get_path(copy.find_video_index(draw))
    return {
        "open_seconds": seconds[0],
        "open_processor_seconds": seconds[1],
        "before_open_megabytes": before,
        "open_megabytes": opened - before,
        "peak_of_process_megabytes": peak,
        "draw_microseconds": 1e6 * draw_seconds,
        "sent_to_a_worker_megabytes": len(sent) / 2**20,
        "worker_megabytes": memory_now() - before_worker,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=1_100_000)
    parser.add_argument("--open", help=argparse.SUPPRESS)
    parser.add_argument("-o", "--output")
    options = parser.parse_args()
    if options.open:
        print(json.dumps(measure_opening(options.open)))
        return
    results = {}
    for number in (options.videos // 100, options.videos):
        with tempfile.TemporaryDirectory() as folder:
            write_manifest(Path(folder), number)
            line = [sys.executable, os.fspath(Path(__file__)), "--open", folder]
            results[str(number)] = json.loads(subprocess.run(line, check=True, capture_output=True, text=True).stdout)
    print(json.dumps(results, indent=2))
    if options.output:
        told = {"environment": {k: v for k, v in collect_environment().items() if k != "command"}, "results": results}
        Path(options.output).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
