"""The family on real video: cross-validation on UT-Interaction and the ceiling camera, beside what sees no motion.

Input: the folder of real video in MUYBRIDGE_REAL_VIDEO, or --data NAME=LIST.csv with a column `group`. Output: a row for each
fold, seed and network in rows.jsonl, and tables made from them (--render). What is not run is said to be so. Groups are never
on both sides: of the ceiling camera each of two rooms is held out once, of UT-Interaction each fifth of the sequences.

Beside the networks stand the majority class, the nearest neighbour by duration and aspect ratio alone, and f-R2D, which is
blind to the order of frames. Networks have the width and the recipe of the laptop studies, from random weights and
(--pretrained, a folder of `muybridge study table2`) from generated motions.

    MUYBRIDGE_REAL_VIDEO=... python benchmarks/real_data.py -o benchmarks/results/real_data --minutes 60
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import describe_environment
from muybridge.cli.main import main as run_command
from muybridge.evaluation.evaluate import evaluate_split
from muybridge.evaluation.metrics import compute_video_ranks
from muybridge.evaluation.video_scores import read_video_scores
from muybridge.loading.open_data import open_data
from muybridge.models.family import FAMILIES
from muybridge.settings import EvaluateSettings, TrainSettings
from muybridge.studies.intervals import estimate_mean
from muybridge.studies.laptop import build_laptop_settings
from muybridge.studies.plan import digest
from muybridge.training.train import train

TELLING = ("r2plus1d", "r3d", "r2d", "f_r2d")
ORDER = (*TELLING, *(family for family in FAMILIES if family not in TELLING))
LENGTHS = (8, 16)
STARTS = ("scratch", "motions")
SIZE, CROP = (48, 64), 40
EPOCHS, BATCH = 20.0, 8  # passes over the training videos, one clip each
RATES = {"scratch": 2.7e-3, "motions": 1.35e-3}  # as the laptop studies train and fine-tune


@dataclass(frozen=True)
class DataSet:
    """A list of videos or segments with groups, and into how many folds the groups go. `held_out` names them in tables."""

    name: str
    path: Path
    num_folds: int
    held_out: str
    group_column: str = "group"


def list_data_sets(given: Sequence[str]) -> list[DataSet]:
    """Those of --data, else the two of MUYBRIDGE_REAL_VIDEO."""
    if given:
        pairs = [argument.partition("=") for argument in given]
        return [DataSet(name, Path(path), 2, "groups") for name, _, path in pairs]
    root = Path(os.environ["MUYBRIDGE_REAL_VIDEO"])
    return [
        DataSet("ceiling_camera", root / "ceiling_camera" / "segments.csv", 2, "rooms", "split"),
        DataSet("ut_interaction", root / "ut_interaction" / "manifest.csv", 5, "sequences"),
    ]


@dataclass(frozen=True)
class Run:
    """One row: a network trained on all folds but one, and scored on that one."""

    data: str
    family: str
    frames: int
    start: str
    seed: int
    fold: int


def plan_runs(data: DataSet, families: Sequence[str], seeds: int) -> Iterator[Run]:
    """All runs of a data set, the most telling first."""
    cells = itertools.product(LENGTHS, STARTS, range(seeds), families, range(1, data.num_folds + 1))
    for frames, start, seed, family, fold in cells:
        yield Run(data.name, family, frames, start, seed, fold)


def read_list(data: DataSet) -> list[dict[str, str]]:
    """The rows of the list."""
    with data.path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


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
        target.parent.mkdir(parents=True, exist_ok=True)
        listed = write_list(data, folder / f"{data.name}.csv")
        options = ["--fps", "15", "--scale", str(SIZE[0]), str(SIZE[1]), "--workers", "1"]
        if run_command(["prepare", str(listed), "-o", str(target), *options]) not in (0, 3):
            raise RuntimeError(f"{data.path} cannot be prepared")
    return target


def find_pretrained(folder: Path | None, run: Run) -> Path | None:
    """The weights of the study's run of the same network, length and seed; None where it has not run."""
    pattern = f"runs/{run.family}_10-{run.frames}f-seed{run.seed}-*/last.safetensors"
    return next(iter(sorted(folder.glob(pattern))), None) if folder else None


