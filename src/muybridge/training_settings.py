"""The settings of the training group: the recipe of a run, with the paper's values as defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Interval

from muybridge.augmentation_settings import AugmentationSettings
from muybridge.bounds import BatchSize, Epochs, Seed, Weight, check_fields
from muybridge.task_settings import TaskSettings

LearningRate = Annotated[float, Interval(gt=0, le=1000)]

PAPER_EPOCHS = 45.0
PAPER_WARMUP_EPOCHS = 10.0
PAPER_DECAY_EPOCHS = (20.0, 30.0, 40.0)


@dataclass(frozen=True)
class TrainingSettings(AugmentationSettings, TaskSettings):
    """The recipe: section 4.1 of the paper; momentum and weight decay from the authors' code."""

    optimizer: Literal["sgd", "adamw"] = "sgd"
    """SGD with Nesterov momentum, or AdamW."""
    learning_rate: LearningRate = 0.01
    """Rate for 32 clips a step; it grows linearly with the global batch."""
    momentum: Annotated[float, Interval(ge=0, lt=1)] = 0.9
    """Nesterov momentum of SGD."""
    weight_decay: Annotated[float, Interval(ge=0, le=1000)] = 1e-4
    """On convolution and classifier weights and batch-norm scales, not on biases."""
    batch_size: BatchSize = 32
    """Clips per process in one forward pass."""
    global_batch: BatchSize | None = None
    """Clips per step over all processes; by default batch_size per process. Larger values accumulate gradients over passes."""
    epochs: Epochs = PAPER_EPOCHS
    """Length of the run; warm-up and decay scale with it unless given."""
    warmup_epochs: Annotated[float, Interval(ge=0, le=1_000_000)] | None = None
    """Linear warm-up of the rate, step by step (Goyal et al., 2017); by default 10/45 of the epochs, as in the paper."""
    decay_epochs: tuple[Annotated[float, Interval(ge=0, le=1_000_000)], ...] | None = None
    """Epochs at which the rate is multiplied by decay_factor; by default 20/45, 30/45 and 40/45 of the epochs."""
    decay_factor: Annotated[float, Interval(gt=0, le=1000)] = 0.1
    """Factor of the rate at each of decay_epochs."""
    schedule: Literal["steps", "cosine"] = "steps"
    """How the rate falls after warm-up: divided at decay_epochs, as in the paper, or to 0 along half a cosine (Loshchilov
    and Hutter, 2017)."""
    clips_per_epoch: Annotated[int, Interval(ge=1, le=10**12)] | None = None
    """Clips in an epoch; by default four per training video (the paper: 1M for Kinetics' 240k)."""
    max_gradient_norm: Annotated[float, Interval(gt=0, le=1_000_000)] | None = None
    """Scale gradients with a larger norm down to it; by default not, as in the paper (Pascanu et al., 2013)."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16 runs the network under autocast, on a GPU or a processor that has bf16 instructions. auto is bf16 on a GPU that
    has them and whose gradients agree with those in fp32, else fp32."""
    tf32: bool | None = None
    """Round the factors of fp32 products and convolutions to TF32 on a GPU; by default yes."""
    deterministic: bool = True
    """Use only algorithms of cuDNN that give the same bits in every run, so that a resumed run on one GPU is exact."""
    cuda_graphs: Literal["auto", "off"] = "auto"
    """auto records the forward and backward pass as CUDA graphs, with the same results, in a run of one process on a GPU
    without compile, activation_checkpointing and profile_steps."""
    compile: bool = False
    """Use torch.compile: minutes at the start, faster steps on a GPU."""
    channels_last: bool = True
    """Run convolutions on channels-last memory, which is faster where measured; false runs torch's plain conv3d."""
    activation_checkpointing: bool = False
    """Keep only the input of each block and recompute the rest in the backward pass: less memory, a third slower."""
    synchronise_norm: bool = False
    """Batch norm statistics over the clips of all processes; by default each process uses its own."""
    non_finite: Literal["stop", "skip"] = "stop"
    """What to do if loss or gradient is not finite: stop the run, or skip the step and count it."""
    profile_steps: Annotated[int, Interval(ge=0, le=10_000)] = 0
    """Record this many steps, after five, into profile/rank-N.json of the run folder (chrome://tracing, Perfetto)."""
    validate_every_epochs: Annotated[float, Interval(ge=0, le=1_000_000)] = 1.0
    """Epochs between validations; 0 validates only at the end."""
    rate_factors: tuple[Weight, Weight, Weight, Weight, Weight, Weight] = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    """Factors of the rate for conv1, conv2, conv3, conv4, conv5 and the classifier; for fine-tuning."""
    frozen_stages: Annotated[int, Interval(ge=0, le=5)] = 0
    """How many of conv1 to conv5 keep the weights and batch-norm statistics of --init; for fine-tuning."""
    rounding_seed: Seed = 0
    """Above 0: move initial weights by at most a unit in the last place: a rerun that differs by rounding alone."""
    rounding_parts: Annotated[int, Interval(ge=1, le=64)] = 1
    """Convolve every batch in so many parts, which changes results by rounding alone; above 1 for such a rerun."""
    phases: tuple[tuple[Epochs, LearningRate], ...] = ()
    """Epochs and learning rate of each phase added after `epochs` by resuming with more epochs."""

    def __post_init__(self) -> None:
        check_fields(self, "training.")
        self.check_task()
        self.check_augmentation(self.task)
        if self.resolved_warmup_epochs > self.epochs:
            raise ValueError(
                f"training.warmup_epochs {self.resolved_warmup_epochs} is longer than training.epochs {self.epochs}"
            )
        decays = self.resolved_decay_epochs
        if list(decays) != sorted(decays):
            raise ValueError(f"training.decay_epochs must increase, not {decays}")

    @property
    def total_epochs(self) -> float:
        """Epochs of the run with the phases added to it."""
        return self.epochs + sum(epochs for epochs, _ in self.phases)

    @property
    def resolved_warmup_epochs(self) -> float:
        """Warm-up in epochs, scaled from the paper's 10 of 45 unless set."""
        return self.epochs * PAPER_WARMUP_EPOCHS / PAPER_EPOCHS if self.warmup_epochs is None else self.warmup_epochs

    @property
    def resolved_decay_epochs(self) -> tuple[float, ...]:
        """Decay points in epochs, scaled from the paper's 20, 30 and 40 of 45 unless set."""
        if self.decay_epochs is not None:
            return self.decay_epochs
        return tuple(self.epochs * decay / PAPER_EPOCHS for decay in PAPER_DECAY_EPOCHS)
