from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from muybridge.report.build import build_page as build
from muybridge.report.charts import LineChart
from muybridge.report.document import Gallery, Page, Paragraph
from muybridge.report.page import render_html

STUDY: dict[str, Any] = {
    "format": 1,
    "name": "table2",
    "title": "Table 2",
    "claim": "R(2+1)D is ahead.",
    "verdict": {"text": "By 3 points.", "supported": True},
    "scale": "laptop",
    "environment": {"processor": "x"},
    "tables": [
        {
            "title": "Video@1, 8 frames",
            "columns": ["network", "ours"],
            "rows": [["R2D", 30.25], ["R3D", None]],
            "note": "n",
        }
    ],
    "figures": [
        {
            "title": "Error",
            "x_label": "epoch",
            "y_label": "%",
            "series": [{"label": "R3D", "x": [1, 2], "y": [3, None], "low": None, "high": None, "style": "line"}],
            "alt": "falls",
        }
    ],
    "images": [{"title": "f", "pixels": [[0, 255]], "alt": "a"}],
    "rows": [{"run": "r3d-0", "settings": {"width": 8}}, {"run": "r3d-1", "commit": "abc", "seed": 1}],
    "missing": [],
}


@pytest.fixture
def page_of(tmp_path: Path) -> Callable[..., Page]:
    def build_page(**changes: Any) -> Page:
        (tmp_path / "study.json").write_text(json.dumps({**STUDY, **changes}))
        return build([str(tmp_path)], None)

    return build_page


def page_text(page: Page) -> str:
    blocks = [block for section in page.sections for block in section.blocks]
    return " ".join(text.text for text in (*page.lead, *blocks) if isinstance(text, Paragraph))


def test_claim_verdict_and_what_was_run(page_of: Callable[..., Page]) -> None:
    page = page_of()
    assert [text.text for text in page.lead] == [
        "Claim: R(2+1)D is ahead.",
        "The runs support the claim.",
        "By 3 points.",
    ]
    assert "All planned runs are included." in page_text(page)
    tables = {table.name: table for table in page.tables}
    assert tables["1-video-1-8-frames"].rows == (("R2D", 30.25), ("R3D", None))
    assert [column.title for column in tables["runs"].columns] == ["run", "settings.width", "commit", "seed"]
    assert tables["runs"].rows == (("r3d-0", "8", None, None), ("r3d-1", None, "abc", 1))
    (chart,) = page.charts
    assert isinstance(chart, LineChart)
    assert chart.series[0].y[0] == 3
    assert page.summary["study"] == "table2"


def test_runs_are_counted_once_and_the_version_is_a_sentence(page_of: Callable[..., Page]) -> None:
    rows = [{"run": f"r3d-{seed}", "test": test} for seed in range(3) for test in ("8f", "16f")]
    page = page_of(rows=rows, version="all rows are of one version")
    titles = {table.name: table.title for table in page.tables}
    assert titles["runs"] == "3 runs, 6 tests"
    assert "All rows are of one version." in page_text(page)
    assert {table.name: table.title for table in page_of().tables}["runs"] == "2 runs"


@pytest.mark.parametrize(("supported", "said"), [(False, "do not support"), (None, "do not decide")])
def test_other_verdicts(supported: bool | None, said: str, page_of: Callable[..., Page]) -> None:
    page = page_of(verdict={"text": "", "supported": supported}, missing=["r3d seed 2", "r2d seed 0"])
    assert said in page.lead[1].text
    assert page.lead[1].role == "warning"
    assert "Not run, 2: r3d seed 2; r2d seed 0." in page_text(page)


def test_nothing_run_yet(page_of: Callable[..., Page]) -> None:
    page = page_of(tables=[], figures=[], images=[], rows=[], environment={})
    assert [section.name for section in page.sections] == ["runs-made"]


def test_many_missing_runs_are_counted(page_of: Callable[..., Page]) -> None:
    assert "Not run, 40: run 0; " in page_text(page_of(missing=[f"run {number}" for number in range(40)]))
    assert "run 5; and 34 more." in page_text(page_of(missing=[f"run {number}" for number in range(40)]))


def test_what_has_no_run_is_no_chart(page_of: Callable[..., Page]) -> None:
    empty = {"label": "R3D", "x": [], "y": [], "low": [], "high": [], "style": "line"}
    page = page_of(figures=[{**STUDY["figures"][0], "series": [empty]}])
    assert page.charts == ()
    assert "Error: none of its runs exist yet." in page_text(page)
    half = page_of(figures=[{**STUDY["figures"][0], "series": [empty, *STUDY["figures"][0]["series"]]}])
    assert "<svg" in render_html(half)


def test_numbers_of_a_column_have_as_many_decimals(page_of: Callable[..., Page]) -> None:
    rows = [["a", 68.0, 7, 0.123456], ["b", 59.5, 12, None]]
    page = page_of(tables=[{"title": "T", "columns": ["n", "x", "k", "y"], "rows": rows, "note": ""}])
    assert page.tables[0].format_rows() == [["a", "68.0", "7", "0.123"], ["b", "59.5", "12", "-"]]


def test_a_broad_picture_has_a_row_for_itself(page_of: Callable[..., Page]) -> None:
    page = page_of(images=[{"title": "m", "pixels": [[0] * 9] * 2, "alt": "a"}, *STUDY["images"]])
    (gallery,) = [block for section in page.sections for block in section.blocks if isinstance(block, Gallery)]
    assert [picture.is_wide for picture in gallery.items] == [True, False]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tables": {}, "verdict": []}, "verdict of the study is not a JSON object"),
        ({"tables": "x"}, "the study's tables are not a list"),
        ({"tables": [{"title": "T", "columns": ["a"], "rows": [[{}]]}]}, "'T' has a cell that is neither"),
        ({"tables": [{"title": "T", "columns": ["a"], "rows": [[1, 2]]}]}, "'T' has a row of 2 cells under 1"),
        ({"tables": [{"title": "T"}]}, "the columns of 'T' are not a list"),
        ({"figures": [{"title": "F", "series": [{"x": ["a"], "y": [1]}]}]}, "'F' has values that are not numbers"),
        ({"figures": [{"title": "F", "series": [{"label": "s", "x": [1, 2], "y": [1]}]}]}, "'s' has 2 x for 1"),
        ({"images": [{"title": "I", "pixels": [[1], [1, 2]]}]}, "the picture 'I' is not an image"),
        ({"images": [{"title": "I", "pixels": [[300]]}]}, "the picture 'I' is not an image"),
        ({"images": [{"title": "I"}]}, "the picture 'I' is not an image"),
        ({"missing": "x"}, "the study's missing runs are not a list"),
        ({"rows": [1]}, "rows 1 of the study is not a JSON object"),
    ],
)
def test_parts_of_the_wrong_shape_are_named(
    changes: dict[str, Any], message: str, page_of: Callable[..., Page]
) -> None:
    with pytest.raises(ValueError, match=message):
        page_of(**changes)


def test_the_noise_floor_and_rows_of_another_version_are_shown(page_of: Callable[..., Page]) -> None:
    page = page_of(
        stale=["r3d seed 0"],
        version="all rows shown are of one version",
        noise={"sentence": "Noise floor: 1.0 points."},
    )
    text = page_text(page)
    assert "Noise floor: 1.0 points." in text and "All rows shown are of one version" in text
    assert "so neither shown nor judged, run again, 1: r3d seed 0." in text
    assert "All planned runs are included." not in text
