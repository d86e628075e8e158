"""Generated videos for tasks other than single_label: two squares, each of which moves to the right or stands still.

The target of a regression is the speed of the upper square, and the level of an ordinal target its speed in steps.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from muybridge.records import Task
from muybridge.synthetic.dataset import write_intra_video

SIZE, NUM_FRAMES, SQUARE = 32, 8, 7
NUM_VIDEOS = {"train": 48, "validation": 12, "test": 16}


def render_squares(speeds: tuple[float, float], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Two squares at these speeds, in pixels a frame, from a random start: uint8 (T, H, W, 3)."""
    frames = rng.integers(90, 110, size=(NUM_FRAMES, SIZE, SIZE, 3)).astype(np.uint8)
    for speed, row in zip(speeds, (4, 20), strict=True):
        start = rng.uniform(0, max(1.0, SIZE - SQUARE - speed * (NUM_FRAMES - 1)))
        for index in range(NUM_FRAMES):
            left = round(start + speed * index)
            frames[index, row : row + SQUARE, left : left + SQUARE] = 230
    return frames


def describe_targets(task: Task, speeds: tuple[float, float]) -> dict[str, str]:
    """The columns of a list for a video."""
    match task:
        case "multi_label":
            names = [name for name, speed in zip(("upper", "lower"), speeds, strict=True) if speed > 0]
            return {"label": "|".join(names)}
        case "regression":
            return {"label": f"{speeds[0]:.4f}"}
        case "ordinal":
            return {"label": ("still", "slow", "fast")[round(speeds[0])]}
        case _:
            return {"label": "moves" if speeds[0] else "still"}


def write_task_data(
    folder: Path,
    task: Task,
    *,
    num_videos: Mapping[str, int] = NUM_VIDEOS,
    describe: Callable[[Task, tuple[float, float]], dict[str, str]] = describe_targets,
) -> Path:
    """A list of generated videos with the targets of a task, and the videos."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    rows = []
    for split, count in num_videos.items():
        for index in range(count):
            if task == "regression":
                speeds = (float(rng.uniform(0, 3)), float(rng.integers(0, 2) * 2))
            elif task == "ordinal":
                speeds = (float(index % 3), float(rng.integers(0, 2) * 2))
            else:
                speeds = (2.0 * (index % 2), 2.0 * (index // 2 % 2))
            name = f"{split}-{index:03d}.mp4"
            write_intra_video(folder / name, render_squares(speeds, rng), frames_per_second=8)
            rows.append({"path": name, "split": split, "group": f"g{index // 4}", **describe(task, speeds)})
    path = folder / f"{task}.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path
