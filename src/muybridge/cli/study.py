"""`muybridge study`: reruns a table or figure of the paper."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Interval

from muybridge.cli.output import print_json
from muybridge.terminal import print_line, print_lines
from muybridge.text import format_count

if TYPE_CHECKING:
    from muybridge.studies.plan import PlannedRun
    from muybridge.studies.run import RunnerConfig
    from muybridge.studies.study import Study, StudyConfig


@dataclass(frozen=True)
class DataArguments:
    """data and scale"""

    data: str | None = None
    """A data set, as for train (default: generated motions)."""
    others: list[str] | None = None
    """More data sets, as ucf101=DATA: tables 5 and 6."""
    scale: Literal["laptop", "paper"] = "laptop"
    """Runs of a minute each, or the paper's recipe."""
    seeds: Annotated[int, Interval(ge=1, le=10_000)] = 3
    """Runs of each kind."""
    split: Literal["test", "validation"] | None = None
    """The split to score (default: test, at paper scale validation)."""
    reruns: Annotated[int, Interval(ge=1, le=1000)] | None = None
    """Runs of one seed that differ by rounding alone (default: 5, at paper scale 1). Fewer than 5 leave claims undecided."""
    rerun_kinds: list[Literal["weights", "threads", "convolution", "batch"]] | None = None
    """What differs in reruns, in turn: the last bit of weights, threads, plain convolutions, split batches (default: all, at
    paper scale not threads, which change nothing on a GPU)."""
    rerun_all: bool = False
    """Rerun every network for the noise floor, not only the most telling ones, and print the floor of each."""


@dataclass(frozen=True)
class ExecutionArguments:
    """execution"""

    part: str | None = None
    """3/12: the third of twelve shares of the runs, for twelve machines."""
    jobs: Annotated[int, Interval(ge=1, le=1024)] = 1
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
    from muybridge.studies.noise import RERUN_KINDS
    from muybridge.studies.plan import select_part
    from muybridge.studies.render import format_study, write_study
    from muybridge.studies.rows import read_rows
    from muybridge.studies.run import RunnerConfig, build_config, find_current_version, find_other_threads

    if name not in STUDIES:
        raise ValueError(f"there is no study {name!r}; there are {', '.join(STUDIES)}")
    asked, others = STUDIES[name], _parse_others(data.others or ())
    _check_execution(execution)
    config = build_config(asked, scale=data.scale, seeds=data.seeds, data=data.data, others=others, split=data.split)
    kinds = data.rerun_kinds or [kind for kind in RERUN_KINDS if data.scale == "laptop" or kind != "threads"]
    config = replace(config, reruns=data.reruns, rerun_kinds=tuple(kinds), rerun_all=data.rerun_all)
    runs, rows_name = asked.runs(config), "rows.jsonl"
    if execution.part:
        part, num_parts = _parse_part(execution.part)
        runs, rows_name = select_part(runs, part, num_parts), f"rows-{part}-of-{num_parts}.jsonl"
    folder, failures = Path(output), []
    launcher = tuple(shlex.split(execution.launcher or ""))
    runner = RunnerConfig(folder, execution.jobs, rows_name, launcher=launcher, report=_print_progress)
    if threads := find_other_threads(asked, config, runner):
        _print_progress(
            f"the rows in {folder} had {format_count(threads, 'thread')} a run, and here a run would have another number: "
            f"set OMP_NUM_THREADS={threads} to compare them with this version and to continue from them"
        )
    if execution.dry_run:
        _print_dry_run(asked, config, runs, runner, json=json)
        return 0
    if not execution.render:
        failures = _run_with_progress(asked, config, runs, runner)
    current = find_current_version(asked, config, runner)
    values = write_study(asked, config, read_rows(folder, current), folder, current)
    if json:
        print_json(values)
    else:
        print_lines(format_study(values).splitlines())
    return 3 if failures else 0


def _run_with_progress(
    study: Study, config: StudyConfig, runs: Sequence[PlannedRun], runner: RunnerConfig
) -> list[str]:
    from muybridge.console import create_progress
    from muybridge.studies.run import run_study

    with create_progress() as bar:
        task = bar.add_task("runs", total=None)

        def update(num_done: int, num_runs: int) -> None:
            bar.update(task, completed=num_done, total=num_runs)

        return run_study(study, config, runs, replace(runner, on_progress=update))


def _check_execution(execution: ExecutionArguments) -> None:
    """Refuses options of runs where nothing is run."""
    if execution.render and (execution.dry_run or execution.part or execution.launcher or execution.jobs > 1):
        raise ValueError("--render runs nothing; leave out --dry-run, --part, --launcher and --jobs")
    if execution.dry_run and execution.launcher:
        raise ValueError("--dry-run runs nothing; leave out --launcher")


def _parse_others(definitions: Sequence[str]) -> dict[str, str]:
    """`["ucf101=DATA"]` -> `{"ucf101": "DATA"}`."""
    others = {}
    for definition in definitions:
        name, _, address = definition.partition("=")
        if not address:
            raise ValueError(f"--others {definition} is not understood; write it like ucf101=DATA")
        others[name] = address
    return others


def _parse_part(text: str) -> tuple[int, int]:
    """`3/12` -> (3, 12)."""
    part, _, num_parts = text.partition("/")
    if not (part.isdigit() and num_parts.isdigit()):
        raise ValueError(f"--part {text} is not understood; write it like 3/12")
    return int(part), int(num_parts)


def _print_dry_run(
    study: Study, config: StudyConfig, runs: Sequence[PlannedRun], runner: RunnerConfig, *, json: bool
) -> None:
    """Prints what would be run, and the hours and disk space it takes."""
    from muybridge.studies.budget import estimate_budget
    from muybridge.studies.run import find_current_version, find_missing_runs

    current = find_current_version(study, config, runner)
    missing = list(runs) if current is None else find_missing_runs(runs, runner.folder, current)
    total = estimate_budget(missing, config.scale, jobs=runner.jobs)
    if json:
        names = [run.name for run in missing]
        print_json({"study": study.name, "runs": len(runs), "missing": names, **total.to_json()})
        return
    for run in missing:
        budget = estimate_budget([run], config.scale)
        print_line(f"{run.name:<48}{budget.hours:>9.2f} h{budget.gigabytes:>9.3f} GB")
    print_line()
    print_line(f"{study.title}: {format_count(len(runs), 'run')}, {len(missing)} of them still to do")
    print_line(f"{total.hours:.1f} hours ({total.machine}), {total.gigabytes:.2f} GB of run folders")


def _print_progress(line: str) -> None:
    """Progress goes to standard error."""
    print_line(line, error=True)
