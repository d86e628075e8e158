"""The real data sets that `real_data.py` and `recipe_parts.py` run on: lists of videos with groups, prepared once."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from muybridge.cli.main import main as run_command

SIZE = (48, 64)  # height and width of prepared frames


@dataclass(frozen=True)
class Recipe:
    """How networks are trained on a data set. An epoch has one clip of each training video.

    The learning rate is that from scratch; from pre-trained weights it is half of that.
    """

    epochs: float
    batch_size: int
    learning_rate: float


FIRST_RECIPE = Recipe(20.0, 8, 2.7e-3)  # that of rows without one
LONGER_RECIPE = Recipe(60.0, 24, 5.4e-3)  # by the loss on training clips, seed 100: the first leaves it near chance


@dataclass(frozen=True)
class DataSet:
    """A list of videos or segments with groups, and into how many folds the groups go. `held_out` names them in tables."""

    name: str
    path: Path
    num_folds: int
    held_out: str
    group_column: str = "group"
    recipe: Recipe = FIRST_RECIPE


def list_data_sets(given: Sequence[str]) -> list[DataSet]:
    """Those of --data, else the two of MUYBRIDGE_REAL_VIDEO."""
    if given:
        pairs = [argument.partition("=") for argument in given]
        for name, equals, path in pairs:
            if not (name and equals and path):
                raise ValueError(f"--data is {name}{equals}{path}, expected NAME=LIST.csv")
        return [DataSet(name, Path(path), 2, "groups") for name, _, path in pairs]
    root = Path(os.environ.get("MUYBRIDGE_REAL_VIDEO", ""))
    return [
        DataSet("ceiling_camera", root / "ceiling_camera" / "segments.csv", 2, "rooms", "split"),
        DataSet("ut_interaction", root / "ut_interaction" / "manifest.csv", 5, "sequences", recipe=LONGER_RECIPE),
    ]


def read_list(data: DataSet) -> list[dict[str, str]]:
    """The rows of the list. ValueError for a list without the columns that are needed."""
    with data.path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    missing = [name for name in ("path", "label", data.group_column) if not rows or name not in rows[0]]
    if missing:
        raise ValueError(f"{data.path} has no column {', '.join(missing)}; videos of a group are held out together")
    return rows


def write_list(data: DataSet, path: Path) -> Path:
    """The list without its split, with absolute paths, `group` being what is held out."""
    rows = []
    for row in read_list(data):
        kept = {name: row[name] for name in ("label", "start_seconds", "end_seconds") if name in row}
        rows.append({"path": str(data.path.parent.resolve() / row["path"]), **kept, "group": row[data.group_column]})
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def prepare(data: DataSet, folder: Path) -> Path:
    """The videos at 15 frames a second and the size of the studies, prepared once."""
    target = folder / "data" / data.name
    if not target.exists():
        if not data.path.is_file():
            raise ValueError(describe_missing(data))
        target.parent.mkdir(parents=True, exist_ok=True)
        listed = write_list(data, folder / f"{data.name}.csv")
        options = ["--fps", "15", "--scale", str(SIZE[0]), str(SIZE[1]), "--workers", "1"]
        if run_command(["prepare", str(listed), "-o", str(target), *options]) not in (0, 3):
            raise RuntimeError(f"{data.path} cannot be prepared")
    return target


def describe_missing(data: DataSet) -> str:
    return f"{data.path} does not exist; set MUYBRIDGE_REAL_VIDEO to the folder of real video, or give --data NAME=LIST.csv"
