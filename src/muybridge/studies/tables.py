"""The tables of each study: our estimates beside the printed numbers.

Input: `GridResults`. Output: `StudyTable`s. A cell is "not run" where no seed is finished, and None for rows of the paper
that are not ours to run.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from muybridge.models.family import FAMILIES, PAPER_NAMES
from muybridge.report.tables import Cell
from muybridge.studies.claims import ERRORS
from muybridge.studies.counting import (
    CROP,
    TABLE1_LENGTH,
    count_million_parameters,
    count_multiply_adds,
    get_paper_settings,
    get_printed_output,
    measure_layer_groups,
)
from muybridge.studies.grids import (
    DEPTHS,
    FIGURE5_CLIPS,
    FIGURE5_LENGTHS,
    FIGURE_LENGTH,
    FOLDS,
    TABLE2_LENGTHS,
    TABLE3_LENGTHS,
    TARGETS,
    compute_stem_mid_channels,
    count_classes,
)
from muybridge.studies.intervals import Estimate, estimate_mean, estimate_percent
from muybridge.studies.paper import FIGURE5A, TABLE1, TABLE2, TABLE3, TABLE4, TABLE5, TABLE6
from muybridge.studies.stem_filters import RANDOM_CHANGE_SHARE, estimate_change_share
from muybridge.studies.study import GridResults, Metric, Scale, StudyTable

NOT_RUN, STALE = "not run", "not run at this version"
METRICS: dict[Metric, str] = {"clip_top1": "clip@1", "video_top1": "video@1", "video_top5": "video@5"}
SCALE_NOTES: dict[Scale, str] = {
    "paper": "ours: mean over seeds [95 % interval]; paper: as printed, Kinetics-400 validation",
    "laptop": "ours: mean over seeds [95 % interval], small networks on other data, so only the order of rows compares with "
    "the paper's; paper: as printed, Kinetics-400 validation",
}


def _format_estimate(estimate: Estimate | None) -> str:
    """An estimate as a cell."""
    return NOT_RUN if estimate is None else estimate.format()


def _cell(results: GridResults, *keys: Hashable, metric: Metric = "video_top1") -> Cell:
    """The estimate of a cell of the grid, or of the mean of several; None where the grid has no such cell."""
    if keys[0] not in results.grid:
        return None
    estimate = results.estimate(*keys, metric=metric)
    return STALE if estimate is None and results.has_stale_rows(*keys) else _format_estimate(estimate)


def _interleave(ours: Sequence[Cell], printed: Sequence[Cell]) -> list[Cell]:
    """Ours, printed, ours, printed, ..."""
    return [cell for pair in zip(ours, printed, strict=True) for cell in pair]


def _interleave_names(names: Sequence[str]) -> list[str]:
    return [f"{name}, {side}" for name in names for side in ("ours", "paper")]


def make_table1(results: GridResults) -> tuple[StudyTable, ...]:
    """Sizes of R3D's groups at two depths, and the parameters of all networks."""
    rows: list[tuple[Cell, ...]] = []
    for printed, shallow, deep in zip(TABLE1, *(measure_layer_groups(depth) for depth in DEPTHS["paper"]), strict=True):
        rows.append(
            (
                printed.group,
                " x ".join(map(str, shallow.output)),
                " x ".join(map(str, get_printed_output(printed))),
                " x ".join(map(str, shallow.kernel)),
                f"{shallow.num_blocks}, {deep.num_blocks}",
                f"{printed.blocks_18}, {printed.blocks_34}",
                round(shallow.multiply_adds / 1e9, 3),
                round(deep.multiply_adds / 1e9, 3),
            )
        )
    columns = (
        "group",
        "output, ours (channels x time x height x width)",
        "output, paper",
        "filters",
        "blocks at 18 and 34 layers, ours",
        "blocks, paper",
        "10^9 multiply-adds, 18 layers",
        "34 layers",
    )
    note = (
        "weights of convolutions and classifier, 400 classes, R2D for 8 frames; MC5's printed 16.9 cannot be reached by any "
        "way of counting that gives the other rows"
    )
    counted = tuple((row.family, count_million_parameters(row), row.parameters_millions) for row in TABLE2)
    return (
        StudyTable(f"Table 1, clips of {TABLE1_LENGTH}x{CROP}x{CROP}", columns, tuple(rows)),
        StudyTable("Parameters in millions", ("network", "ours", "paper (Table 2)"), counted, note),
    )


