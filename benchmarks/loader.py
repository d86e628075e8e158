"""Training clips a second that workers deliver from prepared shards: `python benchmarks/loader.py [-o RESULTS.json]`.

On the videos below MUYBRIDGE_REAL_VIDEO where it is set (the Kinetics file, many times), on generated motions otherwise. One
worker and more take turns, so that a busy machine slows them alike; rates are of wall time, medians over the rounds.
With a GPU the batches are converted there: `--device cuda`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path

from muybridge.bench.loader import LoaderRates, format_verdict, measure_loading
from muybridge.distributed.rank import resolve_num_workers
from muybridge.files.run_folder import collect_environment
from muybridge.loading.open_data import open_data
from muybridge.prepared.prepare import Preparation, PreparationOptions, prepare
from muybridge.prepared.source_listing import read_source
from muybridge.prepared.worker_pool import transcode_in_workers
from muybridge.records import Preprocessing
from muybridge.synthetic.dataset import write_motion_dataset
from muybridge.synthetic.motions import MotionSettings

_COPIES = 20
_WANTED = 1050.0  # clips a second that one H200 can train on, by a third of its bf16 matrix rate


def source(folder: Path) -> tuple[str, Path]:
    """What the material is, and a folder of class folders with it."""
    real = os.environ.get("MUYBRIDGE_REAL_VIDEO")
    if not real:
        write_motion_dataset(folder, MotionSettings(train_videos_per_class=10))
        return "generated motions", folder
    (video,) = sorted(Path(real, "videos").glob("arm_wrestling*"))
    for label in ("first", "second"):
        (folder / label).mkdir(parents=True)
        for copy in range(_COPIES):
            (folder / label / f"{copy}{video.suffix}").symlink_to(video.absolute())
    return "a Kinetics file", folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output")
    parser.add_argument("--workers", type=int, default=resolve_num_workers(None))
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        name, videos = source(Path(folder, "source"))
        data = Path(folder, "data")
        prepare(
            Preparation(read_source(str(videos), "folder"), data, PreparationOptions()),
            lambda jobs: transcode_in_workers(jobs, num_workers=options.workers, timeout_seconds=600),
        )
        training = open_data(str(data)).select_split("train")
        rounds = [
            [
                measure_loading(
                    training, Preprocessing(), num_workers=workers, seconds=options.seconds, device=options.device
                )
                for workers in (1, options.workers)
            ]
            for _ in range(options.rounds)
        ]
        planes, converted = (
            [statistics.median(getattr(rates[place], way) for rates in rounds) for place in (0, 1)]
            for way in ("planes", "converted")
        )
        rates = LoaderRates(options.workers, planes[1], converted[1])
        said = format_verdict(str(data), rates, _WANTED, resolve_num_workers(None))
    results = {
        "material": name,
        "device": options.device,
        "workers": options.workers,
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
        "verdict": said,
    }
    told = {"environment": {k: v for k, v in collect_environment().items() if k != "command"}, "results": results}
    print(json.dumps(results, indent=2))
    if options.output:
        Path(options.output).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
