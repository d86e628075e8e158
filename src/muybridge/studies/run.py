"""Runs the grid of a study: what has no row yet, several runs at once, resumable.

Input: a study and a `RunnerConfig`. Output, in one folder that studies share: `plans/<run>.json`, `.yaml` and `.log`,
`runs/<run>/`, `data/<key>/` of generated motions, rows in rows.jsonl, versions.jsonl, and `<study>/study.json`, rewritten after
every run. Each run is a process of its own (`execute.py`). Rows and run folders of another version of the code are not used:
what they stand for is run again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from muybridge.distributed.stop import StopRequested, stop_on_signals
from muybridge.files.atomic import write_json, write_text
from muybridge.files.lock import lock_folder
from muybridge.loading.open_data import open_data
from muybridge.parsing import read_json_object
from muybridge.settings import settings_to_dict
from muybridge.studies.execute import TRAINED
from muybridge.studies.fingerprint import Version, describe_environment, is_of_kind
from muybridge.studies.grids import build_empty_grid
from muybridge.studies.plan import (
    DIGEST_LENGTH,
    WEIGHTS,
    DataSource,
    EvaluatedSplit,
    FusedRun,
    PlannedRun,
    RowKey,
    motion_source,
)
from muybridge.studies.render import write_study
from muybridge.studies.rows import append_fused_rows, append_rows, has_row, read_rows
from muybridge.studies.study import Scale, Study, StudyConfig
from muybridge.studies.versions import compute_version
from muybridge.synthetic.dataset import write_motion_dataset

POLL_SECONDS = 0.2
MAX_LOG_LINE_LENGTH = 300


@dataclass(frozen=True)
class RunnerConfig:
    """Where and how runs are executed.

    `launcher` trains one run in several processes (torchrun and its options); `python` is the command of a run's own process;
    `report` receives progress lines, `on_progress` how many of the missing runs have ended, and how many are missing.
    """

    folder: Path
    jobs: int = 1
    rows_name: str = "rows.jsonl"
    launcher: tuple[str, ...] = ()
    python: tuple[str, ...] = (sys.executable, "-P")
    report: Callable[[str], None] = print
    on_progress: Callable[[int, int], object] | None = None


def build_config(
    study: Study,
    *,
    scale: Scale,
    seeds: int,
    data: str | None,
    others: Mapping[str, str],
    split: EvaluatedSplit | None,
) -> StudyConfig:
    """The configuration of a study from addresses of data sets. ValueError where a study at paper scale has no data.

    Without an address, laptop scale runs on generated motions. The default split is validation at paper scale, else test.
    """
    if data is not None:
        source = _open_source(data)
    elif scale == "laptop" or study.grid is build_empty_grid:
        source = motion_source(study.motions)
    else:
        raise ValueError("a study at paper scale needs its data set; add --data, or use --scale laptop")
    sources = {name: _open_source(address) for name, address in others.items()}
    split = split or ("validation" if scale == "paper" else "test")
    return StudyConfig(scale, seeds, source, split, sources)


def run_study(study: Study, config: StudyConfig, runs: Sequence[PlannedRun], runner: RunnerConfig) -> list[str]:
    """Executes the missing ones of `runs` (all of the study's, or a part) and writes study.json after each.

    Returns failures, a sentence each. Raises `StopRequested` on a signal, once the runs have saved and ended, and ValueError
    where another process writes the same rows, or for rows that no table can be made from, before anything runs.
    """
    # Parts of a study on several machines share the folder, and each has its own rows.
    with lock_folder(runner.folder, name=f".{runner.rows_name}.lock"):
        fused_runs = study.fused_runs(config)
        version = _compute_current_version([*runs, *fused_runs], runner, record=True)

        def render() -> None:
            write_study(study, config, read_rows(runner.folder, version), runner.folder, version)

        render()
        failures = execute_runs(runs, runner, version, render)
        append_fused_rows(fused_runs, runner.folder, runner.rows_name, version)
        return failures


def _compute_current_version(
    runs: Sequence[PlannedRun | FusedRun], runner: RunnerConfig, *, record: bool = False
) -> Version:
    """The version of this code on this machine, with as many threads as the runner gives a run."""
    return compute_version(
        runs,
        runner.folder,
        num_threads=_choose_num_threads(runner.jobs),
        python=runner.python,
        report=runner.report,
        record=record,
    )


def find_current_version(study: Study, config: StudyConfig, runner: RunnerConfig) -> Version | None:
    """The version of this code, with the micro-runs of the rows that the study has from this kind of machine; None without any.

    Rows of other machines cannot be repeated here, and rows without a fingerprint are of no version.
    """
    rows = read_rows(runner.folder)
    keys = {key for key in study.row_keys(config) if rows.get(key, {}).get("fingerprint")}
    runs: list[PlannedRun | FusedRun] = [
        *(run for run in study.runs(config) if any((run.name, test.key) in keys for test in run.evaluations)),
        *(run for run in study.fused_runs(config) if (run.name, run.evaluation.key) in keys),
    ]
    if not runs:
        return None
    here = _describe_machine(study, config, runner)
    if not any(is_of_kind(rows[key]["fingerprint"], here) for key in keys):
        return None
    return _compute_current_version(runs, runner)


def find_other_threads(study: Study, config: StudyConfig, runner: RunnerConfig) -> int | None:
    """The threads of the study's rows that are of this kind of machine, where none had as many as runs have now."""
    rows = read_rows(runner.folder)
    fingerprints = [rows[key].get("fingerprint") for key in study.row_keys(config) if key in rows]
    here = _describe_machine(study, config, runner)
    threads = [
        fingerprint["environment"].get("threads")
        for fingerprint in filter(None, fingerprints)
        if is_of_kind(fingerprint, {**here, "threads": fingerprint["environment"].get("threads")})
    ]
    return threads[0] if threads and here.get("threads") not in threads else None


def _describe_machine(study: Study, config: StudyConfig, runner: RunnerConfig) -> dict[str, Any]:
    devices = {run.settings.device for run in study.runs(config)} or {"cpu"}
    return describe_environment(sorted(devices)[0], _choose_num_threads(runner.jobs))


def _choose_num_threads(jobs: int) -> int:
    """The threads of a run: OMP_NUM_THREADS where set, else an equal share of the cores."""
    threads = os.environ.get("OMP_NUM_THREADS", "")
    return int(threads) if threads.isdigit() else max(1, (os.cpu_count() or 1) // jobs)


def _open_source(address: str) -> DataSource:
    """The data at an address, named by a hash of its manifest: the same data has the same name anywhere."""
    return DataSource(f"{Path(address).stem}-{open_data(address).compute_sha256()[:DIGEST_LENGTH]}", address)


def find_missing_runs(runs: Sequence[PlannedRun], folder: Path, version: Version) -> list[PlannedRun]:
    """The runs that have evaluations without a row of this version in the folder."""
    rows = read_rows(folder, version)
    return [run for run in runs if list_missing_evaluations(run, rows, version)]


def list_missing_evaluations(run: PlannedRun, rows: Mapping[RowKey, Any], version: Version) -> list[str]:
    """The keys of a run's evaluations that have no row of this version yet."""
    return [evaluation.key for evaluation in run.evaluations if not has_row(run, evaluation, rows, version)]


def execute_runs(
    runs: Sequence[PlannedRun], runner: RunnerConfig, version: Version, on_finish: Callable[[], object]
) -> list[str]:
    """Executes the runs that have no rows of this version, `runner.jobs` at once; calls `on_finish` after each.

    Returns failures. A run whose start failed is skipped and reported. On a signal the running ones are asked to save and end:
    `StopRequested`.
    """
    missing = find_missing_runs(runs, runner.folder, version)
    for run in missing:
        for link in run.start_chain:
            _set_aside_other_version(link, runner.folder, version)
    queue = _RunQueue(runner, version, on_finish, _add_untrained_starts(missing, runner.folder))
    num_runs = len(queue.waiting)
    with stop_on_signals() as stop, closing(queue):
        while queue.waiting or queue.running:
            queue.launch_ready()
            time.sleep(POLL_SECONDS)
            if stop.signal_number is not None:
                queue.stop()
            queue.collect_finished()
            if stop.signal_number is not None and not queue.running:
                raise StopRequested(stop.signal_number)
            if runner.on_progress and not queue.is_stopping:
                runner.on_progress(num_runs - len(queue.waiting) - len(queue.running), num_runs)
    return list(queue.failures.values())


def _set_aside_other_version(run: PlannedRun, folder: Path, version: Version) -> None:
    """Renames the folder of a run that another version trained, or began to."""
    plan, run_folder = folder / "plans" / f"{run.name}.json", folder / "runs" / run.name
    if not run_folder.exists():
        return
    if plan.exists() and version.matches(read_json_object(plan).get("fingerprint")):
        return
    aside = run_folder.with_name(f"{run.name}.of-another-version")
    shutil.rmtree(aside, ignore_errors=True)
    run_folder.rename(aside)


def _add_untrained_starts(runs: Sequence[PlannedRun], folder: Path) -> list[PlannedRun]:
    """The runs, each after the one it starts from if that is not fully trained in this folder, even if its rows are there."""
    ordered: dict[str, PlannedRun] = {}
    for run in runs:
        chain = [run]
        while (start := chain[-1].start) is not None and not (folder / "runs" / start.name / TRAINED).exists():
            chain.append(start)
        for link in reversed(chain):
            ordered.setdefault(link.name, link)
    return list(ordered.values())


@dataclass
class _RunQueue:
    """Runs that wait, run, have ended or failed."""

    runner: RunnerConfig
    version: Version
    on_finish: Callable[[], object]
    waiting: list[PlannedRun]
    running: dict[str, tuple[PlannedRun, subprocess.Popen[bytes]]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    is_stopping: bool = False

    def launch_ready(self) -> None:
        """Launches waiting runs while fewer than `jobs` run, each once the one it starts from has ended."""
        for run in list(self.waiting):
            if len(self.running) >= self.runner.jobs:
                return  # at every poll; to look up the fingerprints of all that wait took a quarter of a core
            start = None if run.start is None else run.start.name
            if problem := self.version.find_problem(run):
                self.waiting.remove(run)
                self.failures[run.name] = f"{run.name} failed: {problem}"
                self.runner.report(self.failures[run.name])
            elif start in self.failures:
                self.waiting.remove(run)
                self.failures[run.name] = f"{run.name} starts from a run that failed"
            elif not self._is_pending(start):
                self.waiting.remove(run)
                self.runner.report(f"{run.name} ({len(self.waiting)} waiting)")
                self.running[run.name] = run, _launch(run, self.runner, self.version)

    def stop(self) -> None:
        """Asks the running ones to save and end, once; launches no more."""
        if not self.is_stopping:
            self.is_stopping = True
            self.waiting.clear()
            for _, process in self.running.values():
                process.terminate()

    def close(self) -> None:
        """Asks the running ones to end, where a failure left them running, and waits for them."""
        self.stop()
        for _, process in self.running.values():
            process.wait()

    def collect_finished(self) -> None:
        """Appends the rows of runs that have ended."""
        for name, (run, process) in list(self.running.items()):
            if process.poll() is None:
                continue
            del self.running[name]
            append_rows(run, self.runner.folder, self.runner.rows_name, self.version)
            if process.returncode != 0 and not self.is_stopping:
                self.failures[name] = f"{name} failed: {_read_last_line(self.runner.folder / 'plans' / f'{name}.log')}"
                self.runner.report(self.failures[name])
            self.on_finish()

    def _is_pending(self, name: str | None) -> bool:
        return name in self.running or any(run.name == name for run in self.waiting)


def _launch(run: PlannedRun, runner: RunnerConfig, version: Version) -> subprocess.Popen[bytes]:
    """Starts the process of one run; its output is appended to its log."""
    plans = runner.folder / "plans"
    plan = build_plan(run, runner.folder)
    settings_file = plans / f"{run.name}.yaml"
    write_text(settings_file, yaml.safe_dump(plan["settings"], sort_keys=False))
    plan |= {"launcher": list(runner.launcher), "settings_file": str(settings_file)}
    plan |= {"fingerprint": version.get_fingerprint(run), "source_sha256": version.source_sha256}
    write_json(plans / f"{run.name}.json", plan)
    with (plans / f"{run.name}.log").open("ab") as log:
        return subprocess.Popen(
            [*runner.python, "-m", "muybridge.studies.execute", str(plans / f"{run.name}.json")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": str(run.thread_factor * _choose_num_threads(runner.jobs))},
        )


def build_plan(run: PlannedRun, folder: Path) -> dict[str, Any]:
    """The input of `execute.py` for a run on this machine: settings and evaluations."""
    start = None if run.start is None else str(folder / "runs" / run.start.name / WEIGHTS)
    output = str(folder / "runs" / run.name)
    settings = replace(run.settings, data=_locate_data(run.source, folder), output=output, init=start)
    return {"settings": settings_to_dict(settings), "tests": [asdict(evaluation) for evaluation in run.evaluations]}


def _locate_data(source: DataSource, folder: Path) -> str:
    """The address of the data on this machine; generated motions are written where they do not exist yet."""
    if source.address is not None:
        return source.address
    assert source.motions is not None
    path = folder / "data" / source.key
    if not path.exists():
        write_motion_dataset(path, source.motions)
    return str(path)


def _read_last_line(log: Path) -> str:
    """The last line of a run's log."""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1][:MAX_LOG_LINE_LENGTH] if lines else "its log is empty"
