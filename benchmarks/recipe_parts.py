"""The later recipe (docs/training.md) part by part: each added to the paper's recipe, and all at once, at equal clips seen.

Input: generated motions, made there, and the real sets of MUYBRIDGE_REAL_VIDEO (the ceiling camera with each of two rooms held
out once, UT-Interaction in five folds of its sequences). Output, in the folder of -o: rows.jsonl with fingerprints, and for
each data set recipe_parts-NAME/study.json, which `muybridge report` shows. Differences from the paper's recipe are paired by
seed and video (of segments, by recording), and judged beyond the noise floor. What has a row is not run again, so a run that
was stopped goes on:

    MUYBRIDGE_REAL_VIDEO=... python benchmarks/recipe_parts.py -o benchmarks/results/recipe_parts --jobs 2
    python benchmarks/recipe_parts.py -o benchmarks/results/recipe_parts --render --docs docs/training.md

Networks have the width of the laptop studies and the paper's form of recipe: SGD, warm-up for 10/45 of the clips, decays at 20,
30 and 40 of 45.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from docs_block import replace_block
from harness import parse_count
from muybridge.distributed.stop import StopRequested
from muybridge.loading.open_data import open_data
from muybridge.models.family import FAMILIES as ALL_FAMILIES
from muybridge.settings import TrainSettings
from muybridge.studies.claims import compare, conclude
from muybridge.studies.laptop import CLEARER_MOTIONS, STUDY_CLIPS, build_laptop_settings
from muybridge.studies.plan import DataSource, EvaluationSpec, PlannedRun, RunGroup, motion_source, with_seeds
from muybridge.studies.render import format_study, write_study
from muybridge.studies.rows import read_rows
from muybridge.studies.run import RunnerConfig, build_config, find_current_version, run_study
from muybridge.studies.study import Grid, GridResults, Row, Study, StudyConfig, StudyTable, Verdict
from muybridge.studies.tables import METRICS
from muybridge.training.recipes import build_train_settings, read_training_recipe
from muybridge.training.schedule import build_schedule
from real_data import CROP
from real_data_sets import SIZE, list_data_sets, prepare

FAMILIES = ("r2plus1d", "r3d")
LENGTH, LONG = 8, 16
RATE = 0.13  # for 32 clips: networks of width 8 and few steps; the paper's 0.01 is for width 64 and a million steps
STEPS = 375  # as the laptop studies; the moving average of the modern recipe spans a twentieth of them
EMA_DECAY = 1 - 20 / STEPS


@dataclass(frozen=True)
class Part:
    """Settings of the training group that are added to the paper's recipe, and where they are from."""

    name: str
    training: Mapping[str, Any]
    source: str


_SHRUNK = {"multigrid": [[0.5, LENGTH, 2 * round(CROP * 80 / 112 / 2)]]}  # as modern_kinetics400_*: 80 of 112 pixels
PAPER = Part("paper", {}, "Tran et al., CVPR 2018")
MODERN = Part(
    "modern",
    {
        **{name: value for name, value in read_training_recipe("modern")["training"].items() if "epochs" not in name},
        "learning_rate": RATE,
        "ema_decay": EMA_DECAY,
        "repeated_augmentation": 2,
        **_SHRUNK,
    },
    "all of these but the longer warm-up, as modern_kinetics400_*",
)
PARTS = (
    PAPER,
    MODERN,
    Part("cosine", {"schedule": "cosine"}, "Loshchilov and Hutter, ICLR 2017"),
    Part("longer warm-up", {"warmup_epochs": 15.0}, "Goyal et al., 2017"),
    Part("label smoothing", {"label_smoothing": 0.1}, "Szegedy et al., CVPR 2016"),
    Part("averaged weights", {"ema_decay": EMA_DECAY}, "Polyak and Juditsky, 1992"),
    Part("mixup", {"mixup_alpha": 0.2}, "Zhang et al., ICLR 2018"),
    Part("cutmix in time", {"cutmix_alpha": 1.0}, "Yun et al., 2020"),
    Part("colour jitter", {"color_jitter": 0.3}, "Krizhevsky et al., NeurIPS 2012"),
    Part("dropout", {"dropout": 0.2}, "Srivastava et al., JMLR 2014"),
    Part("repeated augmentation", {"repeated_augmentation": 2}, "Hoffer et al., CVPR 2020"),
    Part("multigrid", _SHRUNK, "Wu et al., CVPR 2020"),
    Part("clipped gradients", {"max_gradient_norm": 5.0}, "Pascanu et al., ICML 2013"),
)


