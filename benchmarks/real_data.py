"""The family on real video: cross-validation on UT-Interaction and the ceiling camera, beside what sees no motion.

Input: the folder of real video in MUYBRIDGE_REAL_VIDEO, or --data NAME=LIST.csv with a column `group`. Output: a row for each
fold, seed and network in rows.jsonl, with its fingerprint; the counts of baselines in baselines.json; and tables of both
(--render, which needs no video; --docs writes them into a page). A table is of the data set's recipe and of one version of
the code on one kind of machine: first the one with the most rows, then those that have what it lacks. Other rows are counted
below them and run again.
What is not run is said to be so. Groups are never on both sides: of the ceiling camera each of two rooms is held out once, of
UT-Interaction each fifth of the sequences.

Beside the networks stand the majority class, the nearest neighbour by duration and aspect ratio alone, and f-R2D, which is
blind to the order of frames. Networks have the width and the form of recipe of the laptop studies, from random weights and
(--pretrained, a folder that --pretrain fills) from generated motions, those of the laptop studies with one distractor less
(`CLEARER_MOTIONS`); clips have 8 and 16 frames. R(2+1)D, R3D, R2D and f-R2D come first, then reruns of two of them
for the noise floor, then the other eight networks. The same command goes on where it was stopped.

    MUYBRIDGE_REAL_VIDEO=... python benchmarks/real_data.py -o benchmarks/results/real_data --pretrained MOTIONS --pretrain
    python benchmarks/real_data.py -o benchmarks/results/real_data --render --docs docs/reproduction.md
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from docs_block import replace_block
from harness import describe_environment, parse_count
from muybridge.datasets.rows import find_recording
from muybridge.distributed.stop import StopRequested
from muybridge.evaluation.evaluate import evaluate_split
from muybridge.evaluation.metrics import compute_video_ranks
from muybridge.evaluation.video_scores import read_video_scores
from muybridge.files.atomic import write_json
from muybridge.files.run_folder import append_json_line
from muybridge.loading.open_data import open_data
from muybridge.models.family import FAMILIES
from muybridge.parsing import read_json_object
from muybridge.settings import EvaluateSettings, TrainSettings
from muybridge.studies.catalogue import STUDIES
from muybridge.studies.fingerprint import Version, identify, plan_micro_run
from muybridge.studies.laptop import CLEARER_MOTIONS, build_laptop_settings
from muybridge.studies.noise import NUM_RERUNS
from muybridge.studies.plan import DataSource, PlannedRun, digest, motion_source
from muybridge.studies.run import RunnerConfig, run_study
from muybridge.studies.study import StudyConfig
from muybridge.studies.versions import compute_version, read_versions
from muybridge.training.train import train
from muybridge.weights.card import load_card
from real_data_rows import BASELINES, Run, check_baselines, read_rows
from real_data_sets import (
    SIZE,
    DataSet,
    describe_missing,
    list_data_sets,
    prepare,
    read_list,
    write_list,
)
from real_data_tables import NOISY, Grid, describe_hidden_rows, render_versions, select_versions

TELLING = ("r2plus1d", "r3d", "r2d", "f_r2d")
ORDER = (*TELLING, *(family for family in FAMILIES if family not in TELLING))
LENGTHS = (8, 16)
STARTS = ("scratch", "motions")
CROP = 40  # of frames of SIZE


def plan_runs(data: DataSet, families: Sequence[str], seeds: int) -> Iterator[Run]:
    """All runs of a data set: the most telling networks, reruns for the noise floor, the other networks."""
    folds = range(1, data.num_folds + 1)
    telling = [family for family in families if family in TELLING]
    for chosen in (telling, [family for family in families if family not in TELLING]):
        for frames, start, seed, family, fold in itertools.product(LENGTHS, STARTS, range(seeds), chosen, folds):
            yield Run(data.name, family, frames, start, seed, fold, recipe=data.recipe)
        if chosen is telling:
            noisy = [family for family in telling if family in NOISY]
            for number, family, fold in itertools.product(range(1, NUM_RERUNS), noisy, folds):
                yield Run(data.name, family, LENGTHS[0], STARTS[0], 0, fold, number, data.recipe)


def pretrain(folder: Path, families: Collection[str], seeds: int) -> list[str]:
    """Trains Table 2's networks of these families on `CLEARER_MOTIONS` in `folder`; returns failures, a sentence each."""
    study, config = STUDIES["table2"], StudyConfig("laptop", seeds, motion_source(CLEARER_MOTIONS), "test")
    names = {f"{family}_10" for family in families}
    runs = [run for run in study.runs(config) if run.rerun is None and run.settings.model in names]
    return run_study(study, config, runs, RunnerConfig(folder))


