"""The curve of docs/studio.md: a line and a band for each strategy, where the numbers are."""

from __future__ import annotations

import copy
import json
import re

import pytest

from scripts import BENCHMARKS, load_script

pytest.importorskip("fastapi")


def test_the_curve_is_drawn_from_the_numbers() -> None:
    corrections = load_script("corrections")
    (path,) = (BENCHMARKS / "results").glob("*-corrections.json")
    results = json.loads(path.read_text())["results"]
    drawn = corrections.draw_curves(results)
    assert len(re.findall(r'id="\w*PolyCollection', drawn)) == len(
        corrections.DRAWN
    )  # intervals; matplotlib renamed them
    others = copy.deepcopy(results)
    others["curves"]["doubt"]["accuracy"]["40"]["mean"] = 0.9
    assert corrections.draw_curves(others) != drawn
    others["curves"]["margin"] = {}  # is not drawn
    others["curves"]["doubt"] = results["curves"]["doubt"]
    assert corrections.draw_curves(others) == drawn
