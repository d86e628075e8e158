"""What decides the numbers of a row: the result of a micro-run, and the kind of machine.

Rounding moves the accuracy of a small network by several points, so numbers compare only where the same arithmetic made them.
A micro-run is the row's own run cut down to three steps on generated motions, then evaluated: the hash of its weights and
logits changes with a kernel, a draw or a decoder, and not with a name or a docstring. The processor's features or the GPU,
torch and the number of threads stand beside it: the kind of machine. Instructions for bf16, fp16 and integers are not part of
it where all is computed in float32. `python -m muybridge.studies.fingerprint REQUEST.json` executes micro-runs in a process of
its own, with the threads that runs have.

Input: planned runs. Output: a `Version`, the fingerprints of one state of the code on one kind of machine.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import torch

from muybridge.console import PlainConsole
from muybridge.distributed.stop import StopRequested, exit_on_signals, stop_with_parent
from muybridge.evaluation.evaluate import evaluate_split
from muybridge.evaluation.scores import read_scores
from muybridge.files.atomic import write_json
from muybridge.inference.scorer import resolve_device
from muybridge.kernels.precision import get_cudnn_version, get_device_name
from muybridge.parsing import read_json_object
from muybridge.settings import EvaluateSettings, TrainSettings
from muybridge.studies.plan import EvaluationSpec, FusedRun, PlannedRun, motion_source
from muybridge.synthetic.dataset import write_motion_dataset
from muybridge.synthetic.motions import MotionSettings
from muybridge.terminal import print_line
from muybridge.training.fit import fit
from muybridge.training.job import prepare_job
from muybridge.training.recipes import build_train_settings
from muybridge.weights.card import compute_tensors_sha256

MICRO_MOTIONS = MotionSettings(
    classes=2, train_videos_per_class=4, validation_videos_per_class=1, test_videos_per_class=2, num_frames=32
)
ERRORS = (ValueError, OSError, RuntimeError, FloatingPointError)
FAILED = "failed: "  # before the reason, in place of a hash
MICRO_STEPS, MICRO_BATCH, MICRO_CLIPS = 3, 4, 2
# Features of a processor that float32 arithmetic does not use, by torch's names. Runs on a Xeon whose AMX, AVX512-BF16 and
# AVX512-FP16 were hidden repeated those of one that had them, to the last video and loss (docs/decisions.md).
LOW_PRECISION_FEATURES = (
    "amx_bf16",
    "amx_fp16",
    "amx_int8",
    "amx_tile",
    "avx512_4vnniw",
    "avx512_bf16",
    "avx512_fp16",
    "avx512_vnni",
    "avx_ne_convert",
    "avx_vnni",
    "avx_vnni_int16",
    "avx_vnni_int8",
)


@dataclass(frozen=True)
class Version:
    """The micro-runs of one state of the code on one kind of machine, name -> precision and hash.

    `problems` says why micro-runs failed, such as for want of an extra, by name.
    """

    environment: Mapping[str, Any]
    micro_runs: Mapping[str, str]
    source_sha256: str = ""
    problems: Mapping[str, str] = field(default_factory=dict)

    def find_problem(self, run: PlannedRun | FusedRun) -> str | None:
        """Why a run has no fingerprint; None where it has one."""
        names = (plan_micro_run(link).name for link in list_trainings(run))
        return next((self.problems[name] for name in names if name in self.problems), None)

    def get_fingerprint(self, run: PlannedRun | FusedRun) -> dict[str, Any]:
        """The fingerprint of a run as its row stores it: those of the run and of what it starts from, or is the mean of."""
        names = sorted({plan_micro_run(link).name for link in list_trainings(run)})
        return {"environment": dict(self.environment), "micro_runs": {name: self.micro_runs[name] for name in names}}

    def matches(self, fingerprint: Any) -> bool:
        """Whether a stored fingerprint is of this version; None, of a row of version 0.1, never is."""
        if not isinstance(fingerprint, Mapping) or not is_of_kind(fingerprint, self.environment):
            return False
        micro_runs = fingerprint["micro_runs"]
        return bool(micro_runs) and all(self.micro_runs.get(name) == value for name, value in micro_runs.items())


def is_of_kind(fingerprint: Mapping[str, Any], environment: Mapping[str, Any]) -> bool:
    """Whether a stored fingerprint is of this kind of machine."""
    own, micro_runs = fingerprint.get("environment"), fingerprint.get("micro_runs")
    if not isinstance(own, Mapping) or not isinstance(micro_runs, Mapping):
        return False
    return describe_kind(own, micro_runs) == describe_kind(environment, micro_runs)


def identify(fingerprint: Mapping[str, Any]) -> str:
    """A text that is equal for fingerprints of one version: rows that share it repeat each other exactly."""
    environment, micro_runs = fingerprint["environment"], fingerprint["micro_runs"]
    return json.dumps([describe_kind(environment, micro_runs), micro_runs], sort_keys=True)


def describe_kind(environment: Mapping[str, Any], micro_runs: Mapping[str, str]) -> dict[str, Any]:
    """The environment without the features of a processor that these micro-runs, where all are in float32, do not use."""
    features = environment.get("features")
    if not isinstance(features, list) or not all(str(value).startswith("fp32 ") for value in micro_runs.values()):
        return dict(environment)
    return {**environment, "features": [name for name in features if name not in LOW_PRECISION_FEATURES]}


def plan_micro_run(run: PlannedRun) -> PlannedRun:
    """The run cut down to a few steps on a few videos; seeds and reruns of one network share it."""
    settings = run.settings
    training = replace(
        settings.training,
        batch_size=MICRO_BATCH,
        global_batch=None,
        epochs=1.0,
        warmup_epochs=0.0,
        decay_epochs=(),
        clips_per_epoch=MICRO_STEPS * MICRO_BATCH,
        validate_every_epochs=0.0,
        frozen_stages=0,
        rounding_seed=0,
        rounding_parts=1,
    )
    settings = replace(
        settings, seed=0, fold=None, num_folds=None, columns=None, source_fps=None, init=None, training=training
    )
    return PlannedRun(settings, motion_source(MICRO_MOTIONS), (EvaluationSpec(MICRO_CLIPS, settings.clips.length),))


def list_micro_runs(runs: Sequence[PlannedRun | FusedRun]) -> dict[str, TrainSettings]:
    """The micro-runs that the fingerprints of these runs need, by name."""
    planned = (plan_micro_run(link) for run in runs for link in list_trainings(run))
    return {micro_run.name: micro_run.settings for micro_run in planned}


def list_trainings(run: PlannedRun | FusedRun) -> list[PlannedRun]:
    """The trainings that decide the numbers of a run: its own, those it starts from, and those of the members of a mean."""
    members = (run,) if isinstance(run, PlannedRun) else run.members
    return [link for member in members for link in member.start_chain]


def describe_environment(device: str, num_threads: int) -> dict[str, Any]:
    """The kind of machine, as far as the bits of a result depend on it."""
    torch_device = resolve_device(device)
    if torch_device.type == "cuda":
        return {"torch": torch.__version__, "device": get_device_name(torch_device), "cudnn": get_cudnn_version()}
    capabilities: Mapping[str, Any] = torch.cpu.get_capabilities()
    features = sorted(name for name, value in capabilities.items() if value is True)
    return {"torch": torch.__version__, "device": "cpu", "features": features, "threads": num_threads}


@cache
def describe_commit() -> str | None:
    """The commit of the source tree, with + where it has uncommitted changes; None outside a git checkout."""
    described = subprocess.run(
        ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or None


def hash_source() -> str:
    """SHA-256 of the package's source: equal source needs no micro-run again."""
    package, digest = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def execute_micro_run(settings: TrainSettings, data: Path, folder: Path) -> str:
    """Trains and evaluates; returns the precision and the SHA-256 of the weights and of the logits of the test views."""
    job = prepare_job(replace(settings, data=str(data), output=str(folder)))
    fit(job, PlainConsole(quiet=True))
    test = EvaluateSettings(
        data=str(data),
        device=settings.device,
        evaluation=replace(settings.evaluation, clips=MICRO_CLIPS),
        loading=settings.loading,
    )
    path = folder / "scores" / "test.parquet"
    evaluate_split(folder / "last.safetensors", test, path)
    digest = hashlib.sha256(compute_tensors_sha256(job.network.state_dict()).encode())
    digest.update(pc.list_flatten(read_scores(path).table["logits"]).to_numpy().tobytes())
    return f"{job.settings.training.precision} {digest.hexdigest()}"


def main(argv: Sequence[str]) -> int:
    """Executes the micro-runs of a request and writes their hashes to its `output`; returns the exit code."""
    stop_with_parent()
    try:
        request = read_json_object(Path(argv[0]))
        with exit_on_signals(str), tempfile.TemporaryDirectory() as folder:
            data, hashes = Path(folder, "data"), {}
            write_motion_dataset(data, MICRO_MOTIONS)
            for name, plain in request["micro_runs"].items():
                try:
                    hashes[name] = execute_micro_run(build_train_settings(plain), data, Path(folder, name))
                except (*ERRORS, ImportError) as error:  # an extra that only some networks need: the others run
                    hashes[name] = f"{FAILED}{' '.join(str(error).split())}"
            write_json(Path(request["output"]), hashes)
    except StopRequested as stopped:
        return stopped.exit_code
    except ERRORS as error:
        print_line(" ".join(str(error).split()), error=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
