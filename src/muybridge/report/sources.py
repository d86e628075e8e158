"""Reading and checking of run folders, score files and studies for a report.

Input: paths. Output: a `RunRecord` for each run (a score file is a run without settings and log) or one `StudyRecord`. Damaged
files raise ValueError; what a run does not have yet, such as scores, is empty in the record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from muybridge.evaluation.aggregate import VideoScores, compute_video_scores
from muybridge.evaluation.metrics import Accuracy, compute_accuracy
from muybridge.evaluation.outputs import VideoOutputs, compute_video_outputs
from muybridge.evaluation.overlap import WHILE_TRAINING
from muybridge.evaluation.scores import Scores, read_any_scores, read_execution, read_remarks
from muybridge.evaluation.scores_path import is_of_other_data
from muybridge.evaluation.task_metrics import TaskMetrics, compute_task_metrics
from muybridge.evaluation.video_scores import has_video_rows, read_video_scores
from muybridge.files.parquet_file import read_parquet
from muybridge.files.run_folder import (
    UNFINISHED_REMARK,
    describe_unfinished_run,
    find_address,
    read_json_lines,
    read_run_log,
    read_settings,
)
from muybridge.parsing import read_json_object
from muybridge.records import Checkpoint
from muybridge.report.mistakes import Mistake, find_confident_mistakes
from muybridge.report.sections.timelines import TimelineRecord, read_timelines
from muybridge.weights.address import CHECKPOINTS, match_checkpoint
from muybridge.weights.card import SUFFIX

TIMELINE_ENDINGS = (
    ".timeline.parquet",
    ".curves.parquet",
)  # of `muybridge evaluate --timeline`, which are no score files
RUN_FILES = ("settings.yaml", "log.jsonl", "scores")
STUDY_FILE = "study.json"
STUDY_FORMAT = 1
PREFERRED_SPLITS = ("test", "validation", "train")


@dataclass(frozen=True)
class FailedView:
    """A view of an evaluation that could not be read. A score file with a row a video has those of a video as one."""

    video: str
    view: int
    status: str
    reason: str
    num_views: int = 1


@dataclass(frozen=True)
class EvaluationRecord:
    """A score file and what is computed from it. `name` is the stem of the file name."""

    name: str
    path: Path
    video_scores: VideoScores
    accuracy: Accuracy
    mistakes: tuple[Mistake, ...]
    failures: tuple[FailedView, ...]
    remarks: tuple[str, ...] = ()
    """Sentences that belong beside the accuracy, such as how many training videos are included."""
    checkpoint: Checkpoint | None = None
    """Which weights of the run folder were scored; None: neither the best nor the last ones it has now."""
    data: str | None = None
    """The address of the scored data, absolute; None for files that do not record it."""
    is_of_other_data: bool = False
    """Whether that is not what the run was trained on."""


@dataclass(frozen=True)
class TaskEvaluationRecord:
    """A score file of another task than single_label, and its metrics. `name` is the stem of the file name."""

    name: str
    path: Path
    outputs: VideoOutputs
    metrics: TaskMetrics
    failures: tuple[FailedView, ...]
    remarks: tuple[str, ...] = ()
    checkpoint: Checkpoint | None = None
    data: str | None = None
    is_of_other_data: bool = False
    """These four as in `EvaluationRecord`."""


@dataclass(frozen=True)
class RunRecord:
    """Contents of one run folder. `evaluations` are its score files: test before validation before train.

    Score files of another task than single_label are `task_evaluations`.
    """

    name: str
    evaluations: tuple[EvaluationRecord, ...]
    settings: Mapping[str, Any]
    network: Mapping[str, Any]
    environment: Mapping[str, Any]
    log: tuple[Mapping[str, Any], ...]
    failures: tuple[Mapping[str, Any], ...]
    task_evaluations: tuple[TaskEvaluationRecord, ...] = ()
    timelines: tuple[TimelineRecord, ...] = ()
    data: str | None = None
    """The address of the training data, None if not known."""

    @property
    def unfinished(self) -> str | None:
        """How far the run is, None if it has finished or if that is not known."""
        return describe_unfinished_run(self.settings, self.log)


@dataclass(frozen=True)
class StudyRecord:
    """The contents of study.json, format 1, of a finished or unfinished study."""

    values: Mapping[str, Any]


def read_sources(addresses: Sequence[str]) -> list[RunRecord] | StudyRecord:
    """Read one study, or one or more runs under distinct names. Raises ValueError for invalid addresses."""
    studies = [address for address in addresses if _find_study_file(Path(address)) is not None]
    if studies and len(addresses) > 1:
        raise ValueError(f"{studies[0]} is a study, which is reported alone; omit the other addresses")
    if studies:
        return _read_study(Path(studies[0]))
    if len(set(addresses)) < len(addresses):
        raise ValueError("an address is given twice; give each run once")
    return [
        read_run(Path(address), name) for address, name in zip(addresses, _make_unique_names(addresses), strict=True)
    ]


def read_run(path: Path, name: str) -> RunRecord:
    """Read a run folder or a score file. Raises ValueError if it is neither or damaged."""
    if path.is_file() or path.suffix == ".parquet":
        one = _name_data(_read_evaluation(path), None)
        if isinstance(one, TaskEvaluationRecord):
            return RunRecord(name, (), {}, {}, {}, (), (), (one,))
        return RunRecord(name, (one,), {}, {}, {}, (), ())
    if not path.is_dir():
        raise ValueError(f"there is no run folder, score file or study {str(path)!r}")
    if not any((path / file).exists() for file in RUN_FILES):
        raise ValueError(
            f"{path} is not a run folder: it contains none of {', '.join(RUN_FILES)}; give a folder written by "
            "`muybridge train`, a score file or a study"
        )
    files = sorted((path / "scores").glob("*.parquet"))
    evaluations = [_read_evaluation(file) for file in files if not file.name.endswith(TIMELINE_ENDINGS)]
    log = tuple(read_run_log(path))
    settings = read_settings(path / "settings.yaml") if (path / "settings.yaml").exists() else {}
    saved_data = settings.get("data")
    data = find_address(path, "data", saved_data) if isinstance(saved_data, str) else None
    if describe_unfinished_run(settings, log):  # what a page says of the run as it is now
        evaluations = [_drop_unfinished_remark(one) for one in evaluations]
    evaluations = [_name_data(_name_weights(path, one), data) for one in evaluations]
    timelines = tuple(
        replace(one, remarks=_add_weights_remark(path, one.model_sha256, one.remarks))
        for one in read_timelines(path / "scores")
    )
    if not evaluations and not log and not timelines:
        raise ValueError(
            f"{path} has neither scores nor a log yet; continue training, or run `muybridge evaluate {path} --data DATA`"
        )
    return RunRecord(
        name=name,
        evaluations=tuple(
            sorted((one for one in evaluations if isinstance(one, EvaluationRecord)), key=_make_sort_key)
        ),
        task_evaluations=tuple(
            sorted((one for one in evaluations if isinstance(one, TaskEvaluationRecord)), key=_make_sort_key)
        ),
        settings=settings,
        network=_read_json_object(path / "network.json"),
        environment=_read_json_object(path / "environment.json"),
        log=log,
        failures=tuple(read_json_lines(path / "failures.jsonl")),
        timelines=timelines,
        data=data,
    )


def _read_study(folder: Path) -> StudyRecord:
    """Read study.json in a study's folder. Raises ValueError if it is damaged, of another format or incomplete."""
    path = _find_study_file(folder)
    assert path is not None, "the caller has checked that it exists"
    values = _read_json_object(path)
    if values.get("format") != STUDY_FORMAT:
        raise ValueError(
            f"{path} has study format {values.get('format')}, but this version reads format {STUDY_FORMAT}"
        )
    missing_keys = [name for name in ("name", "title", "claim", "verdict", "tables", "figures") if name not in values]
    if missing_keys:
        raise ValueError(f"{path} lacks {', '.join(missing_keys)}; run `muybridge study` again to rewrite it")
    return StudyRecord(values)


