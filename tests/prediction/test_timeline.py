import csv
import io
import itertools
import json
import random
import re
from dataclasses import replace

import pytest

from muybridge.prediction.timeline import (
    Segment,
    Window,
    compute_borders_seconds,
    find_class_segments,
    format_srt_time,
    merge_windows,
    smooth_windows,
    timeline_to_json,
    to_csv,
    to_srt,
)

CLASSES = ("a", "b", "c")


def window(start: float, *probabilities: float, length: float = 2.0) -> Window:
    return Window(start, start + length, probabilities)


def windows_of(letters: str, top: float = 0.8) -> list[Window]:
    """A window a second, two seconds long, with `top` for the class of its letter; '.' is nobody's."""
    rest = (1 - top) / 2
    made = []
    for start, letter in enumerate(letters):
        row = [0.4, 0.3, 0.3] if letter == "." else [top if name == letter else rest for name in CLASSES]
        made.append(window(float(start), *row))
    return made


def merged(letters: str, **minima: float) -> list[tuple[str, float, float]]:
    segments = merge_windows(windows_of(letters), CLASSES, **minima)
    return [(segment.label, segment.start_seconds, segment.end_seconds) for segment in segments]


def test_nothing_gives_nothing() -> None:
    assert merge_windows([], CLASSES) == ()


def test_one_window_is_one_segment() -> None:
    (segment,) = merge_windows([window(1.0, 0.2, 0.7, 0.1)], CLASSES)
    assert segment == Segment("b", 1.0, 3.0, 0.7)


def test_borders_lie_midway_between_centres() -> None:
    windows = [window(0.0, 1.0), window(1.0, 1.0), window(4.0, 1.0, length=4.0)]
    assert compute_borders_seconds(windows) == [0.0, 1.5, 4.0, 8.0]


def test_equal_neighbours_are_one_segment() -> None:
    assert merged("aabbbc") == [("a", 0.0, 2.5), ("b", 2.5, 5.5), ("c", 5.5, 7.0)]


def test_a_mean_is_of_the_labels_probability_over_the_segments_windows() -> None:
    windows = [window(0, 0.9, 0.1, 0), window(1, 0.6, 0.4, 0), window(2, 0.2, 0.5, 0.3)]
    first, second = merge_windows(windows, CLASSES)
    assert first.mean_probability == pytest.approx(0.75)
    assert second.mean_probability == pytest.approx(0.5)


def test_of_equally_probable_classes_the_first_counts() -> None:
    (segment,) = merge_windows([window(0, 0.1, 0.45, 0.45)], CLASSES)
    assert segment.label == "b"


def test_improbable_windows_leave_a_gap() -> None:
    assert merged("aa.bb", minimum_probability=0.5) == [("a", 0.0, 2.5), ("b", 3.5, 6.0)]
    assert merged("aa.aa", minimum_probability=0.5) == [("a", 0.0, 2.5), ("a", 3.5, 6.0)]
    assert merged("...", minimum_probability=0.5) == []
    assert merged("a.a", minimum_probability=0.4) == [("a", 0.0, 4.0)]


def test_exactly_the_minimum_is_enough() -> None:
    assert merged("a", minimum_probability=0.8) == [("a", 0.0, 2.0)]
    assert merged("aabb", minimum_seconds=2.5) == [("a", 0.0, 2.5), ("b", 2.5, 5.0)]


@pytest.mark.parametrize("step", [0.16, 2 / 15, 4 * 1001 / 30000])
def test_exactly_the_minimum_is_enough_whatever_rounding_does_to_times(step: float) -> None:
    windows = [replace(one, start_seconds=index * step, end_seconds=(index + 4) * step) for index, one in
               enumerate(windows_of("aaab" * 30 + "aaa"))]  # fmt: skip
    assert len(merge_windows(windows, CLASSES, minimum_seconds=step)) == 61
    assert len(merge_windows(windows, CLASSES, minimum_seconds=1.01 * step)) == 1


def test_a_short_segment_goes_to_its_neighbours() -> None:
    assert merged("aaabaaa", minimum_seconds=1.5) == [("a", 0.0, 8.0)]
    assert merged("aaabaaa", minimum_seconds=1.0) == [("a", 0.0, 3.5), ("b", 3.5, 4.5), ("a", 4.5, 8.0)]
    (segment,) = merge_windows(windows_of("aaabaaa"), CLASSES, minimum_seconds=1.5)
    assert segment.mean_probability == pytest.approx((6 * 0.8 + 0.1) / 7)


