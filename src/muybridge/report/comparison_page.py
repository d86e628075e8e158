"""Several runs side by side, with a paired test for each two of them on the videos that both scored.

Enter: runs with scores of the same split, and the groups of their videos where the data is at hand. Leaves: a `Page`. Runs
without a video in common, and runs that give a video different labels, are refused: their numbers do not compare.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from muybridge.datasets.manifest import plain_name
from muybridge.evaluation.metrics import video_ranks
from muybridge.report.comparison import PairedTest, holm, paired_test
from muybridge.report.document import Block, Page, Section, Text
from muybridge.report.sections.accuracy import accuracy_table, interval_chart, protocol_sentence
from muybridge.report.sections.mistakes import Clips, how_shown, mistake_blocks
from muybridge.report.sections.training import failure_blocks, flattened, line_of_runs, speed
from muybridge.report.sources import Evaluated, Run
from muybridge.report.tables import Column, Table, titles
from muybridge.text import counted, percent, probability

CURVES = (
    ("loss", ("Training loss", "loss"), ("train", "loss")),
    ("curves", ("video@1 on validation", "percent"), ("validation", "video_top1")),
    ("speed", ("Clips a second", "clips a second"), ("train", "clips_per_second")),
)
GroupOf = Callable[[str], str | None]


@dataclass(frozen=True)
class _Judged:
    """A run's score file of the common split, and for each labelled video its labels by name and whether it was right."""

    name: str
    run: Run
    evaluated: Evaluated
    labels: dict[str, frozenset[str]]
    right: dict[str, bool]


def comparison_page(runs: Sequence[Run], clips: Sequence[Clips]) -> Page:
    """The runs in the order given, each with its clips; the first data at hand tells which videos belong together."""
    group_of = next((one.reader.group for one in clips if one.reader), None)
    judged = [_judged(run, evaluated) for run, evaluated in zip(runs, _of_common_split(runs), strict=True)]
    tests = [_tested(first, second, group_of) for first, second in combinations(judged, 2)]
    sections = [
        Section("accuracy", "Accuracy", tuple(_accuracy_blocks(judged))),
        Section("paired", "Paired tests on the same videos", tuple(_paired_blocks(judged, tests))),
        Section("classes", "Classes", tuple(_class_blocks(judged))),
    ]
    if len(judged) == 2:
        sections.append(
            Section("mistakes", "Sure mistakes that the other run does not make", tuple(_mistakes(judged, clips)))
        )
    named = [(one.name, one.run) for one in judged]
    curves = [line_of_runs(name, titled, named, figure=figure) for name, titled, figure in CURVES]
    drawn = tuple(curve for curve in curves if curve)
    if drawn:
        sections.append(Section("training", "Training", (*drawn, *_speed_blocks(judged))))
    sections.append(Section("failures", "Failures", tuple(_failure_blocks(judged))))
    sections += [
        Section(name, title, tuple(_differences(name, judged, values)))
        for name, title, values in (
            ("settings", "Settings", [one.run.settings for one in judged]),
            ("environment", "Environment", [one.run.environment for one in judged]),
        )
    ]
    title = " and ".join(one.name for one in judged) if len(judged) < 4 else f"{len(judged)} runs"
    facts: dict[str, object] = {
        "accuracy": {one.name: one.evaluated.measured.to_json() for one in judged},
        "paired": [
            {**test.to_json(), "p_value_holm": value} for test, value in zip(tests, _adjusted(tests), strict=True)
        ],
    }
    return Page(f"{title}, compared", tuple(_lead(tests)), tuple(sections), facts)


def _of_common_split(runs: Sequence[Run]) -> list[Evaluated]:
    """For each run its first score file of a split that all have, test before validation."""
    unscored = [run.name for run in runs if not run.evaluated]
    if unscored:
        raise ValueError(f"{unscored[0]} has no scores to compare; run `muybridge evaluate` on it")
    for one in runs[0].evaluated:
        wanted = one.measured.split, one.measured.fold
        found = [
            next((other for other in run.evaluated if (other.measured.split, other.measured.fold) == wanted), None)
            for run in runs
        ]
        if None not in found:
            return [other for other in found if other is not None]
    listed = "; ".join(f"{run.name} of {', '.join(one.measured.split for one in run.evaluated)}" for run in runs)
    raise ValueError(f"the runs have no scores of the same split and fold: {listed}; evaluate them on one")


def _judged(run: Run, evaluated: Evaluated) -> _Judged:
    scores = evaluated.videos
    classes = [plain_name(name) for name in scores.header.classes]
    right = video_ranks(scores) < 1  # a video that could not be read is not right
    labels = {
        video: frozenset(classes[label] for label in of_video)
        for video, of_video in zip(scores.videos, scores.labels, strict=True)
        if of_video
    }
    judged = dict(zip(scores.videos, right.tolist(), strict=True))
    return _Judged(run.name, run, evaluated, labels, {video: judged[video] for video in labels})


