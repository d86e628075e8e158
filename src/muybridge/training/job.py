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
from muybridge.distributed.process_group import Ranks, own_device
from muybridge.files.atomic import write_json, write_text
from muybridge.files.run_folder import environment, read_settings
from muybridge.inference.scorer import resolve_device
from muybridge.loading.loader import frame_source, frame_times
from muybridge.loading.open_data import open_data
from muybridge.models.family import Specification, specification
from muybridge.models.network import VideoResNet
from muybridge.records import Preprocessing, VideoError
from muybridge.settings import TrainSettings, differences, to_plain
from muybridge.training.checkpoint import checkpoints, steps_done
from muybridge.training.execution import check_precision, set_up_execution
from muybridge.training.progress import spoken_duration
from muybridge.training.schedule import Schedule, schedule
from muybridge.weights.address import fetch_in_turn, load_weights
from muybridge.weights.transfer import freeze, take_over

TIMING_REPEATS = 3
SECONDS_OF_TIMING = 2.0
NUM_VIDEOS_LOOKED_AT = 32  # before a run: enough to notice a wrong folder or clips that fit nowhere, cheap on any disk
MAY_DIFFER = (
    *("output", "device", "loading.", "checkpoints.", "timeouts."),
    *("evaluation.batch_size", "evaluation.keep", "training.profile_steps", "training.non_finite"),
)  # on resuming


@dataclass(frozen=True)
class Job:
    """All that `fit` needs. `notes` are sentences a person should read before it runs."""

    settings: TrainSettings
    folder: Path
    train: Manifest
    validation: Manifest
    network: VideoResNet
    schedule: Schedule
    device: torch.device
    notes: tuple[str, ...]
    ranks: Ranks = field(default_factory=Ranks)

    @property
    def preprocessing(self) -> Preprocessing:
        """What happens to the frames."""
        return self.settings.preprocessing


def start(settings: TrainSettings, *, resume: bool = False, ranks: Ranks | None = None) -> Job:
    """Checks the settings against data and machine and opens the run folder; ValueError says what does not fit.

    Every rank of a torchrun job comes here; rank 0 alone looks at the run folder and writes to it.
    """
    ranks = ranks or Ranks()
    device = own_device(resolve_device(settings.device))
    check_supported(settings, device)
    folder = Path(settings.output)
    settings = ranks.first_ones(with_global_batch(settings, folder, ranks) if ranks.is_first else settings)
    if ranks.is_first:
        check_run_folder(folder, settings, resume=resume)
    data = open_data(settings.data, fold=settings.fold, seed=settings.seed)
    train, validation = data.select("train"), data.select("validation")
    if len(train) == 0:
        raise ValueError(f"{settings.data} has no training videos; it has {', '.join(data.counts())}")
    check_clips_fit(train, settings.preprocessing)
    notes = [*data.notes, *(changes_since(folder, settings) if ranks.is_first else ())]
    goes_on = ranks.first_ones(network_that_goes_on(folder, ranks))
    if settings.init is not None and goes_on is None:
        fetch_in_turn(settings.init, ranks)
    network, told = first_network(settings, data.classes, goes_on)
    notes += told
    if ranks.is_first:
        write_text(folder / "settings.yaml", yaml.safe_dump(to_plain(settings), sort_keys=False))
        write_json(folder / "network.json", network.specification.to_json())
        write_json(folder / "environment.json", {**environment(), "world_size": ranks.world_size})
    plan = schedule(settings.training, num_videos=len(train), world_size=ranks.world_size)
    notes += set_up_execution(network.to(device), settings, device)
    return Job(settings, folder, train, validation, network, plan, device, tuple(notes), ranks)


def network_that_goes_on(folder: Path, ranks: Ranks) -> Specification | None:
    """What the run in `folder` trains, where it has a checkpoint; only rank 0 looks."""
    described = folder / "network.json"
    if not (ranks.is_first and checkpoints(folder / "checkpoints") and described.is_file()):
        return None
    return Specification.from_json(json.loads(described.read_text(encoding="utf-8")))