def build_settings(run: Run, data: Path, output: Path, num_folds: int, init: Path | None) -> TrainSettings:
    """The laptop studies' network and recipe, in smaller batches, for so many passes over the training folds."""
    settings = build_laptop_settings(f"{run.family}_10", run.frames)
    train_videos = len(open_data(str(data), num_folds=num_folds, fold=run.fold).select_split("train"))
    training = replace(
        settings.training,
        learning_rate=RATES[run.start],
        batch_size=BATCH,
        epochs=EPOCHS,
        warmup_epochs=EPOCHS / 5 if init is None else 0.0,
        clips_per_epoch=train_videos,
        validate_every_epochs=0.0,
    )
    return replace(
        settings,
        data=str(data),
        output=str(output),
        init=None if init is None else str(init),
        seed=run.seed,
        num_folds=num_folds,
        fold=run.fold,
        validation="none",  # the last weights are scored: nothing is chosen by test videos
        clips=replace(settings.clips, scale=SIZE, crop=CROP, frames_per_second=15.0, mirror=True),
        training=training,
    )


def execute(run: Run, settings: TrainSettings) -> dict[str, Any]:
    """Trains and scores; the row, with a hash in place of each video's name."""
    start_seconds = time.process_time()
    train(settings)
    scoring = EvaluateSettings(
        data=settings.data,
        num_folds=settings.num_folds,
        fold=settings.fold,
        seed=settings.seed,
        validation="none",
        device="cpu",
        evaluation=settings.evaluation,
        loading=settings.loading,
    )
    path = Path(settings.output, "scores", "test.parquet")
    result = evaluate_split(Path(settings.output, "last.safetensors"), scoring, path)
    scores = read_video_scores(path)
    ranks = compute_video_ranks(scores)
    classes = scores.header.classes
    right = {
        digest(Path(video).name): [classes[labels[0]], bool(rank < 1)]
        for video, labels, rank in zip(scores.videos, scores.labels, ranks, strict=True)
    }
    return {
        **asdict(run),
        "video_top1": round(100 * result.accuracy.video_top1.of_all.share, 2),
        "videos": right,
        "processor_seconds": round(time.process_time() - start_seconds, 1),
        "environment": describe_environment(),
        "date": time.strftime("%Y-%m-%d"),
    }


def measure_baselines(data: DataSet, listed: Path) -> dict[str, dict[str, list[Any]]]:
    """video -> [class, right] of each baseline, over all folds."""
    shapes = _read_shapes(data)
    results: dict[str, dict[str, list[Any]]] = {"majority class": {}, "duration and aspect ratio alone": {}}
    for fold in range(1, data.num_folds + 1):
        manifest = open_data(str(listed), num_folds=data.num_folds, fold=fold)
        parts = [manifest.select_split(split) for split in ("train", "test")]
        labels = [[part.get_labels(index)[0] for index in range(len(part))] for part in parts]
        features = [np.array([shapes[_identify(part, index)] for index in range(len(part))]) for part in parts]
        scale = features[0].std(0)
        train_features, test_features = (values / np.where(scale > 0, scale, 1) for values in features)
        majority = Counter(labels[0]).most_common(1)[0][0]
        distances = np.square(test_features[:, None] - train_features[None]).sum(2)
        nearest = [labels[0][index] for index in distances.argmin(1)]
        for index, label in enumerate(labels[1]):
            name = f"{fold}/{index}"
            results["majority class"][name] = [manifest.classes[label], majority == label]
            results["duration and aspect ratio alone"][name] = [manifest.classes[label], nearest[index] == label]
    return results


def _identify(manifest: Any, index: int) -> tuple[str, float]:
    return str(manifest.get_path(index)), round(float(manifest.get_bounds(index)[0] or 0.0), 3)


def _read_shapes(data: DataSet) -> dict[tuple[str, float], NDArray[np.float64]]:
    """Logarithms of duration and aspect ratio, as far as the list has them, by path and start."""
    shapes = {}
    for row in read_list(data):
        start = float(row.get("start_seconds") or 0.0)
        seconds = float(row["end_seconds"]) - start if row.get("end_seconds") else 1.0
        if row.get("num_frames"):
            seconds = float(row["num_frames"]) / float(row["fps"])
        aspect = float(row["width"]) / float(row["height"]) if row.get("width") else 1.0
        path = str(data.path.parent.resolve() / row["path"])
        shapes[path, round(start, 3)] = np.log([max(seconds, 1e-3), aspect])
    return shapes