def _tested(first: _Judged, second: _Judged, group_of: GroupOf | None) -> PairedTest:
    common = [video for video in first.labels if video in second.labels]
    differing = next((video for video in common if first.labels[video] != second.labels[video]), None)
    if differing is not None:
        raise ValueError(
            f"{differing} has other labels in {first.name} than in {second.name}; compare runs on the same data"
        )
    groups = [group_of(video) for video in common] if group_of else [None]
    known = [group for group in groups if group is not None]
    return paired_test(
        (first.name, second.name),
        _right(first, common),
        _right(second, common),
        groups=known if len(known) == len(common) else None,
    )


def _right(judged: _Judged, videos: Sequence[str]) -> NDArray[np.bool_]:
    return np.array([judged.right[video] for video in videos], np.bool_)


def _adjusted(tests: Sequence[PairedTest]) -> list[float]:
    return holm([test.p_value for test in tests])


def _lead(tests: Sequence[PairedTest]) -> list[Text]:
    if len(tests) > 1:
        return [Text(f"{counted(len(tests), 'pair')} of runs, each tested on the videos that both scored.")]
    return [Text(_sentence(tests[0], tests[0].p_value, num_tests=1))]


def _sentence(test: PairedTest, p_value: float, *, num_tests: int) -> str:
    better, worse = (test.second, test.first) if test.difference >= 0 else (test.first, test.second)
    only = sorted((test.num_first_only, test.num_second_only), reverse=True)
    low, high = sorted((abs(test.low), abs(test.high))) if test.low * test.high > 0 else (test.low, test.high)
    if test.difference < 0 and test.low * test.high <= 0:
        low, high = -test.high, -test.low
    said = (
        f"{better} is right more often than {worse} by {100 * abs(test.difference):.1f} points "
        f"(95 % interval {100 * low:.1f} to {100 * high:.1f})"
        if test.difference
        else f"{better} and {worse} are right equally often (95 % interval {100 * low:.1f} to {100 * high:.1f} points)"
    )
    verdict = "" if p_value < 0.05 else " The test does not tell this from chance."
    of_many = "" if num_tests == 1 else f", raised for {num_tests} pairs"
    return (
        f"On {counted(test.num_videos, 'video')} that both scored, {said}: {only[0]} that it alone gets right against "
        f"{only[1]}; McNemar's exact test p {_equals(p_value)}{of_many}.{verdict}"
    )


def _equals(p_value: float) -> str:
    shown = probability(p_value)
    return shown if shown.startswith("<") else f"= {shown}"


def _accuracy_blocks(judged: Sequence[_Judged]) -> list[Block]:
    protocols = {one.evaluated.measured.protocol for one in judged}
    if len(protocols) == 1:
        blocks: list[Block] = [Text(f"All were measured on {protocol_sentence(judged[0].evaluated.measured)}.")]
    else:
        listed = "; ".join(f"{one.name} on {protocol_sentence(one.evaluated.measured)}" for one in judged)
        blocks = [
            Text(
                f"The protocols differ, so part of any difference may be theirs and not the networks': {listed}.",
                "warning",
            )
        ]
    for title, rates in (
        ("video@1", [one.evaluated.measured.video_top1.of_all for one in judged]),
        ("clip@1", [one.evaluated.measured.clip_top1.of_all for one in judged]),
    ):
        labels = [one.name for one in judged]
        blocks.append(interval_chart(title.replace("@", "-"), f"{title} over all videos", labels, rates))
    names = [one.name for one in judged]
    return [*blocks, accuracy_table("accuracy", [one.evaluated for one in judged], names)]


def _paired_blocks(judged: Sequence[_Judged], tests: Sequence[PairedTest]) -> list[Block]:
    adjusted = _adjusted(tests)
    rows = tuple(
        (
            test.second,
            test.first,
            100 * test.difference,
            100 * test.low,
            100 * test.high,
            test.num_videos,
            test.num_second_only,
            test.num_first_only,
            probability(test.p_value),
            probability(value),
        )
        for test, value in zip(tests, adjusted, strict=True)
    )
    columns = (
        *titles("run", "against"),
        *titles("video@1, points", "low", "high", decimals=1),
        *titles("common videos", "only it is right", "only the other", "p", "p, all pairs"),
    )
    sentences: list[Block] = [
        Text(_sentence(test, value, num_tests=len(tests))) for test, value in zip(tests, adjusted, strict=True)
    ]
    table = Table("paired", "Paired differences", columns, rows, note=_method(tests))
    return [*(sentences if len(tests) <= 6 else []), *_uncommon(judged), table, Text(_together(judged))]


def _method(tests: Sequence[PairedTest]) -> str:
    groups = sorted({test.num_groups for test in tests if test.num_groups is not None})
    resampled = (
        f"whole groups of videos that belong together ({', '.join(map(str, groups))}), 10,000 times; of fewer than about 20 "
        "groups they are too narrow. McNemar's test takes single videos as independent"
        if groups and all(test.num_groups is not None for test in tests)
        else "videos, 10,000 times; no groups of videos that belong together are known"
    )
    return (
        "Points are percent of the common videos; a video that could not be read is wrong. Intervals are 95 % bootstrap "
        f"intervals that resample {resampled}. p is of McNemar's exact test, two-sided; for all pairs it is raised by Holm's "
        "method, so that all of them hold together."
    )


