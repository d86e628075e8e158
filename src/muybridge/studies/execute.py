"""One run of a study in a process of its own: `python -m muybridge.studies.execute PLAN.json`.

Enters: a plan that `runner.py` wrote: settings, tests, folder. Leave: the run folder, and in its `tests/` one JSON file for
every test with the numbers of a row. What is finished is not done again, so the same line goes on after any interruption.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from muybridge.distributed.stop import StopRequested, stop_on_signals
from muybridge.evaluation.evaluate import evaluate_split
from muybridge.evaluation.metrics import Accuracy
from muybridge.files.atomic import write_json
from muybridge.files.run_folder import read_json_lines
from muybridge.settings import EvaluateSettings, TrainSettings
from muybridge.studies.plan import Scoring
from muybridge.studies.recipe import train_settings
from muybridge.training.checkpoint import list_checkpoints
from muybridge.training.fit import fit
from muybridge.training.job import prepare_job

POLL_SECONDS = 0.2
FINISHED_WITH_FAILURES = 3  # the exit code of a training that could not read some clips
WEIGHTS = "last.safetensors"
TRAINED = Path("tests", "training.json")  # in the run folder, once training is through


def execute(plan: Mapping[str, Any], console: Console) -> None:
    """Trains to the end, then every test of the plan; `StopRequested` after saving."""
    settings = train_settings(plan["settings"])
    folder = Path(settings.output)
    trained = folder / TRAINED
    if not trained.exists():
        began = time.perf_counter(), time.process_time()
        goes_on = bool(list_checkpoints(folder / "checkpoints"))
        if plan["launcher"]:
            train_by(plan["launcher"], Path(plan["settings_file"]))
        job = prepare_job(settings, resume=True)
        fit(job, console)  # after a launcher there is nothing left to do
        write_json(
            trained,
            {
                "seconds": time.perf_counter() - began[0],
                "processor_seconds": time.process_time() - began[1],
                "goes_on": goes_on,  # then the seconds are those of the last part alone
                "device": str(job.device),
                "parameters": sum(parameter.numel() for parameter in job.network.parameters()),
                "training_clips": job.schedule.num_clips,
            },
        )
    for asked in plan["tests"]:
        test = Scoring(asked["clips"], asked["length"], asked["split"])
        path = folder / "tests" / f"{test.key}.json"
        if not path.exists():
            began = time.perf_counter(), time.process_time()
            measured = scored(settings, test)
            seconds = {"seconds": time.perf_counter() - began[0], "processor_seconds": time.process_time() - began[1]}
            write_json(path, {**figures(measured), **seconds})


def train_by(launcher: Sequence[str], settings_file: Path) -> None:
    """Trains in processes of their own, several for one run: torchrun's. RuntimeError where that fails, `StopRequested`."""
    words = [*launcher, "-m", "muybridge", "train", "--config", str(settings_file), "--resume"]
    with stop_on_signals() as stop, subprocess.Popen(words, stdin=subprocess.DEVNULL) as process:
        asked = False
        while process.poll() is None:
            time.sleep(POLL_SECONDS)
            if stop.signal_number is not None and not asked:
                asked = True
                process.terminate()
    if stop.signal_number is not None:
        raise StopRequested(stop.signal_number)
    if process.returncode not in (0, FINISHED_WITH_FAILURES):
        raise RuntimeError(f"`{shlex.join(words)}` ended with code {process.returncode}")


def scored(settings: TrainSettings, test: Scoring) -> Accuracy:
    """The run's last weights on the videos of a split, with clips as the test says."""
    folder = Path(settings.output)
    asked = EvaluateSettings(
        data=settings.data,
        split=test.split,
        fold=settings.fold,
        device=settings.device,
        seed=settings.seed,
        evaluation=replace(settings.evaluation, clips=test.clips),
        loading=settings.loading,
        timeouts=settings.timeouts,
    )
    path = folder / "scores" / f"{test.key}.parquet"
    return evaluate_split(folder / WEIGHTS, asked, path, clip_length=test.length).accuracy


def figures(measured: Accuracy) -> dict[str, Any]:
    """The numbers of a row: percent of all videos, counts, and the protocol in a sentence."""
    return {
        **{name: 100 * getattr(measured, name).of_all.share for name in ("clip_top1", "video_top1", "video_top5")},
        "num_videos": measured.num_videos,
        "num_failed_videos": measured.num_failed_videos,
        "protocol": measured.protocol.format_sentence(),
    }


def history(folder: Path) -> list[dict[str, float]]:
    """Errors in percent at every validation of a run, from its log: on the clips learnt from since the last one, and on
    validation's clips and videos."""
    points: list[dict[str, float]] = []
    seen: list[Mapping[str, Any]] = []
    for line in _by_step(read_json_lines(folder / "log.jsonl")):
        if line["kind"] == "train":
            seen.append(line)
        elif line["kind"] == "validation" and seen:
            points.append(
                {
                    "epoch": seen[-1]["epoch"],
                    "training_loss": sum(step["loss"] for step in seen) / len(seen),
                    "training_clip_error": 100 - 100 * sum(step["clip_accuracy"] for step in seen) / len(seen),
                    "validation_clip_error": 100 - 100 * line["clip_top1"],
                    "validation_video_error": 100 - 100 * line["video_top1"],
                }
            )
            seen = []
    return points


def _by_step(lines: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Training before validation at the same step; steps whose clips were all unreadable have no figures."""
    known = [line for line in lines if line["kind"] != "train" or "loss" in line]
    yield from sorted(known, key=lambda line: (line["step"], line["kind"] != "train"))


def main(words: Sequence[str]) -> int:
    """Executes the plan of one file; exit code 75 or 130 when asked to stop."""
    plan = json.loads(Path(words[0]).read_text(encoding="utf-8"))
    try:
        execute(plan, Console(file=sys.stderr, soft_wrap=True, markup=False, highlight=False))
    except StopRequested as stopped:
        return stopped.exit_code
    except (ValueError, OSError, RuntimeError, FloatingPointError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
