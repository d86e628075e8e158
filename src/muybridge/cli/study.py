"""`muybridge study`: a table or figure of the paper, rerun."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from muybridge.studies.plan import Run, Source, Split
    from muybridge.studies.study import Setting, Study


@dataclass(frozen=True)
class DataArguments:
    """data and scale"""

    data: str | None = None
    """A data set, as for train (default: generated motions)."""
    others: list[str] | None = None
    """More data sets, as ucf101=DATA: tables 5 and 6."""
    scale: Literal["laptop", "paper"] = "laptop"
    """Runs of a minute each, or the paper's recipe."""
    seeds: int = 3
    """Runs of each kind."""
    split: Literal["test", "validation"] | None = None
    """The split to score (default: test, at paper scale validation)."""


@dataclass(frozen=True)
class ExecutionArguments:
    """execution"""

    part: str | None = None
    """3/12: the third of twelve shares of the runs, for twelve machines."""
    jobs: int = 1
    """Runs at the same time."""
    launcher: str | None = None
    """Command that trains each run, such as 'torchrun --nproc-per-node 8'."""
    dry_run: bool = False
    """Print the runs, hours and disk space expected."""
    render: bool = False
    """Train nothing: render the finished rows."""


def study(name: str, *, output: str, data: DataArguments, execution: ExecutionArguments, json: bool = False) -> int:
    """Reruns a table or figure of the paper: table1 to table6, figure3 to figure6, and decomposition beyond it.

    Without --data, at laptop scale, on generated motions. The same command resumes an interrupted study.

    Args:
        name: Which study.
        output: The folder for runs, rows and results; studies share it.
        json: Print JSON.

    Returns:
        3 when some runs failed.

    Examples:
        muybridge study table1 -o studies
        muybridge study table2 -o studies --dry-run
        muybridge study table2 -o studies --jobs 2
        muybridge study figure4 -o studies                   # the runs of table2 once more
        muybridge study table2 --data kinetics --scale paper -o studies --seeds 1 --part 3/12
    """
    from muybridge.studies.catalogue import STUDIES

    if name not in STUDIES:
        raise ValueError(f"there is no study {name!r}; there are {', '.join(STUDIES)}")
    if data.seeds < 1 or execution.jobs < 1:
        raise ValueError(f"--seeds and --jobs are at least 1, not {data.seeds} and {execution.jobs}")
    found = argparse.Namespace(name=name, output=output, json=json, **vars(data), **vars(execution))
    return run_study(STUDIES[name], setting_of(found), found)


def setting_of(found: argparse.Namespace) -> Setting:
    """Scale, seeds and data as asked."""
    from muybridge.studies.laptop import STUDY_MOTIONS
    from muybridge.studies.plan import generated
    from muybridge.studies.study import Setting

    split: Split = found.split or ("validation" if found.scale == "paper" else "test")
    if found.data is not None:
        source = given(found.data)
    elif found.scale == "laptop" or found.name == "table1":
        source = generated(STUDY_MOTIONS)
    else:
        raise ValueError("a study at paper scale needs its data set; add --data, or use --scale laptop")
    others = {}
    for word in found.others or ():
        name, _, address = word.partition("=")
        if not address:
            raise ValueError(f"--others {word} is not understood; write it like ucf101=DATA")
        others[name] = given(address)
    return Setting(found.scale, found.seeds, source, split, others)


def given(address: str) -> Source:
    """The data at an address; its name is a hash of its manifest, so that it is the same data wherever it lies."""
    from muybridge.loading.open_data import open_data
    from muybridge.studies.plan import DIGEST_LENGTH, Source

    return Source(f"{Path(address).stem}-{open_data(address).compute_sha256()[:DIGEST_LENGTH]}", address)


def run_study(asked: Study, setting: Setting, found: argparse.Namespace) -> int:
    """One study, from what is asked to what is printed."""
    from muybridge.studies.plan import in_order, part_of
    from muybridge.studies.runner import Workplace, append_fused, execute_all, finished_rows
    from muybridge.studies.telling import printed, write_study

    runs, rows_name = in_order(asked.runs(setting)), "rows.jsonl"
    if found.part:
        part, parts = part_words(found.part)
        runs, rows_name = part_of(runs, part, parts), f"rows-{part}-of-{parts}.jsonl"
    folder = Path(found.output)
    if found.dry_run:
        return dry_run(asked, setting, runs, found)
    folder.mkdir(parents=True, exist_ok=True)
    place = Workplace(folder, found.jobs, rows_name, launcher=tuple(shlex.split(found.launcher or "")), say=say)
    failed: list[str] = []
    if not found.render:
        failed = execute_all(runs, place, lambda: write_study(asked, setting, finished_rows(folder), folder))
        append_fused(asked.fused(setting), place)
    told = write_study(asked, setting, finished_rows(folder), folder)
    print(json.dumps(told, indent=2) if found.json else printed(told))
    return 3 if failed else 0


def part_words(text: str) -> tuple[int, int]:
    """`3/12` -> (3, 12)."""
    part, _, parts = text.partition("/")
    if not (part.isdigit() and parts.isdigit()):
        raise ValueError(f"--part {text} is not understood; write it like 3/12")
    return int(part), int(parts)


def dry_run(asked: Study, setting: Setting, runs: Sequence[Run], found: argparse.Namespace) -> int:
    """Says what would be run, and what that takes."""
    from muybridge.studies.expectation import expected
    from muybridge.studies.runner import finished_rows, missing_tests

    rows = finished_rows(Path(found.output))
    missing = [run for run in runs if missing_tests(run, rows)]
    whole = expected(missing, setting.scale, jobs=found.jobs)
    if found.json:
        names = [run.name for run in missing]
        print(json.dumps({"study": asked.name, "runs": len(runs), "missing": names, **vars(whole)}, indent=2))
        return 0
    for run in missing:
        each = expected([run], setting.scale)
        print(f"{run.name:<48}{each.hours:>9.2f} h{each.gigabytes:>9.3f} GB")
    print(f"\n{asked.title}: {len(runs)} runs, {len(missing)} of them still to do")
    print(f"{whole.hours:.1f} hours ({whole.of}), {whole.gigabytes:.2f} GB of run folders")
    return 0


def say(line: str) -> None:
    """Progress."""
    print(line, file=sys.stderr, flush=True)
