"""Trainings of a project: the command line of a run, what it would be trained on, and the runs that there are.

A run is an ordinary run folder, `runs/NAME` in the project, made by an ordinary `muybridge train`.
"""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from muybridge.datasets.classes import check_trainable
from muybridge.datasets.folders import read_video_rows
from muybridge.datasets.splits import ValidationSplit, assign_splits
from muybridge.datasets.video_files import path_exists
from muybridge.files.run_folder import describe_unfinished_run, is_finite_number, read_run_log, read_settings
from muybridge.settings import RecipeName
from muybridge.studio.annotation_records import StudioRecord, VideoMarks
from muybridge.studio.errors import StudioError
from muybridge.studio.jobs import LIVE_STATES, Job, read_run_epochs
from muybridge.studio.model_address import RUN_WEIGHTS, RUNS_FOLDER, check_run_name
from muybridge.studio.train_command import BACKGROUND, INIT, MIRROR, OPTIONS, SCALE, build_train_arguments
from muybridge.text import format_count, format_percent, join_names

MAX_LOG_LINES = 1000
FEW_SEGMENTS = 10  # of a class, below which the page warns
FEW_WITHOUT_INIT = 3000  # training videos, below which random weights stay near chance
DEFAULT_MODEL = "r2plus1d_18"


class TrainingRequest(StudioRecord):
    """A training. What is null is chosen by `muybridge train`: with `init`, what suits the weights."""

    name: Annotated[str, AfterValidator(check_run_name)]
    init: str | None = Field(default=None, max_length=4096, description="The address of weights to start from")
    model: str | None = Field(
        default=None, max_length=100, pattern=r"^[a-z0-9_]+$", description="Without init: a network"
    )
    recipe: RecipeName | None = None
    epochs: float | None = Field(default=None, gt=0, le=100_000)
    learning_rate: float | None = Field(default=None, gt=0, le=1000)
    batch_size: int | None = Field(default=None, ge=1, le=10_000)
    clips_per_epoch: int | None = Field(default=None, ge=1, le=100_000_000)
    frozen_stages: int | None = Field(default=None, ge=0, le=5)
    width: int | None = Field(default=None, ge=1, le=4096)
    clip_length: int | None = Field(default=None, ge=1, le=1024)
    frame_stride: int | None = Field(default=None, ge=1, le=1000)
    frames_per_second: float | None = Field(default=None, gt=0, le=1000)
    scale: tuple[int, int] | None = Field(default=None, description="Height and width of frames")
    crop: int | None = Field(default=None, ge=1, le=4096)
    workers: int | None = Field(default=None, ge=0, le=64)
    mirror: bool | None = Field(default=None, description="Off where left and right tell classes apart")
    background: bool = Field(default=False, description="Make reviewed time without a mark a class")


class ClassCount(StudioRecord):
    """How much of a class would be trained on."""

    label: str
    num_segments: int
    seconds: float


class TrainingData(StudioRecord):
    """What a training would see; `problems` prevent it."""

    num_videos: int
    num_segments: int
    classes: tuple[ClassCount, ...]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]


class RunInfo(StudioRecord):
    """A run of the project."""

    name: str
    state: str
    model: str | None
    init: str | None
    classes: tuple[str, ...]
    created: datetime
    validation: str | None
    job: str | None
    has_weights: bool
    unfinished: str | None = Field(default=None, description="How far a run is that has not finished")


class RunMetrics(StudioRecord):
    """Lines of a run's log."""

    step: int
    num_steps: int | None
    train: tuple[dict[str, float], ...]
    validation: tuple[dict[str, float], ...]


def build_train_command(request: TrainingRequest, project_folder: Path, init: str | None) -> list[str]:
    """The arguments after `python -m`. Raises StudioError(409) where the run exists."""
    run = project_folder / RUNS_FOLDER / request.name
    if run.exists() or run.is_symlink():  # also a link to what is not there: it would be made there
        raise StudioError(409, f"there is a run {request.name!r} already; choose another name, or resume it")
    options = {} if init is None else {INIT: init}
    for name, option in OPTIONS.items():
        value = getattr(request, name)
        if value is not None:
            options[option] = str(value)
    if request.scale is not None:
        options[SCALE] = json.dumps(request.scale)
    if request.mirror is not None:
        options[MIRROR] = str(request.mirror).lower()
    if request.background:
        options[BACKGROUND] = "true"
    return build_train_arguments(project_folder, request.name, options)


def check_training_data(
    project_folder: Path, marks_by_path: dict[str, VideoMarks], *, background: bool = False
) -> TrainingData:
    """What a training would see, with the sentences that it would print. `background` adds a class of reviewed time."""
    num_segments: Counter[str] = Counter()
    seconds: dict[str, float] = {}
    gone = sorted(
        path for path, marks in marks_by_path.items() if marks.segments and not _is_there(project_folder, path)
    )
    marks_by_path = {path: marks for path, marks in marks_by_path.items() if path not in gone}
    for marks in marks_by_path.values():
        for segment in marks.segments:
            num_segments[segment.label] += 1
            seconds[segment.label] = seconds.get(segment.label, 0.0) + segment.end_seconds - segment.start_seconds
    problems, warnings = _find_problems(project_folder, num_segments, background)
    if gone:
        warnings = [*warnings, f"Videos with marks that are not there, and not trained on: {join_names(gone)}."]
    classes = (
        ClassCount(label=label, num_segments=num_segments[label], seconds=round(seconds[label], 3))
        for label in sorted(num_segments)
    )
    return TrainingData(
        num_videos=sum(bool(marks.segments) for marks in marks_by_path.values()),
        num_segments=num_segments.total(),
        classes=tuple(classes),
        problems=tuple(problems),
        warnings=tuple(warnings),
    )


