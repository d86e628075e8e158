"""The page of reproduction shows the committed rows, and nothing else."""

import json
import re
import shutil
from pathlib import Path

from muybridge.studies.catalogue import STUDIES
from muybridge.studies.laptop import STUDY_MOTIONS
from muybridge.studies.plan import motion_source
from muybridge.studies.study import StudyConfig
from scripts import load_script

ROOT = Path(__file__).parents[2]


def test_the_page_shows_the_committed_rows(tmp_path: Path) -> None:
    """python benchmarks/study_docs.py benchmarks/results/studies --docs docs/reproduction.md"""
    page, rows = tmp_path / "page.md", tmp_path / "rows"
    rows.mkdir()
    for path in (ROOT / "benchmarks" / "results" / "studies").glob("*.jsonl"):
        shutil.copy(path, rows)
    shutil.copy(ROOT / "docs" / "reproduction.md", page)
    load_script("study_docs").main([str(rows), "--docs", str(page)])
    assert page.read_text() == (ROOT / "docs" / "reproduction.md").read_text()
    first_screen = page.read_text().partition("\n## ")[0]
    for path in rows.glob("*/study.json"):
        values = json.loads(path.read_text())
        if re.search(
            r"[+-]\d+\.\d points", values["verdict"]["text"]
        ):  # a comparison has run, so its row says what it shows
            lines = [
                line for line in first_screen.splitlines() if f"`muybridge study {values['name']} -o studies" in line
            ]
            assert not any("not run at this version" in line for line in lines)


def test_five_seeds_are_shown_where_all_have_run() -> None:
    script, study = load_script("study_docs"), STUDIES["figure6"]
    every = set(study.row_keys(StudyConfig("laptop", 5, motion_source(STUDY_MOTIONS), "test")))
    assert script.choose_config(study, every).seeds == 5
    assert script.choose_config(study, every - {max(every)}).seeds == 3


def test_without_rows_the_page_says_so(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- studies -->\n\n<!-- end of studies -->\n")
    load_script("study_docs").main([str(tmp_path), "--docs", str(page)])
    assert "No study has run yet." in page.read_text()
