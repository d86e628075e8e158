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

from muybridge.loading.loader import Failure, TrainingBatch
from muybridge.training.data_parallel import held_back
from muybridge.training.job import Job
from muybridge.video.views import network_input
from muybridge.weights.transfer import learning_mode

CALM_DOWN = "lower training.learning_rate or lengthen training.warmup_epochs"


@dataclass(frozen=True)
class Learner:
    """What a step moves. `model` is the job's network, wrapped where there are several ranks."""

    job: Job
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


def training_step(learner: Learner, pieces: Sequence[TrainingBatch], step: int) -> StepResult:
    """One step on this rank's share of the global batch, in as many passes as there are pieces.

    A step none of whose clips could be read moves nothing. A loss or gradient that is not finite, on any rank, is a
    FloatingPointError on all that names the step (the first is 1) and the videos, raised before it can reach the weights; or
    it moves nothing, as training.non_finite says.
    """
    job, ranks = learner.job, learner.job.ranks
    may_skip = job.settings.training.non_finite == "skip"
    statistics = [buffer.clone() for buffer in job.network.buffers()] if may_skip else []
    learning_mode(job.network)
    learner.optimizer.zero_grad(set_to_none=True)
    own_loss, own_right = accumulate_gradients(learner, pieces)

    failures = tuple(failure for piece in pieces for failure in piece.failures)
    num_looped, num_clips = sum(piece.num_looped for piece in pieces), sum(len(piece.videos) for piece in pieces)
    table = ranks.tables([own_loss, own_right, num_clips, num_looped, len(failures)])
    loss, *counts = (sum(column) for column in zip(*table, strict=True))
    num_right, num_clips, num_looped, num_failures = map(int, counts)
    if num_failures:
        failures = tuple(failure for theirs in ranks.everyones(failures) for failure in theirs)
    loss = loss / num_clips if num_clips else math.nan
    result = StepResult(loss, num_right, num_clips, num_looped, failures)
    if num_clips == 0:
        return result

    gradients = [parameter.grad for parameter in job.network.parameters() if parameter.grad is not None]
    cause = _not_finite(loss, gradients)
    if cause is None:
        torch._foreach_mul_(gradients, ranks.world_size / num_clips)  # the wrapped network has averaged over the ranks
        learner.optimizer.step()
        return result
    learner.optimizer.zero_grad(set_to_none=True)
    if not may_skip:
        suspects = [math.isfinite(loss) or not math.isfinite(row[0]) for row in table]
        videos = sorted(set(_videos(learner, pieces, suspects)))
        raise FloatingPointError(f"{cause} in step {step + 1} with the clips of {', '.join(videos)}; {CALM_DOWN}")
    for buffer, value in zip(job.network.buffers(), statistics, strict=True):
        buffer.copy_(value)
    return StepResult(math.nan, 0, num_clips, num_looped, failures, skipped=True)


def accumulate_gradients(learner: Learner, pieces: Sequence[TrainingBatch]) -> tuple[float, int]:
    """Adds the gradients of the summed loss of this rank's clips; that sum, and how many were classified right."""
    job, training = learner.job, learner.job.settings.training
    loss_sum, num_right = torch.zeros((), device=job.device), torch.zeros((), device=job.device)
    for number, piece in enumerate(pieces):
        with held_back(learner.model, number + 1 < len(pieces)):
            clips = clips_of(job, piece)
            labels = piece.labels_n.to(job.device, non_blocking=True)
            with torch.autocast(job.device.type, torch.bfloat16, enabled=training.precision == "bf16"):
                logits: Tensor = learner.model(clips)
            loss = functional.cross_entropy(
                logits.float(), labels, label_smoothing=training.label_smoothing, reduction="sum"
            )
            torch.autograd.backward(loss)
        loss_sum += loss.detach()
        num_right += (logits.argmax(1) == labels).sum()
    return float(loss_sum.item()), int(num_right.item())


def clips_of(job: Job, piece: TrainingBatch) -> Tensor:
    """A piece as the network takes it; one without a readable clip is a batch of none, so that all ranks do the same."""
    if piece.views is not None:
        return network_input(piece.views, job.preprocessing, job.device)
    return example_clips(job, 0)


def example_clips(job: Job, num_clips: int) -> Tensor:
    """Clips of zeros in the shape of this job's."""
    chosen = job.preprocessing
    size = (num_clips, chosen.input_channels, chosen.clip_length, chosen.crop, chosen.crop)
    return torch.zeros(size, device=job.device)


def _not_finite(loss: float, gradients: list[Tensor]) -> str | None:
    """What is not finite, in words. Gradients are those of all ranks, so all come to the same answer."""
    if not math.isfinite(loss):
        return f"the loss is {loss}"
    norm = float(torch.nn.utils.get_total_norm(gradients, norm_type=math.inf))
    return None if math.isfinite(norm) else f"the gradients are not finite ({norm})"


def _videos(learner: Learner, pieces: Sequence[TrainingBatch], suspects: Sequence[bool]) -> list[str]:
    everyones = learner.job.ranks.everyones([video for piece in pieces for video in piece.videos])
    return [video for suspect, videos in zip(suspects, everyones, strict=True) if suspect for video in videos]
