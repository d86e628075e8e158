"""Pages as a browser's parser would see them: nothing from outside acts, everything can be read without eyes."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import yaml

from muybridge.report.build import build_page as build
from muybridge.report.document import Page, Section
from muybridge.report.drawing import CORRECT_COLOR, MAX_OPACITY, WRONG_COLOR
from muybridge.report.page import render_html, write_figures
from muybridge.report.tables import Table, make_columns

# fmt: off
ALLOWED = {
    "html", "head", "meta", "title", "link", "style", "body", "header", "a", "h1", "h2", "h3",
    "p", "nav", "ul", "li", "main", "section", "figure", "figcaption", "div", "table", "caption", "thead",
    "tbody", "tr", "th", "td", "label", "input", "img", "footer", "script", "svg", "g", "path",
    "defs", "use", "text", "clippath", "rect", "image", "tspan",
}
# fmt: on
VOID = {"meta", "link", "input", "img"}


class Outline(HTMLParser):
    """Elements with their attributes in order, the text of the page, and whether elements close as they open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag in tags]


@pytest.fixture(scope="module", params=["run", "comparison", "study", "mistakes"])
def text(request: pytest.FixtureRequest, hostile: Path, mistaken_run: Path) -> str:
    addresses = {
        "run": [hostile / "first"],
        "comparison": [hostile / "first", hostile / "second"],
        "study": [hostile / "study"],
        "mistakes": [mistaken_run],
    }[request.param]
    return render_html(build([str(address) for address in addresses], None))


def test_hostile_names_are_text_and_nothing_else(text: str) -> None:
    page = Outline(text)
    assert {tag for tag, _ in page.elements} <= ALLOWED
    assert len(page.all("script")) == 1
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("href", "src", "xlink:href"):
            address = attributes.get(name) or "#"
            assert address.startswith(("#", "data:image/", "data:,")), address
    for sign in "\0\x07\x1b\u202e":
        assert sign not in text
    text.encode()


def test_the_policy_allows_nothing_from_anywhere(text: str) -> None:
    policies = [
        one["content"] for one in Outline(text).all("meta") if one.get("http-equiv") == "Content-Security-Policy"
    ]
    assert len(policies) == 1
    assert re.fullmatch(
        r"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-[\w+/=]{44}'; "
        r"base-uri 'none'; form-action 'none'",
        policies[0] or "",
    )
    assert not re.search(r"""url\(["']?(?!#)""", text)
    assert "@import" not in text


def test_it_can_be_read_without_eyes_and_without_a_mouse(text: str) -> None:
    page = Outline(text)
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("h1")) == len(page.all("main")) == len(page.all("header")) == len(page.all("nav")) == 1
    assert all(one.get("alt") for one in page.all("img"))
    assert all(one.get("role") == "img" and one.get("aria-label") for one in page.all("svg"))
    assert all(one.get("scope") in ("col", "row") for one in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(
        one.get("tabindex") == "0" and one.get("aria-label") for one in page.all("div") if one.get("class") == "scroll"
    )
    names = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(names) == len(set(names))
    for link in page.all("a"):
        assert str(link["href"]).removeprefix("#") in names


def test_the_same_page_every_time(hostile: Path) -> None:
    pages = [render_html(build([str(hostile / "first"), str(hostile / "second")], None)) for _ in range(2)]
    assert pages[0] == pages[1]


def test_only_some_rows_are_shown_and_files_have_all(tmp_path: Path) -> None:
    rows = tuple((f"row {number}",) for number in range(5))
    shown = Table("shown", "Shown", make_columns("name"), rows, num_shown=2)
    hidden = Table("hidden", "Hidden", make_columns("name"), rows, num_shown=0)
    page = Page("title", (), (Section("s", "S", (shown, hidden)),))
    text = Outline(render_html(page)).text
    assert "row 1" in text
    assert "row 2" not in text
    assert "Hidden" not in text
    files = write_figures(page, tmp_path)
    assert [path.name for path in files] == [
        f"{name}-table.{kind}" for name in ("shown", "hidden") for kind in ("md", "tex", "csv")
    ]
    assert all("row 4" in path.read_text() for path in files)


def test_no_figure_is_written_where_one_cannot_be(tmp_path: Path) -> None:
    table = Table("shown", "Shown", make_columns("name"), (("row",),))
    (tmp_path / "shown-table.csv").mkdir()
    with pytest.raises(ValueError, match=r"shown-table\.csv is a folder"):
        write_figures(Page("title", (), (Section("s", "S", (table,)),)), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["shown-table.csv"]


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_stand_out(scheme: int) -> None:
    """Text at 4.5 and lines at 3, as WCAG 2 asks, in both schemes."""
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    style = render_html(Page("title", (), ()))
    blocks = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    assert len(blocks) == 2
    colours = dict(re.findall(r"--([\w-]+): (#\w{6})", blocks[scheme]))
    for name in ("ink", "quiet", "link"):
        for paper in ("paper", "raised"):
            assert contrast(colours[name], colours[paper]) >= 4.5, (name, paper)
    assert contrast(colours["warning"], colours["warning-paper"]) >= 4.5
    for number in range(6):
        assert contrast(colours[f"series-{number}"], colours["paper"]) >= 4.5


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_numbers_on_the_fullest_cells_stand_out(scheme: int) -> None:
    colours = dict(
        re.findall(
            r"--([\w-]+): (#\w{6})", re.findall(r":root \{(.*?)\}", render_html(Page("", (), ())), re.DOTALL)[scheme]
        )
    )
    paper = [int(colours["paper"][place : place + 2], 16) for place in (1, 3, 5)]
    for cell in (CORRECT_COLOR, WRONG_COLOR):
        mixed = [round(MAX_OPACITY * part + (1 - MAX_OPACITY) * below) for part, below in zip(cell, paper, strict=True)]
        assert contrast("#" + "".join(f"{part:02x}" for part in mixed), colours["ink"]) >= 4.5


def test_a_terminal_is_told_nothing_that_acts(hostile: Path, cli: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    copytree(hostile / "first", folder)
    (folder / "settings.yaml").write_text(yaml.safe_dump({"data": "\x1b[2Jgone\x07", "model": "m\x1b[31m"}))
    result = cli("report", folder, "-o", tmp_path / "page.html")
    assert result.code == 0
    assert "gone" in result.out
    assert "\x1b" not in result.out + result.err
    assert "\x1b" not in (tmp_path / "page.html").read_text()
