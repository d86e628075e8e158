"""What ranks do in tests: functions at the top of a module, so that other processes can find them."""

from __future__ import annotations

import io
import multiprocessing
import os
import resource
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional

from muybridge.distributed.process_group import ProcessGroup, join_process_group
from muybridge.distributed.watchdog import Watchdog
from muybridge.evaluation.evaluate import EvaluationJob, evaluate
from muybridge.inference.scorer import NetworkScorer
from muybridge.settings import TrainSettings
from muybridge.training import fit as fit_module
from muybridge.training import validation
from muybridge.training.checkpoint import TrainState, save_checkpoint
from muybridge.training.data_parallel import no_sync_if, wrap_for_training
from muybridge.training.fit import fit
from muybridge.training.job import prepare_job
from muybridge.training.optimizer import build_optimizer
from muybridge.training.step import StepContext, make_example_clips, training_step
from muybridge.training.step_batches import StepBatches
from muybridge.video.decode import VideoFiles
from muybridge.weights import address as weights_address
from muybridge.weights.address import load_weights
from muybridge.weights.card import compute_tensors_sha256

CPU = torch.device("cpu")


def train(settings: TrainSettings, resume: bool = False) -> tuple[int, float | None, str]:
    """A whole run; its steps, best accuracy and what it printed."""
    output = io.StringIO()
    with join_process_group(CPU) as process_group:
        console = Console(file=output, width=400, quiet=not process_group.is_rank0)
        result = fit(prepare_job(settings, resume=resume, process_group=process_group), console)
    return result.train_state.step, result.train_state.best_accuracy, output.getvalue()


def train_with_fault(settings: TrainSettings, rank: int, step: int, how: str) -> Any:
    """A run in which one rank, in one step, dies, hangs, fails or gets a signal."""
    original = fit_module.training_step

    def step_with_fault(context: Any, micro_batches: Any, step_index: int) -> Any:
        if step_index + 1 == step and context.job.process_group.rank.rank == rank:
            match how:
                case "dies":
                    os.kill(os.getpid(), signal.SIGKILL)
                case "hangs":
                    time.sleep(3600)
                case "fails":
                    raise MemoryError("no memory")
                case "is asked to stop":
                    os.kill(os.getpid(), signal.SIGTERM)
                case "is not finite":
                    micro_batches = [
                        replace(
                            micro_batch,
                            views=replace(
                                micro_batch.views,
                                color_matrices_n34=torch.full_like(micro_batch.views.color_matrices_n34, torch.nan),
                            ),
                        )
                        for micro_batch in micro_batches
                    ]
                case "learns nothing":
                    with torch.no_grad():
                        context.job.network.fc.bias[0] = torch.nan
        return original(context, micro_batches, step_index)

    fit_module.training_step = step_with_fault
    if how == "hangs":
        set_short_limit(f"training step {step}")
    return train(settings)


def train_and_leave_workers(settings: TrainSettings, pids_file: Path) -> Any:
    """A run that is killed in its second step, after it has written down its workers."""
    original = fit_module.training_step

    def step_with_fault(context: Any, micro_batches: Any, step_index: int) -> Any:
        if step_index == 1:
            pids_file.write_text(" ".join(str(worker.pid) for worker in multiprocessing.active_children()))
            os.kill(os.getpid(), signal.SIGKILL)
        return original(context, micro_batches, step_index)

    fit_module.training_step = step_with_fault
    return train(settings)


def train_while_a_worker_is_killed(settings: TrainSettings, step: int) -> Any:
    """A run that loses a worker in one step, as when memory runs out."""
    original = fit_module.training_step

    def step_with_fault(context: Any, micro_batches: Any, step_index: int) -> Any:
        if step_index + 1 == step:
            multiprocessing.active_children()[0].kill()
        return original(context, micro_batches, step_index)

    fit_module.training_step = step_with_fault
    return train(settings)


def set_short_limit(phase: str) -> None:
    """One phase may last no longer than a second; the others, which a slow machine may need time for, as long as set."""
    original = Watchdog.start_phase

    def limit_shortly(self: Any, name: str, limit_minutes: float, *arguments: Any, **options: Any) -> Any:
        return original(self, name, 1 / 60 if name == phase else limit_minutes, *arguments, **options)

    Watchdog.start_phase = limit_shortly  # type: ignore[method-assign]


