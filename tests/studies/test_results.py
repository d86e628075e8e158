"""docs/reproduction.md shows what the committed rows give."""

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from muybridge.studies.catalogue import STUDIES
from muybridge.studies.laptop import STUDY_MOTIONS
from muybridge.studies.plan import DataSource, motion_source
from muybridge.studies.render import format_study, write_study
from muybridge.studies.rows import read_rows
from muybridge.studies.study import StudyConfig
from muybridge.studies.versions import read_versions, select_rows

ROOT = Path(__file__).parents[2]
ROWS = ROOT / "benchmarks" / "results" / "studies"
OF_REAL_VIDEO = ROOT / "benchmarks" / "results" / "studies-ut-interaction"
SHOWN = re.compile(
    r"```sh\n(muybridge study \S+ -o benchmarks/results/studies --render)\n```\n\n```text\n(.*?)\n```", re.DOTALL
)
PAGE = (ROOT / "docs" / "reproduction.md").read_text(encoding="utf-8")
BLOCKS = SHOWN.findall(PAGE)


def test_there_is_something_to_check() -> None:
    assert {shlex.split(command)[2] for command, _ in BLOCKS} >= {"table1", "table2", "figure3", "decomposition"}
    assert len(read_rows(ROWS)) >= 20


@pytest.mark.parametrize(("command", "shown"), BLOCKS, ids=[shlex.split(command)[2] for command, _ in BLOCKS])
def test_the_page_shows_what_the_rows_give(command: str, shown: str, cli: Callable[..., Any], tmp_path: Path) -> None:
    shutil.copytree(ROWS, tmp_path / "studies")
    argv = [word.replace("benchmarks/results", str(tmp_path)) for word in shlex.split(command)[1:]]
    result = cli(*argv)
    assert result.code == 0, result.err
    assert result.out.rstrip() == shown


def test_the_page_shows_what_the_rows_of_real_video_give(tmp_path: Path) -> None:
    """The data is not available; rows name it by its content."""
    rows = read_rows(OF_REAL_VIDEO)
    (key,) = {row["data"]["key"] for row in rows.values()}
    config = StudyConfig("laptop", 2, DataSource(key, "not available"), "test", reruns=1)
    assert rows.keys() == set(STUDIES["table2"].row_keys(config))
    text = format_study(write_study(STUDIES["table2"], config, rows, tmp_path)).rstrip()
    assert f"```text\n{text}\n```" in PAGE


def test_rows_without_a_fingerprint_are_shown_as_not_run_and_judged_by_nothing() -> None:
    for folder in (ROWS, OF_REAL_VIDEO):
        selection = select_rows(read_rows(folder), read_versions(folder), None)
        assert all(row.get("fingerprint") for row in selection.rows.values())
        assert all(read_rows(folder)[key].get("fingerprint") is None for key in selection.stale)


def test_every_row_is_of_a_run_that_a_study_asks_for() -> None:
    """Settings that changed since would leave rows behind that no study finds."""
    config = StudyConfig("laptop", 3, motion_source(STUDY_MOTIONS), "test")
    wanted = {key for study in STUDIES.values() for key in study.row_keys(config)}
    assert read_rows(ROWS).keys() <= wanted
    for row in read_rows(ROWS).values():
        assert row["commit"] and row["date"] and row["machine"]["processor"]