def test_a_short_segment_goes_where_its_windows_would_rather_be() -> None:
    for second, expected in ((0.3, "a"), (0.05, "c")):
        middle = window(3.0, second, 0.6, 0.4 - second)
        windows = [*windows_of("aaa"), middle, *(Window(w.start_seconds + 4, w.end_seconds + 4, w.probabilities)
                                                 for w in windows_of("ccc"))]  # fmt: skip
        segments = merge_windows(windows, CLASSES, minimum_seconds=2.0)
        assert [segment.label for segment in segments] == ["a", "c"]
        assert segments[0].end_seconds == segments[1].start_seconds == (4.5 if expected == "a" else 3.5)


def test_the_shortest_goes_first() -> None:
    # b (1 s) goes to c rather than to a; only then is c (2 s + 1 s) long enough to stay.
    windows = [*windows_of("aaaa"), window(4.0, 0.1, 0.5, 0.4), window(5.0, 0.0, 0.2, 0.8), window(6.0, 0.0, 0.2, 0.8)]
    segments = merge_windows(windows, CLASSES, minimum_seconds=3.0)
    assert [segment.label for segment in segments] == ["a", "c"]


def test_short_segments_among_gaps_are_left_out() -> None:
    assert merged("..a..bbb", minimum_probability=0.5, minimum_seconds=2.0) == [("b", 5.5, 9.0)]
    assert merged("a", minimum_seconds=3.0) == []
    assert merged("abc", minimum_seconds=100.0) == []


def test_segments_tile_time_whatever_the_labels() -> None:
    """All 729 sequences of six windows."""
    for row in itertools.product("ab.", repeat=6):
        check_tiling("".join(row))


def check_tiling(letters: str) -> None:
    """No overlap, no two equal neighbours that touch, and gaps exactly where windows are nobody's."""
    windows = windows_of(letters)
    segments = merge_windows(windows, CLASSES, minimum_probability=0.5)
    borders = compute_borders_seconds(windows)
    covered = {}
    for segment in segments:
        first, last = borders.index(segment.start_seconds), borders.index(segment.end_seconds)
        assert first < last
        for index in range(first, last):
            assert index not in covered, "two segments overlap"
            covered[index] = segment.label
    assert covered == {index: letter for index, letter in enumerate(letters) if letter != "."}, letters
    for before, after in itertools.pairwise(segments):
        assert before.end_seconds < after.start_seconds or before.label != after.label


def slow_reference(windows: list[Window], minimum_seconds: float) -> list[tuple[int, int, int]]:
    """The rule for short segments, round by round over single windows: (label, first, last)."""
    labels = [max(range(3), key=lambda index: (window.probabilities[index], -index)) for window in windows]
    borders = compute_borders_seconds(windows)
    while True:
        runs, first = [], 0
        for label, group in itertools.groupby(labels):
            last = first + len(list(group))
            runs.append((label, first, last))
            first = last
        short = min(runs, key=lambda run: (borders[run[2]] - borders[run[1]], run[1]))
        if borders[short[2]] - borders[short[1]] >= minimum_seconds:
            return runs
        at = runs.index(short)
        beside = [runs[index][0] for index in (at - 1, at + 1) if 0 <= index < len(runs)]
        if not beside:
            return []
        inside = windows[short[1] : short[2]]
        label = max(beside, key=lambda label: sum(window.probabilities[label] for window in inside))
        labels[short[1] : short[2]] = [label] * len(inside)


@pytest.mark.parametrize("seed", range(60))
def test_random_timelines_agree_with_a_slow_reading_of_the_rule(seed: int) -> None:
    draw = random.Random(seed)
    start, windows = 0.0, []
    for _ in range(draw.randint(1, 60)):
        start += draw.uniform(0.1, 1.0)
        row = [draw.random() ** 3 for _ in CLASSES]
        windows.append(window(start, *(value / sum(row) for value in row)))
    minimum = draw.choice([0.0, 0.5, 1.0, 3.0, 8.0])
    segments = merge_windows(windows, CLASSES, minimum_seconds=minimum)
    borders = compute_borders_seconds(windows)
    expected = [
        (CLASSES[label], borders[first], borders[last]) for label, first, last in slow_reference(windows, minimum)
    ]
    assert [(segment.label, segment.start_seconds, segment.end_seconds) for segment in segments] == expected
    for segment in segments:
        assert segment.end_seconds - segment.start_seconds >= minimum
        inside = [w for w, left in zip(windows, borders, strict=False)
                  if segment.start_seconds <= left < segment.end_seconds]  # fmt: skip
        mean = sum(w.probabilities[CLASSES.index(segment.label)] for w in inside) / len(inside)
        assert segment.mean_probability == pytest.approx(mean)


def test_long_timelines_are_merged_in_less_than_quadratic_work() -> None:
    windows = windows_of("ab" * 20_000)  # the timeout of the test run would catch the square of this
    assert len(merge_windows(windows, CLASSES, minimum_seconds=5.0)) >= 1


