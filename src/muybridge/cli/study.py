"""`muybridge study`: a table or figure of the paper, rerun."""

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
    from muybridge.studies.plan import Run, Source, Split
    from muybridge.studies.study import Setting, Study

EXAMPLES = (
    "muybridge study table1 -o studies",
    "muybridge study table2 -o studies --dry-run",
    "muybridge study table2 -o studies --jobs 2",
    "muybridge study figure4 -o studies                   # the runs of table2 once more",
    "muybridge study table2 --data kinetics --scale paper -o studies --seeds 1 --part 3/12",
)


def run(words: Sequence[str]) -> int:
    """Runs what is missing, then prints tables and verdict; exit code 3 when some runs failed."""
    found = study_parser().parse_args(list(words))

    from muybridge.studies.catalogue import STUDIES

    if found.name not in STUDIES:
        raise ValueError(f"there is no study {found.name!r}; there are {', '.join(STUDIES)}")
    if found.seeds < 1 or found.jobs < 1:
        raise ValueError(f"--seeds and --jobs are at least 1, not {found.seeds} and {found.jobs}")
    return study(STUDIES[found.name], setting_of(found), found)


def study_parser() -> VerbParser:
    """The verb's parser."""
    parser = verb_parser(
        "study",
        "NAME -o DIR [--data DATA] [--scale laptop|paper] [--seeds 3] [--part 3/12] [--jobs 2] [--dry-run] [--json]",
        "Reruns a table or figure of the paper: table1 to table6, figure3 to figure6, and decomposition beyond it.\n"
        "Without --data, at laptop scale, on generated motions. Started again, it goes on where it stopped.",
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
    parser.add_argument("--render", action="store_true", help="train nothing: tell what the finished rows say")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


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
    for word in found.others:
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


def study(asked: Study, setting: Setting, found: argparse.Namespace) -> int:
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
