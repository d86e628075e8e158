"""From settings to a job that can run: data checked, network built or taken over, run folder opened.

Everything that can be wrong with a run is looked for here, before the first step, and said in one sentence.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from muybridge.data.datasets import open_data
from muybridge.data.loader import frame_source, frame_times
from muybridge.data.manifest import Manifest, match_classes
from muybridge.evaluation.scorer import resolve_device
from muybridge.journal import environment, write_json, write_text
from muybridge.models.family import specification
from muybridge.models.network import VideoResNet
from muybridge.processes import place
from muybridge.records import Preprocessing, VideoError
from muybridge.settings import TrainSettings, differences, to_plain
from muybridge.training.checkpoint import checkpoints
from muybridge.training.execution import check_precision, set_up_execution
from muybridge.training.schedule import Schedule, schedule
from muybridge.weights.card import load_weights
from muybridge.weights.surgery import take_over

NUM_VIDEOS_LOOKED_AT = 32  # before a run: enough to notice a wrong folder or clips that fit nowhere, cheap on any disk
MAY_DIFFER = ("output", "device", "loading.", "checkpoints.", "evaluation.batch_size")  # on resuming


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

    @property
    def preprocessing(self) -> Preprocessing:
        """What happens to the frames."""
        return self.settings.preprocessing


def start(settings: TrainSettings, *, resume: bool = False) -> Job:
    """Checks the settings against data and machine and opens the run folder; ValueError says what does not fit."""
    device = resolve_device(settings.device)
    check_precision(settings.training, device)
    if place().world_size > 1:
        raise ValueError("training runs in one process so far; start it without torchrun")
    data = open_data(settings.data, fold=settings.fold, seed=settings.seed)
    train, validation = data.select("train"), data.select("validation")
    if len(data.classes) < 2:
        raise ValueError(f"{settings.data} has one class only, {data.classes[0]}; there is nothing to tell apart")
    check_clips_fit(train, settings.preprocessing)
    network = build_network(settings, len(data.classes))
    notes = list(data.notes)
    if settings.init:
        notes.append(initialise(network, settings.init, data.classes))
    folder = Path(settings.output)
    open_run_folder(folder, settings, resume=resume)
    plan = schedule(settings.training, num_videos=len(train))
    notes += set_up_execution(network.to(device), settings, device)
    return Job(settings, folder, train, validation, network, plan, device, tuple(notes))


def build_network(settings: TrainSettings, num_classes: int) -> VideoResNet:
    """The network of the settings with weights drawn by their seed; the global random state is left as it was."""
    described = specification(
        settings.model,
        num_classes=num_classes,
        clip_length=settings.clips.length,
        input_channels=settings.network.input_channels or settings.preprocessing.input_channels,
        width=settings.network.width,
        mid_channel_rule=settings.network.mid_channel_rule,
        norm_epsilon=settings.network.norm_epsilon,
        stem_pool=settings.network.stem_pool,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return VideoResNet(described)


def initialise(network: VideoResNet, address: str, classes: Sequence[str]) -> str:
    """Takes over the weights at `address` (a run folder or a .safetensors file); says in a sentence what was taken."""
    source, card = load_weights(address)
    try:
        order = match_classes(classes, card.classes)
    except ValueError:
        order = None  # other classes: the classifier starts anew
    take_over(source, network, order)
    head = f"a new classifier of {len(classes)} classes" if order is None else "their classifier"
    return f"starting from {address} ({card.source}) with {head}"


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


def open_run_folder(folder: Path, settings: TrainSettings, *, resume: bool) -> None:
    """Makes the run folder with its settings, or checks that the run in it is this one."""
    saved = folder / "settings.yaml"
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; name a folder for the run with -o")
    if not saved.exists():
        if folder.exists() and any(folder.iterdir()):
            raise ValueError(f"{folder} holds something else than a run; name another folder with -o")
    elif not resume:
        raise ValueError(f"{folder} already holds a run; add --resume to go on with it, or name another folder with -o")
    else:
        _refuse_other_settings(folder, to_plain(settings), yaml.safe_load(saved.read_text(encoding="utf-8")))
    write_text(saved, yaml.safe_dump(to_plain(settings), sort_keys=False))
    write_json(folder / "environment.json", environment())


def _refuse_other_settings(folder: Path, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    if not checkpoints(folder / "checkpoints"):
        return  # nothing was learnt yet under the old settings
    changed = {name: pair for name, pair in differences(ours, theirs).items() if not name.startswith(MAY_DIFFER)}
    if changed:
        listed = "; ".join(f"{name} {mine}, the run has {other}" for name, (mine, other) in changed.items())
        raise ValueError(
            f"{folder} was trained with other settings ({listed}); repeat them, or name another folder with -o"
        )


def seconds_per_clip(job: Job) -> float:
    """Measured on this device: a training step without reading, on a copy of the network."""
    network = copy.deepcopy(job.network).train()
    shape = (job.preprocessing.input_channels, job.preprocessing.clip_length, *[job.preprocessing.crop] * 2)
    num_clips, seconds = 1, 0.0
    while True:
        clips = torch.randn(num_clips, *shape, device=job.device)
        for _ in range(2):  # the first one pays for set-up
            begin = time.perf_counter()
            network(clips).sum().backward()
            if job.device.type == "cuda":
                torch.cuda.synchronize(job.device)
            seconds = time.perf_counter() - begin
        larger = min(job.settings.training.batch_size, 4 * num_clips)
        if larger == num_clips or seconds * larger / num_clips > 2.0:
            return seconds / num_clips
        num_clips = larger


def announcement(job: Job) -> list[str]:
    """What a person should know before the run: what on what, how much work, about how long."""
    videos = (
        f"{len(job.train)} training and {len(job.validation)} validation videos of {len(job.train.classes)} classes"
    )
    num_parameters = sum(parameter.numel() for parameter in job.network.parameters())
    seconds = seconds_per_clip(job)
    hours = seconds * job.schedule.num_clips / 3600
    duration = f"{hours:.1f} hours" if hours >= 1 else f"{max(1, round(60 * hours))} minutes"
    return [
        *job.notes,
        f"{job.settings.model} with {num_parameters:,} parameters on {job.device}; {videos}",
        f"{job.schedule.num_clips:,} clips in {job.schedule.num_steps:,} steps of {job.schedule.global_batch}: about "
        f"{duration} at {1 / seconds:.0f} clips a second, if reading keeps up and without validation",
    ]