def train_while_a_read_hangs(settings: TrainSettings, step: int) -> Any:
    """A run whose file system never answers in one step."""
    original, num_reads = VideoFiles.read, 0

    def read(self: Any, video: str, ticks: Any) -> Any:
        nonlocal num_reads
        num_reads += 1
        if num_reads > (step - 1) * settings.training.batch_size:
            time.sleep(3600)
        return original(self, video, ticks)

    VideoFiles.read = read  # type: ignore[method-assign]
    set_short_limit(f"reading the clips of step {step}")
    return train(settings)


def run_first_steps(settings: TrainSettings, num_steps: int, freeze_norms: bool) -> dict[str, Any]:
    """Losses and gradients of the first steps, without moving anything, and which videos were drawn."""
    with join_process_group(CPU) as process_group:
        job = prepare_job(settings, process_group=process_group)
        model = wrap_for_training(
            job.network,
            process_group,
            sync_batch_norm=settings.training.synchronise_norm,
            example_clips=make_example_clips(job, 2),
        )
        optimizer = build_optimizer(job.network, settings.training)
        optimizer.step = lambda *_: None  # type: ignore[method-assign,assignment]
        if freeze_norms:
            job.network.train = lambda mode=True: nn.Module.train(job.network, False)  # type: ignore[method-assign,assignment]
        batches = StepBatches(job, 0)
        measured: dict[str, Any] = {"losses": [], "counts": [], "gradients": [], "videos": []}
        for step in range(num_steps):
            micro_batches = next(batches)
            result = training_step(StepContext(job, model, optimizer), micro_batches, step)
            measured["losses"].append(result.loss)
            measured["counts"].append((result.num_clips, result.num_right, sorted(f.video for f in result.failures)))
            measured["gradients"].append(
                {name: parameter.grad.numpy().copy() for name, parameter in job.network.named_parameters()}
            )
            own = [[video for micro_batch in micro_batches for video in micro_batch.videos]]
            measured["videos"].append([video for part in process_group.all_gather_object(own[0]) for video in part])
        measured["buffers"] = {name: buffer.numpy().copy() for name, buffer in job.network.named_buffers()}
        return measured


def evaluate_split(run: Path, data: Any, path: Path, evaluation: Any, loading: Any) -> tuple[float, float, int]:
    """Accuracies and looped videos as this rank hears of them."""
    with join_process_group(CPU):
        network, card = load_weights(run)
        evaluation_job = EvaluationJob(
            manifest=data.remap_labels(card.classes),
            split="test",
            fold=None,
            preprocessing=card.preprocessing,
            model_sha256=card.tensors_sha256,
            evaluation=evaluation,
            loading=loading,
        )
        result = evaluate(evaluation_job, NetworkScorer(network, CPU), path, device=CPU)
    return (
        result.accuracy.clip_top1.of_all.share,
        result.accuracy.video_top1.of_all.share,
        result.num_looped_videos,
    )


def run_batch_norm(maps: Tensor, weights: Tensor, cuts: list[int]) -> dict[str, Any]:
    """This rank's part of a batch through a wrapped, synchronised batch norm: outputs, input gradients, statistics."""
    with join_process_group(CPU) as process_group:
        torch.manual_seed(3)
        network = nn.Sequential(nn.Conv3d(maps.shape[1], 5, 1), nn.BatchNorm3d(5))
        with torch.no_grad():
            network[1].weight.uniform_(0.5, 2.0)
        model = wrap_for_training(network, process_group, sync_batch_norm=True, example_clips=maps[:1])
        rank = process_group.rank.rank
        own = maps[cuts[rank] : cuts[rank + 1]].clone().requires_grad_()
        out = model(own)
        torch.autograd.backward((out * weights[cuts[rank] : cuts[rank + 1]]).sum())
        return {
            "out": out.detach(),
            "maps": own.grad,
            "parameters": [parameter.grad * process_group.world_size for parameter in network.parameters()],
            "mean": network[1].running_mean,
            "variance": network[1].running_var,
            "norm_type": type(network[1]).__name__,
        }


