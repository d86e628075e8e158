"""What docs/reproduction.md shows of the studies is what the committed rows say."""

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from muybridge.studies.catalogue import STUDIES
from muybridge.studies.laptop import STUDY_MOTIONS
from muybridge.studies.plan import Source, generated
from muybridge.studies.runner import finished_rows
from muybridge.studies.study import Setting
from muybridge.studies.telling import printed, write_study

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
    assert len(finished_rows(ROWS)) >= 20


@pytest.mark.parametrize(("command", "shown"), BLOCKS, ids=[shlex.split(command)[2] for command, _ in BLOCKS])
def test_the_page_shows_what_the_rows_say(command: str, shown: str, cli: Callable[..., Any], tmp_path: Path) -> None:
    shutil.copytree(ROWS, tmp_path / "studies")
    words = [word.replace("benchmarks/results", str(tmp_path)) for word in shlex.split(command)[1:]]
    told = cli(*words)
    assert told.code == 0, told.err
    assert told.out.rstrip() == shown


def test_the_page_shows_what_the_rows_of_real_video_say(tmp_path: Path) -> None:
    """The data is not at hand; rows name it by what it holds."""
    rows = finished_rows(OF_REAL_VIDEO)
    (key,) = {row["data"]["key"] for row in rows.values()}
    setting = Setting("laptop", 2, Source(key, "not at hand"), "test")
    assert rows.keys() == set(STUDIES["table2"].wanted(setting))
    told = printed(write_study(STUDIES["table2"], setting, rows, tmp_path)).rstrip()
    assert f"```text\n{told}\n```" in PAGE


def test_every_row_is_of_a_run_that_a_study_asks_for() -> None:
    """Settings that changed since would leave rows behind that no study finds."""
    setting = Setting("laptop", 3, generated(STUDY_MOTIONS), "test")
    wanted = {key for study in STUDIES.values() for key in study.wanted(setting)}
    assert finished_rows(ROWS).keys() <= wanted
    for row in finished_rows(ROWS).values():
        assert row["commit"] and row["date"] and row["machine"]["processor"]
