"""From settings to a job that can run: data checked, network built or taken over, run folder opened.

Everything that can be wrong with a run is looked for here, before the first step, and said in one sentence.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import yaml

from muybridge.datasets.manifest import Manifest, match_classes
from muybridge.distributed.process_group import ProcessGroup, local_device
from muybridge.files.atomic import write_json, write_text
from muybridge.files.run_folder import collect_environment, read_settings
from muybridge.inference.scorer import resolve_device
from muybridge.loading.clip_reader import open_clip_reader
from muybridge.loading.datasets import read_segment_times
from muybridge.loading.open_data import open_data
from muybridge.models.family import Specification, build_specification
from muybridge.models.network import VideoResNet
from muybridge.records import Preprocessing, VideoError
from muybridge.settings import TrainSettings, diff_settings, settings_to_dict
from muybridge.training.checkpoint import find_last_step, list_checkpoints
from muybridge.training.execution import check_precision, set_up_execution
from muybridge.training.progress_bar import format_duration
from muybridge.training.schedule import Schedule, build_schedule
from muybridge.weights.address import download_once_per_node, load_weights
from muybridge.weights.transfer import freeze, load_pretrained

TIMING_REPEATS = 3
TIMING_BUDGET_SECONDS = 2.0
NUM_VIDEOS_CHECKED = 32  # before a run: enough to notice a wrong folder or clips that fit nowhere, cheap on any disk
SETTINGS_CHANGEABLE_ON_RESUME = (
    *("output", "device", "loading.", "checkpoints.", "timeouts."),
    *("evaluation.batch_size", "evaluation.keep", "training.profile_steps", "training.non_finite"),
)  # on resuming


@dataclass(frozen=True)
class TrainingJob:
    """All that `fit` needs. `notes` are sentences a person should read before it runs."""

    settings: TrainSettings
    folder: Path
    train_manifest: Manifest
    validation_manifest: Manifest
    network: VideoResNet
    schedule: Schedule
    device: torch.device
    notes: tuple[str, ...]
    process_group: ProcessGroup = field(default_factory=ProcessGroup)

    @property
    def preprocessing(self) -> Preprocessing:
        """What happens to the frames."""
        return self.settings.preprocessing


def prepare_job(
    settings: TrainSettings, *, resume: bool = False, process_group: ProcessGroup | None = None
) -> TrainingJob:
    """Checks the settings against data and machine and opens the run folder; ValueError says what does not fit.

    Every rank of a torchrun job comes here; rank 0 alone looks at the run folder and writes to it.
    """
    process_group = process_group or ProcessGroup()
    device = local_device(resolve_device(settings.device))
    check_supported(settings, device)
    folder = Path(settings.output)
    settings = process_group.broadcast_from_rank0(
        resolve_global_batch(settings, folder, process_group) if process_group.is_rank0 else settings
    )
    if process_group.is_rank0:
        check_run_folder(folder, settings, resume=resume)
    data = open_data(settings.data, fold=settings.fold, seed=settings.seed)
    train, validation = data.select_split("train"), data.select_split("validation")
    if len(train) == 0:
        raise ValueError(f"{settings.data} has no training videos; it has {', '.join(data.count_videos())}")
    check_clips_fit(train, settings.preprocessing)
    notes = [*data.notes, *(describe_changed_settings(folder, settings) if process_group.is_rank0 else ())]
    resumed_specification = process_group.broadcast_from_rank0(read_resumed_specification(folder, process_group))
    if settings.init is not None and resumed_specification is None:
        download_once_per_node(settings.init, process_group)
    network, weights_notes = create_initial_network(settings, data.classes, resumed_specification)
    notes += weights_notes
    if process_group.is_rank0:
        write_text(folder / "settings.yaml", yaml.safe_dump(settings_to_dict(settings), sort_keys=False))
        write_json(folder / "network.json", network.specification.to_json())
        write_json(folder / "environment.json", {**collect_environment(), "world_size": process_group.world_size})
    schedule = build_schedule(settings.training, num_videos=len(train), world_size=process_group.world_size)
    notes += set_up_execution(network.to(device), settings, device)
    return TrainingJob(settings, folder, train, validation, network, schedule, device, tuple(notes), process_group)


def read_resumed_specification(folder: Path, process_group: ProcessGroup) -> Specification | None:
    """What the run in `folder` trains, where it has a checkpoint; only rank 0 looks."""
    network_file = folder / "network.json"
    if not (process_group.is_rank0 and list_checkpoints(folder / "checkpoints") and network_file.is_file()):
        return None
    return Specification.from_json(json.loads(network_file.read_text(encoding="utf-8")))


def create_initial_network(
    settings: TrainSettings, classes: Sequence[str], resumed_specification: Specification | None
) -> tuple[VideoResNet, list[str]]:
    """The network of a run, and what a person should know of its weights; one that goes on has weights of its own."""
    if settings.init is None:
        return build_network(settings, len(classes)), []
    if resumed_specification is None:
        network, note = build_pretrained_network(settings, settings.init, classes)
        return network, [note]
    network = build_network(settings, len(classes), resumed_specification)
    freeze(network, settings.training.frozen_stages)
    return network, []


def resolve_global_batch(settings: TrainSettings, folder: Path, process_group: ProcessGroup) -> TrainSettings:
    """With training.global_batch said: as it is in the run that goes on, else batch_size for each rank.

    So a run goes on over another number of ranks with the same global batches.
    """
    if settings.training.global_batch is not None:
        return settings
    settings_file = folder / "settings.yaml"
    saved_settings = (
        read_settings(settings_file) if settings_file.exists() and list_checkpoints(folder / "checkpoints") else {}
    )
    saved_global_batch = saved_settings.get("training", {}).get("global_batch")
    global_batch = saved_global_batch or settings.training.batch_size * process_group.world_size
    return replace(settings, training=replace(settings.training, global_batch=global_batch))


def describe_changed_settings(folder: Path, settings: TrainSettings) -> list[str]:
    """In words, the settings that are others than when the run in `folder` was last started, all of which may be."""
    settings_file = folder / "settings.yaml"
    if not settings_file.exists() or not list_checkpoints(folder / "checkpoints"):
        return []
    changed = diff_settings(settings_to_dict(settings), read_settings(settings_file))
    listed = "; ".join(f"{name} is {mine}, it was {other}" for name, (mine, other) in changed.items())
    return [f"going on with other settings: {listed}"] if listed else []


def check_supported(settings: TrainSettings, device: torch.device) -> None:
    """Refuses what needs no look at the data to be refused, before a long one."""
    build_specification(settings.model, num_classes=1)  # which knows the names
    check_precision(settings.training, device)


def build_network(
    settings: TrainSettings, num_classes: int, source_specification: Specification | None = None
) -> VideoResNet:
    """The network of the settings with weights drawn by their seed; the global random state is left as it was.

    `source` is that of the weights it is to start from: it decides what the settings leave open.
    """
    network_settings = settings.network
    base = source_specification or build_specification(settings.model)
    inherited_stem_mid_channels = (
        source_specification.stem_mid_channels
        if source_specification and source_specification.width == network_settings.width
        else None
    )
    resolved = build_specification(
        settings.model,
        num_classes=num_classes,
        clip_length=settings.clips.length,
        input_channels=network_settings.input_channels or settings.preprocessing.input_channels,
        width=network_settings.width,
        mid_channel_rule=network_settings.mid_channel_rule or base.mid_channel_rule,
        norm_epsilon=base.norm_epsilon if network_settings.norm_epsilon is None else network_settings.norm_epsilon,
        stem_pool=base.stem_pool if network_settings.stem_pool is None else network_settings.stem_pool,
        stem_mid_channels=network_settings.stem_mid_channels or inherited_stem_mid_channels,
        middle_relu=base.middle_relu if network_settings.middle_relu is None else network_settings.middle_relu,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return VideoResNet(resolved)


def build_pretrained_network(settings: TrainSettings, address: str, classes: Sequence[str]) -> tuple[VideoResNet, str]:
    """The network of the settings with the weights at `address`; and in a sentence what was taken over."""
    pretrained, card = load_weights(address)
    source_specification = card.specification
    if source_specification.name != settings.model:
        raise ValueError(
            f"the weights at {address} are of {source_specification.name}, not of {settings.model}; add "
            f"--model {source_specification.name}"
        )
    network = build_network(settings, len(classes), source_specification)
    try:
        class_order = match_classes(classes, card.classes)
    except ValueError:
        class_order = None  # other classes: the classifier starts anew
    load_pretrained(pretrained, network, class_order)
    freeze(network, settings.training.frozen_stages)
    details = [f"a new classifier of {len(classes)} classes" if class_order is None else "their classifier"]
    built_specification = network.specification
    if built_specification.input_channels != source_specification.input_channels:
        details.append(
            f"a stem averaged over {source_specification.input_channels} channels for {built_specification.input_channels}"
        )
    if settings.training.frozen_stages:
        details.append(f"conv1 to conv{settings.training.frozen_stages} frozen with their batch norm")
    if built_specification.norm_epsilon != source_specification.norm_epsilon:
        details.append(
            f"batch norm's epsilon {built_specification.norm_epsilon:g} where they were trained with "
            f"{source_specification.norm_epsilon:g}"
        )
    return network, f"starting from {address} ({card.source}) with {', '.join(details)}"


def check_clips_fit(manifest: Manifest, preprocessing: Preprocessing) -> None:
    """Looks at some videos spread over the set: one must be readable, and one as long as a clip (others loop)."""
    source = open_clip_reader(manifest.root, preprocessing).source
    step = max(1, len(manifest) // NUM_VIDEOS_CHECKED)
    longest, problems = 0, []
    for index in range(0, len(manifest), step):
        try:
            times = read_segment_times(source, manifest, index)
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
            f"none of the {len(problems)} training videos looked at can be read; the first is {problems[0]}"
        )
    if longest < preprocessing.clip_span:
        raise ValueError(
            f"a clip spans {preprocessing.clip_span} frames, but the longest of the training videos looked at has {longest}; "
            "lower clips.length or clips.stride"
        )


def check_run_folder(folder: Path, settings: TrainSettings, *, resume: bool) -> None:
    """Refuses a folder of something else, and a run that this one would overwrite or go on with under other settings.

    A run without a checkpoint has learnt nothing yet: it is started again.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; name a folder for the run with -o")
    settings_file = folder / "settings.yaml"
    if folder.exists() and any(folder.iterdir()) and not settings_file.exists():
        raise ValueError(f"{folder} holds something else than a run; name another folder with -o")
    if not list_checkpoints(folder / "checkpoints"):
        return
    if not resume:
        raise ValueError(f"{folder} already holds a run; add --resume to go on with it, or name another folder with -o")
    differences = diff_settings(settings_to_dict(settings), read_settings(settings_file))
    changed = {name: pair for name, pair in differences.items() if not name.startswith(SETTINGS_CHANGEABLE_ON_RESUME)}
    if changed:
        listed = "; ".join(f"{name} is {mine}, the run has {other}" for name, (mine, other) in changed.items())
        raise ValueError(
            f"{folder} was trained with other settings ({listed}); repeat them, or name another folder with -o"
        )


