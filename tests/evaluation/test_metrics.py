from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from muybridge.evaluation.aggregate import UNRANKED, compute_video_scores
from muybridge.evaluation.metrics import (
    compute_accuracy,
    compute_confusion_matrix,
    compute_video_ranks,
    wilson_interval,
)
from muybridge.evaluation.scores import Scores

FIRST, SECOND, THIRD = [2.0, 1.0, 0.0], [0.0, 2.0, 1.0], [1.0, 0.0, 2.0]


@pytest.mark.parametrize(
    ("right", "of", "low", "high"),
    [  # Newcombe, Statistics in Medicine 17 (1998), table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_published_intervals(right: int, of: int, low: float, high: float) -> None:
    assert wilson_interval(right / of, of) == pytest.approx((low, high), abs=5e-5)
    assert wilson_interval(1 - right / of, of) == pytest.approx((1 - high, 1 - low), abs=5e-5)


@pytest.mark.parametrize("right", range(8))
def test_an_interval_is_where_the_score_test_rejects(right: int) -> None:
    """By definition each end p satisfies |share - p| = 1.96 sqrt(p (1 - p) / n)."""
    for end in wilson_interval(right / 7, 7):
        assert abs(right / 7 - end) == pytest.approx(1.959963984540054 * math.sqrt(end * (1 - end) / 7), abs=1e-12)


@pytest.mark.parametrize("num_trials", [1, 7, 400])
def test_intervals_of_whole_counts_are_those_of_scipy(num_trials: int) -> None:
    for right in {0, 1, num_trials // 3, num_trials}:
        expected = stats.binomtest(right, num_trials).proportion_ci(0.95, method="wilson")
        assert wilson_interval(right / num_trials, num_trials) == pytest.approx(
            (expected.low, expected.high), abs=1e-12
        )


@pytest.mark.parametrize(("num_classes", "num_draws"), [(7, 5), (4, 4)])
def test_guessing_is_right_as_often_as_draws_hit_one_of_the_labels(
    num_classes: int, num_draws: int, new_scores: Callable[..., Scores]
) -> None:
    labels = [(0,), (1, 2), (0, 1, 3), ()]
    videos = [(str(number), row, [[0.0] * num_classes]) for number, row in enumerate(labels)]
    accuracy = compute_accuracy(compute_video_scores(new_scores(videos, num_classes=num_classes)))
    draws = list(itertools.combinations(range(num_classes), num_draws))
    hits = [np.mean([bool(set(draw) & set(row)) for draw in draws]) for row in labels[:3]]
    assert accuracy.baseline.chance == pytest.approx((1 + 2 + 3) / 3 / num_classes)
    assert accuracy.baseline.chance_top5 == pytest.approx(np.mean(hits))
    assert accuracy.to_json()["baseline"]["chance_top5"] == accuracy.baseline.chance_top5


def test_no_trials_give_the_whole_range() -> None:
    assert wilson_interval(0.0, 0) == (0.0, 1.0)


def test_both_denominators_and_uneven_numbers_of_views(new_scores: Callable[..., Scores]) -> None:
    accuracy = compute_accuracy(
        compute_video_scores(
            new_scores(
                [
                    ("a", (0,), [FIRST, FIRST, FIRST, SECOND]),
                    ("b", (1,), [None, None, None, FIRST]),
                    ("c", (2,), [None, None, None, None]),
                    ("d", (), [FIRST, None, FIRST, FIRST]),
                ]
            )
        )
    )
    # clips: 3 of 4 and 0 of 1 are 3 of 5; the mean of the two videos' means would be 0.375
    assert (accuracy.clip_top1.of_readable.right, accuracy.clip_top1.of_readable.of) == (3, 5)
    assert accuracy.clip_top1.of_readable.share == 0.6
    assert (accuracy.clip_top1.of_all.right, accuracy.clip_top1.of_all.of) == (3, 12)
    assert (accuracy.video_top1.of_readable.right, accuracy.video_top1.of_readable.of) == (1, 2)
    assert (accuracy.video_top1.of_all.right, accuracy.video_top1.of_all.of) == (1, 3)
    assert (accuracy.num_videos, accuracy.num_unlabelled_videos, accuracy.num_failed_videos) == (4, 1, 1)
    assert (accuracy.num_views, accuracy.num_failed_views) == (16, 8)
    # three classes: every readable video is right among five, the unreadable one is not
    assert (accuracy.video_top5.of_readable.right, accuracy.video_top5.of_readable.of) == (2, 2)
    assert (accuracy.video_top5.of_all.right, accuracy.video_top5.of_all.of) == (2, 3)


def test_intervals_count_videos_not_views(new_scores: Callable[..., Scores]) -> None:
    accuracy = compute_accuracy(
        compute_video_scores(new_scores([("a", (0,), [FIRST] * 10), ("b", (0,), [SECOND] * 10)]))
    )
    assert accuracy.clip_top1.of_all.of == 20
    assert (accuracy.clip_top1.of_all.low, accuracy.clip_top1.of_all.high) == wilson_interval(0.5, 2)
    assert (accuracy.video_top1.of_all.low, accuracy.video_top1.of_all.high) == wilson_interval(0.5, 2)


def test_a_network_that_knows_nothing_scores_chance(new_scores: Callable[..., Scores]) -> None:
    constant = [0.0] * 8
    videos = [(f"{number}", (number % 8,), [constant, constant]) for number in range(80)]
    accuracy = compute_accuracy(compute_video_scores(new_scores(videos, num_classes=8)))
    assert accuracy.clip_top1.of_all.share == 1 / 8
    assert accuracy.video_top1.of_all.share == 1 / 8
    assert accuracy.video_top5.of_all.share == 5 / 8


@pytest.mark.parametrize("seed", range(20))
def test_against_plain_counting(seed: int, new_scores: Callable[..., Scores]) -> None:
    chance = np.random.default_rng(seed)
    num_classes = int(chance.integers(2, 9))
    videos = []
    for number in range(30):
        labels = tuple(int(label) for label in chance.permutation(num_classes)[: chance.integers(0, 3)])
        views = [None if chance.random() < 0.4 else chance.integers(-2, 3, num_classes).tolist() for _ in range(3)]
        videos.append((f"{number}.mp4", labels, views))
    scores = compute_video_scores(new_scores(videos, num_classes=num_classes))
    accuracy = compute_accuracy(scores)

    right = {1: 0, 5: 0}
    labelled = readable = 0
    table = [[0, 0, 0] for _ in range(num_classes)]
    pairs = np.zeros((num_classes, num_classes), int)
    for number, (_, labels, views) in enumerate(videos):
        read = any(view is not None for view in views)
        row = scores.probabilities[number].tolist()
        best = sorted(range(num_classes), key=lambda label: (-row[label], label)) if read else []
        for k in right:
            right[k] += any(label in labels for label in best[:k])
        labelled += bool(labels)
        readable += bool(labels) and read
        for label in labels:
            table[label][0] += bool(best) and best[0] in labels
            table[label][1] += 1
            table[label][2] += not read
        if read and len(labels) == 1:
            pairs[labels[0], best[0]] += 1
        expected_rank = min((best.index(label) for label in labels), default=UNRANKED) if read else UNRANKED
        assert compute_video_ranks(scores)[number] == expected_rank
    for k, rates in ((1, accuracy.video_top1), (5, accuracy.video_top5)):
        assert (rates.of_all.right, rates.of_all.of) == (right[k], labelled)
        assert (rates.of_readable.right, rates.of_readable.of) == (right[k], readable)
    assert [[row.right, row.of, row.failed] for row in accuracy.per_class] == table
    assert [row.name for row in accuracy.per_class] == list(scores.header.classes)
    assert np.array_equal(compute_confusion_matrix(scores), pairs)


def test_any_of_several_labels_is_enough(new_scores: Callable[..., Scores]) -> None:
    scores = compute_video_scores(new_scores([("a", (1, 0), [FIRST]), ("b", (2, 1), [FIRST])]))
    accuracy = compute_accuracy(scores)
    assert accuracy.clip_top1.of_all.right == 1
    assert accuracy.video_top1.of_all.right == 1
    assert [(row.right, row.of) for row in accuracy.per_class] == [(1, 1), (1, 2), (0, 1)]
    assert compute_confusion_matrix(scores).sum() == 0


def test_all_failed_is_nothing_right_not_an_error(new_scores: Callable[..., Scores]) -> None:
    scores = compute_video_scores(new_scores([("a", (0,), [None, None]), ("b", (1,), [None, None])]))
    accuracy = compute_accuracy(scores)
    assert accuracy.video_top5.of_all.share == 0.0
    assert math.isnan(accuracy.video_top1.of_readable.share)
    assert (accuracy.clip_top1.of_readable.low, accuracy.clip_top1.of_readable.high) == (0.0, 1.0)
    assert accuracy.to_json()["video_top1"]["of_readable"]["share"] is None
    assert compute_confusion_matrix(scores).tolist() == [[0] * 3] * 3


def test_no_labels_is_refused(new_scores: Callable[..., Scores]) -> None:
    with pytest.raises(ValueError, match="none of 2 videos of split test has a label"):
        compute_accuracy(compute_video_scores(new_scores([("a", (), [FIRST]), ("b", (), [THIRD])])))


def test_json_carries_the_protocol(new_scores: Callable[..., Scores]) -> None:
    accuracy = compute_accuracy(compute_video_scores(new_scores([("a", (0,), [FIRST, THIRD])])))
    values = json.loads(json.dumps(accuracy.to_json(), allow_nan=False))
    assert values["protocol"]["sentence"] == "2 uniform centre-crop clips of 16 frames a video, softmax averaged"
    assert (values["split"], values["fold"]) == ("test", 2)
    assert values["clip_top1"]["of_all"]["share"] == 0.5
    assert values["per_class"][0] == {"name": "class 0", "right": 1, "of": 1, "failed": 0}


@pytest.mark.parametrize(
    ("num_right", "verdict"),
    [(2, "not distinguishable from always predicting class 0"), (30, None), (0, "below always predicting class 0")],
)
def test_accuracy_is_compared_with_the_majority_class(
    num_right: int, verdict: str | None, new_scores: Callable[..., Scores]
) -> None:
    """20 videos of class 0 and 10 of class 1: 12 or 30 right, or five of class 1 alone."""
    logits = {0: [FIRST], 1: [SECOND]}
    labels = [0] * 20 + [1] * 10
    predicted = {2: [0] * 10 + [1] * 18 + [0] * 2, 30: labels, 0: [1] * 25 + [0] * 5}[num_right]
    videos = [
        (f"{row}", (label,), logits[guess]) for row, (label, guess) in enumerate(zip(labels, predicted, strict=True))
    ]
    if num_right == 2:  # ten of class 0 and eight of class 1
        assert sum(label == guess for label, guess in zip(labels, predicted, strict=True)) == 18
    accuracy = compute_accuracy(compute_video_scores(new_scores(videos)))
    assert (accuracy.baseline.majority_class, accuracy.baseline.majority.right) == ("class 0", 20)
    assert accuracy.baseline.chance == pytest.approx(1 / 3)
    sentence = accuracy.format_baseline()
    assert sentence.startswith("always predicting class 0 gives 66.7 %, guessing 33.3 %")
    assert (verdict in sentence) if verdict else ("distinguishable" not in sentence and "below" not in sentence)
    assert accuracy.to_json()["baseline"]["majority"]["share"] == pytest.approx(2 / 3)


def test_video_at_5_only_above_five_classes(new_scores: Callable[..., Scores]) -> None:
    for num_classes, expected in ((5, ["clip@1", "video@1"]), (6, ["clip@1", "video@1", "video@5"])):
        scores = new_scores([("a", (0,), [list(range(num_classes))])], num_classes=num_classes)
        assert [name for name, _ in compute_accuracy(compute_video_scores(scores)).figures] == expected
