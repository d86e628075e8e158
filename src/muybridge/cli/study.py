"""`muybridge study`: reruns a table or figure of the paper."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from muybridge.cli.options import VerbParser, verb_parser

if TYPE_CHECKING:
    from muybridge.studies.plan import PlannedRun
    from muybridge.studies.study import Study, StudyConfig

EXAMPLES = (
    "muybridge study table1 -o studies",
    "muybridge study table2 -o studies --dry-run",
    "muybridge study table2 -o studies --jobs 2",
    "muybridge study figure4 -o studies                   # the runs of table2 once more",
    "muybridge study table2 --data kinetics --scale paper -o studies --seeds 1 --part 3/12",
)


def run(argv: Sequence[str]) -> int:
    """Executes the missing runs of a study, then prints its tables and verdict; exit code 3 when some runs failed."""
    args = study_parser().parse_args(list(argv))

    from muybridge.studies.catalogue import STUDIES
    from muybridge.studies.plan import select_part
    from muybridge.studies.render import format_study, write_study
    from muybridge.studies.rows import read_rows
    from muybridge.studies.run import RunnerConfig, build_config, run_study

    if args.name not in STUDIES:
        raise ValueError(f"there is no study {args.name!r}; there are {', '.join(STUDIES)}")
    if args.seeds < 1 or args.jobs < 1:
        raise ValueError(f"--seeds and --jobs are at least 1, not {args.seeds} and {args.jobs}")
    study, others = STUDIES[args.name], parse_others(args.others)
    config = build_config(study, scale=args.scale, seeds=args.seeds, data=args.data, others=others, split=args.split)
    runs, rows_name = study.runs(config), "rows.jsonl"
    if args.part:
        part, num_parts = parse_part(args.part)
        runs, rows_name = select_part(runs, part, num_parts), f"rows-{part}-of-{num_parts}.jsonl"
    if args.dry_run:
        print_dry_run(study, config, runs, args)
        return 0
    folder, failures = Path(args.output), []
    if not args.render:
        launcher = tuple(shlex.split(args.launcher or ""))
        runner = RunnerConfig(folder, args.jobs, rows_name, launcher=launcher, report=print_progress)
        failures = run_study(study, config, runs, runner)
    values = write_study(study, config, read_rows(folder), folder)
    print(json.dumps(values, indent=2) if args.json else format_study(values))
    return 3 if failures else 0


def study_parser() -> VerbParser:
    """The verb's parser."""
    parser = verb_parser(
        "study",
        "NAME -o DIR [--data DATA] [--scale laptop|paper] [--seeds 3] [--part 3/12] [--jobs 2] [--dry-run] [--json]",
        "Reruns a table or figure of the paper: table1 to table6, figure3 to figure6, and decomposition beyond it.\n"
        "Without --data, at laptop scale, on generated motions. An interrupted study resumes when started again.",
        EXAMPLES,
    )
    parser.add_argument("name", help="which study")
    parser.add_argument("-o", "--output", required=True, help="folder for runs, rows and results; studies share it")
    parser.add_argument("--data", help="a data set, as for train; generated motions without it")
    parser.add_argument("--others", nargs="+", default=[], help="more data sets, as ucf101=DATA: tables 5 and 6")
    parser.add_argument("--scale", choices=("laptop", "paper"), default="laptop", help="a minute a run, or the recipe")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each kind")
    parser.add_argument("--split", choices=("test", "validation"), help="what is scored; paper scale: validation")
    parser.add_argument("--part", help="3/12: the third of twelve shares of the runs, for twelve machines")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once")
    parser.add_argument("--launcher", help="trains each run: 'torchrun --nproc-per-node 8'")
    parser.add_argument("--dry_run", "--dry-run", action="store_true", help="print runs, hours and disk expected")
    parser.add_argument("--render", action="store_true", help="train nothing: summarize the finished rows")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def parse_others(definitions: Sequence[str]) -> dict[str, str]:
    """`["ucf101=DATA"]` -> `{"ucf101": "DATA"}`."""
    others = {}
    for definition in definitions:
        name, _, address = definition.partition("=")
        if not address:
            raise ValueError(f"--others {definition} is not understood; write it like ucf101=DATA")
        others[name] = address
    return others


def parse_part(text: str) -> tuple[int, int]:
    """`3/12` -> (3, 12)."""
    part, _, num_parts = text.partition("/")
    if not (part.isdigit() and num_parts.isdigit()):
        raise ValueError(f"--part {text} is not understood; write it like 3/12")
    return int(part), int(num_parts)


def print_dry_run(study: Study, config: StudyConfig, runs: Sequence[PlannedRun], args: argparse.Namespace) -> None:
    """Prints what would be run, and the hours and disk space it takes."""
    from muybridge.studies.budget import estimate_budget
    from muybridge.studies.run import find_missing_runs

    missing = find_missing_runs(runs, Path(args.output))
    total = estimate_budget(missing, config.scale, jobs=args.jobs)
    if args.json:
        names = [run.name for run in missing]
        print(json.dumps({"study": study.name, "runs": len(runs), "missing": names, **total.to_json()}, indent=2))
        return
    for run in missing:
        budget = estimate_budget([run], config.scale)
        print(f"{run.name:<48}{budget.hours:>9.2f} h{budget.gigabytes:>9.3f} GB")
    print(f"\n{study.title}: {len(runs)} runs, {len(missing)} of them still to do")
    print(f"{total.hours:.1f} hours ({total.machine}), {total.gigabytes:.2f} GB of run folders")


def print_progress(line: str) -> None:
    """Progress goes to standard error."""
    print(line, file=sys.stderr, flush=True)
