"""`muybridge study`: a table or figure of the paper, rerun."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muybridge.cli.options import verb_parser

if TYPE_CHECKING:
    from muybridge.studies.plan import Source, Split
    from muybridge.studies.study import Setting, Study

EXAMPLES = (
    "muybridge study table2 -o studies --dry-run",
    "muybridge study table2 -o studies --jobs 2",
    "muybridge study table2 --data kinetics --scale paper -o studies --seeds 1 --part 3/12",
)


def run(words: Sequence[str]) -> int:
    """Runs what is missing, then prints tables and verdict; exit code 3 when some runs failed."""
    from muybridge.studies.catalogue import STUDIES

    parser = verb_parser(
        "study",
        "NAME -o DIR [--data DATA] [--scale laptop|paper] [--seeds 3] [--part 3/12] [--jobs 2] [--dry-run] [--json]",
        f"A table or figure of the paper, rerun: {', '.join(STUDIES)}. Without --data, at laptop scale, on generated motions.",
        EXAMPLES,
    )
    parser.add_argument("name", help="which study")
    parser.add_argument("-o", "--output", required=True, help="folder for runs, rows and results; studies share it")
    parser.add_argument("--data", help="a data set, as for train; for motions leave it out")
    parser.add_argument(
        "--scale", choices=("laptop", "paper"), default="laptop", help="minutes a run, or the paper's recipe"
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs of each kind")
    parser.add_argument(
        "--split", choices=("test", "validation"), help="videos to test on (default: test; paper: validation)"
    )
    parser.add_argument("--part", help="3/12: the third of twelve shares of the runs, for twelve machines")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once")
    parser.add_argument("--launcher", help='what starts a run in place of python, e.g. "torchrun --nproc-per-node 8"')
    parser.add_argument("--dry-run", action="store_true", help="print runs, hours and disk expected")
    parser.add_argument("--render", action="store_true", help="train nothing: tables from the rows that are there")
    parser.add_argument("--json", action="store_true", help="print JSON")
    found = parser.parse_args(list(words))
    if found.name not in STUDIES:
        raise ValueError(f"there is no study {found.name!r}; there are {', '.join(STUDIES)}")
    if found.seeds < 1 or found.jobs < 1:
        raise ValueError("--seeds and --jobs are at least 1")
    return study(STUDIES[found.name], setting_of(found), found)


def setting_of(found: argparse.Namespace) -> Setting:
    """Scale, seeds and data as asked."""
    from muybridge.studies.study import Setting

    split: Split = found.split or ("validation" if found.scale == "paper" else "test")
    return Setting(found.scale, found.seeds, source_of(found.data, found.scale), split)


def source_of(address: str | None, scale: str) -> Source:
    """The data: its name is a hash of its manifest, so that it is the same data wherever it lies."""
    from muybridge.data.datasets import open_data
    from muybridge.studies.laptop import STUDY_MOTIONS
    from muybridge.studies.plan import Source, generated

    if address is None:
        if scale == "paper":
            raise ValueError("a study at paper scale needs its data set; add --data, or use --scale laptop")
        return generated(STUDY_MOTIONS)
    return Source(f"{Path(address).stem}-{open_data(address).sha256()[:10]}", address)


def study(asked: Study, setting: Setting, found: argparse.Namespace) -> int:
    """One study, from what is asked to what is printed."""
    from muybridge.studies.plan import in_order, part_of
    from muybridge.studies.runner import Workplace, execute_all, finished_rows
    from muybridge.studies.telling import printed, write_study

    runs = in_order(asked.runs(setting))
    folder = Path(found.output)
    rows_name = "rows.jsonl"
    if found.part:
        part, parts = part_words(found.part)
        runs, rows_name = part_of(runs, part, parts), f"rows-{part}-of-{parts}.jsonl"
    if found.dry_run:
        return dry_run(asked, runs, folder, found)
    folder.mkdir(parents=True, exist_ok=True)
    failed: list[str] = []
    if not found.render:
        place = Workplace(folder, found.jobs, rows_name, tuple((found.launcher or "").split()), say)
        failed = execute_all(runs, place, lambda: write_study(asked, setting, finished_rows(folder), folder))
    told = write_study(asked, setting, finished_rows(folder), folder)
    print(json.dumps(told, indent=2) if found.json else printed(told))
    return 3 if failed else 0


def part_words(text: str) -> tuple[int, int]:
    """`3/12` -> (3, 12)."""
    part, _, parts = text.partition("/")
    if not (part.isdigit() and parts.isdigit()):
        raise ValueError(f"--part {text} is not understood; write it like 3/12")
    return int(part), int(parts)


def dry_run(asked: Study, runs: Sequence[Any], folder: Path, found: argparse.Namespace) -> int:
    """Says what would be run, and what that takes."""
    from muybridge.studies.runner import finished_rows, missing_tests

    rows = finished_rows(folder)
    missing = [run for run in runs if missing_tests(run, rows)]
    print(f"{asked.title}\n{len(runs)} runs, {len(missing)} of them not yet done")
    return 0


def say(line: str) -> None:
    """Progress."""
    print(line, file=sys.stderr, flush=True)