def find_pretrained(folder: Path | None, run: Run) -> Path | None:
    """The weights of Table 2's run of the same network, length and seed, not of a rerun; None where it has not run."""
    if folder is None:
        return None
    settings = replace(build_laptop_settings(f"{run.family}_10", run.frames), seed=run.seed)
    path = folder / "runs" / PlannedRun(settings, motion_source(CLEARER_MOTIONS)).name / "last.safetensors"
    return path if path.is_file() else None


def build_settings(
    run: Run, data: Path, output: Path, num_folds: int, init: Path | None, num_videos: int
) -> TrainSettings:
    """The laptop studies' network and form of recipe, with the batch size, learning rate and epochs of `run.recipe`."""
    recipe, settings = run.recipe, build_laptop_settings(f"{run.family}_10", run.frames)
    training = replace(
        settings.training,
        learning_rate=recipe.learning_rate if init is None else recipe.learning_rate / 2,
        batch_size=recipe.batch_size,
        epochs=recipe.epochs,
        warmup_epochs=recipe.epochs / 5 if init is None else 0.0,
        clips_per_epoch=num_videos,
        validate_every_epochs=0.0,
        rounding_seed=run.rounding,
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


@cache
def _count_training_videos(data: Path, num_folds: int, fold: int) -> int:
    return len(open_data(str(data), num_folds=num_folds, fold=fold).select_split("train"))


def execute(run: Run, settings: TrainSettings, version: Version) -> dict[str, Any]:
    """Trains, from where a stopped run ended, and scores; the row, with a hash in place of each video's name."""
    start_seconds = time.process_time()
    train(settings, resume=True)
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
        _identify_video(video): [classes[labels[0]], bool(rank < 1)]
        for video, labels, rank in zip(scores.videos, scores.labels, ranks, strict=True)
    }
    if len(right) < len(scores.videos):
        raise ValueError(f"videos of {run.data} have the same file name; give each its own")
    return {
        **asdict(run),
        "video_top1": round(100 * result.accuracy.video_top1.of_all.share, 2),
        "videos": right,
        "processor_seconds": round(time.process_time() - start_seconds, 1),
        "environment": describe_environment(),
        "date": time.strftime("%Y-%m-%d"),
        "fingerprint": version.get_fingerprint(_as_planned(settings)),
        "start_sha256": _hash_start(settings),
    }


def _identify_video(video: str) -> str:
    """A hash in place of a name; for a segment, that of its recording before it."""
    recording, name = find_recording(video), digest(Path(video).name)
    return name if recording == video else f"{digest(Path(recording).name)}/{name}"


def _hash_start(settings: TrainSettings) -> str | None:
    """The hash of the weights that a run starts from; None from scratch."""
    return load_card(settings.init).tensors_sha256 if settings.init else None


def name_micro_run(run: Run, data: DataSet) -> str:
    """The name of a run's micro-run, which neither videos nor seeds and folds decide."""
    return _name_micro_run(replace(run, seed=0, fold=1, rounding=0), data.num_folds)


@cache
def _name_micro_run(run: Run, num_folds: int) -> str:
    return plan_micro_run(plan_without_data(run, num_folds)).name


