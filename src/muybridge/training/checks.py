"""Checks of the settings against machine and data, before a run writes anything."""

from __future__ import annotations

import torch

from muybridge.datasets.manifest import Manifest
from muybridge.distributed.rank import Rank
from muybridge.evaluation.protocol import EvaluationProtocol
from muybridge.loading.clip_reader import open_clip_reader
from muybridge.loading.datasets import read_segment_times
from muybridge.loading.draws import TrainingBatchSampler
from muybridge.models.family import ConvolutionKind, Specification, build_specification
from muybridge.models.network import STAGES
from muybridge.records import Preprocessing, VideoError
from muybridge.settings import TrainSettings
from muybridge.text import format_count, join_names
from muybridge.training.augment import find_multigrid_size
from muybridge.training.precision import check_precision
from muybridge.training_settings import TrainingSettings

NUM_VIDEOS_CHECKED = 32  # enough to notice a wrong folder or clips that fit no video, and quick on any disk


def check_supported(settings: TrainSettings, device: torch.device) -> None:
    """Raises ValueError for what can be refused without reading the data, which may take long."""
    specification = build_specification(settings.model, num_classes=1)  # raises for an unknown name
    scored = settings.evaluation.clip_length or settings.clips.length
    lengths = {scored, *(length for _, length, _ in settings.training.multigrid)} - {settings.clips.length}
    if lengths and specification.stem is ConvolutionKind.TIME_AS_CHANNELS:
        raise ValueError(
            f"training.multigrid or evaluation.clip_length has clips of {min(lengths)} frames, but {settings.model} takes the "
            f"{settings.clips.length} frames of a clip as channels; leave their length as it is"
        )
    check_precision(settings.training, device)


def check_phases(training: TrainingSettings, num_steps: int) -> None:
    """Raises ValueError where multigrid leaves none of `num_steps` for whole clips."""
    if find_multigrid_size(training, num_steps - 1, num_steps) is not None:
        raise ValueError(
            f"the shares of training.multigrid leave none of {format_count(num_steps, 'step')} for whole clips; "
            "lower them or train for more epochs"
        )


def check_passes(settings: TrainSettings, specification: Specification, *, global_batch: int, world_size: int) -> None:
    """Raises ValueError where a micro-batch has a single clip, too small for batch norm (`needs_two_clips`)."""
    training, clips = settings.training, settings.clips
    ranks = [Rank(rank, world_size) for rank in range(world_size)]
    samplers = [TrainingBatchSampler(0, 1, training.batch_size, rank, global_batch) for rank in ranks]
    if not any(len(draws) == 1 for sampler in samplers for draws in sampler.list_micro_batches(0)):
        return
    for length, crop in ((clips.length, clips.crop), *(size for _, *size in training.multigrid)):
        if needs_two_clips(training, specification, length, crop, world_size=world_size):
            raise ValueError(
                f"a micro-batch has a single clip, and {format_count(length, 'frame')} of {crop}x{crop} pixels leave batch "
                "norm one value per channel to train on; raise training.batch_size or training.global_batch, or the size of "
                "clips or of the phases of training.multigrid"
            )


def needs_two_clips(
    training: TrainingSettings, specification: Specification, length: int, crop: int, *, world_size: int
) -> bool:
    """Whether batch norm cannot train on one clip of `length` frames and `crop` pixels: the last maps are one position."""
    is_synchronized = training.synchronise_norm and world_size > 1  # its values are those of all ranks
    is_frozen = training.frozen_stages == len(STAGES)
    return specification.compute_last_map(length, crop) == (1, 1) and not is_synchronized and not is_frozen


def describe_unused_settings(settings: TrainSettings) -> list[str]:
    """A sentence on the settings that were given and change nothing in this run, if there are any."""
    training, network = settings.training, settings.network
    unused = []
    if training.optimizer == "adamw" and training.momentum != TrainingSettings.momentum:
        unused.append("training.momentum, which is that of sgd")
    if training.schedule == "cosine":
        decays = [
            f"training.{name}"
            for name in ("decay_epochs", "decay_factor")
            if getattr(training, name) != getattr(TrainingSettings, name)
        ]
        if decays:
            unused.append(f"{join_names(decays)}, since the schedule cosine has no decays")
    num_clips, num_repeated = training.batch_size, training.repeated_augmentation
    if (training.mixup_alpha or training.cutmix_alpha) and num_clips <= num_repeated:
        reason = "a batch of one clip has no other to mix in"
        if num_clips > 1:
            reason = (
                f"training.repeated_augmentation {num_repeated} fills a batch of {num_clips} with clips of one video"
            )
        unused.append(f"training.mixup_alpha and training.cutmix_alpha, since {reason}")
    protocol = EvaluationProtocol.from_settings(settings.evaluation, settings.preprocessing)
    if crop_problem := protocol.find_crop_problem():
        unused.append(crop_problem)
    specification = build_specification(settings.model, num_classes=1)
    is_factorized = ConvolutionKind.SPATIAL_THEN_TEMPORAL in (specification.stem, *specification.stages)
    if settings.init is None and not is_factorized:  # with --init they are set as the weights say
        names = ("mid_channel_rule", "stem_mid_channels", "middle_relu")
        given = [f"network.{name}" for name in names if getattr(network, name) is not None]
        if given:
            unused.append(f"{join_names(given)}, since {settings.model} has no (2+1)D convolutions")
    return [f"not used: {'; '.join(unused)}"] if unused else []


def check_clips_fit(manifest: Manifest, preprocessing: Preprocessing) -> None:
    """Raises ValueError unless, of some videos spread over the set, one is readable and one as long as a clip.

    One is enough: shorter videos repeat in a loop, and unreadable ones are counted during the run.
    """
    reader = open_clip_reader(manifest.root, preprocessing, manifest.time_origin)
    manifest = reader.select_videos(manifest)
    step = max(1, len(manifest) // NUM_VIDEOS_CHECKED)
    longest, problems = 0, []
    for index in range(0, len(manifest), step):
        try:
            times = read_segment_times(reader.source, manifest, index)
        except VideoError as error:
            problems.append(f"{manifest.get_video(index)}: {error.reason}")
            continue
        if preprocessing.frames_per_second is None:
            num_frames = len(times)
        else:
            num_frames = int(times.duration_seconds * preprocessing.frames_per_second)
        longest = max(longest, num_frames)
    if longest == 0:
        raise ValueError(
            f"none of {format_count(len(problems), 'training video')} checked can be read; the first is {problems[0]}"
        )
    if longest < preprocessing.clip_span:
        raise ValueError(
            f"a clip spans {preprocessing.clip_span} frames, but the longest of the training videos checked has {longest}; "
            "lower clips.length or clips.stride"
        )
