"""The loop: it learns, it stops when asked and goes on as if it had not, and it never keeps what is broken."""

from __future__ import annotations

import io
import json
import math
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from graph_stand_in import use_graph_stand_in
from muybridge.distributed.stop import StopRequested
from muybridge.evaluation.aggregate import compute_video_scores
from muybridge.evaluation.evaluate import EvaluationResult, evaluate
from muybridge.evaluation.metrics import Rate, Rates, compute_accuracy
from muybridge.evaluation.scores import read_scores
from muybridge.files.run_folder import read_json_lines
from muybridge.loading.datasets import Failure
from muybridge.training import checkpointer as checkpointer_module
from muybridge.training import execution
from muybridge.training import fit as fit_module
from muybridge.training import step_batches as step_batches_module
from muybridge.training import validation as validation_module
from muybridge.training.checkpoint import TrainState, find_last_step, list_checkpoints
from muybridge.training.checkpointer import AsyncCheckpointer
from muybridge.training.fit import FitResult, check_failed_share, count_step
from muybridge.training.job import TrainingJob, prepare_job
from muybridge.training.metrics_log import MetricsLog
from muybridge.training.optimizer import build_optimizer
from muybridge.training.step import StepContext, StepResult, training_step
from muybridge.training.step_batches import StepBatches
from muybridge.weights.address import load_weights
from muybridge.weights.card import compute_tensors_sha256
from runs import tiny_run

NUM_STEPS = 12  # of `tiny_run`
Trained = Callable[..., FitResult]
SGD = {"training.optimizer": "sgd", "training.learning_rate": 0.1}


def losses(run: Path) -> list[tuple[int, float]]:
    return [(line["step"], line["loss"]) for line in read_json_lines(run / "log.jsonl") if line["kind"] == "train"]


def learnt(run: Path) -> tuple[dict[str, bytes], Any]:
    """Weights and optimiser state of the newest checkpoint, bit for bit."""
    newest = list_checkpoints(run / "checkpoints")[-1]
    weights = {name: t.numpy().tobytes() for name, t in load_file(newest / "network.safetensors").items()}
    moments = torch.load(newest / "optimizer.pt", weights_only=True)
    state = {
        (number, name): value.numpy().tobytes() if isinstance(value, torch.Tensor) else value
        for number, values in moments["state"].items()
        for name, value in values.items()
    }
    assert state, "an optimiser with moments"
    return weights, (state, moments["param_groups"])