def plan_without_data(run: Run, num_folds: int) -> PlannedRun:
    """The run as fingerprints are made of it, where no video is at hand: they depend on none."""
    init = Path("weights") if run.start == "motions" else None
    return _as_planned(build_settings(run, Path("data"), Path("run"), num_folds, init, num_videos=1))


def _as_planned(settings: TrainSettings) -> PlannedRun:
    """The run as fingerprints are made of it."""
    return PlannedRun(settings, DataSource("real", address=settings.data))


def measure_baselines(data: DataSet, listed: Path) -> dict[str, dict[str, list[Any]]]:
    """video -> [class, right] of each baseline, over all folds."""
    shapes = _read_shapes(data)
    majority_name, shape_name = BASELINES
    results: dict[str, dict[str, list[Any]]] = {name: {} for name in BASELINES}
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
            results[majority_name][name] = [manifest.classes[label], majority == label]
            results[shape_name][name] = [manifest.classes[label], nearest[index] == label]
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


def load_baselines(data: DataSet, output: Path, rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[Any]]]:
    """The baselines of a data set, measured where its list is there, else as baselines.json has them."""
    path = output / "baselines.json"
    stored: dict[str, dict[str, dict[str, list[int]]]] = read_json_object(path) if path.exists() else {}
    if data.path.exists():
        listed = write_list(data, output / "work" / f"{data.name}.csv")
        stored[data.name] = {name: _count_right(videos) for name, videos in measure_baselines(data, listed).items()}
        write_json(path, stored)
    if data.name not in stored:
        raise ValueError(f"{output / 'baselines.json'} has no {data.name}, and its list {describe_missing(data)}")
    check_baselines(stored[data.name], f"the baselines of {data.name} in {path}", rows, data.num_folds)
    return {
        name: {
            f"{label}/{index}": [label, index < right] for label, (right, num) in counts.items() for index in range(num)
        }
        for name, counts in stored[data.name].items()
    }


def _count_right(videos: dict[str, list[Any]]) -> dict[str, list[int]]:
    """class -> how many of its videos are right, and how many there are."""
    counts = {label: [0, 0] for label in sorted({label for label, _ in videos.values()})}
    for label, is_right in videos.values():
        counts[label][0] += bool(is_right)
        counts[label][1] += 1
    return counts


def plan_all(
    sets: Sequence[DataSet], families: Sequence[str], args: argparse.Namespace
) -> list[tuple[Run, TrainSettings]]:
    """The runs of all data sets whose weights to start from are there; the most telling networks of every set come first."""
    planned = []
    for data in sets:
        prepared, num_waiting = prepare(data, args.output / "work"), 0
        for run in plan_runs(data, families, args.seeds):
            init = find_pretrained(args.pretrained, run) if run.start == "motions" else None
            if run.start == "scratch" or init is not None:
                num_videos = _count_training_videos(prepared, data.num_folds, run.fold)
                settings = build_settings(run, prepared, Path(run.name), data.num_folds, init, num_videos)
                planned.append((run, settings))
            else:
                num_waiting += run.family in args.families
        if num_waiting:
            reason = (
                f"{args.pretrained} has not their weights" if args.pretrained else "--pretrained names their weights"
            )
            print(f"{data.name}: {num_waiting} runs from motions left out: {reason}", flush=True)
    return sorted(planned, key=lambda item: item[0].family not in TELLING)


def pretrain_or_stop(args: argparse.Namespace) -> None:
    """Trains what --pretrained lacks. SystemExit where a signal stops it or a training fails."""
    try:
        failures = pretrain(args.pretrained, args.families, args.seeds)
    except StopRequested as stopped:
        print(f"{stopped}; the same command goes on", flush=True)
        raise SystemExit(stopped.exit_code) from None
    if failures:
        raise SystemExit("\n".join(failures))


