from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from muybridge.report import page as page_module
from scored import certain, write_score_file


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    videos = [(f"{number}.mp4", (number % 2,), [certain(0, 2)] * 2) for number in range(4)]
    return write_score_file(tmp_path / "mine.parquet", videos, ("kick", "hug"))


def test_a_page_and_where_it_is(cli: Callable[..., Any], scores: Path, tmp_path: Path) -> None:
    told = cli("report", scores, "-o", tmp_path / "out" / "page.html")
    assert told.code == 0
    assert told.err == ""
    assert told.out.splitlines()[0] == "video@1 50.0 % (95 % interval 15.0 to 85.0); 2 classes."
    assert told.out.splitlines()[-1] == f"report: {tmp_path / 'out' / 'page.html'}"
    text = (tmp_path / "out" / "page.html").read_text()
    assert text.startswith("<!DOCTYPE html>")
    assert text.endswith("</html>\n")


def test_json_and_files_for_papers(cli: Callable[..., Any], scores: Path, tmp_path: Path) -> None:
    told = cli("report", scores, "-o", tmp_path / "page.html", "--figures", tmp_path / "figures", "--json")
    found = json.loads(told.out)
    assert found["report"] == str(tmp_path / "page.html")
    assert found["accuracy"]["mine"]["video_top1"]["of_all"]["share"] == 0.5
    assert {Path(name).name for name in found["figures"]} == {path.name for path in (tmp_path / "figures").iterdir()}
    kinds = {Path(name).name for name in found["figures"]}
    assert {
        "confusion.svg",
        "confusion.pdf",
        "confusion.png",
        "classes-table.md",
        "classes-table.tex",
        "classes-table.csv",
    } <= kinds


def test_runs_are_compared(cli: Callable[..., Any], scores: Path, tmp_path: Path) -> None:
    videos = [(f"{number}.mp4", (number % 2,), [certain(number % 2, 2)] * 2) for number in range(4)]
    other = write_score_file(tmp_path / "other.parquet", videos, ("kick", "hug"))
    told = cli("report", scores, other, "-o", tmp_path / "page.html")
    assert told.code == 0
    assert "between other and mine is not significant" in told.out


@pytest.mark.parametrize("words", [["nothing"], ["mine.parquet", "--data", "nowhere"], ["mine.parquet", "-o", "."], []])
def test_misuse_is_a_sentence_and_leaves_nothing(
    words: list[str], cli: Callable[..., Any], scores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = cli("report", *words)
    assert told.code == 2
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert "Traceback" not in told.err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.parquet"]


def test_a_page_that_cannot_be_written_is_a_sentence(cli: Callable[..., Any], scores: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told = cli("report", scores, "-o", tmp_path / "file" / "page.html")
    assert told.code == 1
    assert told.err.count("\n") == 1
    assert (tmp_path / "file").read_text() == ""


def test_a_page_that_fails_leaves_the_old_one(
    cli: Callable[..., Any], scores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(chart: object) -> str:
        raise OSError("no more")

    (tmp_path / "page.html").write_text("old")
    monkeypatch.setattr(page_module, "render_inline_svg", fails)
    assert cli("report", scores, "-o", tmp_path / "page.html").code == 1
    assert (tmp_path / "page.html").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.parquet", "page.html"]
