"""One optimizer step over all ranks: the gradient of the mean loss over all clips that could be read.

Every rank sums the losses of its clips; gradients are added over micro-batches and ranks, and divided once by the number of
clips read by all ranks. So a step does not depend on how its clips are distributed, and an unreadable clip has no weight.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from muybridge.distributed.process_group import ProcessGroup
from muybridge.kernels.graphs import GraphedNetwork
from muybridge.loading.datasets import Failure, TrainingBatch, collate_training
from muybridge.training.augment import Pass, find_multigrid_size, mix_clips, reverse_batch, seed_dropout, shrink_clips
from muybridge.training.checks import needs_two_clips
from muybridge.training.data_parallel import no_sync_if
from muybridge.training.execution import move_to_device
from muybridge.training.job import TrainingJob
from muybridge.video.views import prepare_network_input
from muybridge.weights.transfer import train_mode

INSTABILITY_REMEDY = "lower training.learning_rate or lengthen training.warmup_epochs"


@dataclass(frozen=True)
class StepContext:
    """What a step updates. `model` runs the job's network: itself, DistributedDataParallel on several ranks, or CUDA graphs."""

    job: TrainingJob
    model: nn.Module | GraphedNetwork
    optimizer: torch.optim.Optimizer


@dataclass(frozen=True)
class StepResult:
    """Metrics of one step over all ranks, the same on each: mean loss and number of correct clips before the update.

    `num_right` is 0 for another task than single_label. A mixed clip counts by the shares of the two clips in it: right for one
    of their classes alone, it is a fraction.

    `skipped`: the update was skipped because of a non-finite loss or gradient. The loss of no clips is NaN.
    """

    loss: float
    num_right: float
    num_clips: int
    num_looped: int
    failures: tuple[Failure, ...]
    skipped: bool = False


def training_step(context: StepContext, micro_batches: Sequence[TrainingBatch], step: int) -> StepResult:
    """Forward, backward and update on this rank's share of the global batch, one pass per micro-batch.

    Without a readable clip there is no update. The only clip of a pass is left out if batch norm cannot train on it alone
    (`checks.needs_two_clips`). A non-finite loss or gradient on any rank is a FloatingPointError on all ranks, which names
    the step (counted from 1) and the videos and leaves the weights unchanged; or the update is skipped, as
    training.non_finite says.
    """
    job, model, training = context.job, context.model, context.job.settings.training
    micro_batches = [_drop_lone_clip(job, micro_batch, step) for micro_batch in micro_batches]
    may_skip = training.non_finite == "skip"
    saved_buffers = [buffer.clone() for buffer in job.network.buffers()] if may_skip else []
    train_mode(job.network)
    context.optimizer.zero_grad(set_to_none=True)
    # Summed on the device: reading a value of each micro-batch would make the CPU wait for the GPU.
    loss_sum, num_right = torch.zeros((), device=job.device), torch.zeros((), device=job.device)
    for index, micro_batch in enumerate(micro_batches):
        with no_sync_if(model, index + 1 < len(micro_batches)):
            loss, pass_right = _run_pass(context, micro_batch, Pass(job.settings.seed, step, index))
        loss_sum += loss
        num_right += pass_right

    result, rank_losses = _gather_result(job.process_group, micro_batches, float(loss_sum), float(num_right))
    if result.num_clips == 0:
        return result
    gradients = [parameter.grad for parameter in job.network.parameters() if parameter.grad is not None]
    cause = _find_non_finite(result.loss, gradients)
    if cause is None:
        # The gradients are of summed losses, which DistributedDataParallel has averaged over the ranks.
        torch._foreach_mul_(gradients, job.process_group.world_size / result.num_clips)
        cause = _clip_gradients(job.network, training.max_gradient_norm)
    if cause is None:
        context.optimizer.step()
        if job.weight_average is not None:
            job.weight_average.update(step)
        return result
    context.optimizer.zero_grad(set_to_none=True)
    if not may_skip:
        videos = _gather_suspect_videos(job.process_group, micro_batches, rank_losses)
        raise FloatingPointError(
            f"{cause} in step {step + 1} with the clips of {', '.join(videos)}; {INSTABILITY_REMEDY}"
        )
    for buffer, value in zip(job.network.buffers(), saved_buffers, strict=True):
        buffer.copy_(value)  # batch norm has updated its statistics in the forward pass
    return replace(result, loss=math.nan, num_right=0, skipped=True)


def _drop_lone_clip(job: TrainingJob, micro_batch: TrainingBatch, step: int) -> TrainingBatch:
    """The batch without its only readable clip if batch norm cannot train on it alone."""
    training, clips = job.settings.training, job.settings.clips
    if len(micro_batch.videos) != 1:
        return micro_batch
    length, crop = find_multigrid_size(training, step, job.schedule.num_own_steps) or (clips.length, clips.crop)
    world_size = job.process_group.world_size
    if not needs_two_clips(training, job.network.specification, length, crop, world_size=world_size):
        return micro_batch
    return collate_training(micro_batch.failures)


