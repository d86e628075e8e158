"""Decoding benchmark, random clips a processor second: `python benchmarks/decode.py [-o RESULTS.json]`.

Reads the videos in the folder MUYBRIDGE_REAL_VIDEO if it is set, generated motions otherwise.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from harness import report_results
from muybridge.bench.decode import make_benchmark_videos, measure_decoding
from muybridge.synthetic.dataset import write_motion_dataset
from muybridge.synthetic.motions import MotionSettings


def list_videos(folder: Path) -> dict[str, list[Path]]:
    real = os.environ.get("MUYBRIDGE_REAL_VIDEO")
    if real:
        return {
            "a Kinetics file": sorted(Path(real, "videos").glob("arm_wrestling*")),
            "UT-Interaction": sorted(Path(real, "ut_interaction").rglob("*.avi"))[::12],
        }
    write_motion_dataset(folder, MotionSettings(train_videos_per_class=1))
    return {"generated motions": sorted(folder.rglob("*.mp4"))[:8]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output")
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for index, (name, videos) in enumerate(list_videos(Path(folder, "motions")).items()):
            prepared = make_benchmark_videos(videos, Path(folder, str(index)))
            results[name] = measure_decoding(videos, prepared, num_clips=args.clips, num_rounds=args.rounds)
    report_results(results, args.output)


if __name__ == "__main__":
    main()
