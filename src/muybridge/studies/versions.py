"""Which rows of a folder one table may be made from: those of one version of the code on one kind of machine.

`versions.jsonl` beside the rows has a line for each version that ran: the hash of every micro-run (`fingerprint.py`), commit,
date. Rows of another version count as not run, and are listed so that they can be run again.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from muybridge.files.atomic import write_json
from muybridge.files.run_folder import append_json_line, collect_environment, read_json_lines
from muybridge.parsing import parse_record, read_json_object
from muybridge.settings import settings_to_dict
from muybridge.studies.fingerprint import (
    FAILED,
    Version,
    describe_commit,
    describe_environment,
    describe_kind,
    hash_source,
    is_of_kind,
    list_micro_runs,
)
from muybridge.studies.plan import FusedRun, PlannedRun, RowKey
from muybridge.studies.study import Row
from muybridge.text import format_count

FILE_NAME, FORMAT = "versions.jsonl", 1
Rows = Mapping[RowKey, Row]


@dataclass(frozen=True)
class RowSelection:
    """The rows that a table is made from, the keys of those of another version, and a sentence on where they are from."""

    rows: Rows
    stale: tuple[RowKey, ...]
    note: str


@dataclass(frozen=True)
class _Line:
    """A version as versions.jsonl has it."""

    source_sha256: str
    environment: dict[str, Any]
    micro_runs: dict[str, str]
    packages: dict[str, str | None] = field(default_factory=dict)


def _read_lines(folder: Path) -> list[_Line]:
    """Raises ValueError for a line of this format that is no version."""
    path = folder / FILE_NAME
    return [
        parse_record(_Line, line, f"line {number} of {path}", optional=None, unknown="ignore")
        for number, line in enumerate(read_json_lines(path), 1)
        if line.get("format") == FORMAT
    ]


def read_versions(folder: Path) -> list[Version]:
    """The versions that ran in a folder, oldest first. Raises ValueError for a line that is none.

    A line has the networks that one session was to run: those of one source, with the same packages, on one kind of machine
    are one version.
    """
    merged: dict[str, Version] = {}
    for number, line in enumerate(_read_lines(folder)):
        version = Version(line.environment, line.micro_runs, line.source_sha256)
        known = [line.source_sha256 or number, line.packages, describe_kind(line.environment, line.micro_runs)]
        key = json.dumps(known, sort_keys=True)
        earlier = merged.get(key, version).micro_runs
        if any(earlier.get(name, value) != value for name, value in line.micro_runs.items()):
            key += str(number)  # of the same kind by name, but not by its bits
            earlier = {}
        merged[key] = replace(version, micro_runs={**earlier, **line.micro_runs})
    return list(merged.values())


def select_rows(rows: Rows, versions: Sequence[Version], current: Version | None) -> RowSelection:
    """Selects the rows of one version.

    That is the `current` one where a row is of its kind of machine, so that a row which this code would not repeat is never
    shown. On other machines it is the version with the most rows, of equal ones the latest. Rows without a fingerprint, of
    version 0.1, are of no version. Raises ValueError where rows of one data set were scored on different videos.
    """
    fingerprints = [row.get("fingerprint") for row in rows.values()]
    version, note = _choose_version(fingerprints, versions, current)
    if version is None:
        return RowSelection({}, tuple(rows), "no row is of a version that is known" if rows else "")
    kept = {key: row for key, row in rows.items() if version.matches(row.get("fingerprint"))}
    _check_equal_videos(kept.values())
    return RowSelection(kept, tuple(key for key in rows if key not in kept), note)


def _check_equal_videos(rows: Iterable[Row]) -> None:
    """Differences are taken video by video, so rows of one split of one data set must be of the same videos."""
    first_rows: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        settings, videos = row["settings"], row["numbers"].get("videos")
        if videos is None:
            continue
        data, split = row["data"]["key"], row["test"]["split"]
        first = first_rows.setdefault((data, split, settings.get("fold"), repr(settings.get("columns"))), row)
        if first["numbers"]["videos"]["sha256"] != videos["sha256"]:
            raise ValueError(
                f"the rows {first['run']} and {row['run']} were scored on different {split} videos of {data}: "
                "the data set has changed since; take away the older rows, or begin in another folder"
            )


def _choose_version(
    fingerprints: Sequence[Any], versions: Sequence[Version], current: Version | None
) -> tuple[Version | None, str]:
    known = list(filter(None, fingerprints))
    if current is not None and any(is_of_kind(fingerprint, current.environment) for fingerprint in known):
        return current, "all rows shown are of this version of the code and of this kind of machine"
    counts = [sum(map(version.matches, fingerprints)) for version in versions]
    if not any(counts):
        return None, ""
    latest = max(range(len(versions)), key=lambda index: (counts[index], index))
    return versions[
        latest
    ], "all rows shown are of one version of the code and one kind of machine, not compared with this one"


def compute_version(
    runs: Sequence[PlannedRun | FusedRun],
    folder: Path,
    *,
    num_threads: int,
    python: Sequence[str],
    report: Callable[[str], None] = lambda line: None,
    record: bool = False,
) -> Version:
    """The version of this code on this machine, for these runs.

    Micro-runs that versions.jsonl has for the same source, packages and machine are not repeated; with `record` new ones are
    added to it. `report` gets a line before micro-runs begin. Raises RuntimeError where one fails.
    """
    devices = {run.settings.device for run in runs if isinstance(run, PlannedRun)} or {"cpu"}
    source, packages = hash_source(), collect_environment()["packages"]
    environment = describe_environment(sorted(devices)[0], num_threads)
    known: dict[str, str] = {}
    for line in _read_lines(folder):
        if (line.source_sha256, line.packages, line.environment) == (source, packages, environment):
            known |= line.micro_runs
    wanted = list_micro_runs(runs)
    missing = {name: settings_to_dict(settings) for name, settings in wanted.items() if name not in known}
    if missing:
        report(f"comparing this version of the code with the rows: {format_count(len(missing), 'micro-run')}")
        known |= _execute_micro_runs(missing, num_threads, python)
    failed = {name: known[name].removeprefix(FAILED) for name in wanted if known[name].startswith(FAILED)}
    hashes = {name: known[name] for name in wanted if name not in failed}
    version = Version(environment, hashes, source, failed)
    if missing.keys() - failed.keys() and record:
        new = _Line(source, environment, dict(version.micro_runs), packages)
        date = datetime.now(UTC).date().isoformat()
        append_json_line(
            folder / FILE_NAME, {"format": FORMAT, **asdict(new), "commit": describe_commit(), "date": date}
        )
    return version


def _execute_micro_runs(
    micro_runs: Mapping[str, Mapping[str, Any]], num_threads: int, python: Sequence[str]
) -> dict[str, str]:
    """The hashes of micro-runs, computed by a process with the threads that a run has."""
    with tempfile.TemporaryDirectory() as folder:
        request, output = Path(folder, "request.json"), Path(folder, "hashes.json")
        write_json(request, {"micro_runs": micro_runs, "output": str(output)})
        finished = subprocess.run(
            [*python, "-m", "muybridge.studies.fingerprint", str(request)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": str(num_threads)},
        )
        if finished.returncode != 0:
            reason = finished.stderr.strip().rpartition("\n")[2] or f"it ended with code {finished.returncode}"
            raise RuntimeError(f"the fingerprint of this version cannot be computed: {reason}")
        return {str(name): str(value) for name, value in read_json_object(output).items()}
