"""Executes one run of a study in its own process: `python -m muybridge.studies.execute PLAN.json`.

Input: a plan written by `run.py`: settings and evaluations. Output: the run folder, with one JSON file of numbers per
evaluation in `tests/`. Finished parts are skipped, so the same command resumes after any interruption.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from muybridge.console import PlainConsole
from muybridge.distributed.process_group import ProcessGroup
from muybridge.distributed.stop import StopRequested, exit_on_signals, stop_on_signals, stop_with_parent
from muybridge.evaluation.evaluate import evaluate_split
from muybridge.evaluation.metrics import Accuracy
from muybridge.evaluation.video_scores import read_video_scores
from muybridge.files.atomic import write_json
from muybridge.files.run_folder import read_run_log, read_settings
from muybridge.parsing import parse_record, read_json_object
from muybridge.settings import EvaluateSettings, TrainSettings
from muybridge.studies.fingerprint import hash_source
from muybridge.studies.plan import WEIGHTS, EvaluationSpec
from muybridge.studies.stem_filters import measure_stem
from muybridge.studies.video_results import collect_video_results
from muybridge.terminal import print_line
from muybridge.training.checkpoint import list_checkpoints
from muybridge.training.fit import fit
from muybridge.training.job import prepare_job
from muybridge.training.open_run import lock_run
from muybridge.training.recipes import build_train_settings

POLL_SECONDS = 0.2
EXIT_WITH_FAILURES = 3  # of a training in which some clips were unreadable
TRAINED = Path("tests", "training.json")  # in the run folder, once training has ended


class Stopwatch:
    """Seconds since its creation, by the clock and of this process."""

    def __init__(self) -> None:
        self.start_seconds, self.start_processor_seconds = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        """`seconds` and `processor_seconds`."""
        return {
            "seconds": time.perf_counter() - self.start_seconds,
            "processor_seconds": time.process_time() - self.start_processor_seconds,
        }


@dataclass(frozen=True)
class _Plan:
    """What `run.py` writes for one run; the settings are checked by themselves."""

    settings: dict[str, Any]
    tests: tuple[EvaluationSpec, ...]
    launcher: tuple[str, ...]
    settings_file: str = ""


def execute(values: Mapping[str, Any], console: Console) -> None:
    """Trains to the end, then runs every evaluation of a plan. Raises `StopRequested` after saving, ValueError for no plan."""
    plan = parse_record(_Plan, values, "the plan", optional=None, unknown="ignore")
    settings = build_train_settings(plan.settings)
    folder = Path(settings.output)
    if not (folder / TRAINED).exists():
        _execute_training(settings, plan, console)
    for evaluation in plan.tests:
        path = folder / "tests" / f"{evaluation.key}.json"
        if not path.exists():
            stopwatch = Stopwatch()
            numbers = _evaluate_run(settings, evaluation)
            write_json(path, numbers | stopwatch.read())


def _execute_training(settings: TrainSettings, plan: _Plan, console: Console) -> None:
    """Trains, in this process or by the plan's launcher, and writes training.json."""
    stopwatch, folder = Stopwatch(), Path(settings.output)
    was_interrupted = bool(list_checkpoints(folder / "checkpoints"))
    if plan.launcher:
        _train_with_launcher(plan.launcher, Path(plan.settings_file))
        # The command names the recipe that would fill in open settings; a plan leaves none open.
        settings = replace(settings, recipe=read_settings(folder / "settings.yaml").get("recipe"))
    with lock_run(settings.output, ProcessGroup()):
        job = prepare_job(settings, resume=True)
        fit(job, console)  # after a launcher nothing is left to train
    values = {
        "goes_on": was_interrupted,  # then the seconds are those of the last part alone
        "device": str(job.device),
        "parameters": sum(parameter.numel() for parameter in job.network.parameters()),
        "training_clips": job.schedule.num_clips,
        "stem_change_share": measure_stem(job.network),
    }
    write_json(folder / TRAINED, stopwatch.read() | values)