def make_table2(results: GridResults) -> tuple[StudyTable, ...]:
    """video@1 and clip@1, one table each: a row per network, both lengths."""
    columns = ("network", *(f"{side}, {length} frames" for length in TABLE2_LENGTHS for side in ("ours", "paper")))
    tables = []
    for metric in ("video_top1", "clip_top1"):
        rows: list[tuple[Cell, ...]] = []
        for printed in TABLE2:
            ours = [_cell(results, (printed.family, length), metric=metric) for length in TABLE2_LENGTHS]
            paper = [float(getattr(printed, f"{metric}_{length}f")) for length in TABLE2_LENGTHS]
            rows.append((PAPER_NAMES[printed.family], *_interleave(ours, paper)))
        title = f"Table 2, {METRICS[metric]} in percent"
        tables.append(StudyTable(title, columns, tuple(rows), SCALE_NOTES[results.config.scale]))
    return tuple(tables)


def make_table3(results: GridResults) -> tuple[StudyTable, ...]:
    """Length of clips in training, fine-tuning and evaluation, with the time of training."""
    lengths = TABLE3_LENGTHS[results.config.scale]
    rows: list[tuple[Cell, ...]] = []
    for printed in TABLE3:
        finetune = "none" if printed.finetune is None else lengths[printed.finetune]
        ours = [_cell(results, printed, metric=metric) for metric in ("clip_top1", "video_top1")]
        accuracies = _interleave(ours, (printed.clip_top1, printed.video_top1))
        stages = f"{lengths[printed.train]} / {finetune} / {lengths[printed.test]}"
        rows.append((stages, *accuracies, _mean_training_seconds(results, printed), printed.train_hours))
    columns = (
        "frames in training / fine-tuning / test",
        *_interleave_names(("clip@1", "video@1")),
        "seconds of training, ours",
        "hours on 64 GPUs, paper",
    )
    note = (
        f"{SCALE_NOTES[results.config.scale]}; the paper's long clips have 32 frames; time is that of the last stage, as the "
        "paper's 20.5 hours seem to be"
    )
    return (StudyTable("Table 3, R(2+1)D", columns, tuple(rows), note),)


def _mean_training_seconds(results: GridResults, key: Hashable) -> Cell:
    """Time of the last stage: a processor's own, a GPU's by the clock. An interrupted run knows only the time since."""
    trainings = [row["training"] for row in results.rows_by_seed(key).values()]
    seconds = estimate_mean(
        [
            training["processor_seconds" if training["device"] == "cpu" else "seconds"]
            for training in trainings
            if not training.get("goes_on")
        ]
    )
    return None if seconds is None else round(seconds.mean)


def make_table4(results: GridResults) -> tuple[StudyTable, ...]:
    """The paper's rows, ours beside those of R3D and R(2+1)D."""
    rows: list[tuple[Cell, ...]] = []
    for printed in TABLE4:
        group = results.grid.get(printed.method)
        ours = [_cell(results, printed.method, metric=metric) for metric in METRICS]
        paper = (printed.clip_top1, printed.video_top1, printed.video_top5)
        length = None if group is None else group.evaluation.length
        rows.append((printed.method, length, *_interleave(ours, paper)))
    note = "ours: mean over seeds [95 % interval]; paper: as printed, Sports-1M; rows without ours are other authors'"
    if results.config.scale == "laptop":
        note += "; laptop: small networks on generated motions, so only the order of rows compares"
    columns = ("method", "frames, ours", *_interleave_names(list(METRICS.values())))
    return (StudyTable("Table 4", columns, tuple(rows), note),)


def make_table5(results: GridResults) -> tuple[StudyTable, ...]:
    """The paper's rows, ours beside those of R(2+1)D. The authors evaluated by dense prediction, here 10 uniform clips."""
    rows: list[tuple[Cell, ...]] = []
    for printed in TABLE5:
        key = (printed.method, printed.pretraining)
        ours = [_cell(results, key, metric=metric) for metric in ("video_top1", "video_top5")]
        rows.append((*key, *_interleave(ours, (printed.video_top1, printed.video_top5))))
    note = "ours: mean over seeds [95 % interval]; paper: as printed, scored by dense prediction; rows without ours are I3D's"
    if results.config.scale == "laptop":
        note += "; laptop: generated motions, pre-training on other motions, so only the order of rows compares"
    columns = ("method", "pre-training", *_interleave_names(("video@1", "video@5")))
    return (StudyTable("Table 5", columns, tuple(rows), note),)


def make_table6(results: GridResults) -> tuple[StudyTable, ...]:
    """The paper's rows, ours beside those of R(2+1)D: means of three splits."""
    rows: list[tuple[Cell, ...]] = []
    for printed in TABLE6:
        key = (printed.method, printed.pretraining)
        ours = [_cell(results, *((*key, target, fold) for fold in FOLDS)) for target in TARGETS]
        rows.append((*key, *_interleave(ours, (printed.ucf101, printed.hmdb51))))
    note = "video@1, mean of three splits; ours: mean over seeds [95 % interval]; rows without ours are other authors'"
    if results.config.scale == "laptop":
        note += (
            "; laptop: small sets of generated motions in place of both data sets; 'Kinetics' is pre-training on other "
            "motions, 'Sports-1M' a start from scratch"
        )
    columns = ("method", "pre-training", *_interleave_names(("UCF101", "HMDB51")))
    return (StudyTable("Table 6", columns, tuple(rows), note),)


