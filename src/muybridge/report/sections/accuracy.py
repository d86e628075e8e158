"""The parts of a page that tell accuracy: by score file, by class, by pair of classes.

Enter: what `sources` read. Leave: blocks of a page. Every number stands with its protocol, both denominators and its interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from muybridge.evaluation.metrics import Accuracy, Rate, confusion, wilson_interval
from muybridge.report.charts import IntervalChart, MatrixChart
from muybridge.report.confusions import confused_pairs, densest_windows, neighbours_order, row_shares
from muybridge.report.document import Block, Text
from muybridge.report.sources import Evaluated
from muybridge.report.tables import Cell, Column, Table, titles
from muybridge.text import counted, percent

INTERVALS = (
    "Intervals are 95 % Wilson score intervals whose trials are videos, for clip@1 too: clips of one video are close to copies "
    "of each other."
)
MOST_IN_ONE_MATRIX = 24  # classes; above that, windows of neighbours are shown larger
WINDOW_CLASSES, NUM_WINDOWS = 16, 3
NUM_PAIRS = 20
NUM_VIDEOS_OF_FEW = 20  # below as many videos a class, its interval is worth a word


def protocol_sentence(measured: Accuracy) -> str:
    """Split, videos and protocol of a number."""
    fold = "" if measured.fold is None else f", fold {measured.fold}"
    return f"{measured.split}{fold}, {counted(measured.num_videos, 'video')}: {measured.protocol.sentence()}"


def top1_sentence(rate: Rate) -> str:
    """`video@1 52.8 % (95 % interval 45.0 to 60.4)`."""
    return f"video@1 {percent(rate.share)} (95 % interval {100 * rate.low:.1f} to {100 * rate.high:.1f})"


def accuracy_blocks(evaluated: Sequence[Evaluated]) -> list[Block]:
    """All score files of a run: a chart, a table, and what has to be said of failures and missing labels."""
    blocks: list[Block] = [Text(f"{_named(one)}{protocol_sentence(one.measured)}.") for one in evaluated]
    blocks += [*_warnings(evaluated), _accuracy_chart(evaluated), accuracy_table("accuracy", evaluated)]
    return blocks


def _named(one: Evaluated) -> str:
    """The file's name, where it says more than its split."""
    return "" if one.name == one.measured.split else f"{one.name}: "


def accuracy_table(name: str, evaluated: Sequence[Evaluated], names: Sequence[str] = ()) -> Table:
    """A row for each figure of each score file, over all videos and over the readable ones."""
    rows = []
    for label, one in zip(names or [one.name for one in evaluated], evaluated, strict=True):
        measured = one.measured
        for title, rates in (
            ("clip@1", measured.clip_top1),
            ("video@1", measured.video_top1),
            ("video@5", measured.video_top5),
        ):
            everything, readable = rates.of_all, rates.of_readable
            ends = (100 * everything.low, 100 * everything.high)
            shares = [100 * rate.share if rate.of else None for rate in (everything, readable)]
            rows.append((label, title, shares[0], *ends, everything.right, everything.of, shares[1], readable.of))
    columns = (
        *titles("scores", "figure"),
        *titles("of all, %", "low", "high", decimals=1),
        *titles("right", "all"),
        *titles("of readable, %", decimals=1),
        *titles("readable"),
    )
    return Table(name, "Accuracy", columns, tuple(rows), note=INTERVALS)


def _accuracy_chart(evaluated: Sequence[Evaluated]) -> IntervalChart:
    labels, rates = [], []
    for one in evaluated:
        prefix = f"{one.name} " if len(evaluated) > 1 else ""
        for title, of in (
            ("clip@1", one.measured.clip_top1),
            ("video@1", one.measured.video_top1),
            ("video@5", one.measured.video_top5),
        ):
            labels.append(f"{prefix}{title}")
            rates.append(of.of_all)
    return interval_chart("accuracy", "Accuracy over all videos", labels, rates)


def interval_chart(name: str, title: str, labels: Sequence[str], rates: Sequence[Rate]) -> IntervalChart:
    """Rates in percent with their intervals."""
    return IntervalChart(
        name=name,
        title=title,
        x_label="percent, with 95 % interval",
        labels=tuple(labels),
        values=tuple(100 * rate.share if rate.of else 0.0 for rate in rates),
        low=tuple(100 * rate.low for rate in rates),
        high=tuple(100 * rate.high for rate in rates),
        alt="; ".join(
            f"{label} {percent(rate.share)}, {100 * rate.low:.1f} to {100 * rate.high:.1f}"
            for label, rate in zip(labels, rates, strict=True)
        ),
    )


