"""A stand-in for a run: `python fake_run.py -m muybridge.studies.execute PLAN.json` writes the output of a run at once.

The accuracy is 10 points a seed and the length of the test; a model named in FAIL_MODEL fails with a message.
"""

import json
import os
import sys
import time
from pathlib import Path

from muybridge.studies.plan import EvaluationSpec

plan = json.loads(Path(sys.argv[-1]).read_text(encoding="utf-8"))
if "micro_runs" in plan:
    Path(plan["output"]).write_text(json.dumps(dict.fromkeys(plan["micro_runs"], "fp32 0123")), encoding="utf-8")
    sys.exit(0)
settings = plan["settings"]
time.sleep(float(os.environ.get("SECONDS_OF_A_RUN", "0")))
folder = Path(settings["output"])
if settings["model"] == os.environ.get("FAIL_MODEL"):
    print("no such luck", file=sys.stderr)
    sys.exit(1)
if settings["init"] is not None and not Path(settings["init"]).exists():
    print(f"there is no {settings['init']}", file=sys.stderr)
    sys.exit(1)
(folder / "tests").mkdir(parents=True)
(folder / "last.safetensors").write_text("weights", encoding="utf-8")
training = {
    "seconds": 9.0,
    "processor_seconds": 8.0,
    "goes_on": False,
    "device": "cpu",
    "parameters": 7,
    "training_clips": 3000,
    "threads": os.environ["OMP_NUM_THREADS"],
}
(folder / "tests" / "training.json").write_text(json.dumps(training), encoding="utf-8")
lines = [
    {"kind": "train", "step": 1, "epoch": 0.5, "loss": 2.0, "clip_accuracy": 0.25},
    {"kind": "train", "step": 2, "epoch": 1.0, "loss": 1.0, "clip_accuracy": 0.75},
    {"kind": "validation", "step": 2, "clip_top1": 0.5, "video_top1": 0.6, "video_top5": 1.0},
]
(folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
for test in plan["tests"]:
    accuracy = 10.0 * settings["seed"] + test["length"]
    numbers = {
        "clip_top1": accuracy / 2,
        "video_top1": accuracy,
        "video_top5": 100.0,
        "num_videos": 50,
        "num_failed_videos": 0,
        "protocol": "fake",
        "seconds": 1.0,
        "processor_seconds": 1.0,
    }
    path = folder / "tests" / f"{EvaluationSpec(**test).key}.json"
    path.write_text(json.dumps(numbers), encoding="utf-8")
