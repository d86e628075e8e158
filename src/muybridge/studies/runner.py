"""Has the runs of a study executed, several at a time, and keeps what they found as rows.

Enter: runs. Leave, below one folder that studies share: `plans/<run>.json` and `.log`, `runs/<run>/`, `data/<key>/` where
motions are generated, and one line for every finished (run, test) in `rows.jsonl`, appended at once. A row says everything
a number needs: settings, run, commit, seed, machine. Rows of several machines are brought together by putting their files
side by side.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from muybridge.distributed.stop import StopRequested, stop_on_signals
from muybridge.evaluation.fuse import fuse
from muybridge.evaluation.scores import read_scores
from muybridge.files.atomic import write_json, write_text
from muybridge.files.run_folder import append_json_line, collect_environment, read_json_lines
from muybridge.settings import settings_to_dict
from muybridge.studies.execute import TRAINED, WEIGHTS, figures, history
from muybridge.studies.plan import Fused, Run, Scoring, row_key
from muybridge.synthetic.dataset import write_motion_dataset

Row = Mapping[str, Any]
POLL_SECONDS = 0.2
LAST_LINE_LENGTH = 300


@dataclass(frozen=True)
class Workplace:
    """Where and how runs are executed.

    `launcher` trains one run in several processes, such as torchrun and its options; `python` is a run's own process.
    """

    folder: Path
    jobs: int = 1
    rows_name: str = "rows.jsonl"
    launcher: tuple[str, ...] = ()
    python: tuple[str, ...] = (sys.executable,)
    say: Callable[[str], None] = print


def finished_rows(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Every row in the folder's rows*.jsonl, by (run, test); of two with the same key the later one."""
    return {row_key(row): row for path in sorted(folder.glob("rows*.jsonl")) for row in read_json_lines(path)}


def missing_tests(run: Run, rows: Mapping[tuple[str, str], Any]) -> list[str]:
    """The keys of the tests of a run that have no row yet."""
    return [test.key for test in run.tests if (run.name, test.key) not in rows]


def execute_all(runs: Sequence[Run], place: Workplace, finished: Callable[[], object]) -> list[str]:
    """Executes what has no rows yet, `place.jobs` at a time; `finished` is called after each. Leaves what failed, in sentences.

    A run whose start failed is left out, and said so. On a signal the runs are asked to save and end: `StopRequested`.
    """
    # A run that others start from is needed where their rows are missing, even when its own are there.
    rows = finished_rows(place.folder)
    waiting = [run for run in runs if missing_tests(run, rows)]
    waiting = with_starts(waiting, place.folder)
    names = {run.name for run in waiting}
    failed: dict[str, str] = {}
    going: dict[str, tuple[Run, subprocess.Popen[bytes]]] = {}
    done: set[str] = set()
    asked_to_stop = False
    with stop_on_signals() as stop:
        while waiting or going:
            for run in list(waiting):
                before = run.start.name if run.start is not None and run.start.name in names else None
                if before in failed:
                    failed[run.name] = f"{run.name} starts from a run that failed"
                    waiting.remove(run)
                elif len(going) < place.jobs and (before is None or before in done):
                    waiting.remove(run)
                    place.say(f"{run.name} ({len(waiting)} more wait)")
                    going[run.name] = run, launched(run, place)
            time.sleep(POLL_SECONDS)
            if stop.signal_number is not None and not asked_to_stop:
                asked_to_stop = True
                waiting.clear()
                for _, process in going.values():
                    process.terminate()
            for name, (run, process) in list(going.items()):
                if process.poll() is None:
                    continue
                del going[name]
                append_rows(run, place)
                if process.returncode == 0:
                    done.add(name)
                elif not asked_to_stop:
                    failed[name] = f"{name} failed: {last_words(place.folder / 'plans' / f'{name}.log')}"
                    place.say(failed[name])
                finished()
            if stop.signal_number is not None and not going:
                raise StopRequested(stop.signal_number)
    return list(failed.values())


def with_starts(runs: Sequence[Run], folder: Path) -> list[Run]:
    """The runs, each after the one it starts from where that has not been trained here to its end."""
    found: dict[str, Run] = {}
    for run in runs:
        chain = [run]
        while (before := chain[-1].start) is not None and not (folder / "runs" / before.name / TRAINED).exists():
            chain.append(before)
        for link in reversed(chain):
            found.setdefault(link.name, link)
    return list(found.values())