def run_missing(sets: Sequence[DataSet], args: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    """Runs what has no row of this version, as long as there is time; appends to `rows` and rows.jsonl.

    The version is measured of networks that have rows as well, so that a table has those and the new ones.
    """
    deadline = time.monotonic() + 60 * args.minutes
    families = [name for name in ORDER if name in {*args.families, *(row["family"] for row in rows)}]
    planned = plan_all(sets, families, args)
    version = compute_version(
        [_as_planned(settings) for _, settings in planned],
        args.output,
        num_threads=torch.get_num_threads(),
        python=(sys.executable,),
        record=True,
    )
    own = [row for row in rows if version.matches(row.get("fingerprint"))]
    done = {Run.from_row(row) for row in own}
    starts = {Run.from_row(row).without_fold: row.get("start_sha256") for row in own}
    for run, settings in planned:
        start_sha256 = _hash_start(settings)
        if starts.setdefault(run.without_fold, start_sha256) != start_sha256:
            raise ValueError(
                f"{args.output / 'rows.jsonl'} has rows of {run.name} from other weights than {settings.init}; "
                "start from those, or begin in another folder"
            )
        if run.family not in args.families or run in done or time.monotonic() > deadline:
            continue
        # What another version has trained, or from other weights, lies in another folder.
        fingerprint = identify(version.get_fingerprint(_as_planned(settings)))
        folder = f"{run.name}-{digest([fingerprint, start_sha256])}"
        settings = replace(settings, output=str(args.output / "work" / "runs" / folder))
        try:
            rows.append(execute(run, settings, version))
        except StopRequested as stopped:
            print(f"{stopped}; the same command goes on", flush=True)
            raise SystemExit(stopped.exit_code) from None
        append_json_line(args.output / "rows.jsonl", rows[-1])
        print(run.name, rows[-1]["video_top1"], flush=True)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="the folder of rows, baselines and runs")
    parser.add_argument(
        "--data", action="append", default=[], metavar="NAME=LIST.csv", help="in place of the real sets"
    )
    parser.add_argument("--pretrained", type=Path, help="the folder of weights that runs from motions start from")
    parser.add_argument("--pretrain", action="store_true", help="train what --pretrained lacks, before all else")
    families = {"default": list(ORDER), "choices": list(FAMILIES), "metavar": "FAMILY", "help": "all twelve by default"}
    parser.add_argument("--families", nargs="+", **families)
    parser.add_argument("--seeds", type=parse_count, default=3, help="seeds of each network (3)")
    parser.add_argument("--minutes", type=float, default=60, help="start no run after so many (60)")
    parser.add_argument("--render", action="store_true", help="print the tables of the rows, and run nothing")
    parser.add_argument("--docs", type=Path, help="a page whose blocks `real_data NAME` are replaced by the tables")
    args = parser.parse_args(argv)
    if args.pretrain and args.pretrained is None:
        parser.error("--pretrain trains weights into a folder; name it by --pretrained")
    try:
        run_and_render(args)
    except (ValueError, OSError) as error:
        parser.error(str(error))


def run_and_render(args: argparse.Namespace) -> None:
    """Runs what is missing of each data set, and prints its tables."""
    (args.output / "work").mkdir(parents=True, exist_ok=True)
    sets = list_data_sets(args.data)
    rows = read_rows(args.output / "rows.jsonl", sets, name_micro_run)
    if not args.render:
        if args.pretrain:
            pretrain_or_stop(args)
        run_missing(sets, args, rows)
    for data in sets:
        own = [row for row in rows if row["data"] == data.name and row["seed"] < args.seeds]
        same = [row for row in own if Run.from_row(row).recipe == data.recipe]
        groups = select_versions(same, read_versions(args.output), data.num_folds)
        grid, shown = Grid(data.num_folds, args.seeds, ORDER, LENGTHS, STARTS), [row for rows in groups for row in rows]
        tables = render_versions(groups, load_baselines(data, args.output, shown), grid)
        note = describe_hidden_rows(shown, own)
        text = f"{tables}\n\n{note}" if note else tables
        print(f"\n{data.name}: {data.num_folds} folds of {data.held_out}, video@1 and recall by class in percent\n")
        print(text, flush=True)
        if args.docs:
            replace_block(args.docs, f"real_data {data.name}", text)


if __name__ == "__main__":
    main()
