"""The notebooks of docs/notebooks run from the first cell to the last, and show what they say."""

import re
from pathlib import Path
from typing import Any

import pytest

nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed: pip install '.[notebooks]'")
nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed: pip install '.[notebooks]'")
pytest.importorskip("ipykernel", reason="ipykernel is not installed: pip install '.[notebooks]'")

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs" / "notebooks").glob("*.ipynb"))


def run(path: Path, folder: Path) -> str:
    """The text that a notebook shows, cell by cell; an error in a cell raises."""
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    return "\n".join(_read_text(output) for cell in notebook.cells for output in cell.get("outputs", ()))


def _read_text(output: Any) -> str:
    if output.output_type == "stream":
        return str(output.text)
    return str(output.get("data", {}).get("text/plain", ""))


def find_share(text: str, noun: str) -> float:
    """The share in `30 of 40 test videos ...`."""
    match = re.search(rf"(\d+) of (\d+) {noun}", text)
    assert match, text
    return int(match[1]) / int(match[2])


@pytest.mark.long
@pytest.mark.filterwarnings("default")  # of Jupyter's own packages
def test_own_videos(tmp_path: Path) -> None:
    text = run(next(path for path in NOTEBOOKS if path.stem == "own_videos"), tmp_path)
    assert find_share(text, "test videos") > 0.7
    assert "'missing'" in text
    assert text.rstrip().endswith("True")


@pytest.mark.long
@pytest.mark.filterwarnings("default")
def test_own_training_loop(tmp_path: Path) -> None:
    text = run(next(path for path in NOTEBOOKS if path.stem == "own_training_loop"), tmp_path)
    assert find_share(text, "test clips") > 0.7
    match = re.search(r"loss ([\d.]+) at first, ([\d.]+) at last", text)
    assert match
    assert float(match[2]) < float(match[1]) / 2
    assert "StepDone" in text
    assert "ValidationDone" in text


@pytest.mark.long
@pytest.mark.filterwarnings("default")
def test_features_and_timelines(tmp_path: Path) -> None:
    text = run(next(path for path in NOTEBOOKS if path.stem == "features_and_timelines"), tmp_path)
    assert find_share(text, "test videos") > 0.7
    assert "(True, (24, 32, 32, 3))" in text
    assert re.findall(r"s: (left|right)\n", text.partition("written")[0])[-3:] == ["left", "right", "left"]


def test_notebooks_have_no_outputs() -> None:
    assert len(NOTEBOOKS) == 3
    for path in NOTEBOOKS:
        cells = nbformat.read(path, as_version=4).cells
        assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells), path
