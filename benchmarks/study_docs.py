"""The tables of docs/reproduction.md from committed rows: every study that has rows, with its noise floor and verdict.

    python benchmarks/study_docs.py benchmarks/results/studies --docs docs/reproduction.md

Input: rows.jsonl and versions.jsonl of `muybridge study`. Output: the page's block `studies`, each study with five seeds
where all of them have run, else with three. Nothing is run, or compared with this version of the code: `make test-long` does.
"""

from __future__ import annotations

import argparse
from collections.abc import Container
from dataclasses import replace
from pathlib import Path

from docs_block import replace_block
from muybridge.studies.catalogue import STUDIES
from muybridge.studies.laptop import STUDY_MOTIONS
from muybridge.studies.plan import RowKey, motion_source
from muybridge.studies.render import format_study, write_study
from muybridge.studies.rows import read_rows
from muybridge.studies.study import Study, StudyConfig

MOST_SEEDS, USUAL_SEEDS = 5, 3


def choose_config(study: Study, rows: Container[RowKey]) -> StudyConfig:
    """The study on generated motions, with five seeds where all of them have run."""
    config = StudyConfig("laptop", MOST_SEEDS, motion_source(STUDY_MOTIONS), "test")
    has_all_rows = all(key in rows for key in study.row_keys(config))
    return config if has_all_rows else replace(config, seeds=USUAL_SEEDS)


def format_studies(folder: Path) -> str:
    """A block of text for each study of generated motions that has rows."""
    rows = read_rows(folder)
    blocks = []
    for study in STUDIES.values() if rows else ():
        config = choose_config(study, rows)
        if rows.keys() & set(study.row_keys(config)):
            values = write_study(study, config, rows, folder)
            seeds = "" if config.seeds == USUAL_SEEDS else f" --seeds {config.seeds}"
            command = f"muybridge study {study.name} -o benchmarks/results/studies{seeds} --render"
            blocks.append(f"```sh\n{command}\n```\n\n```text\n{format_study(values)}\n```")
    return "\n\n".join(blocks) or "No study has run yet."


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, help="the folder of rows.jsonl")
    parser.add_argument("--docs", type=Path, required=True)
    args = parser.parse_args(argv)
    replace_block(args.docs, "studies", format_studies(args.rows))


if __name__ == "__main__":
    main()
