"""Random clips a processor second: `python benchmarks/decode.py [-o RESULTS.json]`.

Real video where MUYBRIDGE_REAL_VIDEO names a folder with it, generated motions otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

from muybridge.bench.decode import make_benchmark_videos, measure_decoding
from muybridge.files.run_folder import collect_environment
from muybridge.synthetic.dataset import write_motion_dataset
from muybridge.synthetic.motions import MotionSettings


def materials(folder: Path) -> dict[str, list[Path]]:
    real = os.environ.get("MUYBRIDGE_REAL_VIDEO")
    if real:
        found = {"a Kinetics file": sorted(Path(real, "videos").glob("arm_wrestling*"))}
        found["UT-Interaction"] = sorted(Path(real, "ut_interaction").rglob("*.avi"))[::12]
        return found
    write_motion_dataset(folder, MotionSettings(train_videos_per_class=1))
    return {"generated motions": sorted(folder.rglob("*.mp4"))[:8]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output")
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, videos) in enumerate(materials(Path(folder, "motions")).items()):
            prepared = make_benchmark_videos(videos, Path(folder, str(number)))
            results[name] = measure_decoding(videos, prepared, num_clips=options.clips, num_rounds=options.rounds)
    told = {"environment": {k: v for k, v in collect_environment().items() if k != "command"}, "results": results}
    print(json.dumps(results, indent=2))
    if options.output:
        Path(options.output).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
