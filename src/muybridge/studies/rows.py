"""Finished rows: one line of rows*.jsonl per run and evaluation.

Input: the files that `execute.py` writes into run folders. Output: rows with everything their numbers depend on (settings,
seed, fingerprint, commit, machine), appended as soon as a run ends. Files of several machines in one folder are read as
one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from muybridge.bounds import (
    ClipLength,
    Epochs,
    FrameSize,
    NumClips,
    NumVideos,
    Percent,
    Seconds,
    Seed,
    Share,
    show_value,
)
from muybridge.evaluation.fuse import fuse
from muybridge.evaluation.scores import read_scores
from muybridge.files.run_folder import append_json_line, collect_environment, read_json_lines
from muybridge.parsing import parse_record, read_json_object
from muybridge.settings import settings_to_dict
from muybridge.studies.execute import TRAINED, collect_numbers, read_history
from muybridge.studies.fingerprint import Version, describe_commit, identify, list_trainings, plan_micro_run
from muybridge.studies.plan import (
    UNNAMED_SETTINGS,
    EvaluatedSplit,
    EvaluationSpec,
    FusedRun,
    PlannedRun,
    RerunKind,
    RowKey,
    row_key,
)
from muybridge.studies.study import Row
from muybridge.studies.video_results import StoredVideoResults, VideoResults, collect_video_results
from muybridge.text import join_names

_MISSING = object()
_POINTS_OF_ROUNDING = 1e-6  # between a share and the mean of its values


@dataclass(frozen=True)
class _Keyed:
    key: str


@dataclass(frozen=True)
class _Test:
    """An evaluation and its key. Rows older than crops in a test have the usual one."""

    key: str
    clips: NumClips
    length: ClipLength
    split: EvaluatedSplit
    crops: Literal[1, 3] = 1
    crop_size: FrameSize | None = None

    def __post_init__(self) -> None:
        expected = EvaluationSpec(self.clips, self.length, self.split, self.crops, self.crop_size).key
        if self.key != expected:
            raise ValueError(f"test.key is {show_value(self.key)}, and its values are those of {expected}")


@dataclass(frozen=True)
class _Numbers:
    clip_top1: Percent
    video_top1: Percent
    video_top5: Percent
    num_videos: NumVideos
    num_failed_videos: NumVideos
    videos: StoredVideoResults | None = None

    def __post_init__(self) -> None:
        if self.num_failed_videos > self.num_videos:
            raise ValueError(f"num_failed_videos is {self.num_failed_videos} of {self.num_videos}")
        if self.video_top1 > self.video_top5 + _POINTS_OF_ROUNDING:
            raise ValueError(f"video_top5 is {self.video_top5:g}, less than video_top1, {self.video_top1:g}")
        if self.videos is None:
            return
        if self.videos.num > self.num_videos:  # those without a label have no result
            raise ValueError(f"num_videos is {self.num_videos}, and there are results of {self.videos.num}")
        results = VideoResults.from_json(asdict(self.videos))
        for metric, stored in (("video_top1", self.video_top1), ("clip_top1", self.clip_top1)):
            values = results.get_values(metric)
            if values is not None and not math.isclose(values.mean(), stored, abs_tol=_POINTS_OF_ROUNDING):
                raise ValueError(f"{metric} is {stored:g}, and the results by video give {values.mean():g}")


@dataclass(frozen=True)
class _Point:
    epoch: Epochs
    training_clip_error: Percent
    validation_clip_error: Percent


@dataclass(frozen=True)
class _Training:
    seconds: Seconds
    processor_seconds: Seconds
    device: str
    parameters: int
    goes_on: bool = False
    stem_change_share: Share | None = None


@dataclass(frozen=True)
class _Machine:
    processor: str
    packages: dict[str, str | None]


@dataclass(frozen=True)
class _Rerun:
    kind: RerunKind


@dataclass(frozen=True)
class _Fingerprint:
    environment: dict[str, Any]
    micro_runs: dict[str, str]


@dataclass(frozen=True)
class _Row:
    """The values of a row that tables and verdicts are made from."""

    run: str
    test: _Test
    seed: Seed
    model: str
    data: _Keyed
    settings: dict[str, Any]
    numbers: _Numbers
    training: _Training | None
    history: tuple[_Point, ...]
    commit: str | None
    date: str
    machine: _Machine
    rerun: _Rerun | None = None
    fingerprint: _Fingerprint | None = None
    members: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        planned, videos = self.test.clips * self.test.crops, self.numbers.videos
        if videos is not None and videos.views != planned:
            raise ValueError(
                f"the results are of {videos.views} views a video, and the test {self.test.key} has {planned}"
            )
        if (self.training is None) != bool(self.members):
            raise ValueError("training is None in a row of one run; only a mean of several, with `members`, has none")


def read_rows(folder: Path, version: Version | None = None) -> dict[RowKey, Row]:
    """All rows of the folder's rows*.jsonl by key; of several the one of `version`, else the latest.

    Raises ValueError for a row that has not the values which tables are made from, for two of one version that differ, and for
    two that divide the same videos into other recordings.
    """
    rows: dict[RowKey, Row] = {}
    first_rows: dict[tuple[RowKey, str], Row] = {}  # of each version
    recordings: dict[str, Any] = {}
    for path in sorted(folder.glob("rows*.jsonl")):
        for number, row in enumerate(read_json_lines(path), 1):
            parse_record(_Row, row, f"row {number} of {path}", optional=None, unknown="ignore")
            key = row_key(row)
            if fingerprint := row.get("fingerprint"):
                first = first_rows.setdefault((key, identify(fingerprint)), row)
                if _list_repeated(first) != _list_repeated(row):
                    raise ValueError(
                        f"row {number} of {path} has other numbers than an earlier row of {' '.join(key)} at the same version "
                        "of the code on the same kind of machine, where a run repeats exactly; take one of them away"
                    )
            videos = row["numbers"].get("videos") or {}
            nums = videos.get("recordings")
            if nums is not None and recordings.setdefault(videos["sha256"], nums) != nums:
                raise ValueError(
                    f"row {number} of {path} has other recordings than an earlier row of the same videos; take one of them away"
                )
            if version is None or not version.matches(rows.get(key, {}).get("fingerprint")):
                rows[key] = row
    return rows


def _list_repeated(row: Row) -> list[Any]:
    """What a run on the same kind of machine repeats to the last digit, and tables are made from."""
    points = [[point[each.name] for each in fields(_Point)] for point in row["history"]]
    videos = row["numbers"].get("videos") or {}
    results = {name: value for name, value in videos.items() if name != "recordings"}  # which older rows do not have
    return [*(row["numbers"].get(name) for name in ("clip_top1", "video_top1")), results, points]


def check_row(run: PlannedRun | FusedRun, row: Row) -> None:
    """Raises ValueError where a row is not of the run that it is named for: of another network, seed, data or setting."""
    planned = _describe_run(run)
    different = [*_list_differences(planned, row), *_list_missing_settings(run, row["settings"])]
    if fingerprint := row.get("fingerprint"):
        micro_runs = {plan_micro_run(link).name for link in list_trainings(run)}
        if (stored := set(fingerprint["micro_runs"])) != micro_runs:
            different.append(
                f"fingerprint is of {join_names(sorted(stored)) or 'nothing'}, expected {join_names(sorted(micro_runs))}"
            )
    if isinstance(run, FusedRun):
        members = [member.name for member in run.members]
        if list(row["members"]) != members:
            different.append(f"members are {join_names(row['members'])}, expected {join_names(members)}")
    elif (training := run.settings.training).validate_every_epochs:
        last = row["history"][-1]["epoch"] if row["history"] else 0
        if not math.isclose(last, training.epochs):
            different.append(f"history ends with epoch {last:g}, expected {training.epochs:g}")
    if different:
        raise ValueError(
            f"the row {row['run']} {row['test']['key']} is not of the run that it is named for: {'; '.join(different)}; "
            "take it away, and the run is made again"
        )


def _list_differences(planned: Mapping[str, Any], stored: Mapping[str, Any], prefix: str = "") -> list[str]:
    """What both have and is not equal. Settings that came or went since the row was written are in one only."""
    different: list[str] = []
    for name in sorted(planned.keys() & stored.keys()):
        expected, value = _as_json(planned[name]), _as_json(stored[name])
        if prefix.startswith("settings.") and f"{prefix}{name}".removeprefix("settings.").startswith(UNNAMED_SETTINGS):
            continue
        if isinstance(expected, Mapping) and isinstance(value, Mapping):
            different += _list_differences(expected, value, f"{prefix}{name}.")
        elif expected != value:
            different.append(f"{prefix}{name} is {show_value(value)}, expected {show_value(expected)}")
    return different


def _as_json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _list_missing_settings(run: PlannedRun | FusedRun, stored: Mapping[str, Any]) -> list[str]:
    """Settings that decide the run and are not in the row: only those at their defaults may have come since."""
    first = run if isinstance(run, PlannedRun) else run.members[0]
    missing = []
    for name, value in first.identity["settings"].items():
        place: Any = stored
        for part in name.split("."):
            place = place.get(part, _MISSING) if isinstance(place, Mapping) else _MISSING
        if place is _MISSING:
            missing.append(f"settings.{name} is missing, expected {show_value(value)}")
    return missing


def has_row(
    run: PlannedRun | FusedRun, evaluation: EvaluationSpec, rows: Mapping[RowKey, Row], version: Version
) -> bool:
    """Whether an evaluation of a run has a row of this version."""
    row = rows.get((run.name, evaluation.key))
    return row is not None and version.matches(row.get("fingerprint"))


def append_rows(run: PlannedRun, folder: Path, rows_name: str, version: Version) -> None:
    """Appends to folder/`rows_name` the rows of a run that are finished and not there yet."""
    known = read_rows(folder, version)
    run_folder = folder / "runs" / run.name
    for evaluation in run.evaluations:
        path = run_folder / "tests" / f"{evaluation.key}.json"
        if has_row(run, evaluation, known, version) or not path.exists():
            continue
        training = read_json_object(run_folder / TRAINED)
        numbers = read_json_object(path)
        row = build_row(run, evaluation, numbers, version)
        append_json_line(folder / rows_name, row | {"training": training, "history": read_history(run_folder)})


def append_fused_rows(fused_runs: Sequence[FusedRun], folder: Path, rows_name: str, version: Version) -> None:
    """Appends the rows of means that are not there yet and whose members have been evaluated in this folder."""
    known = read_rows(folder, version)
    for fused in fused_runs:
        key = fused.evaluation.key
        paths = [folder / "runs" / run.name / "scores" / f"{key}.parquet" for run in fused.members]
        is_ready = all(has_row(run, fused.evaluation, known, version) for run in fused.members)
        if has_row(fused, fused.evaluation, known, version) or not is_ready or not all(path.exists() for path in paths):
            continue
        names = [run.name for run in fused.members]
        fusion = fuse([read_scores(path) for path in paths], [1.0] * len(paths), names=names)
        results = collect_video_results(fusion.scores)
        numbers = {**collect_numbers(fusion.accuracy), "videos": results.to_json()}
        row = build_row(fused, fused.evaluation, numbers, version)
        append_json_line(folder / rows_name, row | {"members": names, "training": None, "history": []})


def build_row(
    run: PlannedRun | FusedRun, evaluation: EvaluationSpec, numbers: Mapping[str, Any], version: Version
) -> dict[str, Any]:
    """The part of a row that trained and fused runs share. Addresses of this machine are left out."""
    return {
        "format": 1,
        "run": run.name,
        "test": {"key": evaluation.key, **asdict(evaluation)},
        **_describe_run(run),
        "numbers": dict(numbers),
        "fingerprint": version.get_fingerprint(run),
        "commit": describe_commit(),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {name: value for name, value in collect_environment().items() if name != "command"},
    }


def _describe_run(run: PlannedRun | FusedRun) -> dict[str, Any]:
    """What a row says of its run, or of the first member of a mean."""
    first = run if isinstance(run, PlannedRun) else run.members[0]
    settings = settings_to_dict(first.settings)
    return {
        "seed": run.seed,
        "model": first.settings.model,
        "data": first.source.to_json(),
        "rerun": None if first.rerun is None else asdict(first.rerun),
        "start": None if first.start is None else first.start.name,
        "settings": {name: value for name, value in settings.items() if name not in ("data", "output", "init")},
    }
