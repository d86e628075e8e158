"""Reports in a real browser, headless: nothing overflows, nothing is asked for, everything can be read, light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from browser import Browser, chromium
from muybridge.report.build import build_page as build
from muybridge.report.page import write_page

pytestmark = pytest.mark.long

PAGES = ("run", "comparison", "study", "mistakes")
WIDTHS = (360, 1280)

# Every piece of text that is shown, with its contrast against what lies behind it (WCAG 2); 0 to 255, no transparency in use.
CONTRASTS = """
(() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = (colour) => parts(colour).slice(0, 3).map((part) => part / 255)
    .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, place) => sum + part * [0.2126, 0.7152, 0.0722][place], 0);
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor;
      if (parts(colour)[3] !== 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const text = walker.currentNode.textContent.trim();
    if (!text || !element.checkVisibility() || ["SCRIPT", "STYLE"].includes(element.tagName)) continue;
    const style = getComputedStyle(element);
    const front = element.closest("svg") ? style.fill : style.color;
    const [high, low] = [luminance(front), luminance(behind(element))].sort((a, b) => b - a);
    found.push([(high + 0.05) / (low + 0.05), text]);
  }
  return found;
})()
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture(scope="module", params=PAGES)
def page(
    request: pytest.FixtureRequest, hostile: Path, mistaken_run: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    addresses = {
        "run": [hostile / "first"],
        "comparison": [hostile / "first", hostile / "second"],
        "study": [hostile / "study"],
        "mistakes": [mistaken_run],
    }[request.param]
    path = tmp_path_factory.mktemp("pages") / f"{request.param}.html"
    write_page(build([str(address) for address in addresses], None), path)
    return path


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_page_fits_stands_alone_and_can_be_read(browser: Browser, page: Path, width: int, dark: bool) -> None:
    seen = browser.open(page, width=width, dark=dark)
    assert browser.value("innerWidth") == width
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    asked = {address for address in seen.requests if not address.startswith("data:")}
    assert asked == {page.as_uri()}
    assert seen.complaints == []
    assert browser.value("window.hurt === undefined")
    contrasts = browser.value(CONTRASTS)
    assert len(contrasts) > 20
    assert min(contrasts)[0] >= 4.5, min(contrasts)
    shot = Image.open(BytesIO(seen.screenshot)).convert("RGB")
    assert shot.width == width
    assert (sum(shot.getpixel((width - 1, 1))) < 150) == dark  # type: ignore[arg-type]
    # One of the two drawings of each chart is there, large enough for its letters to be as large as they were drawn.
    drawings = browser.value(
        "[...document.querySelectorAll('svg')].filter((svg) => svg.checkVisibility())"
        ".map((svg) => svg.getBoundingClientRect().width / svg.viewBox.baseVal.width)"
    )
    assert len(drawings) == browser.value("document.querySelectorAll('figure.chart').length")
    assert all(0.95 <= scale <= 1.5 for scale in drawings), drawings


def test_tables_are_sorted_by_a_click_on_a_heading(browser: Browser, page: Path) -> None:
    browser.open(page, width=1280)
    if not browser.value("document.querySelectorAll('th button').length"):
        return  # no table of this page has rows enough
    found = browser.value(
        """
        [...document.querySelectorAll("th button")].flatMap((button) => [1, 2].map(() => {
          button.click();
          const head = button.closest("th"), table = button.closest("table");
          const cells = [...table.tBodies[0].rows].map((row) => row.cells[head.cellIndex].textContent.trim());
          return [head.getAttribute("aria-sort"), head.classList.contains("number"), cells];
        }))
        """
    )
    assert found
    for direction, numeric, cells in found:
        absent = [cell == "-" for cell in cells]
        assert absent == sorted(absent)
        if numeric:
            values = [float(cell.replace(",", "")) for cell in cells if cell != "-"]
            assert values == sorted(values, reverse=direction == "descending")


def test_pictures_stand_still_when_asked(browser: Browser, mistaken_run: Path, tmp_path: Path) -> None:
    write_page(build([str(mistaken_run)], None), tmp_path / "page.html")
    browser.open(tmp_path / "page.html", width=1280)
    shown = "[...document.querySelectorAll('.gallery img')].filter((one) => one.checkVisibility()).map((one) => one.className)"
    assert set(browser.value(shown)) == {"moving"}
    browser.value("document.querySelector('.hold input').click()")
    assert set(browser.value(shown)) == {"held"}
    features = [{"name": "prefers-reduced-motion", "value": "reduce"}]
    browser.value("document.querySelector('.hold input').click()")
    browser.call("Emulation.setEmulatedMedia", media="screen", features=features)
    assert set(browser.value(shown)) == {"held"}
    browser.call("Emulation.setEmulatedMedia", media="print", features=[])
    assert set(browser.value(shown)) == {"held"}


def test_on_paper_no_table_is_cut(browser: Browser, page: Path) -> None:
    browser.open(page, width=1280)
    browser.call("Emulation.setEmulatedMedia", media="print", features=[])
    cut = "[...document.querySelectorAll('.scroll')].filter((one) => one.scrollHeight > one.clientHeight + 1).length"
    assert browser.value(cut) == 0
    assert browser.call("Page.printToPDF")["data"]
