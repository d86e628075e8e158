"""What a report is about: run folders, score files and studies, read and checked.

Enters: an address. Leaves: a `Run` (a score file is a run of which nothing else is known) or a `Study`. What is damaged is
refused in a sentence; what a run does not have yet, such as scores, is absent in the record and said in the report.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from muybridge.evaluation.aggregate import VideoScores, compute_video_scores
from muybridge.evaluation.metrics import Accuracy, compute_accuracy
from muybridge.evaluation.scores import Scores, read_scores
from muybridge.evaluation.video_scores import has_video_rows, read_video_scores
from muybridge.files.run_folder import read_json_lines, read_settings
from muybridge.report.mistakes import Mistake, find_confident_mistakes

RUN_FILES = ("settings.yaml", "log.jsonl", "scores")
STUDY_FILE = "study.json"
STUDY_FORMAT = 1
PREFERRED_SPLITS = ("test", "validation", "train")


@dataclass(frozen=True)
class FailedView:
    """A view of an evaluation that could not be read."""

    video: str
    view: int
    status: str
    reason: str


@dataclass(frozen=True)
class EvaluationRecord:
    """A score file and what is read off it. `name` is the file's, without its ending."""

    name: str
    path: Path
    video_scores: VideoScores
    accuracy: Accuracy
    mistakes: tuple[Mistake, ...]
    failures: tuple[FailedView, ...]


@dataclass(frozen=True)
class RunRecord:
    """What is known of one run. `evaluated`: the score files, the most telling one first."""

    name: str
    evaluations: tuple[EvaluationRecord, ...]
    settings: Mapping[str, Any]
    network: Mapping[str, Any]
    environment: Mapping[str, Any]
    log: tuple[Mapping[str, Any], ...]
    failures: tuple[Mapping[str, Any], ...]

    @property
    def data(self) -> str | None:
        """The data address that the run was trained on."""
        address = self.settings.get("data")
        return address if isinstance(address, str) else None


@dataclass(frozen=True)
class StudyRecord:
    """A finished or half-finished study: the JSON that it left, of format 1."""

    values: Mapping[str, Any]


def read_sources(addresses: Sequence[str]) -> list[RunRecord] | StudyRecord:
    """One study, or one run or more with names that tell them apart. ValueError says what is wrong with an address."""
    studies = [address for address in addresses if _find_study_file(Path(address)) is not None]
    if studies and len(addresses) > 1:
        raise ValueError(f"{studies[0]} is a study; it is reported alone: leave the other addresses out")
    if studies:
        return read_study(Path(studies[0]))
    if len(set(addresses)) < len(addresses):
        raise ValueError("a run is given twice; name each run once")
    return [
        read_run(Path(address), name) for address, name in zip(addresses, _make_unique_names(addresses), strict=True)
    ]


def read_run(path: Path, name: str) -> RunRecord:
    """A run folder or a score file. ValueError where it is neither, or something in it is damaged."""
    if path.is_file() or path.suffix == ".parquet":
        return RunRecord(name, (_read_evaluation(path),), {}, {}, {}, (), ())
    if not path.is_dir():
        raise ValueError(f"there is no run folder, score file or study {str(path)!r}")
    if not any((path / file).exists() for file in RUN_FILES):
        raise ValueError(
            f"{path} holds no run: none of {', '.join(RUN_FILES)}; give a folder that `muybridge train` wrote, "
            "a score file or a study"
        )
    evaluations = [_read_evaluation(file) for file in sorted((path / "scores").glob("*.parquet"))]
    log = tuple(read_json_lines(path / "log.jsonl"))
    if not evaluations and not log:
        raise ValueError(
            f"{path} has neither scores nor a log yet; train on, or run `muybridge evaluate {path} --data DATA`"
        )
    return RunRecord(
        name=name,
        evaluations=tuple(sorted(evaluations, key=_make_sort_key)),
        settings=read_settings(path / "settings.yaml") if (path / "settings.yaml").exists() else {},
        network=_read_json_object(path / "network.json"),
        environment=_read_json_object(path / "environment.json"),
        log=log,
        failures=tuple(read_json_lines(path / "failures.jsonl")),
    )


def read_study(folder: Path) -> StudyRecord:
    """What a study left. ValueError where it is not JSON, of another format or lacks what every study says."""
    path = _find_study_file(folder)
    assert path is not None, "the caller found it"
    values = _read_json_object(path)
    if values.get("format") != STUDY_FORMAT:
        raise ValueError(
            f"{path} is a study of format {values.get('format')}, this version reads format {STUDY_FORMAT}"
        )
    missing_keys = [name for name in ("name", "title", "claim", "verdict", "tables", "figures") if name not in values]
    if missing_keys:
        raise ValueError(f"{path} lacks {', '.join(missing_keys)}; let `muybridge study` write it again")
    return StudyRecord(values)


def _find_study_file(path: Path) -> Path | None:
    if path.name == STUDY_FILE and path.is_file():
        return path
    return path / STUDY_FILE if (path / STUDY_FILE).is_file() else None


def _read_evaluation(path: Path) -> EvaluationRecord:
    scores = None if has_video_rows(path) else read_scores(path)
    videos = read_video_scores(path) if scores is None else compute_video_scores(scores)
    try:
        measured = compute_accuracy(videos)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    failures = _list_failed_videos(videos) if scores is None else _list_failed_views(scores)
    return EvaluationRecord(path.stem, path, videos, measured, find_confident_mistakes(scores, videos), failures)


def _list_failed_views(scores: Scores) -> tuple[FailedView, ...]:
    failed = scores.table.filter(scores.table["logits"].is_null())
    rows = failed.select(["video", "view", "status", "reason"]).to_pylist()
    return tuple(FailedView(**row) for row in rows)


def _list_failed_videos(scores: VideoScores) -> tuple[FailedView, ...]:
    """What is known where the scores of views were not kept: which videos had views that failed."""
    failed = np.flatnonzero(scores.num_failed_views).tolist()
    return tuple(
        FailedView(
            scores.videos[index], 0, "failed", f"{scores.num_failed_views[index]} of {scores.num_views[index]} clips"
        )
        for index in failed
    )


def _make_sort_key(evaluation: EvaluationRecord) -> tuple[int, bool, str]:
    """Test before validation; the file that is called like its split before others."""
    split = evaluation.accuracy.split
    split_priority = PREFERRED_SPLITS.index(split) if split in PREFERRED_SPLITS else len(PREFERRED_SPLITS)
    return split_priority, evaluation.name != split, evaluation.name


def _read_json_object(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON, or damaged ({error})") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds no JSON object")
    return values


def _make_unique_names(addresses: Sequence[str]) -> list[str]:
    """The shortest ends of the paths that tell them apart; `scores/test.parquet` in a run is called like the run."""
    parts = [_split_name_parts(Path(address)) for address in addresses]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(of_path[-length:]) for of_path in parts]
        if len(set(names)) == len(names):
            return names
    return list(addresses)


def _split_name_parts(path: Path) -> tuple[str, ...]:
    parts = path.absolute().with_suffix("").parts if path.suffix == ".parquet" else path.absolute().parts
    return parts[:-2] if len(parts) > 3 and parts[-2] == "scores" else parts