def accumulate_two_passes(clips: Tensor) -> list[Tensor]:
    """Gradients after two passes of which the first is held back."""
    with join_process_group(CPU) as process_group:
        torch.manual_seed(3)
        network = nn.Conv3d(3, 4, 1)
        model = wrap_for_training(network, process_group, sync_batch_norm=False, example_clips=clips[:1])
        own = clips[process_group.rank.rank :: process_group.world_size]
        for number, micro_batch in enumerate(own.split(1)):
            with no_sync_if(model, number + 1 < len(own)):
                torch.autograd.backward(functional.relu(model(micro_batch)).sum())
        return [parameter.grad * process_group.world_size for parameter in network.parameters()]


def download_slowly(cache: Path) -> str:
    """What a rank finds at an address that somebody must fetch first, slowly; and whether it was this rank."""

    def weights_file(address: str) -> None:
        if not (cache / address).exists():
            time.sleep(0.3)  # another rank would have all the time to begin as well
            with (cache / address).open("a") as file:
                file.write(f"rank {process_group.rank.rank} ")

    weights_address.resolve_weights_file = weights_file  # type: ignore[assignment]
    with join_process_group(CPU) as process_group:
        weights_address.download_once_per_node("name", process_group)
        return (cache / "name").read_text()


def run_collectives(value: int) -> tuple[Any, Any, Any]:
    """What ranks hear of each other."""
    with join_process_group(CPU) as process_group:
        assert isinstance(process_group, ProcessGroup)
        return (
            process_group.all_gather_floats([value, process_group.rank.rank]),
            process_group.all_gather_object(f"rank {process_group.rank.rank}"),
            process_group.broadcast_from_rank0(process_group.rank.rank),
        )


def checkpoint_and_die(folder: Path, point: int) -> None:
    """Replaces the checkpoint of step 4 by one of step 5, but is killed at the `point`-th touch of the disk, if it comes."""
    touches = 0

    def dying(original: Any) -> Any:
        def touched(*arguments: Any, **options: Any) -> Any:
            nonlocal touches
            if touches == point:
                os.kill(os.getpid(), signal.SIGKILL)
            touches += 1
            return original(*arguments, **options)

        return touched

    network = nn.Linear(2, 2)
    with torch.no_grad():
        network.weight.fill_(5.0)
    optimizer = torch.optim.AdamW(network.parameters())
    for owner, name in ((os, "fsync"), (os, "unlink"), (os, "rmdir"), (os, "mkdir"), (Path, "rename")):
        setattr(owner, name, dying(getattr(owner, name)))
    save_checkpoint(folder, network, optimizer, TrainState(5), keep=1)


def train_with_small_files(settings: TrainSettings, num_bytes: int) -> Any:
    """A run that may not write a file larger than this, as on a full disk."""
    original = fit_module.training_step

    def step_with_fault(context: Any, micro_batches: Any, step_index: int) -> Any:
        if step_index == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))
        return original(context, micro_batches, step_index)

    fit_module.training_step = step_with_fault
    return train(settings)


def train_while_the_clock_goes_back(settings: TrainSettings) -> Any:
    """A run in which the wall clock loses an hour at every look."""
    now = time.time()

    def backwards() -> float:
        nonlocal now
        now -= 3600
        return now

    time.time = backwards
    return train(settings)


def validate_networks(settings: TrainSettings) -> tuple[list[str], list[str]]:
    """Hashes of the network of this rank before every validation, and of what is then scored."""
    before: list[str] = []
    scored: list[str] = []
    original_validate, original_evaluate = fit_module.validate, validation.evaluate

    def validate(job: Any, *arguments: Any) -> Any:
        before.append(compute_tensors_sha256(job.network.state_dict()))
        return original_validate(job, *arguments)

    def evaluate_noted(evaluation_job: Any, scorer: Any, *arguments: Any, **options: Any) -> Any:
        scored.append(compute_tensors_sha256(scorer.network.state_dict()))
        return original_evaluate(evaluation_job, scorer, *arguments, **options)

    fit_module.validate, validation.evaluate = validate, evaluate_noted
    train(settings)
    return before, scored