def _train_with_launcher(launcher: Sequence[str], settings_file: Path) -> None:
    """Trains in the launcher's processes (torchrun's). RuntimeError where they fail; `StopRequested` once they have saved."""
    argv = [*launcher, "-m", "muybridge", "train", "--config", str(settings_file), "--resume"]
    with stop_on_signals() as stop, subprocess.Popen(argv, stdin=subprocess.DEVNULL) as process:
        is_stopping = False
        while process.poll() is None:
            time.sleep(POLL_SECONDS)
            if stop.signal_number is not None and not is_stopping:
                is_stopping = True
                process.terminate()
    if stop.signal_number is not None:
        raise StopRequested(stop.signal_number)
    if process.returncode not in (0, EXIT_WITH_FAILURES):
        raise RuntimeError(f"`{shlex.join(argv)}` ended with code {process.returncode}")


def _evaluate_run(settings: TrainSettings, evaluation: EvaluationSpec) -> dict[str, Any]:
    """The numbers of the run's last weights, and which videos are right; scores are written to `scores/<key>.parquet`.

    Raises ValueError for an empty split.
    """
    folder = Path(settings.output)
    split = EvaluateSettings(
        data=settings.data,
        split=evaluation.split,
        fold=settings.fold,
        num_folds=settings.num_folds,
        fold_by=settings.fold_by,
        validation=settings.validation,
        device=settings.device,
        seed=settings.seed,
        evaluation=replace(
            settings.evaluation,
            clips=evaluation.clips,
            clip_length=evaluation.length,
            crops=evaluation.crops,
            crop_size=evaluation.crop_size,
        ),
        loading=settings.loading,
        timeouts=settings.timeouts,
    )
    path = folder / "scores" / f"{evaluation.key}.parquet"
    accuracy = evaluate_split(folder / WEIGHTS, split, path).accuracy
    return collect_numbers(accuracy) | {"videos": collect_video_results(read_video_scores(path)).to_json()}


def collect_numbers(accuracy: Accuracy) -> dict[str, Any]:
    """The numbers of a row: percent of all videos, counts, and the protocol as a sentence."""
    return {
        **{name: 100 * getattr(accuracy, name).of_all.share for name in ("clip_top1", "video_top1", "video_top5")},
        "num_videos": accuracy.num_videos,
        "num_failed_videos": accuracy.num_failed_videos,
        "protocol": accuracy.protocol.format_sentence(),
    }


def read_history(folder: Path) -> list[dict[str, float]]:
    """Errors in percent at every validation of a run, from its log: on the clips trained on since the previous one, and on
    validation's clips and videos."""
    points: list[dict[str, float]] = []
    steps: list[Mapping[str, Any]] = []
    for line in _sort_by_step(read_run_log(folder)):
        if line["kind"] == "train":
            steps.append(line)
        elif line["kind"] == "validation" and steps:
            points.append(
                {
                    "epoch": steps[-1]["epoch"],
                    "training_loss": sum(step["loss"] for step in steps) / len(steps),
                    "training_clip_error": 100 - 100 * sum(step["clip_accuracy"] for step in steps) / len(steps),
                    "validation_clip_error": 100 - 100 * line["clip_top1"],
                    "validation_video_error": 100 - 100 * line["video_top1"],
                }
            )
            steps = []
    return points


_POINT_KEYS = {
    "train": {"epoch", "loss", "clip_accuracy"},
    "validation": {"clip_top1", "video_top1"},
}


def _sort_by_step(lines: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Training before validation at the same step. Steps whose clips were all unreadable have no loss and are left out."""
    known = [line for line in lines if _POINT_KEYS.get(line["kind"], set()) <= line.keys()]
    return sorted(known, key=lambda line: (line["step"], line["kind"] != "train"))


def main(argv: Sequence[str]) -> int:
    """Executes the plan in a file; returns the exit code, 75 or 130 after a request to stop."""
    stop_with_parent()
    try:
        plan = read_json_object(Path(argv[0]))
        if plan.get("source_sha256") not in (None, hash_source()):
            raise ValueError("the source of muybridge changed while the study was running; start the study again")
        with exit_on_signals(str):
            execute(plan, PlainConsole())
    except StopRequested as stopped:
        return stopped.exit_code
    except (ValueError, OSError, RuntimeError, FloatingPointError) as error:
        print_line(" ".join(str(error).split()), error=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