@dataclass(frozen=True)
class PartsData:
    """A data set: its name, its address (None: motions are generated), the clips of a run and of a step, and its folds.

    `key` is that of its rows, where they alone are read: then nothing needs to be at the address.
    """

    name: str
    address: str | None = None
    clips: int = 9000
    batch: int = 24
    num_folds: int | None = None
    key: str | None = None

    @property
    def folds(self) -> tuple[int | None, ...]:
        """The folds, each held out once; (None,) for data with splits of its own."""
        return (None,) if self.num_folds is None else tuple(range(1, self.num_folds + 1))

    @property
    def scale(self) -> tuple[int, int]:
        """Height and width of a frame."""
        return (CLEARER_MOTIONS.height, CLEARER_MOTIONS.width) if self.address is None else SIZE

    def list_evaluations(self) -> dict[str, EvaluationSpec]:
        """Other ways to score what was trained by the paper's recipe: the usual clips with more of each video."""
        usual = EvaluationSpec(STUDY_CLIPS, LENGTH)
        larger, is_wide = min(self.scale), self.scale[1] > self.scale[0]
        dense = replace(usual, length=LONG, crop_size=larger, crops=3 if is_wide else 1)
        three = {"three crops": replace(usual, crops=3)} if is_wide else {}
        return {
            **three,
            "larger crop": replace(usual, crop_size=larger),
            "longer clips": replace(usual, length=LONG),
            "dense prediction": dense,
        }


def build_settings(data: PartsData, family: str, part: Part, fold: int | None) -> TrainSettings:
    """The network of the laptop studies, trained by the paper's recipe with the part, seed 0."""
    settings = build_laptop_settings(f"{family}_10", LENGTH)
    recipe = read_training_recipe("paper")["training"]
    shared = {"learning_rate": RATE, "batch_size": data.batch, "clips_per_epoch": round(data.clips / recipe["epochs"])}
    plain = {**recipe, **shared, "validate_every_epochs": 0.0, **part.training}
    return replace(
        settings,
        num_folds=data.num_folds,
        fold=fold,
        validation="auto" if data.address is None else "none",  # the last weights are scored
        clips=replace(
            settings.clips,
            scale=data.scale,
            crop=CROP,
            mirror=data.address is not None,  # a motion to the left is another class than one to the right
            frames_per_second=None if data.address is None else 15.0,
        ),
        training=build_train_settings({"training": plain}).training,
    )


def build_grid(data: PartsData, families: Sequence[str], config: StudyConfig) -> Grid:
    """(family, name of a part or an evaluation, fold): the paper's recipe scored in other ways needs no run of its own."""
    grid: Grid = {}
    for part in PARTS:
        for family in families:
            for fold in data.folds:
                run = PlannedRun(build_settings(data, family, part, fold), config.source)
                runs = with_seeds(run, config.seeds)
                grid[family, part.name, fold] = RunGroup(runs, EvaluationSpec(STUDY_CLIPS, LENGTH))
                if part is PAPER:
                    scored = data.list_evaluations().items()
                    grid |= {(family, name, fold): RunGroup(runs, evaluation) for name, evaluation in scored}
    return grid


def judge(data: PartsData, families: Sequence[str], results: GridResults) -> Verdict:
    """Whether all parts together are better than the paper's recipe, for every network."""
    gaps = ((family, _compare(results, data, family, MODERN.name)) for family in families)
    return conclude([compare(f"{family}: modern above the paper's recipe", gap) for family, gap in gaps])


def _compare(results: GridResults, data: PartsData, family: str, name: str) -> Any:
    cells = ([(family, either, fold) for fold in data.folds] for either in (name, PAPER.name))
    return results.compare(*(results.by_seed(*keys) for keys in cells))


def make_tables(data: PartsData, families: Sequence[str], results: GridResults) -> tuple[StudyTable, ...]:
    """A table for each network: video@1, the difference from the paper's recipe, and what it costs."""
    columns = (
        "recipe",
        "source",
        "seeds",
        METRICS["video_top1"],
        "from the paper's recipe",
        "decided",
        "clip's cost in the test",
    )
    sources = {part.name: part.source for part in PARTS} | dict.fromkeys(
        data.list_evaluations(), "a test of the paper's recipe"
    )
    evaluations = data.list_evaluations()
    tables = []
    for family in families:
        rows = []
        for name, source in sources.items():
            estimate = results.estimate(*((family, name, fold) for fold in data.folds))
            gap = None if name == PAPER.name else _compare(results, data, family, name)
            verdict = {True: "better", False: "worse", None: "undecided"}[gap.is_positive] if gap else None
            cost = f"{_count_cost(evaluations[name]):.1f} times" if name in evaluations else "1"
            numbers = (0, "not run") if estimate is None else (estimate.num, estimate.format())
            rows.append((name, source, *numbers, gap and gap.format(), verdict, cost))
        paper = build_settings(data, family, PAPER, data.folds[0]).training
        num_clips = build_schedule(paper, num_videos=1).num_clips  # whole steps in each of 45 epochs
        title = f"{data.name}: {family}_10, {num_clips} clips of training"
        tables.append(StudyTable(title, columns, tuple(rows), "mean over seeds [95 % interval]"))
    return tuple(tables)


def _count_cost(evaluation: EvaluationSpec) -> float:
    """Pixels of a clip's crops in all frames, in those of the usual crop."""
    return evaluation.crops * ((evaluation.crop_size or CROP) / CROP) ** 2 * evaluation.length / LENGTH


