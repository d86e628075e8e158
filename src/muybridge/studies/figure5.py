"""Figure 5: R(2+1)D, accuracy against the length of clips (a) and against the number of clips averaged (b).

Claim (section 4.3): with the length of clips clip accuracy keeps rising, while video accuracy peaks (at 32 of 48 frames);
averaging a fifth of the clips loses about half a point.
"""

from __future__ import annotations

from itertools import pairwise

from muybridge.report.charts import Series
from muybridge.studies.intervals import Estimate, difference
from muybridge.studies.paper import FIGURE5A, FIGURE5A_LENGTHS, FIGURE5B_LOSS
from muybridge.studies.plan import Run, Scoring
from muybridge.studies.scales import from_scratch, seeds, uniform
from muybridge.studies.study import (
    SCALE_NOTES,
    Cell,
    Chart,
    Figure,
    Results,
    Setting,
    Study,
    Table,
    Told,
    Verdict,
    cell,
    compared,
    concluded,
    points,
)
from muybridge.studies.table3 import told, with_test, within

LENGTHS = {"paper": FIGURE5A_LENGTHS, "laptop": (4, 8, 16, 24, 32)}
# Which network is averaged over how many clips. Laptop: 25 clips are every place that 8 frames of 32 have.
AVERAGED_LENGTH = {"paper": 32, "laptop": 8}
NUM_CLIPS = {"paper": (1, 5, 10, 20, 50, 100), "laptop": (1, 2, 3, 5, 9, 13, 25)}
A_FIFTH = {"paper": 20, "laptop": 5}
NAMES: dict[Figure, str] = {"clip_top1": "clip@1", "video_top1": "video@1"}
CLAIM = (
    "The longer the clips trained and tested with, the higher clip accuracy, while video accuracy peaks before the longest. "
    f"Averaging a fifth of the clips loses about {FIGURE5B_LOSS} points of video accuracy."
)


def by_length(setting: Setting) -> dict[int, list[Run]]:
    """(a): one training a length."""
    return {length: seeds(setting, from_scratch(setting, "r2plus1d", length)) for length in LENGTHS[setting.scale]}


def averaged(setting: Setting) -> tuple[list[Run], list[Scoring]]:
    """(b): one network, tested with more and more clips."""
    length = AVERAGED_LENGTH[setting.scale]
    tests = [uniform(setting, length, clips) for clips in NUM_CLIPS[setting.scale]]
    return seeds(setting, from_scratch(setting, "r2plus1d", length)), tests


def runs(setting: Setting) -> list[Run]:
    """Both parts."""
    members, tests = averaged(setting)
    of_lengths = [run for chosen in by_length(setting).values() for run in chosen]
    return of_lengths + [with_test(run, test) for run in members for test in tests]


def tell(setting: Setting, results: Results) -> Told:
    """Two charts with their tables."""
    found = part_a(setting, results)
    members, tests = averaged(setting)
    part_b = [(float(test.clips), results.estimate(members, test)) for test in tests]
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (length, *(value for figure in NAMES for value in (cell(found[figure][length]), printed(length, figure))))
        for length in LENGTHS[setting.scale]
    )
    columns = ("frames", "clip@1, ours", "clip@1, paper", "video@1, ours", "video@1, paper")
    note = f"{SCALE_NOTES[setting.scale]}; the paper's curve has no printed numbers at other lengths"
    counts: tuple[tuple[Cell, ...], ...] = tuple((int(clips), cell(at)) for clips, at in part_b)
    tables = (
        Table("Figure 5a, accuracy by length of clips", columns, rows, note),
        Table("Figure 5b, video@1 by number of clips averaged", ("clips", "video@1, ours"), counts),
    )
    series = tuple(
        points(NAMES[figure], [(float(length), at) for length, at in found[figure].items()], "line") for figure in NAMES
    )
    charts = (
        Chart("Figure 5a", "frames of a clip", "accuracy in percent", series, spoken(series)),
        Chart(
            "Figure 5b", "clips averaged", "video@1 in percent", only := (points("ours", part_b, "line"),), spoken(only)
        ),
    )
    return Told(verdict(setting, results), tables, charts)


def part_a(setting: Setting, results: Results) -> dict[Figure, dict[int, Estimate | None]]:
    """figure -> length -> accuracy."""
    return {
        figure: {
            length: results.estimate(members, uniform(setting, length), figure)
            for length, members in by_length(setting).items()
        }
        for figure in NAMES
    }


def printed(length: int, figure: Figure) -> float | None:
    """What the paper prints at a length."""
    values = FIGURE5A.get(length)
    return None if values is None else values[0 if figure == "clip_top1" else 1]


def spoken(series: tuple[Series, ...]) -> str:
    """The curves in words."""
    said = [
        f"{one.label}: " + ", ".join(f"{y:.1f} at {x:g}" for x, y in zip(one.x, one.y, strict=True))
        for one in series
        if one.x
    ]
    return f"{'; '.join(said) or 'nothing has been run'}."


def verdict(setting: Setting, results: Results) -> Verdict:
    """Clip accuracy step by step; the longest clips against the best shorter ones; a fifth of the clips against all."""
    of: dict[Figure, dict[int, dict[int, float]]] = {
        figure: {
            length: results.by_seed(members, uniform(setting, length), figure)
            for length, members in by_length(setting).items()
        }
        for figure in NAMES
    }
    clip, video = of["clip_top1"], of["video_top1"]
    findings = [
        compared(f"clip@1 with {longer} frames above {shorter}", difference(clip[longer], clip[shorter]))
        for shorter, longer in pairwise(clip)
    ]
    *others, longest = video
    means = {length: sum(video[length].values()) / len(video[length]) for length in others if video[length]}
    if means:
        best = max(means, key=lambda length: means[length])
        findings.append(
            compared(
                f"video@1 with {best} frames above the longest, {longest}", difference(video[best], video[longest])
            )
        )
    members, tests = averaged(setting)
    fifth = next(test for test in tests if test.clips == A_FIFTH[setting.scale])
    loss = difference(results.by_seed(members, tests[-1]), results.by_seed(members, fifth))
    findings.append((f"{fifth.clips} clips within a point of {tests[-1].clips}{told(loss)}", within(loss, 1.0)))
    return concluded(findings)


STUDY = Study("figure5", "Figure 5: length and number of clips", CLAIM, runs, tell)