def launched(run: Run, place: Workplace) -> subprocess.Popen[bytes]:
    """The process of one run; what it says goes into its log."""
    plans = place.folder / "plans"
    made = plan(run, place.folder)
    settings_file = plans / f"{run.name}.yaml"
    write_text(settings_file, yaml.safe_dump(made["settings"], sort_keys=False))
    made |= {"launcher": list(place.launcher), "settings_file": str(settings_file)}
    write_json(plans / f"{run.name}.json", made)
    words = [*place.python, "-m", "muybridge.studies.execute", str(plans / f"{run.name}.json")]
    threads = max(1, (os.cpu_count() or 1) // place.jobs)
    with (plans / f"{run.name}.log").open("ab") as log:
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={"OMP_NUM_THREADS": str(threads), **os.environ},
        )


def plan(run: Run, folder: Path) -> dict[str, Any]:
    """What `execute.py` needs to know of a run on this machine; generated data is written where it is not there yet."""
    start = None if run.start is None else str(folder / "runs" / run.start.name / WEIGHTS)
    settings = replace(run.settings, data=data_address(run, folder), output=str(folder / "runs" / run.name), init=start)
    tests = [{"clips": test.clips, "length": test.length, "split": test.split} for test in run.tests]
    return {"settings": settings_to_dict(settings), "tests": tests}


def data_address(run: Run, folder: Path) -> str:
    """Where the data of a run is on this machine."""
    if run.source.address is not None:
        return run.source.address
    assert run.source.motions is not None
    path = folder / "data" / run.source.key
    if not path.exists():
        write_motion_dataset(path, run.source.motions)
    return str(path)


def append_rows(run: Run, place: Workplace) -> None:
    """Adds the rows of a run that are finished and not there yet."""
    known = finished_rows(place.folder)
    folder = place.folder / "runs" / run.name
    for test in run.tests:
        path = folder / "tests" / f"{test.key}.json"
        if (run.name, test.key) in known or not path.exists():
            continue
        training = json.loads((folder / TRAINED).read_text(encoding="utf-8"))
        numbers = json.loads(path.read_text(encoding="utf-8"))
        about = {"training": training, "history": history(folder)}
        append_json_line(place.folder / place.rows_name, {**row(run, test, numbers), **about})


def append_fused(fused: Sequence[Fused], place: Workplace) -> None:
    """Adds the rows of means whose members have been scored here, and that are not there yet."""
    known = finished_rows(place.folder)
    for mean in fused:
        paths = [place.folder / "runs" / run.name / "scores" / f"{mean.test.key}.parquet" for run in mean.members]
        if (mean.name, mean.test.key) in known or not all(path.exists() for path in paths):
            continue
        scores = [read_scores(path) for path in paths]
        found = fuse(scores, [1.0] * len(scores), names=[run.name for run in mean.members])
        about = {"members": [run.name for run in mean.members], "training": None, "history": []}
        append_json_line(place.folder / place.rows_name, {**row(mean, mean.test, figures(found.accuracy)), **about})


def row(what: Run | Fused, test: Scoring, numbers: Mapping[str, Any]) -> dict[str, Any]:
    """What every row says."""
    run = what if isinstance(what, Run) else what.members[0]
    return {
        "format": 1,
        "run": what.name,
        "test": {"key": test.key, "clips": test.clips, "length": test.length, "split": test.split},
        "seed": what.seed,
        "model": run.settings.model,
        "data": run.source.to_json(),
        "start": None if run.start is None else run.start.name,
        "settings": without_addresses(settings_to_dict(run.settings)),
        "numbers": dict(numbers),
        "commit": commit(),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
    }


def without_addresses(plain: dict[str, Any]) -> dict[str, Any]:
    """Settings as a row keeps them: places on one machine mean nothing on another."""
    return {name: value for name, value in plain.items() if name not in ("data", "output", "init")}


def machine() -> dict[str, Any]:
    """What a number depends on besides its settings."""
    return {name: value for name, value in collect_environment().items() if name != "command"}


def commit() -> str | None:
    """The commit of the source tree that runs, with + where it was changed since; None outside of a git checkout."""
    described = subprocess.run(
        ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or None


def last_words(log: Path) -> str:
    """The last line that a run said."""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1][:LAST_LINE_LENGTH] if lines else "it said nothing"