@pytest.fixture(scope="module")
def uninterrupted(motions: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The run folder of a whole run by this optimiser."""
    folders: dict[str, Path] = {}

    def whole(optimizer: str) -> Path:
        if optimizer not in folders:
            folders[optimizer] = tmp_path_factory.mktemp("whole") / optimizer
            settings = tiny_run(motions, folders[optimizer], SGD if optimizer == "sgd" else None)
            fit_module.fit(prepare_job(settings), Console(quiet=True))
        return folders[optimizer]

    return whole


EVERYTHING = {
    "training.validate_every_epochs": 0,
    "training.ema_decay": 0.8,
    "training.dropout": 0.3,
    "training.mixup_alpha": 0.4,
    "training.multigrid": ((0.5, 2, 24),),
    "training.global_batch": 8,
    "training.max_gradient_norm": 1.0,
}


def test_checkpoints_are_the_same_with_cuda_graphs(
    motions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = use_graph_stand_in(monkeypatch)
    monkeypatch.setattr(execution, "GRAPH_DEVICE_TYPES", {"cpu"})
    console = Console(file=io.StringIO(), width=400)
    for choice in ("off", "auto"):
        assert stand_in.num_replays == 0
        job = prepare_job(tiny_run(motions, tmp_path / choice, {**EVERYTHING, "training.cuda_graphs": choice}))
        fit_module.fit(job, console)
    assert console.file.getvalue().count("run as CUDA graphs") == 1  # type: ignore[attr-defined]
    assert stand_in.num_replays > 10
    assert learnt(tmp_path / "off") == learnt(tmp_path / "auto")
    assert losses(tmp_path / "off") == losses(tmp_path / "auto")
    saved = [(tmp_path / choice / "last.safetensors").read_bytes() for choice in ("off", "auto")]
    assert saved[0] == saved[1]


def test_a_loss_that_is_not_finite_stops_a_run_with_cuda_graphs(
    motions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, console: Console
) -> None:
    stand_in = use_graph_stand_in(monkeypatch)
    monkeypatch.setattr(execution, "GRAPH_DEVICE_TYPES", {"cpu"})
    job = prepare_job(tiny_run(motions, tmp_path / "run"))
    replay = stand_in.replay

    def spoil(graph: Any) -> None:
        replay(graph)
        if stand_in.num_replays == 8:  # two of the comparison, and then two a step
            graph.outputs[0].fill_(math.nan)

    monkeypatch.setattr(stand_in, "replay", spoil)
    with pytest.raises(FloatingPointError, match=r"the gradients are not finite \(nan\) in step 6"):
        fit_module.fit(job, console)


def test_it_learns(motions: Path, tmp_path: Path, trained: Trained) -> None:
    changes = {
        "clips.stride": 3,
        "training.batch_size": 8,
        "training.epochs": 12,
        "training.learning_rate": 0.08,
        "training.warmup_epochs": 0,
        "training.decay_epochs": (8.0,),
        "training.validate_every_epochs": 0,
    }
    outcome = trained(tiny_run(motions, tmp_path / "run", changes))
    found = [loss for _, loss in losses(tmp_path / "run")]
    assert len(found) == 36
    assert sum(found[:4]) / 4 > 0.5  # two classes: chance is ln 2 = 0.69
    assert sum(found[-8:]) / 8 < 0.2
    assert outcome.train_state.num_drawn == 36 * 8
    assert outcome.validation_accuracy is not None
    assert outcome.validation_accuracy.num_videos == 4
    assert [kind for kind, _ in entries(tmp_path / "run")].count("validation") == 1  # at the end alone


@pytest.mark.parametrize(
    ("optimizer", "number", "step"),
    [
        ("adamw", signal.SIGTERM, 3),  # in the middle of an epoch
        ("adamw", signal.SIGINT, 6),  # at its end, before validation
        ("sgd", signal.SIGUSR1, 1),
        ("sgd", signal.SIGTERM, 11),
    ],
)
def test_a_stopped_and_resumed_run_is_the_uninterrupted_one(
    optimizer: str,
    number: signal.Signals,
    step: int,
    motions: Path,
    tmp_path: Path,
    trained: Trained,
    signal_in_step: Callable[[int, int], None],
    uninterrupted: Callable[[str], Path],
) -> None:
    settings = tiny_run(motions, tmp_path / "run", SGD if optimizer == "sgd" else None)
    whole = uninterrupted(optimizer)
    signal_in_step(number, step)
    with pytest.raises(StopRequested) as stopped:
        trained(settings)
    assert stopped.value.exit_code == (130 if number == signal.SIGINT else 75)
    assert find_last_step(tmp_path / "run" / "checkpoints") == step
    assert losses(tmp_path / "run") == losses(whole)[:step]
    signal_in_step(number, 0)
    trained(settings, resume=True)
    assert learnt(tmp_path / "run") == learnt(whole)
    assert losses(tmp_path / "run") == losses(whole)
    assert entries(tmp_path / "run") == entries(whole)
    for name in ("best.safetensors", "last.safetensors"):
        ours, theirs = load_weights(tmp_path / "run" / name)[1], load_weights(whole / name)[1]
        assert ours.tensors_sha256 == theirs.tensors_sha256


def entries(run: Path) -> list[tuple[str, int]]:
    return [(line["kind"], line["step"]) for line in read_json_lines(run / "log.jsonl")]


def test_the_log_of_a_run_that_died_has_every_step_once(
    motions: Path,
    tmp_path: Path,
    trained: Trained,
    monkeypatch: pytest.MonkeyPatch,
    uninterrupted: Callable[[str], Path],
) -> None:
    """As after kill -9: two steps after the validation of step 6 nothing is saved any more."""
    settings = tiny_run(motions, tmp_path / "run")
    original = fit_module.training_step

    def dies(learner: Any, pieces: Any, steps_done: int) -> Any:
        if steps_done == 8:
            with (learner.job.folder / "log.jsonl").open("a") as log:
                log.write('{"kind": "train", "st')  # it died while it wrote
            raise MemoryError
        return original(learner, pieces, steps_done)

    monkeypatch.setattr(fit_module, "training_step", dies)
    with pytest.raises(MemoryError):
        trained(settings)
    assert find_last_step(tmp_path / "run" / "checkpoints") == 6
    monkeypatch.setattr(fit_module, "training_step", original)
    trained(settings, resume=True)
    assert entries(tmp_path / "run") == entries(uninterrupted("adamw"))
    assert learnt(tmp_path / "run") == learnt(uninterrupted("adamw"))


def test_a_run_that_died_before_its_first_checkpoint_leaves_nothing_to_the_next(
    motions: Path, tmp_path: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its weights are there already. The next run may be of another network, without validation."""

    def dies(*arguments: Any, **options: Any) -> None:
        raise MemoryError

    run = tmp_path / "run"
    with monkeypatch.context() as patches:
        patches.setattr(checkpointer_module, "write_checkpoint", dies)
        with pytest.raises(MemoryError):
            trained(tiny_run(motions, run))
    assert {"best.safetensors", "last.safetensors"} <= {path.name for path in run.iterdir()}
    changes = {"model": "r3d_10", "validation": "none", "training.epochs": 1}
    trained(tiny_run(motions / "train", run, changes), resume=True)
    assert load_weights(run)[1].specification.name == "r3d_10"
    assert not (run / "best.safetensors").exists()
    assert list((run / "scores").iterdir()) == []
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-00000006"]


def test_a_stop_during_validation_is_obeyed_at_once_and_validation_comes_again(
    motions: Path,
    tmp_path: Path,
    trained: Trained,
    monkeypatch: pytest.MonkeyPatch,
    uninterrupted: Callable[[str], Path],
) -> None:
    settings = tiny_run(motions, tmp_path / "run", {"evaluation.batch_size": 2})
    num_scored = 0

    def interrupted(*arguments: Any, on_progress: Callable[[int], None], **options: Any) -> EvaluationResult:
        def counting(num_videos: int) -> None:
            nonlocal num_scored
            num_scored = num_videos
            signal.raise_signal(signal.SIGTERM)
            on_progress(num_videos)

        return evaluate(*arguments, on_progress=counting, **options)

    monkeypatch.setattr(validation_module, "evaluate", interrupted)
    with pytest.raises(StopRequested):
        trained(settings)
    assert num_scored == 1  # of four videos
    assert find_last_step(tmp_path / "run" / "checkpoints") == 6
    assert not (tmp_path / "run" / "scores" / "validation.parquet").exists()
    monkeypatch.setattr(validation_module, "evaluate", evaluate)
    assert trained(settings, resume=True).validation_accuracy is not None
    assert entries(tmp_path / "run") == entries(uninterrupted("adamw"))


def test_workers_that_end_by_the_signal_that_stops_the_run_are_no_failure(
    motions: Path, tmp_path: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scheduler signals every process of a job; the workers may be gone before the run has seen its own signal."""

    def batches(*arguments: Any, **options: Any) -> Any:
        given = original(*arguments, **options)
        yield next(given)
        signal.raise_signal(signal.SIGTERM)
        raise RuntimeError("a data worker was killed")

    original = step_batches_module.load_training_batches
    monkeypatch.setattr(step_batches_module, "load_training_batches", batches)
    # The signal comes in the first step, so that the loop looks for it; then it waits for a second batch that never comes.
    with pytest.raises(StopRequested) as stopped:
        trained(tiny_run(motions, tmp_path / "run"))
    assert stopped.value.exit_code == 75
    assert find_last_step(tmp_path / "run" / "checkpoints") == 1


def test_a_run_whose_worker_was_killed_is_saved_before_it_fails(
    motions: Path, tmp_path: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    def batches(*arguments: Any, **options: Any) -> Any:
        given = original(*arguments, **options)
        yield next(given)
        yield next(given)
        raise RuntimeError("a data worker was killed")

    original = step_batches_module.load_training_batches
    monkeypatch.setattr(step_batches_module, "load_training_batches", batches)
    with pytest.raises(RuntimeError, match="a data worker was killed"):
        trained(tiny_run(motions, tmp_path / "run"))
    assert find_last_step(tmp_path / "run" / "checkpoints") == 2


def test_a_finished_run_has_nothing_to_resume(
    motions: Path, tmp_path: Path, trained: Trained, uninterrupted: Callable[[str], Path]
) -> None:
    copytree(uninterrupted("adamw"), tmp_path / "run")
    before = learnt(tmp_path / "run")
    outcome = trained(tiny_run(motions, tmp_path / "run"), resume=True)
    assert outcome.train_state.step == NUM_STEPS
    assert learnt(tmp_path / "run") == before
    assert entries(tmp_path / "run") == entries(uninterrupted("adamw"))


def test_what_a_run_leaves_behind(uninterrupted: Callable[[str], Path]) -> None:
    run = uninterrupted("adamw")
    found = {path.name for path in run.iterdir()}
    assert found == {
        "settings.yaml", "network.json", "environment.json", "log.jsonl", "failures.jsonl", "tensorboard",
        "checkpoints", "scores", "videos.parquet", "best.safetensors", "last.safetensors",
    }  # fmt: skip
    assert [path.name for path in (run / "checkpoints").iterdir() if not path.name.startswith("step-")] == []
    network, card = load_weights(run / "last.safetensors")
    assert compute_tensors_sha256(network.state_dict()) == card.tensors_sha256
    assert card.classes == ("left", "right")
    newest = load_file(list_checkpoints(run / "checkpoints")[-1] / "network.safetensors")
    assert compute_tensors_sha256(newest) == card.tensors_sha256
    scores = read_scores(run / "scores" / "validation.parquet")
    assert scores.header.model_sha256 == card.tensors_sha256
    validations = [line for line in read_json_lines(run / "log.jsonl") if line["kind"] == "validation"]
    assert validations[-1]["video_top1"] == compute_accuracy(compute_video_scores(scores)).video_top1.of_all.share


@pytest.mark.parametrize(
    ("num_steps", "recorded"), [(3, 3), (50, 8)]
)  # of twelve, after five; and what follows the last
def test_a_trace_of_some_steps(
    num_steps: int, recorded: int, motions: Path, tmp_path: Path, trained: Trained, uninterrupted: Callable[[str], Path]
) -> None:
    trained(tiny_run(motions, tmp_path / "run", {"training.profile_steps": num_steps}))
    trace = json.loads((tmp_path / "run" / "profile" / "rank-0.json").read_text())
    names = [event.get("name", "") for event in trace["traceEvents"]]
    assert len({name for name in names if name.startswith("ProfilerStep#")}) == recorded
    assert any("convolution_backward" in name for name in names)
    assert learnt(tmp_path / "run") == learnt(uninterrupted("adamw"))


def test_the_first_steps_rate_is_the_schedules(uninterrupted: Callable[[str], Path]) -> None:
    rates = [line["rate"] for line in read_json_lines(uninterrupted("adamw") / "log.jsonl") if line["kind"] == "train"]
    peak = 0.02 * 4 / 32
    warmup_steps = 12 * 10 / 45
    assert rates[0] == pytest.approx(peak / warmup_steps)
    assert rates[2] == pytest.approx(peak)
    assert rates[-1] == pytest.approx(peak / 1000)


def test_the_best_weights_are_those_of_the_best_validation(
    motions: Path, tmp_path: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told that validation went 50 %, 75 %, 75 %, 25 %, the run keeps the second: the first of the best."""
    pretended = iter([0.5, 0.75, 0.75, 0.25])
    hashes = []

    def lying(examination: Any, *arguments: Any, **options: Any) -> EvaluationResult:
        assert examination.split == "validation"
        result = evaluate(examination, *arguments, **options)
        hashes.append(examination.model_sha256)
        rate = Rate(right=round(4 * next(pretended)), of=4, low=0.0, high=1.0)
        return EvaluationResult(replace(result.accuracy, video_top1=Rates(rate, rate)), 0, result.path)

    monkeypatch.setattr(validation_module, "evaluate", lying)
    trained(tiny_run(motions, tmp_path / "run", {"training.validate_every_epochs": 0.5}))
    assert len(set(hashes)) == 4
    assert load_weights(tmp_path / "run" / "best.safetensors")[1].tensors_sha256 == hashes[1]
    assert load_weights(tmp_path / "run")[1].tensors_sha256 == hashes[1]
    assert load_weights(tmp_path / "run" / "last.safetensors")[1].tensors_sha256 == hashes[3]


def job_of(motions: Path, output: Path, changes: dict[str, Any] | None = None) -> TrainingJob:
    return prepare_job(tiny_run(motions, output, changes))


def test_a_loss_that_is_not_finite_names_step_and_videos_and_leaves_the_weights_alone(
    motions: Path, tmp_path: Path
) -> None:
    job = job_of(motions, tmp_path / "run")
    micro_batches = next(StepBatches(job, 0))
    with torch.no_grad():
        job.network.fc.bias[1] = math.inf
    learner = StepContext(job, job.network, build_optimizer(job.network, job.settings.training))
    before = {name: parameter.detach().clone() for name, parameter in job.network.named_parameters()}
    with pytest.raises(
        FloatingPointError, match=r"the loss is (nan|inf) in step 8 with the clips of (\S+mp4, )*\S+mp4;"
    ):
        training_step(learner, micro_batches, 7)
    for name, parameter in job.network.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.grad is None


def test_a_diverging_run_stops_and_keeps_what_was_whole(motions: Path, tmp_path: Path, trained: Trained) -> None:
    changes = {
        "training.optimizer": "sgd",
        "training.learning_rate": 1000.0,
        "training.weight_decay": 1000.0,
        "checkpoints.every_minutes": 1e-9,
    }
    with pytest.raises(FloatingPointError, match=r"(step \d+).*lower training\.learning_rate"):
        trained(tiny_run(motions, tmp_path / "run", changes))
    for path in list_checkpoints(tmp_path / "run" / "checkpoints"):
        assert all(bool(t.isfinite().all()) for t in load_file(path / "network.safetensors").values())


def test_weights_that_are_not_finite_are_not_saved(motions: Path, tmp_path: Path) -> None:
    job = job_of(motions, tmp_path / "run")
    optimizer = build_optimizer(job.network, job.settings.training)
    with torch.no_grad():
        job.network.stem[0].weight[0] = math.nan
    with (
        AsyncCheckpointer(job, optimizer) as keeper,
        pytest.raises(FloatingPointError, match="not finite after step 5"),
    ):
        keeper.save(TrainState(5))
    assert not (tmp_path / "run" / "checkpoints").exists()


def count_and_check(
    job: TrainingJob, train_state: TrainState, result: StepResult, metrics_log: MetricsLog
) -> TrainState:
    """What `fit` does after a step."""
    train_state = count_step(train_state, result)
    metrics_log.log_failures(train_state.step, result.failures)
    check_failed_share(job, train_state, result.failures)
    return train_state


def test_too_many_failures_end_a_run(motions: Path, tmp_path: Path) -> None:
    job = job_of(motions, tmp_path / "run", {"training.epochs": 100, "loading.max_failed_share": 0.25})
    with MetricsLog(job.folder, 0) as metrics_log:
        train_state = TrainState(0)
        for _ in range(25):  # exactly the share that is allowed
            train_state = count_and_check(job, train_state, result_of(3, 1), metrics_log)
        assert (train_state.step, train_state.num_drawn, train_state.num_failed) == (25, 100, 25)
        with pytest.raises(
            RuntimeError, match=r"27 of 104 clips .*max_failed_share 0\.25 allows; .*failures\.jsonl .* b\.mp4: torn"
        ):
            count_and_check(job, train_state, result_of(2, 2), metrics_log)
    lines = read_json_lines(job.folder / "failures.jsonl")
    assert len(lines) == 27
    assert lines[-1] == {"step": 26, "video": "b.mp4", "status": "unreadable", "reason": "torn"}


def test_a_few_draws_are_judged_at_the_end_of_the_run_only(motions: Path, tmp_path: Path) -> None:
    job = job_of(motions, tmp_path / "run")
    with MetricsLog(job.folder, 0) as metrics_log:
        train_state = count_and_check(job, TrainState(0), result_of(0, 4), metrics_log)
        with pytest.raises(RuntimeError, match="5 of 8 clips"):
            count_and_check(job, replace(train_state, step=NUM_STEPS - 1), result_of(3, 1), metrics_log)


def result_of(num_good: int, num_failed: int) -> StepResult:
    failures = (Failure("b.mp4", "unreadable", "torn"),) * num_failed
    return StepResult(0.7, 0, num_good, 0, failures)
