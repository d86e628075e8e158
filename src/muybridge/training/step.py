"""One step of gradient descent over all ranks: the mean over the clips that could be read, whoever read them.

Every rank sums the losses of its clips; gradients are added over passes and ranks and divided once, by the number of clips
read by all. So a step is the same however its clips are dealt, and an unreadable clip weighs nothing anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from muybridge.loading.datasets import Failure, TrainingBatch
from muybridge.training.data_parallel import no_sync_if
from muybridge.training.job import TrainingJob
from muybridge.video.views import prepare_network_input
from muybridge.weights.transfer import train_mode

INSTABILITY_REMEDY = "lower training.learning_rate or lengthen training.warmup_epochs"


@dataclass(frozen=True)
class StepContext:
    """What a step moves. `model` is the job's network, wrapped where there are several ranks."""

    job: TrainingJob
    model: nn.Module
    optimizer: torch.optim.Optimizer


@dataclass(frozen=True)
class StepResult:
    """What came of one step over all ranks, the same on each: mean loss and right clips before it moved anything.

    `skipped`: its gradients were not finite and it moved nothing. No clips, no loss: NaN.
    """

    loss: float
    num_right: int
    num_clips: int
    num_looped: int
    failures: tuple[Failure, ...]
    skipped: bool = False


def training_step(context: StepContext, micro_batches: Sequence[TrainingBatch], step: int) -> StepResult:
    """One step on this rank's share of the global batch, in as many passes as there are pieces.

    A step none of whose clips could be read moves nothing. A loss or gradient that is not finite, on any rank, is a
    FloatingPointError on all that names the step (the first is 1) and the videos, raised before it can reach the weights; or
    it moves nothing, as training.non_finite says.
    """
    job, ranks = context.job, context.job.process_group
    may_skip = job.settings.training.non_finite == "skip"
    saved_buffers = [buffer.clone() for buffer in job.network.buffers()] if may_skip else []
    train_mode(job.network)
    context.optimizer.zero_grad(set_to_none=True)
    own_loss, own_right = accumulate_gradients(context, micro_batches)

    failures = tuple(failure for piece in micro_batches for failure in piece.failures)
    num_looped, num_clips = (
        sum(piece.num_looped for piece in micro_batches),
        sum(len(piece.videos) for piece in micro_batches),
    )
    rank_rows = ranks.all_gather_floats([own_loss, own_right, num_clips, num_looped, len(failures)])
    loss, *counts = (sum(column) for column in zip(*rank_rows, strict=True))
    num_right, num_clips, num_looped, num_failures = map(int, counts)
    if num_failures:
        failures = tuple(failure for rank_failures in ranks.all_gather_object(failures) for failure in rank_failures)
    loss = loss / num_clips if num_clips else math.nan
    result = StepResult(loss, num_right, num_clips, num_looped, failures)
    if num_clips == 0:
        return result

    gradients = [parameter.grad for parameter in job.network.parameters() if parameter.grad is not None]
    cause = _find_non_finite(loss, gradients)
    if cause is None:
        torch._foreach_mul_(gradients, ranks.world_size / num_clips)  # the wrapped network has averaged over the ranks
        context.optimizer.step()
        return result
    context.optimizer.zero_grad(set_to_none=True)
    if not may_skip:
        is_suspect_rank = [math.isfinite(loss) or not math.isfinite(row[0]) for row in rank_rows]
        videos = sorted(set(_gather_videos(context, micro_batches, is_suspect_rank)))
        raise FloatingPointError(
            f"{cause} in step {step + 1} with the clips of {', '.join(videos)}; {INSTABILITY_REMEDY}"
        )
    for buffer, value in zip(job.network.buffers(), saved_buffers, strict=True):
        buffer.copy_(value)
    return StepResult(math.nan, 0, num_clips, num_looped, failures, skipped=True)


def accumulate_gradients(context: StepContext, micro_batches: Sequence[TrainingBatch]) -> tuple[float, int]:
    """Adds the gradients of the summed loss of this rank's clips; that sum, and how many were classified right."""
    job, training = context.job, context.job.settings.training
    loss_sum, num_right = torch.zeros((), device=job.device), torch.zeros((), device=job.device)
    for index, micro_batch in enumerate(micro_batches):
        with no_sync_if(context.model, index + 1 < len(micro_batches)):
            clips = prepare_clips(job, micro_batch)
            labels = micro_batch.labels_n.to(job.device, non_blocking=True)
            with torch.autocast(job.device.type, torch.bfloat16, enabled=training.precision == "bf16"):
                logits: Tensor = context.model(clips)
            loss = functional.cross_entropy(
                logits.float(), labels, label_smoothing=training.label_smoothing, reduction="sum"
            )
            torch.autograd.backward(loss)
        loss_sum += loss.detach()
        num_right += (logits.argmax(1) == labels).sum()
    return float(loss_sum.item()), int(num_right.item())


def prepare_clips(job: TrainingJob, micro_batch: TrainingBatch) -> Tensor:
    """A piece as the network takes it; one without a readable clip is a batch of none, so that all ranks do the same."""
    if micro_batch.views is not None:
        return prepare_network_input(micro_batch.views, job.preprocessing, job.device)
    return make_example_clips(job, 0)


def make_example_clips(job: TrainingJob, num_clips: int) -> Tensor:
    """Clips of zeros in the shape of this job's."""
    preprocessing = job.preprocessing
    size = (num_clips, preprocessing.input_channels, preprocessing.clip_length, preprocessing.crop, preprocessing.crop)
    return torch.zeros(size, device=job.device)


def _find_non_finite(loss: float, gradients: list[Tensor]) -> str | None:
    """What is not finite, in words. Gradients are those of all ranks, so all come to the same answer."""
    if not math.isfinite(loss):
        return f"the loss is {loss}"
    norm = float(torch.nn.utils.get_total_norm(gradients, norm_type=math.inf))
    return None if math.isfinite(norm) else f"the gradients are not finite ({norm})"


def _gather_videos(
    context: StepContext, micro_batches: Sequence[TrainingBatch], is_suspect_rank: Sequence[bool]
) -> list[str]:
    videos_by_rank = context.job.process_group.all_gather_object(
        [video for piece in micro_batches for video in piece.videos]
    )
    return [
        video for suspect, videos in zip(is_suspect_rank, videos_by_rank, strict=True) if suspect for video in videos
    ]
