"""The section with paired tests of a comparison: sentences, a table, and how many videos the runs agree on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from muybridge.evaluation.statistics import NUM_RESAMPLES, SIGNIFICANCE, PairedTest, holm_adjust
from muybridge.report.comparison import ComparedRun
from muybridge.report.document import Block, Paragraph
from muybridge.report.tables import Cell, Table, make_columns
from muybridge.text import format_count, format_p_value, format_percent

MAX_SENTENCES = 6


def summarize_tests(tests: Sequence[PairedTest]) -> str:
    """The sentence at the top of a page: the result of a single test, or how many tests there are."""
    if len(tests) == 1:
        return _format_test(tests[0], tests[0].p_value, num_tests=1)
    return f"{format_count(len(tests), 'pair')} of runs, each tested on the videos that both scored."


def build_paired_test_blocks(compared_runs: Sequence[ComparedRun], tests: Sequence[PairedTest]) -> list[Block]:
    """A sentence for each of 2 to 6 tests, the table of all tests, and how many videos all runs agree on.

    The sentence about a single test is at the top of the page.
    """
    adjusted = holm_adjust([test.p_value for test in tests])
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (
            test.second,
            test.first,
            100 * test.difference,
            100 * test.low,
            100 * test.high,
            test.num_videos,
            test.num_second_only,
            test.num_first_only,
            format_p_value(test.p_value),
            *([format_p_value(p_value)] if len(tests) > 1 else []),
        )
        for test, p_value in zip(map(_put_better_second, tests), adjusted, strict=True)
    )
    columns = (
        *make_columns("run", "against"),
        *make_columns("video@1, points", "low", "high", decimals=1),
        *make_columns("common videos", "only it is right", "only the other", "p"),
        *make_columns(*(["p, all pairs"] if len(tests) > 1 else [])),
    )
    sentences: list[Block] = [
        Paragraph(_format_test(test, p_value, num_tests=len(tests)))
        for test, p_value in zip(tests, adjusted, strict=True)
    ]
    return [
        *(sentences if 1 < len(tests) <= MAX_SENTENCES else []),
        *_build_different_videos_warning(compared_runs),
        Table("paired", "Paired differences", columns, rows, note=_describe_method(tests)),
        Paragraph(_describe_agreement(compared_runs)),
    ]


def _put_better_second(test: PairedTest) -> PairedTest:
    """The test with the better run as `second`, so that sentence and table have the same sign."""
    if test.difference >= 0:
        return test
    return replace(
        test,
        first=test.second,
        second=test.first,
        num_first_only=test.num_second_only,
        num_second_only=test.num_first_only,
        low=-test.high,
        high=-test.low,
    )


def _format_test(test: PairedTest, p_value: float, *, num_tests: int) -> str:
    """One sentence about the better run: that it is better only if the test says so."""
    test = _put_better_second(test)
    better, worse, points = test.second, test.first, 100 * abs(test.difference)
    interval = f"95 % interval {100 * test.low:z.1f} to {100 * test.high:z.1f}"
    if not test.difference:
        result = f"{better} and {worse} are right equally often ({interval} points)"
    elif p_value < SIGNIFICANCE:
        result = f"{better} is right more often than {worse} by {points:.1f} points ({interval})"
    else:
        result = f"the difference of {points:.1f} points ({interval}) between {better} and {worse} is not significant"
    shown = format_p_value(p_value)
    comparison = shown if shown.startswith("<") else f"= {shown}"
    adjustment = "" if num_tests == 1 else f", adjusted for {num_tests} pairs"
    return (
        f"On {format_count(test.num_videos, 'video')} that both scored, {result}; {test.num_second_only} only {better} gets "
        f"right, {test.num_first_only} only {worse}; McNemar's exact test p {comparison}{adjustment}."
    )


def _describe_method(tests: Sequence[PairedTest]) -> str:
    groups = sorted({test.num_groups for test in tests if test.num_groups is not None})
    if groups and all(test.num_groups is not None for test in tests):
        resampled = (
            f"whole groups of related videos ({', '.join(map(str, groups))}), {NUM_RESAMPLES:,} times; with fewer than about "
            "20 groups they are too narrow. McNemar's test assumes that videos are independent"
        )
    else:
        resampled = f"videos, {NUM_RESAMPLES:,} times; no groups of related videos are known"
    adjusted = " For all pairs it is adjusted by Holm's method." if len(tests) > 1 else ""
    return (
        "Points are percent of the common videos; a video that could not be read counts as wrong. Intervals are 95 % bootstrap "
        f"intervals that resample {resampled}. p is the two-sided p-value of McNemar's exact test.{adjusted}"
    )


def _build_different_videos_warning(compared_runs: Sequence[ComparedRun]) -> list[Block]:
    all_videos = set().union(*(run.labels for run in compared_runs))
    common = _list_common_videos(compared_runs)
    if len(common) == len(all_videos):
        return []
    counts = ", ".join(f"{run.name} {len(run.labels)}" for run in compared_runs)
    text = (
        f"The runs were scored on different videos ({counts}); {len(common)} are common to all, and each test uses the videos "
        "that its two runs share."
    )
    return [Paragraph(text, "warning")]


def _describe_agreement(compared_runs: Sequence[ComparedRun]) -> str:
    common = _list_common_videos(compared_runs)
    if not common:
        return "No video is common to all runs."
    num_correct = np.stack([run.gather_correct(common) for run in compared_runs]).sum(axis=0)
    num_all, num_none = np.count_nonzero(num_correct == len(compared_runs)), np.count_nonzero(num_correct == 0)
    return (
        f"Of {format_count(len(common), 'video')} common to all, every run is right about {num_all} and "
        f"none about {num_none}; at least one is right about {format_percent(1 - num_none / len(common))}."
    )


def _list_common_videos(compared_runs: Sequence[ComparedRun]) -> list[str]:
    return [video for video in compared_runs[0].labels if all(video in run.labels for run in compared_runs)]