def render(data: DataSet, rows: Sequence[dict[str, Any]], baselines: dict[str, Any], seeds: int) -> str:
    """Two tables in Markdown: accuracy with intervals over videos and seeds, and recall by class."""
    own = [row for row in rows if row["data"] == data.name]
    by_cell: dict[tuple[str, int, str], dict[int, dict[int, Any]]] = defaultdict(lambda: defaultdict(dict))
    for row in own:
        by_cell[row["family"], row["frames"], row["start"]][row["seed"]][row["fold"]] = row["videos"]
    classes = sorted({name for name, _ in next(iter(baselines.values())).values()})
    lines = [
        f"| network | frames | start | runs | video@1 | {' | '.join(classes)} |",
        "|---" * (5 + len(classes)) + "|",
    ]
    for name, videos in baselines.items():
        lines.append(f"| {name} | | | | {_share(videos):.1f} | {_list_recalls([videos], classes)} |")
    not_run: dict[str, list[str]] = defaultdict(list)
    for frames, start, family in itertools.product(LENGTHS, STARTS, ORDER):
        by_seed = by_cell.get((family, frames, start), {})
        whole = {seed: folds for seed, folds in by_seed.items() if len(folds) == data.num_folds}
        pooled = [
            {f"{fold}/{video}": result for fold in sorted(folds) for video, result in folds[fold].items()}
            for _, folds in sorted(whole.items())
        ]
        num_runs = sum(len(folds) for folds in by_seed.values())
        progress = f"{num_runs} of {seeds * data.num_folds}"
        if not pooled:
            not_run[f"{frames} frames from {start}"].append(family)
            continue
        estimate = estimate_mean([[100.0 * right for _, right in videos.values()] for videos in pooled])
        assert estimate is not None, "there is a seed"
        recalls = _list_recalls(pooled, classes)
        lines.append(f"| {family} | {frames} | {start} | {progress} | {estimate.format()} | {recalls} |")
    missing = "; ".join(f"{', '.join(families)} ({setting})" for setting, families in not_run.items())
    return "\n".join([*lines, "", f"Not run: {missing or 'nothing'}."])


def _share(videos: dict[str, Any]) -> float:
    return 100 * float(np.mean([right for _, right in videos.values()]))


def _list_recalls(results: Sequence[dict[str, Any]], classes: Sequence[str]) -> str:
    """The share that is right of each class, in percent, over all seeds."""
    found: dict[str, list[bool]] = defaultdict(list)
    for videos in results:
        for name, right in videos.values():
            found[name].append(right)
    return " | ".join(f"{100 * float(np.mean(found[name])):.0f}" for name in classes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--data", action="append", default=[], metavar="NAME=LIST.csv")
    parser.add_argument("--pretrained", type=Path, help="the folder of a study, for runs that start from motions")
    parser.add_argument("--families", nargs="+", default=list(TELLING))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=60, help="start no run after so many")
    parser.add_argument(
        "--render", action="store_true", help="print the tables of the rows that are there, and run nothing"
    )
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    work, rows_file = args.output / "work", args.output / "rows.jsonl"
    rows = [json.loads(line) for line in rows_file.read_text().splitlines()] if rows_file.exists() else []
    deadline = time.monotonic() + 60 * args.minutes
    for data in list_data_sets(args.data):
        work.mkdir(exist_ok=True)
        listed = write_list(data, work / f"{data.name}.csv")
        done = {tuple(row[field.name] for field in fields(Run)) for row in rows}
        for run in [] if args.render else plan_runs(data, args.families, args.seeds):
            init = find_pretrained(args.pretrained, run) if run.start == "motions" else None
            is_ready = run.start == "scratch" or init is not None
            if tuple(asdict(run).values()) in done or not is_ready or time.monotonic() > deadline:
                continue
            name = "-".join(str(value) for value in asdict(run).values())
            settings = build_settings(run, prepare(data, work), work / "runs" / name, data.num_folds, init)
            rows.append(execute(run, settings))
            with rows_file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(rows[-1]) + "\n")
            print(name, rows[-1]["video_top1"], flush=True)
        baselines = measure_baselines(data, listed)
        print(f"\n{data.name}: {data.num_folds} folds of {data.held_out}, video@1 and recall by class in percent\n")
        print(render(data, rows, baselines, args.seeds), flush=True)


if __name__ == "__main__":
    main()