def _run_pass(context: StepContext, micro_batch: TrainingBatch, this_pass: Pass) -> tuple[Tensor, Tensor]:
    """Forward and backward pass of a micro-batch: the sum of its losses and the number of correct clips, on the device.

    Nothing that holds the autograd graph outlives the pass: memory, and the nodes that a CUDA graph makes anew.
    """
    job, training = context.job, context.job.settings.training
    clips = _prepare_clips(job, micro_batch)
    if (size := find_multigrid_size(training, this_pass.step, job.schedule.num_own_steps)) is not None:
        clips = shrink_clips(clips, *size)
    clips, own_share = mix_clips(clips, training, this_pass)
    micro_batch = move_to_device(micro_batch, job.device)
    rank = job.process_group.rank.rank
    with (
        seed_dropout(this_pass, rank, job.device) if training.dropout else nullcontext(),
        torch.autocast(job.device.type, torch.bfloat16, enabled=training.precision == "bf16"),
    ):
        logits: Tensor = context.model(clips)
    loss, num_right = job.task_loss(logits.float(), micro_batch), _count_right(job, logits, micro_batch)
    if own_share < 1:
        others = reverse_batch(micro_batch)
        loss = own_share * loss + (1 - own_share) * job.task_loss(logits.float(), others)
        num_right = own_share * num_right + (1 - own_share) * _count_right(job, logits, others)
    torch.autograd.backward(loss)
    return loss.detach(), num_right


def _count_right(job: TrainingJob, logits: Tensor, micro_batch: TrainingBatch) -> Tensor:
    """The number of clips whose most probable class is their label; 0 for another task than single_label."""
    if job.settings.training.task != "single_label":
        return logits.new_zeros(())
    return (logits.argmax(1) == micro_batch.labels_n).sum()


def _prepare_clips(job: TrainingJob, micro_batch: TrainingBatch) -> Tensor:
    """The network's input (N, C, T, H, W). Without a readable clip N is 0, since all ranks must run the same collectives."""
    if micro_batch.views is not None:
        return prepare_network_input(micro_batch.views, job.preprocessing, job.device)
    return make_example_clips(job, 0)


def make_example_clips(job: TrainingJob, num_clips: int) -> Tensor:
    """Zeros in the shape of this job's clips, (N, C, T, H, W)."""
    preprocessing = job.preprocessing
    size = (num_clips, preprocessing.input_channels, preprocessing.clip_length, preprocessing.crop, preprocessing.crop)
    return torch.zeros(size, device=job.device)


def _gather_result(
    process_group: ProcessGroup, micro_batches: Sequence[TrainingBatch], own_loss: float, own_right: float
) -> tuple[StepResult, list[float]]:
    """The result over all ranks, and the summed loss of each rank."""
    failures = tuple(failure for batch in micro_batches for failure in batch.failures)
    own_clips, own_looped = (
        sum(len(batch.videos) for batch in micro_batches),
        sum(batch.num_looped for batch in micro_batches),
    )
    rows = process_group.all_gather_floats([own_loss, own_right, own_clips, own_looped, len(failures)])
    loss, num_right, *counts = (sum(column) for column in zip(*rows, strict=True))
    num_clips, num_looped, num_failures = map(int, counts)
    if num_failures:  # rare: objects are gathered only when there are any
        failures = tuple(
            failure for rank_failures in process_group.all_gather_object(failures) for failure in rank_failures
        )
    loss = loss / num_clips if num_clips else math.nan
    return StepResult(loss, num_right, num_clips, num_looped, failures), [row[0] for row in rows]


def _find_non_finite(loss: float, gradients: list[Tensor]) -> str | None:
    """A description of what is not finite, if anything. All ranks have the same gradients, so all find the same."""
    if not math.isfinite(loss):
        return f"the loss is {loss}"
    norm = float(torch.nn.utils.get_total_norm(gradients, norm_type=math.inf))
    return None if math.isfinite(norm) else f"the gradients are not finite ({norm})"


def _clip_gradients(network: nn.Module, max_norm: float | None) -> str | None:
    """Scales larger gradients down to `max_norm`. A description of a norm that is not finite, if it is not: of finite
    gradients above 1e19 the sum of squares overflows in float32, and scaling would make them 0."""
    if max_norm is None:
        return None
    parameters = list(network.parameters())
    norm = torch.nn.utils.get_total_norm([one.grad for one in parameters if one.grad is not None])
    if not math.isfinite(norm):
        return f"the norm of the gradients is not finite ({float(norm)})"
    torch.nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
    return None


def _gather_suspect_videos(
    process_group: ProcessGroup, micro_batches: Sequence[TrainingBatch], rank_losses: Sequence[float]
) -> list[str]:
    """The videos of the ranks whose loss is not finite; of all ranks where only gradients are not."""
    own_videos = [video for batch in micro_batches for video in batch.videos]
    videos_by_rank = process_group.all_gather_object(own_videos)
    is_loss_finite = math.isfinite(sum(rank_losses))
    suspects = (
        videos
        for loss, videos in zip(rank_losses, videos_by_rank, strict=True)
        if is_loss_finite or not math.isfinite(loss)
    )
    return sorted({video for videos in suspects for video in videos})