def _warnings(evaluated: Sequence[Evaluated]) -> list[Block]:
    found: list[Block] = []
    for one in evaluated:
        measured = one.measured
        if measured.num_failed_videos:
            found.append(
                Text(
                    f"{one.name}: {measured.num_failed_videos} of {counted(measured.num_videos, 'video')} could not be read; "
                    "they are wrong among all videos and absent among the readable ones.",
                    "warning",
                )
            )
        if measured.num_unlabelled_videos:
            found.append(
                Text(
                    f"{one.name}: {counted(measured.num_unlabelled_videos, 'video')} without a label are counted nowhere."
                )
            )
    return found


def class_blocks(one: Evaluated) -> list[Block]:
    """The table by class, the hardest first, and what each class is most often taken for."""
    counts = confusion(one.videos)
    wrong = counts - np.diag(np.diag(counts))
    names = one.videos.header.classes
    any_failed = any(row.failed for row in one.measured.per_class)
    rows: list[tuple[Cell, ...]] = []
    for number, row in enumerate(one.measured.per_class):
        other = int(wrong[number].argmax())
        taken_for = f"{names[other]} ({wrong[number, other]})" if wrong[number, other] else None
        low, high = wilson_interval(row.right / row.of if row.of else 0.0, row.of)
        share = 100 * row.right / row.of if row.of else None
        failed = (row.failed,) if any_failed else ()
        rows.append((row.name, row.of, row.right, *failed, share, 100 * low, 100 * high, taken_for))
    shares = 4 if any_failed else 3
    rows.sort(key=lambda row: math.inf if row[shares] is None else float(row[shares] or 0))
    columns = (
        *titles("class", "videos", "right", *(("unreadable",) if any_failed else ())),
        *titles("video@1, %", "low", "high", decimals=1),
        *titles("most often taken for"),
    )
    num_few = sum(row.of < NUM_VIDEOS_OF_FEW for row in one.measured.per_class)
    note = "Intervals are 95 % Wilson score intervals."
    if num_few:
        note += f" {num_few} of {counted(len(rows), 'class')} have fewer than {NUM_VIDEOS_OF_FEW} videos, too few to say much."
    return [Table("classes", "Every class, the hardest first", columns, tuple(rows), note=note)]


def confusion_blocks(one: Evaluated) -> list[Block]:
    """The matrix with confused classes as neighbours, the densest parts of a large one, and the pairs as a list."""
    counts = confusion(one.videos)
    if not counts.sum():
        return [Text("No readable video has exactly one label, so there is no confusion matrix.")]
    names, order = one.videos.header.classes, neighbours_order(counts)
    pairs = confused_pairs(counts)
    large = len(names) > MOST_IN_ONE_MATRIX
    explained = (
        "A row is a label, a column what the network said first; classes that are confused stand side by side. Blue is "
        "right, orange wrong; the fuller, the larger the share of the label's videos. Only readable videos with exactly one "
        "label count."
    )
    blocks: list[Block] = [Text(explained), _matrix(one, order, "confusion", f"{counted(len(names), 'class')}")]
    if large:
        for number, window in enumerate(densest_windows(counts, order, size=WINDOW_CLASSES, most=NUM_WINDOWS), 1):
            title = f"part {number}: {WINDOW_CLASSES} neighbours that are often confused"
            blocks.append(_matrix(one, order[window], f"confusion-part-{number}", title))
    if not pairs:
        return [*blocks, Text("No class was taken for another.")]
    rows = tuple(
        (names[pair.label], names[pair.taken_for], pair.num, pair.of, 100 * pair.num / pair.of) for pair in pairs
    )
    columns = (*titles("label", "taken for", "videos", "of"), Column("share, %", 1))
    shown = f"The first {NUM_PAIRS} of {len(pairs)} pairs." if len(pairs) > NUM_PAIRS else ""
    return [*blocks, Table("confusions", "Most confused pairs", columns, rows, note=shown, num_shown=NUM_PAIRS)]


def _matrix(one: Evaluated, order: np.typing.NDArray[np.int64], name: str, title: str) -> MatrixChart:
    counts, names = confusion(one.videos), one.videos.header.classes
    part = counts[np.ix_(order, order)]
    worst = confused_pairs(part)[:3]
    said = "; ".join(
        f"{names[order[pair.label]]} for {names[order[pair.taken_for]]} {pair.num} of {pair.of} videos"
        for pair in worst
    )
    right, total = int(np.trace(part)), int(counts[order].sum())
    return MatrixChart(
        name=name,
        title=f"Confusion matrix, {title}",
        labels=tuple(names[number] for number in order.tolist()),
        counts=part,
        shares=row_shares(counts)[np.ix_(order, order)],
        alt=f"{right} of {counted(total, 'video')} lie on the diagonal. Most often mistaken: {said or 'nothing'}.",
    )
