"""The tables of docs/reproduction.md from committed rows: every study that has rows, with its noise floor and verdict.

    python benchmarks/study_docs.py benchmarks/results/studies* --docs docs/reproduction.md

Input: folders with rows.jsonl and versions.jsonl of `muybridge study`, one for each kind of machine, since a table is made
of rows of one. Output: the page's block `studies`, each study with five seeds where all of them have run, else with three, from
the folder that has most of it; then the verdicts of other folders that have all of it. Nothing is run, or compared with this
version of the code: `make test-long` does.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from docs_block import replace_block
from muybridge.studies.catalogue import STUDIES
from muybridge.studies.plan import RowKey
from muybridge.studies.render import format_study, write_study
from muybridge.studies.rows import read_rows
from muybridge.studies.run import build_config
from muybridge.studies.study import Row, Study, StudyConfig

MOST_SEEDS, USUAL_SEEDS = 5, 3
NOT_RUN, LINE_LENGTH = "not run", 128


@dataclass(frozen=True)
class Rows:
    """The rows of one kind of machine."""

    folder: Path
    rows: Mapping[RowKey, Row]


def read_source(folder: Path) -> Rows:
    """The rows of a folder. ValueError where there is no such folder."""
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}; give those that `muybridge study -o` has written")
    return Rows(folder, read_rows(folder))


@dataclass(frozen=True)
class Shown:
    """A study as one folder has it."""

    study: Study
    source: Rows
    config: StudyConfig

    @property
    def num_rows(self) -> int:
        return sum(key in self.source.rows for key in self.study.row_keys(self.config))

    @property
    def is_whole(self) -> bool:
        return self.num_rows == len(self.study.row_keys(self.config))

    @cached_property
    def values(self) -> dict[str, Any]:
        return write_study(self.study, self.config, self.source.rows, self.source.folder)

    @cached_property
    def has_all_values(self) -> bool:
        """Whether every cell has a value: rows older than Figure 6's count of filters are whole, and lack it."""
        return self.is_whole and NOT_RUN not in format_study(self.values)

    def format_command(self) -> str:
        seeds = "" if self.config.seeds == USUAL_SEEDS else f" --seeds {self.config.seeds}"
        folder = f"benchmarks/results/{self.source.folder.name}"
        return f"```sh\nmuybridge study {self.study.name} -o {folder}{seeds} --render\n```"


def choose_config(study: Study, rows: Container[RowKey]) -> StudyConfig:
    """The study on generated motions, with five seeds where all of them have run."""
    config = build_config(study, scale="laptop", seeds=MOST_SEEDS, data=None, others={}, split="test")
    has_all_rows = all(key in rows for key in study.row_keys(config))
    return config if has_all_rows else replace(config, seeds=USUAL_SEEDS)


def format_studies(sources: Sequence[Rows]) -> str:
    """A block of text for each study of generated motions that has rows."""
    blocks: list[str] = []
    for study in STUDIES.values() if any(source.rows for source in sources) else ():
        shown = [Shown(study, source, choose_config(study, source.rows)) for source in sources]
        shown.sort(key=lambda each: (each.has_all_values, each.num_rows), reverse=True)  # of equal ones the first
        best, *others = shown
        if best.num_rows:
            blocks.append(f"{best.format_command()}\n\n```text\n{format_study(best.values)}\n```")
            blocks += [_format_repetition(other) for other in others if other.has_all_values]
    return "\n\n".join(blocks) or "No study has run yet."


def _format_repetition(shown: Shown) -> str:
    text = f"Again, whole, with {shown.config.seeds} seeds on another kind of machine:"
    verdict = textwrap.fill(shown.values["verdict"]["text"], LINE_LENGTH)
    return f"{text}\n\n{shown.format_command()}\n\n{verdict}"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, nargs="+", help="the folders of rows.jsonl")
    parser.add_argument("--docs", type=Path, required=True)
    args = parser.parse_args(argv)
    try:
        sources = [read_source(folder) for folder in args.rows]
        replace_block(args.docs, "studies", format_studies(sources))
    except (ValueError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
