"""The page of reproduction shows the committed rows, and nothing else."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from muybridge.studies.catalogue import STUDIES
from muybridge.studies.laptop import STUDY_MOTIONS
from muybridge.studies.plan import RowKey, motion_source
from muybridge.studies.study import StudyConfig
from scripts import load_script

ROOT = Path(__file__).parents[2]


@pytest.mark.long
def test_the_page_shows_the_committed_rows(tmp_path: Path) -> None:
    """python benchmarks/study_docs.py benchmarks/results/studies* --docs docs/reproduction.md"""
    page, committed = tmp_path / "page.md", sorted((ROOT / "benchmarks" / "results").glob("studies*"))
    folders = [str(shutil.copytree(folder, tmp_path / folder.name)) for folder in committed]
    shutil.copy(ROOT / "docs" / "reproduction.md", page)
    load_script("study_docs").main([*folders, "--docs", str(page)])
    assert page.read_text() == (ROOT / "docs" / "reproduction.md").read_text()
    first_screen = page.read_text().partition("\n## ")[0]
    for path in tmp_path.glob("*/*/study.json"):
        values = json.loads(path.read_text())
        if re.search(
            r"[+-]\d+\.\d points", values["verdict"]["text"]
        ):  # a comparison has run, so its row says what it shows
            lines = [
                line for line in first_screen.splitlines() if f"`muybridge study {values['name']} -o studies" in line
            ]
            assert not any("not run at this version" in line for line in lines)


def test_five_seeds_are_shown_where_all_have_run() -> None:
    script, study, every = load_script("study_docs"), STUDIES["figure6"], list_figure6_rows(5)
    assert script.choose_config(study, every).seeds == 5
    assert script.choose_config(study, every - {max(every)}).seeds == 3


def list_figure6_rows(seeds: int) -> set[RowKey]:
    return set(STUDIES["figure6"].row_keys(StudyConfig("laptop", seeds, motion_source(STUDY_MOTIONS), "test")))


def test_a_study_is_shown_from_the_folder_that_has_most_of_it_and_repeated_by_those_that_have_it_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = load_script("study_docs")
    monkeypatch.setattr(script, "STUDIES", {name: STUDIES[name] for name in ("figure6", "decomposition")})
    verdict = {"text": "more change than at random: yes"}
    monkeypatch.setattr(
        script, "write_study", lambda study, config, rows, folder: {"verdict": verdict, "of": folder.name}
    )
    monkeypatch.setattr(script, "format_study", lambda values: f"the table of {values['of']}")
    three, five = ({key: {"seed": 0} for key in list_figure6_rows(seeds)} for seeds in (3, 5))
    part = dict(list(three.items())[:1])

    def show(**rows: dict[RowKey, Any]) -> str:
        text: str = script.format_studies([script.Rows(tmp_path / name, of) for name, of in rows.items()])
        return (
            text[text.index("muybridge study figure6") :].partition("```sh\nmuybridge study decomposition")[0].strip()
        )

    shown = show(studies=part, studies_avx2=three)
    assert "the table of studies_avx2" in shown and "-o benchmarks/results/studies_avx2 --render" in shown
    assert "the table of studies\n" not in shown and "Again" not in shown
    shown = show(studies=three, studies_avx2=five)
    assert "the table of studies_avx2" in shown and "-o benchmarks/results/studies_avx2 --seeds 5 --render" in shown
    assert "Again, whole, with 3 seeds" in shown and "-o benchmarks/results/studies --render" in shown
    assert shown.endswith(verdict["text"])
    shown = show(studies=five, studies_avx2=three)
    assert "the table of studies\n" in shown and "Again, whole, with 3 seeds" in shown
    monkeypatch.setattr(
        script, "format_study", lambda values: "not run" if values["of"] == "studies" else "the numbers"
    )
    shown = show(studies=five, studies_avx2=three)  # rows older than what the table counts
    assert "the numbers" in shown and "not run" not in shown


def test_without_rows_the_page_says_so(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- studies -->\n\n<!-- end of studies -->\n")
    load_script("study_docs").main([str(tmp_path), "--docs", str(page)])
    assert "No study has run yet." in page.read_text()


@pytest.mark.parametrize(
    ("folder", "page", "sentence"),
    [
        ("typo", "page.md", "there is no folder"),
        ("rows", "typo.md", "typo.md"),
        ("damaged", "page.md", "run is missing"),
    ],
)
def test_what_cannot_be_shown_is_said_in_a_sentence_and_the_page_stays(
    tmp_path: Path, folder: str, page: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in (("rows", ""), ("damaged", "{}\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rows.jsonl").write_text(text)
    (tmp_path / "page.md").write_text("<!-- studies -->\nkept\n<!-- end of studies -->\n")
    with pytest.raises(SystemExit) as stopped:
        load_script("study_docs").main([str(tmp_path / folder), "--docs", str(tmp_path / page)])
    assert stopped.value.code == 2 and sentence in capsys.readouterr().err
    assert "kept" in (tmp_path / "page.md").read_text()