def _find_study_file(path: Path) -> Path | None:
    if path.name == STUDY_FILE and path.is_file():
        return path
    return path / STUDY_FILE if (path / STUDY_FILE).is_file() else None


def _read_evaluation(path: Path) -> EvaluationRecord | TaskEvaluationRecord:
    scores = None if has_video_rows(path) else read_any_scores(path)
    if scores and scores.header.head:
        outputs = compute_video_outputs(scores)
        metrics, failures = compute_task_metrics(outputs), _list_failed_views(scores)
        return TaskEvaluationRecord(path.stem, path, outputs, metrics, failures, read_remarks(path))
    videos = read_video_scores(path) if scores is None else compute_video_scores(scores)
    try:
        accuracy = compute_accuracy(videos)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    failures = _list_failed_videos(path) if scores is None else _list_failed_views(scores)
    mistakes = find_confident_mistakes(scores, videos)
    remarks = read_remarks(path)
    return EvaluationRecord(path.stem, path, videos, accuracy, mistakes, failures, remarks)


def _name_data(
    one: EvaluationRecord | TaskEvaluationRecord, run_data: str | None
) -> EvaluationRecord | TaskEvaluationRecord:
    """The record with its data as the file records it, else as its name says beside the data of the run, if there is one."""
    execution = read_execution(one.path) or {}
    data, is_own = execution.get("data"), execution.get("is_own_data")
    is_other = run_data is not None and is_of_other_data(one.path, run_data) if is_own is None else not is_own
    return replace(one, data=data if isinstance(data, str) else None, is_of_other_data=is_other)