def first_network(
    settings: TrainSettings, classes: Sequence[str], goes_on: Specification | None
) -> tuple[VideoResNet, list[str]]:
    """The network of a run, and what a person should know of its weights; one that goes on has weights of its own."""
    if settings.init is None:
        return build_network(settings, len(classes)), []
    if goes_on is None:
        network, told = initialised(settings, settings.init, classes)
        return network, [told]
    network = build_network(settings, len(classes), goes_on)
    freeze(network, settings.training.frozen_stages)
    return network, []


def with_global_batch(settings: TrainSettings, folder: Path, ranks: Ranks) -> TrainSettings:
    """With training.global_batch said: as it is in the run that goes on, else batch_size for each rank.

    So a run goes on over another number of ranks with the same global batches.
    """
    if settings.training.global_batch is not None:
        return settings
    saved = folder / "settings.yaml"
    theirs = read_settings(saved) if saved.exists() and checkpoints(folder / "checkpoints") else {}
    found = theirs.get("training", {}).get("global_batch")
    chosen = found or settings.training.batch_size * ranks.world_size
    return replace(settings, training=replace(settings.training, global_batch=chosen))


def changes_since(folder: Path, settings: TrainSettings) -> list[str]:
    """In words, the settings that are others than when the run in `folder` was last started, all of which may be."""
    saved = folder / "settings.yaml"
    if not saved.exists() or not checkpoints(folder / "checkpoints"):
        return []
    changed = differences(to_plain(settings), read_settings(saved))
    listed = "; ".join(f"{name} is {mine}, it was {other}" for name, (mine, other) in changed.items())
    return [f"going on with other settings: {listed}"] if listed else []


def check_supported(settings: TrainSettings, device: torch.device) -> None:
    """Refuses what needs no look at the data to be refused, before a long one."""
    specification(settings.model, num_classes=1)  # which knows the names
    check_precision(settings.training, device)