def _is_there(project_folder: Path, path: str) -> bool:
    return path_exists(project_folder / path)


def _find_problems(project_folder: Path, num_segments: Counter[str], background: bool) -> tuple[list[str], list[str]]:
    path = project_folder / "annotations.csv"
    if background and not (project_folder / "reviewed.csv").exists():
        return ["no part is marked as reviewed, so it is not known what is background; mark what you watched"], []
    if len(num_segments) + background < 2:
        marked = format_count(len(num_segments), "class", "is")
        return [f"training needs segments of at least two classes, and {marked} marked; mark more"], []
    try:
        _, rows, _ = read_video_rows(str(path))
        rows, notes = assign_splits(rows, ValidationSplit(0))
        if len(num_segments) > 1:
            check_trainable(str(path), [(row.split, row.labels) for row in rows])
    except ValueError as error:
        return [str(error)], []
    few = [f"{label} ({count})" for label, count in sorted(num_segments.items()) if count < FEW_SEGMENTS]
    warnings = [f"Classes with fewer than {FEW_SEGMENTS} segments: {', '.join(few)}."] if few else []
    return [], [*warnings, *notes]


def list_runs(folder: Path, jobs: list[Job]) -> list[RunInfo]:
    """The run folders in a folder, newest first. Their classes are left empty: they stand in the weights."""
    if not folder.is_dir():
        return []
    job_by_run = {job.run: job for job in reversed(jobs) if job.run}
    runs = [_describe_run(path, job_by_run.get(path.name)) for path in folder.iterdir() if _is_run(path)]
    return sorted(runs, key=lambda run: run.created, reverse=True)


def _is_run(path: Path) -> bool:
    return path.is_dir() and (
        (path / "settings.yaml").is_file() or any((path / name).is_file() for name in RUN_WEIGHTS)
    )


def _describe_run(folder: Path, job: Job | None) -> RunInfo:
    settings: dict[str, Any] = {}
    is_damaged = False
    try:
        if (folder / "settings.yaml").is_file():
            settings = read_settings(folder / "settings.yaml")
    except ValueError:  # the other runs are listed all the same
        is_damaged = True
    has_weights = any((folder / name).is_file() for name in RUN_WEIGHTS)
    log = read_run_log(folder)
    validation = next((line for line in reversed(log) if line.get("kind") == "validation"), None)
    unfinished = None if job and job.state in LIVE_STATES else describe_unfinished_run(settings, log)
    return RunInfo(
        name=folder.name,
        state="damaged" if is_damaged else _get_state(job, has_weights=has_weights, unfinished=unfinished),
        unfinished=unfinished,
        model=settings.get("model"),
        init=settings.get("init"),
        classes=(),
        created=datetime.fromtimestamp(folder.stat().st_mtime, UTC).replace(microsecond=0),
        validation=f"video@1 {format_percent(validation['video_top1'])}"
        if validation and validation.get("video_top1") is not None
        else None,
        job=job.id if job else None,
        has_weights=has_weights,
    )


def _get_state(job: Job | None, *, has_weights: bool, unfinished: str | None) -> str:
    """That of a live job; weights of a run that is at its end are done, others stopped or failed as their job did."""
    if job and (job.state in LIVE_STATES or not has_weights):
        return job.state
    if unfinished:
        return job.state if job and job.state != "done" else "stopped"
    return "done" if has_weights else "stopped"


def read_metrics(project_folder: Path, name: str, after_step: int) -> RunMetrics:
    """The log of a run after a step; of many training steps, evenly chosen ones. Raises StudioError(404) for no such run."""
    folder = project_folder / RUNS_FOLDER / check_run_name(name)
    if not folder.is_dir():
        raise StudioError(404, f"there is no run {name!r}")
    lines = read_run_log(folder)
    train = [_keep_numbers(line) for line in lines if line.get("kind") == "train"]
    validation = [_keep_numbers(line) for line in lines if line.get("kind") == "validation"]
    newer = [line for line in train if line["step"] > after_step]
    stride = -(-len(newer) // MAX_LOG_LINES) or 1
    step = int(train[-1]["step"]) if train else 0
    return RunMetrics(
        step=step,
        num_steps=_estimate_num_steps(folder, train),
        train=tuple(newer[::-1][::stride][::-1]),
        validation=tuple(line for line in validation if line["step"] > after_step),
    )


def _keep_numbers(line: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in line.items() if is_finite_number(value)}


def _estimate_num_steps(folder: Path, train: list[dict[str, float]]) -> int | None:
    epochs = read_run_epochs(folder)
    if not train or not epochs or not train[-1].get("epoch"):
        return None
    return round(train[-1]["step"] * epochs / train[-1]["epoch"])