def measure_seconds_per_clip(job: TrainingJob) -> float:
    """Measured on this device: a training step without reading, on a copy of the network.

    The best of some repeats, since the first pays for set-up and others may have to share the processor, and in batches as
    large as two seconds allow.
    """
    network = copy.deepcopy(job.network).train()
    shape = (job.preprocessing.input_channels, job.preprocessing.clip_length, *[job.preprocessing.crop] * 2)
    training, num_clips = job.settings.training, 2  # batch norm has no statistics of one
    while True:
        clips = torch.randn(num_clips, *shape, device=job.device)
        step_seconds = []
        for _ in range(TIMING_REPEATS):
            began = time.perf_counter()
            with torch.autocast(job.device.type, torch.bfloat16, enabled=training.precision == "bf16"):
                logits: torch.Tensor = network(clips)
            torch.autograd.backward(logits.float().sum())
            if job.device.type == "cuda":
                torch.cuda.synchronize(job.device)
            step_seconds.append(time.perf_counter() - began)
        larger = min(training.batch_size, 2 * num_clips)
        if larger <= num_clips or sum(step_seconds) * larger / num_clips > TIMING_BUDGET_SECONDS:
            return min(step_seconds) / num_clips
        num_clips = larger


def describe_job(job: TrainingJob) -> list[str]:
    """What a person should know before the run: what on what, how much work, about how long."""
    train, validation, schedule = len(job.train_manifest), len(job.validation_manifest), job.schedule
    num_parameters = sum(parameter.numel() for parameter in job.network.parameters())
    lines = [
        *job.notes,
        f"{job.settings.model} with {num_parameters:,} parameters on {job.device}; "
        f"{train} training and {validation} validation videos of {len(job.train_manifest.classes)} classes",
    ]
    steps_left = schedule.num_steps - find_last_step(job.folder / "checkpoints")
    if steps_left == 0:
        return [*lines, f"all {schedule.num_steps:,} steps of the run are done"]
    seconds = measure_seconds_per_clip(job)
    duration = format_duration(seconds * steps_left * schedule.global_batch)
    left = "" if steps_left == schedule.num_steps else f", {steps_left:,} of them left"
    return [
        *lines,
        f"{schedule.num_clips:,} clips in {schedule.num_steps:,} steps of {schedule.global_batch}{left}: about {duration} at "
        f"{1 / seconds:.3g} clips a second, if reading keeps up, and validation besides",
    ]
