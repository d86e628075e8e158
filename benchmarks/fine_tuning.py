"""Fine-tuning against training from scratch on real video: pre-train on generated motions, then learn UT-Interaction.

Enter: a folder of real video with `ut_interaction/manifest.csv` (environment variable MUYBRIDGE_REAL_VIDEO). Leaves: a JSON
file with the test accuracy of both starts for every seed. Everything but the start is the same: network, recipe, seed, data.
The recipe was fixed before the first scored run, no setting was chosen by the test split, and the last weights are scored.

    MUYBRIDGE_REAL_VIDEO=... python benchmarks/fine_tuning.py -o benchmarks/results/NAME.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from muybridge.evaluation.evaluate import evaluate_split
from muybridge.files.atomic import write_json
from muybridge.files.run_folder import collect_environment
from muybridge.settings import ClipSettings, EvaluateSettings, LoadingSettings, NetworkSettings, TrainSettings
from muybridge.studies.laptop import motion_run
from muybridge.synthetic.dataset import write_motion_dataset
from muybridge.synthetic.motions import MotionSettings
from muybridge.training.train import train

MODEL = "r2plus1d_10"
WIDTH = 8
PRETRAIN_EPOCHS, EPOCHS, CLIPS_PER_EPOCH = 6.0, 12.0, 83  # 800 clips an epoch before, then one a training video
BATCH, RATE = 8, 4e-3  # the rate is for 32 clips, so 1e-3 for 8


def interaction_run(data: Path, output: Path, *, seed: int, init: Path | None) -> TrainSettings:
    """The recipe of both starts: the pre-training's, on 8 frames of 15 a second, mirrored, without validation."""
    motion = motion_run(MODEL, str(data), str(output), epochs=EPOCHS, seed=seed)
    training = replace(
        motion.training,
        batch_size=BATCH,
        learning_rate=RATE,
        clips_per_epoch=CLIPS_PER_EPOCH,
        validate_every_epochs=EPOCHS,
    )
    clips = ClipSettings(length=8, stride=2, frames_per_second=15.0, scale=(64, 64), crop=56)
    return replace(
        motion,
        init=None if init is None else str(init),
        network=NetworkSettings(width=WIDTH),
        clips=clips,
        training=training,
        loading=LoadingSettings(workers=1),
    )


def test_accuracy(run: Path, data: Path) -> float:
    """video@1 in percent on the test split."""
    settings = EvaluateSettings(data=str(data), loading=LoadingSettings(workers=1))
    measured = evaluate_split(str(run / "last.safetensors"), settings, run / "scores" / "test.parquet").accuracy
    return 100 * measured.video_top1.of_all.share


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("--seeds", type=int, default=5)
    found = parser.parse_args()
    data = Path(os.environ["MUYBRIDGE_REAL_VIDEO"]) / "ut_interaction" / "manifest.csv"
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_motion_dataset(folder / "motions", MotionSettings())
        before = folder / "pretrained"
        motions = motion_run(MODEL, str(folder / "motions"), str(before), epochs=PRETRAIN_EPOCHS)
        narrow = NetworkSettings(width=WIDTH)
        train(replace(motions, network=narrow, loading=LoadingSettings(workers=1)), resume=True)
        pretrained = test_accuracy(before, folder / "motions")
        for seed in range(found.seeds):
            began = time.process_time()
            row: dict[str, float] = {"seed": seed}
            for start, init in (("scratch", None), ("fine_tuned", before)):
                output = folder / f"{start}-{seed}"
                train(interaction_run(data, output, seed=seed, init=init), resume=True)
                row[start] = test_accuracy(output, data)
            rows.append(row)
            print(json.dumps(row), round(time.process_time() - began), flush=True)
    told = {
        start: {
            "mean": statistics.mean(row[start] for row in rows),
            "deviation": statistics.stdev(row[start] for row in rows) if len(rows) > 1 else 0.0,
        }
        for start in ("scratch", "fine_tuned")
    }
    differences = [row["fine_tuned"] - row["scratch"] for row in rows]
    write_json(
        Path(found.output),
        {
            "what": "video@1 in percent on the 37 test videos of UT-Interaction, last weights, 10 clips a video",
            "model": f"{MODEL} at width {WIDTH}, 8 frames of 15 a second at stride 2, 56x56",
            "start": "one pre-training on generated motions; seeds are those of the fine-tuning",
            "pretraining_video_top1": pretrained,
            "rows": rows,
            **told,
            "differences": differences,
            "environment": {name: value for name, value in collect_environment().items() if name != "command"},
        },
    )
    print(json.dumps({**told, "differences": differences}, indent=2))


if __name__ == "__main__":
    main()