def make_figure3_table(results: GridResults) -> tuple[StudyTable, ...]:
    """Errors of the last epoch."""
    rows: list[tuple[Cell, ...]] = []
    for depth in DEPTHS[results.config.scale]:
        for family in ("r3d", "r2plus1d"):
            errors = [results.final_errors((family, depth), name) for name in ERRORS]
            is_stale = results.has_stale_rows((family, depth))
            means = [estimate_percent(list(by_seed.values())) for by_seed in errors]
            cells = [STALE if mean is None and is_stale else _format_estimate(mean) for mean in means]
            rows.append((f"{PAPER_NAMES[family]}, {depth} layers", *cells))
    note = (
        "mean over seeds [95 % interval] of the last epoch; training: the clips learnt from, before each step; the paper "
        "prints curves and no numbers"
    )
    columns = ("network", *ERRORS.values())
    return (StudyTable("Figure 3, clip error in percent", columns, tuple(rows), note),)


def make_figure4_tables(results: GridResults) -> tuple[StudyTable, ...]:
    """Cost and accuracy, one table per length."""
    printed = {row.family: row for row in TABLE2}
    columns = ("network", "10^9 multiply-adds, ours", "video@1, ours", "10^9 multiply-adds, paper", "video@1, paper")
    tables = []
    for length in TABLE2_LENGTHS:
        rows: tuple[tuple[Cell, ...], ...] = tuple(
            (
                PAPER_NAMES[family],
                round(count_cell_gmacs(results, (family, length)), 4),
                _cell(results, (family, length)),
                round(count_multiply_adds(get_paper_settings(family, length)) / 1e9, 3),
                float(getattr(printed[family], f"video_top1_{length}f")),
            )
            for family in FAMILIES
        )
        tables.append(StudyTable(f"Figure 4, {length} frames", columns, rows, SCALE_NOTES[results.config.scale]))
    return tuple(tables)


def count_cell_gmacs(results: GridResults, key: Hashable) -> float:
    """10^9 multiply-adds of one clip for the network of a cell."""
    return count_multiply_adds(results.grid[key].settings, count_classes(results.config)) / 1e9


def make_figure5_tables(results: GridResults) -> tuple[StudyTable, ...]:
    """Accuracy by length of clips, and by number of clips averaged."""
    scale = results.config.scale
    rows: list[tuple[Cell, ...]] = []
    for length in FIGURE5_LENGTHS[scale]:
        ours = [_cell(results, ("length", length), metric=metric) for metric in ("clip_top1", "video_top1")]
        rows.append((length, *_interleave(ours, FIGURE5A.get(length, (None, None)))))
    columns = ("frames", *_interleave_names(("clip@1", "video@1")))
    note = f"{SCALE_NOTES[scale]}; the paper's curve has no printed numbers at other lengths"
    averaged = tuple((num_clips, _cell(results, ("clips", num_clips))) for num_clips in FIGURE5_CLIPS[scale])
    return (
        StudyTable("Figure 5a, accuracy by length of clips", columns, tuple(rows), note),
        StudyTable("Figure 5b, video@1 by number of clips averaged", ("clips", "video@1, ours"), averaged),
    )


def make_figure6_table(results: GridResults) -> tuple[StudyTable, ...]:
    """The share of change in the temporal filters of the stem."""
    share = _format_estimate(estimate_change_share(results))
    rows = (("share of change in temporal filters, percent", share, round(100 * RANDOM_CHANGE_SHARE, 1)),)
    note = "mean over seeds [95 % interval]"
    return (StudyTable("Figure 6, temporal filters", ("", "ours", "at random"), rows, note),)


def make_decomposition_table(results: GridResults) -> tuple[StudyTable, ...]:
    """A row per variant: size, cost, accuracy, final training error."""
    rows: list[tuple[Cell, ...]] = []
    for name in results.grid:
        finished = list(results.rows_by_seed(name).values())
        errors = list(results.final_errors(name, "training_clip_error").values())
        rows.append(
            (
                str(name),
                int(finished[0]["training"]["parameters"]) if finished else None,
                round(count_cell_gmacs(results, name), 4),
                _cell(results, name, metric="clip_top1"),
                _cell(results, name),
                round(float(np.mean(errors)), 1) if errors else None,
            )
        )
    columns = ("network", "parameters", "10^9 multiply-adds", "clip@1", "video@1", "training error, last epoch")
    stem = compute_stem_mid_channels(results.grid["R(2+1)D as in the paper"].settings)
    note = (
        f"mean over seeds [95 % interval]; {FIGURE_LENGTH} frames. The rule gives the stem {stem} channels between its "
        "halves at this width. The paper prints no such table."
    )
    return (StudyTable("Decomposition", columns, tuple(rows), note),)
