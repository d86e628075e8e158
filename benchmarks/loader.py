"""Data loader benchmark, training clips a second from prepared shards: `python benchmarks/loader.py [-o RESULTS.json]`.

Uses copies of the Kinetics file in the folder MUYBRIDGE_REAL_VIDEO if it is set, generated motions otherwise. Measurements with
one worker and with more alternate, so that other load affects both; rates are of wall time, medians over the rounds.
`--device cuda` converts the batches on a GPU.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from pathlib import Path

from harness import report_results
from muybridge.bench.loader import LoaderRates, format_verdict, measure_loading
from muybridge.distributed.rank import resolve_num_workers
from muybridge.loading.open_data import open_data
from muybridge.prepared.prepare import Preparation, PreparationOptions, prepare
from muybridge.prepared.source_listing import read_source
from muybridge.prepared.worker_pool import transcode_in_workers
from muybridge.records import Preprocessing
from muybridge.synthetic.dataset import write_motion_dataset
from muybridge.synthetic.motions import MotionSettings

NUM_COPIES = 20
TRAINING_CLIPS_PER_SECOND = 1050.0  # of one H200, estimated from a third of its bf16 matrix rate


def make_source(folder: Path) -> tuple[str, Path]:
    """Describe the videos and write them as a folder of class folders."""
    real = os.environ.get("MUYBRIDGE_REAL_VIDEO")
    if not real:
        write_motion_dataset(folder, MotionSettings(train_videos_per_class=10))
        return "generated motions", folder
    (video,) = sorted(Path(real, "videos").glob("arm_wrestling*"))
    for label in ("first", "second"):
        (folder / label).mkdir(parents=True)
        for copy in range(NUM_COPIES):
            (folder / label / f"{copy}{video.suffix}").symlink_to(video.absolute())
    return "a Kinetics file", folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output")
    parser.add_argument("--workers", type=int, default=resolve_num_workers(None))
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        name, videos = make_source(Path(folder, "source"))
        data = Path(folder, "data")
        prepare(
            Preparation(read_source(str(videos), "folder"), data, PreparationOptions()),
            lambda jobs: transcode_in_workers(jobs, num_workers=args.workers, timeout_seconds=600),
        )
        training = open_data(str(data)).select_split("train")
        rounds = [
            [
                measure_loading(
                    training, Preprocessing(), num_workers=workers, seconds=args.seconds, device=args.device
                )
                for workers in (1, args.workers)
            ]
            for _ in range(args.rounds)
        ]
        planes, converted = (
            [statistics.median(getattr(rates[index], stage) for rates in rounds) for index in (0, 1)]
            for stage in ("planes", "converted")
        )
        rates = LoaderRates(args.workers, planes[1], converted[1])
        verdict = format_verdict(str(data), rates, TRAINING_CLIPS_PER_SECOND, resolve_num_workers(None))
    results = {
        "material": name,
        "device": args.device,
        "workers": args.workers,
        "clips_per_second": {
            "planes, one worker": planes[0],
            "planes, all workers": planes[1],
            "converted, one worker": converted[0],
            "converted, all workers": converted[1],
        },
        "ratios": {
            "planes: all workers / one": planes[1] / planes[0],
            "converted: all workers / one": converted[1] / converted[0],
        },
        "verdict": verdict,
    }
    report_results(results, args.output)


if __name__ == "__main__":
    main()