def build_study(data: PartsData, families: Sequence[str]) -> Study:
    """The study of a data set."""

    def list_noisy(grid: Grid) -> tuple[Hashable, ...]:
        return tuple((family, PAPER.name, fold) for family in families for fold in data.folds)

    return Study(
        f"recipe_parts-{data.name}",
        f"The later recipe part by part: {data.name}",
        "Trained on as many clips, a network is more accurate by the later recipe than by the paper's.",
        partial(build_grid, data, families),
        partial(judge, data, families),
        partial(make_tables, data, families),
        noisy=list_noisy,
    )


def list_parts_data(given: Sequence[str], work: Path, clips: int, rows: Iterable[Row] = ()) -> list[PartsData]:
    """Generated motions, `clips` a run, and the real sets there are: of --data, else of MUYBRIDGE_REAL_VIDEO.

    Those that have `rows` are as these have them, so that their tables can be made without any video.
    """
    sets = [PartsData("motions", clips=clips)]
    rows_by_name = {row["data"]["key"].rpartition("-")[0]: row for row in rows}
    for data in list_data_sets(given):
        if row := rows_by_name.get(data.name):
            training, num_folds = row["settings"]["training"], row["settings"]["num_folds"]
            num_clips = round(training["clips_per_epoch"] * training["epochs"])
            sets.append(
                PartsData(data.name, data.name, num_clips, training["batch_size"], num_folds, row["data"]["key"])
            )
            continue
        if not given and "MUYBRIDGE_REAL_VIDEO" not in os.environ:
            continue
        work.mkdir(parents=True, exist_ok=True)
        address = prepare(data, work)
        num_trained = round(len(open_data(str(address))) * (1 - 1 / data.num_folds))
        recipe = data.recipe
        sets.append(
            PartsData(data.name, str(address), round(recipe.epochs * num_trained), recipe.batch_size, data.num_folds)
        )
    return sets


def format_markdown(values: Mapping[str, Any]) -> str:
    """The rows of a study's tables that have run, as tables in Markdown, with the noise floor."""
    lines = []
    for table in values["tables"]:
        finished = [row for row in table["rows"] if row[2]]
        if not finished:
            lines += [f"**{table['title']}**: not run.", ""]
            continue
        lines += [
            f"**{table['title']}**",
            "",
            f"| {' | '.join(table['columns'])} |",
            "|---" * len(table["columns"]) + "|",
        ]
        lines += [f"| {' | '.join('' if cell is None else str(cell) for cell in row)} |" for row in finished]
        missing = [row[0] for row in table["rows"] if not row[2]]
        lines += ["", f"Not run: {', '.join(missing) or 'nothing'}.", ""]
    return "\n".join([*lines, values["noise"]["sentence"]] if values["rows"] else lines).strip()


def main(argv: list[str] | None = None, python: Sequence[str] = (sys.executable,)) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument(
        "--data", action="append", default=[], metavar="NAME=LIST.csv", help="in place of the real sets"
    )
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=list(ALL_FAMILIES), metavar="FAMILY")
    parser.add_argument("--seeds", type=parse_count, default=3)
    parser.add_argument("--clips", type=parse_count, default=PartsData.clips, help="clips of a run on motions")
    parser.add_argument("--jobs", type=parse_count, default=1, help="runs at the same time")
    parser.add_argument("--render", action="store_true", help="run nothing: print the tables of the rows")
    parser.add_argument("--docs", type=Path, help="a page whose block `recipe_parts` is replaced by the tables")
    args = parser.parse_args(argv)
    try:
        return run_and_render(args, python)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    except StopRequested as stopped:
        print(f"{stopped}; the same command goes on", flush=True)
        return stopped.exit_code


def build_parts_config(data: PartsData, study: Study, seeds: int) -> StudyConfig:
    """The configuration of the study of a data set."""
    address = None if data.key else data.address
    config = build_config(study, scale="laptop", seeds=seeds, data=address, others={}, split="test")
    if address is not None:
        return config
    return replace(config, source=DataSource(data.key, data.address) if data.key else motion_source(CLEARER_MOTIONS))


def run_and_render(args: argparse.Namespace, python: Sequence[str]) -> int:
    """Runs what is missing and renders what there is; the exit code."""
    failures, blocks = [], []
    rows = read_rows(args.output).values() if args.render else ()
    for data in list_parts_data(args.data, args.output / "work", args.clips, rows):
        study = build_study(data, args.families)
        config = build_parts_config(data, study, args.seeds)
        runner = RunnerConfig(args.output, args.jobs, python=tuple(python), report=partial(print, flush=True))
        if not args.render:
            failures += run_study(study, config, study.runs(config), runner)
        current = find_current_version(study, config, runner)
        values = write_study(study, config, read_rows(args.output, current), args.output, current)
        print(format_study(values), flush=True)
        blocks.append(format_markdown(values))
    if args.docs:
        replace_block(args.docs, "recipe_parts", "\n\n".join(blocks))
    return 3 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