def build_network(settings: TrainSettings, num_classes: int, source: Specification | None = None) -> VideoResNet:
    """The network of the settings with weights drawn by their seed; the global random state is left as it was.

    `source` is that of the weights it is to start from: it decides what the settings leave open.
    """
    wanted = settings.network
    followed = source or specification(settings.model)
    inherited = source.stem_mid_channels if source and source.width == wanted.width else None
    described = specification(
        settings.model,
        num_classes=num_classes,
        clip_length=settings.clips.length,
        input_channels=wanted.input_channels or settings.preprocessing.input_channels,
        width=wanted.width,
        mid_channel_rule=wanted.mid_channel_rule or followed.mid_channel_rule,
        norm_epsilon=followed.norm_epsilon if wanted.norm_epsilon is None else wanted.norm_epsilon,
        stem_pool=followed.stem_pool if wanted.stem_pool is None else wanted.stem_pool,
        stem_mid_channels=wanted.stem_mid_channels or inherited,
        middle_relu=followed.middle_relu if wanted.middle_relu is None else wanted.middle_relu,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return VideoResNet(described)


def initialised(settings: TrainSettings, address: str, classes: Sequence[str]) -> tuple[VideoResNet, str]:
    """The network of the settings with the weights at `address`; and in a sentence what was taken over."""
    source, card = load_weights(address)
    theirs = card.specification
    if theirs.name != settings.model:
        raise ValueError(
            f"the weights at {address} are of {theirs.name}, not of {settings.model}; add --model {theirs.name}"
        )
    network = build_network(settings, len(classes), theirs)
    try:
        order = match_classes(classes, card.classes)
    except ValueError:
        order = None  # other classes: the classifier starts anew
    take_over(source, network, order)
    freeze(network, settings.training.frozen_stages)
    told = [f"a new classifier of {len(classes)} classes" if order is None else "their classifier"]
    ours = network.specification
    if ours.input_channels != theirs.input_channels:
        told.append(f"a stem averaged over {theirs.input_channels} channels for {ours.input_channels}")
    if settings.training.frozen_stages:
        told.append(f"conv1 to conv{settings.training.frozen_stages} frozen with their batch norm")
    if ours.norm_epsilon != theirs.norm_epsilon:
        told.append(f"batch norm's epsilon {ours.norm_epsilon:g} where they were trained with {theirs.norm_epsilon:g}")
    return network, f"starting from {address} ({card.source}) with {', '.join(told)}"


def check_clips_fit(manifest: Manifest, preprocessing: Preprocessing) -> None:
    """Looks at some videos spread over the set: one must be readable, and one as long as a clip (others loop)."""
    source = frame_source(manifest.root, preprocessing)
    step = max(1, len(manifest) // NUM_VIDEOS_LOOKED_AT)
    longest, problems = 0, []
    for index in range(0, len(manifest), step):
        try:
            times = frame_times(source, manifest, index)
        except VideoError as error:
            problems.append(f"{manifest.video(index)}: {error.reason}")
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
    saved = folder / "settings.yaml"
    if folder.exists() and any(folder.iterdir()) and not saved.exists():
        raise ValueError(f"{folder} holds something else than a run; name another folder with -o")
    if not checkpoints(folder / "checkpoints"):
        return
    if not resume:
        raise ValueError(f"{folder} already holds a run; add --resume to go on with it, or name another folder with -o")
    differing = differences(to_plain(settings), read_settings(saved))
    changed = {name: pair for name, pair in differing.items() if not name.startswith(MAY_DIFFER)}
    if changed:
        listed = "; ".join(f"{name} is {mine}, the run has {other}" for name, (mine, other) in changed.items())
        raise ValueError(
            f"{folder} was trained with other settings ({listed}); repeat them, or name another folder with -o"
        )


def seconds_per_clip(job: Job) -> float:
    """Measured on this device: a training step without reading, on a copy of the network.

    The best of some repeats, since the first pays for set-up and others may have to share the processor, and in batches as
    large as two seconds allow.
    """
    network = copy.deepcopy(job.network).train()
    shape = (job.preprocessing.input_channels, job.preprocessing.clip_length, *[job.preprocessing.crop] * 2)
    training, num_clips = job.settings.training, 2  # batch norm has no statistics of one
    while True:
        clips = torch.randn(num_clips, *shape, device=job.device)
        repeats = []
        for _ in range(TIMING_REPEATS):
            began = time.perf_counter()
            with torch.autocast(job.device.type, torch.bfloat16, enabled=training.precision == "bf16"):
                logits: torch.Tensor = network(clips)
            torch.autograd.backward(logits.float().sum())
            if job.device.type == "cuda":
                torch.cuda.synchronize(job.device)
            repeats.append(time.perf_counter() - began)
        larger = min(training.batch_size, 2 * num_clips)
        if larger <= num_clips or sum(repeats) * larger / num_clips > SECONDS_OF_TIMING:
            return min(repeats) / num_clips
        num_clips = larger


def announcement(job: Job) -> list[str]:
    """What a person should know before the run: what on what, how much work, about how long."""
    train, validation, plan = len(job.train), len(job.validation), job.schedule
    num_parameters = sum(parameter.numel() for parameter in job.network.parameters())
    lines = [
        *job.notes,
        f"{job.settings.model} with {num_parameters:,} parameters on {job.device}; "
        f"{train} training and {validation} validation videos of {len(job.train.classes)} classes",
    ]
    steps_left = plan.num_steps - steps_done(job.folder / "checkpoints")
    if steps_left == 0:
        return [*lines, f"all {plan.num_steps:,} steps of the run are done"]
    seconds = seconds_per_clip(job)
    duration = spoken_duration(seconds * steps_left * plan.global_batch)
    left = "" if steps_left == plan.num_steps else f", {steps_left:,} of them left"
    return [
        *lines,
        f"{plan.num_clips:,} clips in {plan.num_steps:,} steps of {plan.global_batch}{left}: about {duration} at "
        f"{1 / seconds:.3g} clips a second, if reading keeps up, and validation besides",
    ]