def _name_weights(run: Path, one: EvaluationRecord | TaskEvaluationRecord) -> EvaluationRecord | TaskEvaluationRecord:
    """The record with the weights of the run that were scored, and a remark where they are not those it stands for."""
    header = (one.outputs if isinstance(one, TaskEvaluationRecord) else one.video_scores).header
    remarks = _add_weights_remark(run, header.model_sha256, one.remarks)
    return replace(one, checkpoint=match_checkpoint(run, header.model_sha256), remarks=remarks)


def _add_weights_remark(run: Path, model_sha256: str, remarks: tuple[str, ...]) -> tuple[str, ...]:
    """The remarks, with one more where scores are not of the best weights that a run has now, or of its last ones."""
    checkpoint = match_checkpoint(run, model_sha256)
    present = [name for name in CHECKPOINTS if (run / f"{name}{SUFFIX}").is_file()]
    if "best" in present and checkpoint != "best" and WHILE_TRAINING in remarks:
        return *remarks, "of the last validated weights, not of the best ones"
    if "best" in present and checkpoint == "last":
        return *remarks, "of the last weights of the run, not of the best ones"
    if present and checkpoint is None:
        return *remarks, "of weights that the run no longer has, since it was trained further, or never had"
    return remarks


def _drop_unfinished_remark(
    one: EvaluationRecord | TaskEvaluationRecord,
) -> EvaluationRecord | TaskEvaluationRecord:
    return replace(one, remarks=tuple(remark for remark in one.remarks if not remark.startswith(UNFINISHED_REMARK)))


def _list_failed_views(scores: Scores) -> tuple[FailedView, ...]:
    failed = scores.table.filter(scores.table[scores.header.output_column].is_null())
    rows = failed.select(["video", "view", "status", "reason"]).to_pylist()
    return tuple(FailedView(**row) for row in rows)


def _list_failed_videos(path: Path) -> tuple[FailedView, ...]:
    """The videos with failed views, of a score file with a row a video, which has the reason of the first of them."""
    table = read_parquet(path, ["video", "reason", "num_failed_views"])
    return tuple(
        FailedView(row["video"], 0, "failed", row["reason"], row["num_failed_views"])
        for row in table.filter(pc.greater(table["num_failed_views"], 0)).to_pylist()
    )


def _make_sort_key(evaluation: EvaluationRecord | TaskEvaluationRecord) -> tuple[bool, int, bool, str]:
    """Sort by split, the file named like its split first. Scores of other data than the run's come last."""
    split = (evaluation.metrics if isinstance(evaluation, TaskEvaluationRecord) else evaluation.accuracy).split
    split_priority = PREFERRED_SPLITS.index(split) if split in PREFERRED_SPLITS else len(PREFERRED_SPLITS)
    return evaluation.is_of_other_data, split_priority, evaluation.name != split, evaluation.name


def _read_json_object(path: Path) -> dict[str, Any]:
    return read_json_object(path) if path.exists() else {}


def _make_unique_names(addresses: Sequence[str]) -> list[str]:
    """The shortest distinct ends of the paths; `RUN/scores/test.parquet` is named like its run."""
    parts = [_split_name_parts(Path(address)) for address in addresses]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(path_parts[-length:]) for path_parts in parts]
        if len(set(names)) == len(names):
            return names
    return list(addresses)


def _split_name_parts(path: Path) -> tuple[str, ...]:
    parts = path.absolute().with_suffix("").parts if path.suffix == ".parquet" else path.absolute().parts
    return parts[:-2] if len(parts) > 3 and parts[-2] == "scores" else parts