def _uncommon(judged: Sequence[_Judged]) -> list[Block]:
    everything = set().union(*(one.labels for one in judged))
    common = set(judged[0].labels).intersection(*(one.labels for one in judged[1:]))
    if len(common) == len(everything):
        return []
    listed = ", ".join(f"{one.name} {len(one.labels)}" for one in judged)
    return [
        Text(
            f"The runs were scored on different videos ({listed}); {len(common)} are common to all, and each test is on those "
            "that its two runs share.",
            "warning",
        )
    ]


def _together(judged: Sequence[_Judged]) -> str:
    common = [video for video in judged[0].labels if all(video in one.labels for one in judged)]
    if not common:
        return "No video is common to all of them."
    num_right = np.stack([_right(one, common) for one in judged]).sum(axis=0)
    all_right, none_right = np.count_nonzero(num_right == len(judged)), np.count_nonzero(num_right == 0)
    return (
        f"Of {counted(len(common), 'video')} common to all, every run is right about {all_right} and none about {none_right}; "
        f"at least one is right about {percent(1 - none_right / len(common))}."
    )


def _class_blocks(judged: Sequence[_Judged]) -> list[Block]:
    """video@1 of each class in each run; classes on which the runs differ most come first."""
    by_run = [{plain_name(row.name): row for row in one.evaluated.measured.per_class} for one in judged]
    rows = []
    for row in judged[0].evaluated.measured.per_class:
        found = [of_run.get(plain_name(row.name)) for of_run in by_run]
        shares = [100 * other.right / other.of if other and other.of else None for other in found]
        known = [share for share in shares if share is not None]
        rows.append((row.name, row.of, *shares, max(known) - min(known) if known else None))
    rows.sort(key=lambda row: -(row[-1] if isinstance(row[-1], float) else -1.0))
    columns = (
        *titles("class", "videos"),
        *(Column(one.name, 1) for one in judged),
        Column("largest difference", 1),
    )
    note = "video@1 in percent of all videos of the class. Among many classes some differ much by chance alone."
    return [Table("classes", "Every class, the largest difference first", columns, tuple(rows), note=note)]


def _mistakes(judged: Sequence[_Judged], clips: Sequence[Clips]) -> list[Block]:
    """Those of the most confident mistakes of each of two runs about which the other run is right."""
    blocks = how_shown(*clips)
    for one, other, of_one in zip(judged, reversed(judged), clips, strict=True):
        only = [mistake for mistake in one.evaluated.mistakes if other.right.get(mistake.video)]
        said = f"{len(only)} of the {len(one.evaluated.mistakes)} most confident mistakes of {one.name}: {other.name} is right."
        blocks.append(Text(said))
        if only:
            title = f"Mistakes of {one.name} that {other.name} does not make"
            blocks += mistake_blocks(f"mistakes-{judged.index(one) + 1}", title, only, of_one)
    return blocks


def _speed_blocks(judged: Sequence[_Judged]) -> list[Block]:
    speeds = [speed(one.run) for one in judged]
    names = list(dict.fromkeys(name for facts in speeds for name in facts))
    if not names:
        return []
    rows = tuple((one.name, *(facts.get(name) for name in names)) for one, facts in zip(judged, speeds, strict=True))
    return [Table("speeds", "Speed of training", titles("run", *names), rows)]


def _failure_blocks(judged: Sequence[_Judged]) -> list[Block]:
    rows = tuple(
        (
            one.name,
            one.evaluated.measured.num_failed_videos,
            one.evaluated.measured.num_failed_views,
            len(one.run.failures),
        )
        for one in judged
    )
    columns = titles(
        "run", "unreadable videos", "unreadable clips of the evaluation", "unreadable clips of the training"
    )
    blocks: list[Block] = [Table("failures", "What could not be read", columns, rows)]
    views = list(dict.fromkeys(view for one in judged for view in one.evaluated.failures))
    return [*blocks, *(failure_blocks(views, ()) if views else [])]


def _differences(name: str, judged: Sequence[_Judged], values: Sequence[object]) -> list[Block]:
    """What is not the same everywhere."""
    flat = [flattened(of_run) if isinstance(of_run, dict) else {} for of_run in values]
    if not any(flat):
        return [Text("Not known: score files alone were given.")]
    keys = list(dict.fromkeys(key for of_run in flat for key in of_run))
    rows = tuple(
        (key, *(of_run.get(key) for of_run in flat)) for key in keys if len({of_run.get(key) for of_run in flat}) > 1
    )
    same = len(keys) - len(rows)
    if not rows:
        return [Text(f"All {len(keys)} values are the same.")]
    columns = titles("name", *(one.name for one in judged))
    return [Table(name, f"What differs in {name}", columns, rows, note=f"{counted(same, 'other value')} are the same.")]