def test_windows_out_of_order_or_without_probabilities_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"windows must be in order of time, but one centred at 1.0 s follows one at 2.0 s"
    ):
        merge_windows([window(1, 1, 0, 0), window(0, 1, 0, 0)], CLASSES)
    with pytest.raises(ValueError, match="has 2 probabilities for 3 classes"):
        merge_windows([window(0, 0.5, 0.5)], CLASSES)
    with pytest.raises(ValueError, match=r"a window ends at 1.0 s, before its start at 2.0 s"):
        Window(2.0, 1.0, (1.0,))


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.0, "00:00:00,000"),
        (0.0004, "00:00:00,000"),
        (0.001, "00:00:00,001"),
        (1.5, "00:00:01,500"),
        (59.9994, "00:00:59,999"),
        (59.9996, "00:01:00,000"),
        (3599.9999, "01:00:00,000"),
        (3661.25, "01:01:01,250"),
        (359_999.9999, "100:00:00,000"),
    ],
)
def test_srt_times_carry(seconds: float, expected: str) -> None:
    assert format_srt_time(seconds) == expected


SEGMENTS = (Segment("left, slow", 0.0, 2.5, 0.8123456), Segment('say "b"\nloud', 2.5, 61.0, 0.5))


def test_srt_is_as_players_read_it() -> None:
    text = to_srt(SEGMENTS)
    assert text == (
        "1\n00:00:00,000 --> 00:00:02,500\nleft, slow (81 %)\n\n"
        '2\n00:00:02,500 --> 00:01:01,000\nsay "b" loud (50 %)\n\n'
    )
    blocks = re.findall(r"(\d+)\n(\d\d:\d\d:\d\d,\d{3}) --> (\d\d:\d\d:\d\d,\d{3})\n(.+)\n\n", text)
    assert len(blocks) == 2
    assert to_srt(()) == ""


def test_csv_can_be_read_back() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(SEGMENTS))))
    assert [row["label"] for row in rows] == [segment.label for segment in SEGMENTS]
    assert [float(row["end_seconds"]) for row in rows] == [2.5, 61.0]
    assert rows[0]["mean_probability"] == "0.812346"


def test_json_holds_windows_and_segments() -> None:
    windows = windows_of("ab")
    values = json.loads(json.dumps(timeline_to_json(windows, merge_windows(windows, CLASSES), CLASSES)))
    assert values["classes"] == list(CLASSES)
    assert values["windows"][0] == {
        "start_seconds": 0.0,
        "end_seconds": 2.0,
        "probabilities": pytest.approx([0.8, 0.1, 0.1]),
    }
    assert values["segments"][1] == {"label": "b", "start_seconds": 1.5, "end_seconds": 3.0, "mean_probability": 0.8}


def test_smoothing_averages_the_windows_around_each() -> None:
    windows = [window(float(start), *row) for start, row in enumerate([(1, 0), (0, 1), (1, 0), (1, 0)])]
    smoothed = smooth_windows(windows, 2.0)  # centres within one second
    assert [each.probabilities[0] for each in smoothed] == pytest.approx([1 / 2, 2 / 3, 2 / 3, 1])
    assert [each.start_seconds for each in smoothed] == [0, 1, 2, 3]
    assert smooth_windows(windows, 0.0) == tuple(windows)
    assert smooth_windows([], 1.0) == ()


@pytest.mark.parametrize("step", [0.16, 2 / 15, 4 * 1001 / 30000])
def test_windows_half_of_the_smoothing_away_count_whatever_rounding_does_to_times(step: float) -> None:
    windows = [window(index * step, float(index), length=4 * step) for index in range(100)]
    smoothed = smooth_windows(windows, 2 * step)
    assert [each.probabilities[0] for each in smoothed[1:-1]] == pytest.approx(list(range(1, 99)))
    assert smoothed[0].probabilities[0] == pytest.approx(0.5)


def test_classes_by_themselves_may_overlap() -> None:
    windows = [window(0, 0.5, 0.1), window(1, 0.5, 0.4), window(2, 0.1, 0.4), window(3, 0.6, 0.0)]
    segments = find_class_segments(windows, ("a", "b"), 0.4)
    assert [(segment.label, segment.start_seconds, segment.end_seconds) for segment in segments] == [
        ("a", 0.0, 2.5),
        ("b", 1.5, 3.5),
        ("a", 3.5, 5.0),
    ]
    assert segments[0].mean_probability == pytest.approx(0.5)
    assert [segment.end_seconds for segment in find_class_segments(windows, ("a", "b"), 0.4, 2.0)] == [2.5, 3.5]
    assert find_class_segments([], ("a",), 0.4) == ()
