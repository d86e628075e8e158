"""Fusion against plain arithmetic, view by view and video by video."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from muybridge.evaluation import fuse as fuse_module
from muybridge.evaluation.fuse import fuse, normalize_weights
from muybridge.evaluation.outputs import VideoOutputs, compute_video_outputs
from muybridge.evaluation.scores import Scores, read_any_scores
from muybridge.evaluation.task_metrics import TaskMetrics
from muybridge.models.heads import Head, compute_level_probabilities, make_ordinal_outputs
from scored import TaskVideo, write_task_scores

NewScores = Callable[..., Scores]
Video = tuple[str, tuple[int, ...], list[list[float] | None]]


def plain_softmax(logits: Sequence[float]) -> list[float]:
    powers = [math.exp(value - max(logits)) for value in logits]
    return [power / math.fsum(powers) for power in powers]


def plain_mean(rows: Sequence[Sequence[float]], shares: Sequence[float] | None = None) -> list[float]:
    shares = shares or [1 / len(rows)] * len(rows)
    return [math.fsum(s * v for s, v in zip(shares, column, strict=True)) for column in zip(*rows, strict=True)]


def random_files(seed: int, *, num_files: int = 2) -> list[list[Video]]:
    """The same videos in every file; scores and failures of their own."""
    chance = np.random.default_rng(seed)
    labels = {f"{number}.mp4": (int(chance.integers(3)),) for number in range(7)}
    return [
        [
            (
                name,
                own,
                [None if chance.random() < 0.25 else chance.normal(0, 2, 3).round(3).tolist() for _ in range(4)],
            )
            for name, own in labels.items()
        ]
        for _ in range(num_files)
    ]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.6, 0.4), (3.0, 0.0)])
def test_views_are_matched_by_number(
    seed: int, weights: tuple[float, float], new_scores: NewScores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuse_module, "BLOCK_ROWS", 1 + 3 * seed)
    files = random_files(seed)
    fusion = fuse([new_scores(videos) for videos in files], weights)
    shares = [weight / sum(weights) for weight in weights]
    num_right = num_failed = partial = right_views = 0
    for number, ((_, labels, first), (_, _, second)) in enumerate(zip(*files, strict=True)):
        pairs = [(one, two) for one, two in zip(first, second, strict=True) if one and two]
        partial += sum((one is None) != (two is None) for one, two in zip(first, second, strict=True))
        assert fusion.scores.num_failed_views[number] == 4 - len(pairs)
        if not pairs:
            num_failed += 1
            assert np.isnan(fusion.scores.probabilities[number]).all()
            continue
        views = [plain_mean([plain_softmax(one), plain_softmax(two)], shares) for one, two in pairs]
        expected = plain_mean(views)
        assert fusion.scores.probabilities[number] == pytest.approx(expected, abs=1e-7)
        num_right += expected.index(max(expected)) in labels
        right_views += sum(view.index(max(view)) in labels for view in views)
    assert fusion.level == "view"
    assert fusion.accuracy.video_top1.of_all.right == num_right
    assert fusion.accuracy.video_top1.of_all.of == 7
    assert fusion.accuracy.clip_top1.of_all.right == right_views
    assert fusion.accuracy.num_failed_videos == num_failed
    assert any(f"{partial} views" in problem for problem in fusion.problems) == (partial > 0)


def test_one_file_with_itself_is_that_file(new_scores: NewScores) -> None:
    scores = new_scores(random_files(3)[0])
    fusion = fuse([scores, scores, scores], [1, 2, 3])
    assert fusion.accuracy == fusion.members[0] == fusion.members[2]
    assert not fusion.problems


def test_the_order_of_videos_and_classes_does_not_count(new_scores: NewScores) -> None:
    one, two = random_files(1)
    plain = fuse([new_scores(one), new_scores(two)], [1, 2])
    turned = [
        (name, tuple((label + 1) % 3 for label in labels), [None if v is None else [v[2], v[0], v[1]] for v in views])
        for name, labels, views in reversed(two)
    ]
    other = new_scores(turned)
    names = other.header.classes
    other = Scores(other.table, replace(other.header, classes=(names[2].upper(), names[0], names[1])))
    fusion = fuse([new_scores(one), other], [1, 2])
    assert fusion.scores.videos == plain.scores.videos
    assert np.allclose(fusion.scores.probabilities, plain.scores.probabilities, equal_nan=True)
    assert fusion.members[1].video_top1 == plain.members[1].video_top1


def test_other_numbers_of_views_are_fused_by_video(new_scores: NewScores) -> None:
    one, two = random_files(2)
    longer = [(name, labels, [*views, [0.0, 1.0, 2.0], None]) for name, labels, views in two]
    fusion = fuse([new_scores(one), new_scores(longer)], [0.6, 0.4])
    assert fusion.level == "video"
    assert "clip_top1" not in fusion.to_json()["fused"]
    for number, ((_, _, first), (_, _, second)) in enumerate(zip(one, longer, strict=True)):
        rows = [[plain_softmax(view) for view in views if view is not None] for views in (first, second)]
        if all(rows):
            expected = plain_mean([plain_mean(rows[0]), plain_mean(rows[1])], [0.6, 0.4])
            assert fusion.scores.probabilities[number] == pytest.approx(expected, abs=1e-7)
        else:
            assert np.isnan(fusion.scores.probabilities[number]).all()
    assert fusion.accuracy.num_videos == 7


def test_three_crops_are_matched_with_three_crops(new_scores: NewScores, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(0, 2, (2, 3, 6, 3)).round(3).tolist()  # (files, videos, views, classes)
    one, two = [[(str(number), (number,), views) for number, views in enumerate(videos)] for videos in rows]
    plain = fuse([new_scores(one), new_scores(two)], [0.6, 0.4])
    fusion = fuse([new_scores(one, crops=3), new_scores(two, crops=3)], [0.6, 0.4])
    assert fusion.level == plain.level == "view"
    assert np.array_equal(fusion.scores.probabilities, plain.scores.probabilities)
    assert fusion.accuracy.clip_top1 == plain.accuracy.clip_top1

    head = Head("multi_label", ("a", "b", "c"), "sigmoid")
    targets = np.eye(3).tolist()
    files = [
        write_task_scores(
            tmp_path / f"{index}.parquet",
            head,
            head.outputs,
            [(str(number), tuple(targets[number]), views) for number, views in enumerate(videos)],
            crops=3,
        )
        for index, videos in enumerate(rows)
    ]
    labels = fuse([read_any_scores(file) for file in files], [0.6, 0.4])
    assert labels.level == "view" and isinstance(labels.videos, VideoOutputs)
    probabilities = (1 / (1 + np.exp(-np.array(rows)))).mean(axis=2)
    assert labels.videos.values == pytest.approx(0.6 * probabilities[0] + 0.4 * probabilities[1], abs=1e-6)
    assert labels.videos.num_views.tolist() == [6, 6, 6]


def test_two_clips_of_three_crops_are_not_six_clips(new_scores: NewScores) -> None:
    one, two = random_files(2)
    one, two = [[(name, labels, [*views, *views[:2]]) for name, labels, views in file] for file in (one, two)]
    assert fuse([new_scores(one, crops=3), new_scores(two)], [1, 1]).level == "video"


@pytest.mark.parametrize("extra_views", [0, 1])
def test_missing_videos_are_counted_and_named(new_scores: NewScores, extra_views: int) -> None:
    views: list[list[float] | None] = [[9.0, 0.0, 0.0]]
    one = new_scores([("a", (0,), views), ("b", (0,), views), ("c", (0,), views)])
    two = new_scores([("c", (0,), views * (1 + extra_views)), ("d", (1,), views * (1 + extra_views))])
    fusion = fuse([one, two], [1, 1], names=["rgb", "flow"])
    assert fusion.scores.videos == ("a", "b", "c", "d")
    assert fusion.accuracy.video_top1.of_all.right == 1
    assert fusion.accuracy.video_top1.of_all.of == 4
    assert fusion.accuracy.video_top1.of_readable.of == 1
    assert fusion.problems == (
        "rgb lacks 1 of 4 videos (d); it is counted as failed",
        "flow lacks 2 of 4 videos (a, b); they are counted as failed",
    )


def other_classes(scores: Scores) -> Scores:
    return Scores(scores.table, replace(scores.header, classes=("class 0", "class 1", "wave")))


def of_fold_3(scores: Scores) -> Scores:
    return Scores(scores.table, replace(scores.header, fold=3))


def test_what_does_not_belong_together_is_refused(new_scores: NewScores) -> None:
    views: list[list[float] | None] = [[1.0, 2.0, 3.0]]
    here = new_scores([("a", (0,), views)])
    cases: list[tuple[Scores, str]] = [
        (other_classes(here), "'?wave'? is not among"),
        (of_fold_3(here), "rgb has split test, fold 2, but flow has split test, fold 3"),
        (new_scores([("b", (0,), views)]), "rgb and flow have no video in common"),
        (new_scores([("a", (1,), views)]), "a has different labels in flow and in rgb"),
        (new_scores([("a", (0,), [[1.0, 2.0]])], num_classes=2), "rgb and flow have different classes"),
    ]
    for other, message in cases:
        with pytest.raises(ValueError, match=message):
            fuse([here, other], [1, 1], names=["rgb", "flow"])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0], "1 weight given for 2 members"),
        ([1.0, -1.0], r"weights\[1\] is -1.0, expected a finite number from 0"),
        ([0.0, 0.0], "positive"),
        ([1.0, math.nan], r"weights\[1\] is nan"),
        ([1e308, 1e308], r"weights\[0\] is 1e\+308"),
    ],
)
def test_impossible_weights_are_refused(weights: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        normalize_weights(weights, 2)


def test_json_says_how(new_scores: NewScores) -> None:
    scores = new_scores(random_files(5)[0])
    values: dict[str, Any] = fuse([scores, scores], [3, 1], names=["rgb", "flow"]).to_json()
    assert values["sentence"].startswith("fused by view: 0.75 x rgb (4 uniform centre-crop clips of 16 frames")
    assert [member["weight"] for member in values["members"]] == [0.75, 0.25]
    assert "protocol" not in values["fused"]


NAN = math.nan
EF = Head("regression", ("ef", "esv"), "identity", ("%", "ml"), (50.0, 40.0), (10.0, 20.0))
OTHER_EF = Head("regression", ("ESV", "EF"), "identity", ("ml", "%"), (0.0, 0.0), (1.0, 1.0))


def write_and_read(path: Path, head: Head, classes: tuple[str, ...], videos: Sequence[TaskVideo]) -> Scores:
    return read_any_scores(write_task_scores(path, head, classes, videos))


def test_numbers_are_averaged_in_their_unit(tmp_path: Path) -> None:
    one = write_and_read(
        tmp_path / "one.parquet",
        EF,
        EF.outputs,
        [("a", (60.0, NAN), [[0.0, 0.0], [2.0, 0.0]]), ("b", (45.0, 3.0), [None, [1.0, 1.0]])],  # 60 40, 60 60
    )
    other = write_and_read(
        tmp_path / "other.parquet",
        OTHER_EF,
        OTHER_EF.outputs,
        [("b", (3.0, 45.0), [[0.0, 0.0], [10.0, 20.0]]), ("a", (NAN, 60.0), [[20.0, 30.0], [40.0, 50.0]])],  # 40 30
    )
    fusion = fuse([one, other], [3, 1])
    assert isinstance(fusion.videos, VideoOutputs)
    assert fusion.videos.values == pytest.approx(np.array([[55.0, 37.5], [50.0, 47.5]]))  # b: its second view alone
    assert fusion.videos.num_failed_views.tolist() == [0, 1]
    assert isinstance(fusion.metrics, TaskMetrics)
    assert fusion.metrics.figures["mae_ef"] == pytest.approx(5)
    assert fusion.problems == ("1 view is scored in only some of the files and left out",)
    assert fusion.to_json()["members"][0]["metrics"]["task"] == "regression"
    with pytest.raises(ValueError, match="the task regression has no accuracy"):
        _ = fusion.accuracy


def test_a_threshold_is_the_mean_of_thresholds(tmp_path: Path) -> None:
    heads = [
        Head("multi_label", ("a", "b"), "sigmoid", thresholds=(0.6, 0.2)),
        Head("multi_label", ("B", "A"), "sigmoid"),
    ]
    one = write_and_read(tmp_path / "one.parquet", heads[0], ("a", "b"), [("v", (1.0, 0.0), [[2.0, -2.0]])])
    other = write_and_read(tmp_path / "two.parquet", heads[1], ("B", "A"), [("v", (0.0, 1.0), [[1.0, 0.0]] * 2)])
    fusion = fuse([one, other], [1, 1])
    assert fusion.level == "video"
    assert isinstance(fusion.videos, VideoOutputs)
    assert fusion.videos.head.thresholds == pytest.approx((0.55, 0.35))
    expected = [(1 / (1 + math.exp(-one)) + 1 / (1 + math.exp(-two))) / 2 for one, two in ((2, 0), (-2, 1))]
    assert fusion.videos.values.tolist() == [pytest.approx(expected)]


def test_the_mean_of_boundaries_is_that_of_levels(tmp_path: Path) -> None:
    levels = ("none", "mild", "severe")
    head = Head("ordinal", make_ordinal_outputs(levels), "cumulative_sigmoid")
    rows = np.random.default_rng(0).normal(0, 2, (2, 5, 2))
    files = [
        write_and_read(
            tmp_path / f"{index}.parquet",
            head,
            levels,
            [(str(video), (float(video % 3),), [row.tolist()]) for video, row in enumerate(own)],
        )
        for index, own in enumerate(rows)
    ]
    fusion = fuse(files, [0.7, 0.3])
    assert isinstance(fusion.videos, VideoOutputs)
    one, two = (compute_level_probabilities(compute_video_outputs(file).values) for file in files)
    assert compute_level_probabilities(fusion.videos.values) == pytest.approx(0.7 * one + 0.3 * two)


def test_other_tasks_units_and_levels_are_refused(tmp_path: Path, new_scores: NewScores) -> None:
    labels = Head("multi_label", ("ef", "esv"), "sigmoid")
    rest = [("a", (1.0, 0.0), [[1.0, 2.0]])]
    number = write_and_read(tmp_path / "ef.parquet", EF, EF.outputs, rest)
    classes = new_scores([("a", (0,), [[1.0, 2.0, 3.0]])])
    inches = replace(EF, units=("%", "inch"))
    cases = [
        (
            write_and_read(tmp_path / "l.parquet", labels, labels.outputs, rest),
            "task regression, the other of multi_label",
        ),
        (write_and_read(tmp_path / "i.parquet", inches, EF.outputs, rest), "esv is in ml and in inch"),
        (replace(classes, header=replace(classes.header, fold=None)), "task regression, the other of single_label"),
        (
            write_and_read(tmp_path / "t.parquet", EF, EF.outputs, [("a", (2.0, 0.0), [[1.0, 2.0]])]),
            "a has different targets",
        ),
    ]
    for other, message in cases:
        with pytest.raises(ValueError, match=message):
            fuse([number, other], [1, 1])
    levels = [("a", (1.0,), [[1.0, 2.0]])]
    orders = [
        write_and_read(
            tmp_path / f"{order[0]}.parquet",
            Head("ordinal", make_ordinal_outputs(order), "cumulative_sigmoid"),
            order,
            levels,
        )
        for order in (("low", "middle", "high"), ("high", "middle", "low"))
    ]
    with pytest.raises(ValueError, match="the levels are low, middle, high and high, middle, low"):
        fuse(orders, [1, 1])
