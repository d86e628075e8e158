"""Timeline scores against cases computed by hand, and F1 and edit score against labels by frame as MS-TCN counts them."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest

from muybridge.evaluation.timeline_metrics import (
    LabeledSpan,
    VideoTimeline,
    average_precision,
    compute_overlap,
    cut_to_labeled_time,
    edit_score,
    f1,
    frame_accuracy,
    mean_average_precision,
    merge_spans,
    score_timelines,
)

A, B, C = 0, 1, 2


def span(label: int, start: float, end: float, score: float = 1.0) -> LabeledSpan:
    return LabeledSpan(label, start, end, score)


def timeline(truth: list[LabeledSpan], predicted: list[LabeledSpan]) -> VideoTimeline:
    return VideoTimeline("video.mp4", tuple(truth), tuple(predicted))


def from_letters(letters: str, frames_per_second: float = 1) -> list[LabeledSpan]:
    """A segment for each run of letters, a frame each."""
    spans, start = [], 0
    for letter, group in groupby(letters):
        end = start + len(list(group))
        spans.append(span("abcdef".index(letter), start / frames_per_second, end / frames_per_second))
        start = end
    return spans


def test_a_perfect_timeline_has_full_scores() -> None:
    truth = [span(A, 0, 4), span(B, 4, 6), span(A, 6, 9)]
    scores = score_timelines([timeline(truth, truth)])
    assert (scores.frame_accuracy, scores.edit_score, scores.average_mean_average_precision) == (1, 1, 1)
    assert scores.f1 == {"0.10": 1, "0.25": 1, "0.50": 1}
    assert scores.majority_accuracy == pytest.approx(7 / 9)
    assert scores.scored_seconds == 9


def test_frame_accuracy_by_hand() -> None:
    # Right from 0 to 3 and from 5 to 8 of ten seconds; nothing is predicted from 8 to 10.
    one = timeline([span(A, 0, 5), span(B, 5, 10)], [span(A, 0, 3), span(B, 3, 8)])
    assert frame_accuracy([one]) == pytest.approx(0.6)


def test_overlap_by_hand() -> None:
    assert compute_overlap(span(A, 0, 4), span(B, 2, 6)) == pytest.approx(2 / 6)
    assert compute_overlap(span(A, 0, 4), span(A, 4, 6)) == 0


@pytest.mark.parametrize(
    ("truth", "predicted", "expected"),
    [
        ("aabb", "aabb", 1.0),
        ("aabbcc", "aacc", 1 - 1 / 3),  # one deletion of three
        ("aabb", "bbaa", 0.0),  # two replacements
        ("abab", "ab", 0.5),
        ("aaa", "a", 1.0),  # lengths do not matter
    ],
)
def test_edit_scores_by_hand(truth: str, predicted: str, expected: float) -> None:
    assert edit_score(timeline(from_letters(truth), from_letters(predicted))) == pytest.approx(expected)


def test_f1_counts_a_true_segment_once() -> None:
    # Two predictions overlap the same segment by 5/10 each: one is right at 50 %, the other is superfluous.
    one = timeline([span(A, 0, 10)], [span(A, 0, 5), span(A, 5, 10)])
    assert f1([one], 0.5) == pytest.approx(2 * 1 / (2 + 1))
    assert f1([one], 0.51) == 0


def test_f1_is_pooled_over_videos() -> None:
    right = timeline([span(A, 0, 1)], [span(A, 0, 1)])
    wrong = timeline([span(A, 0, 1), span(B, 1, 2)], [span(C, 0, 2)])
    assert f1([right, wrong], 0.5) == pytest.approx(2 * 1 / (2 + 3))


def count_as_ms_tcn(truth: str, predicted: str, overlap: float) -> tuple[int, int, int]:
    """True positives, false positives and false negatives, on runs of labels by frame, as Farha and Gall define them."""
    true_runs, predicted_runs = from_letters(truth), from_letters(predicted)
    hits, right, wrong = [False] * len(true_runs), 0, 0
    for run in predicted_runs:
        shares = []
        for true in true_runs:
            shared = min(run.end_seconds, true.end_seconds) - max(run.start_seconds, true.start_seconds)
            union = max(run.end_seconds, true.end_seconds) - min(run.start_seconds, true.start_seconds)
            shares.append(shared / union if run.label == true.label else 0.0)
        best = int(np.argmax(shares))
        if shares[best] >= overlap and not hits[best]:
            hits[best], right = True, right + 1
        else:
            wrong += 1
    return right, wrong, len(true_runs) - sum(hits)


@pytest.mark.parametrize("rate", [1, 25, 30000 / 1001])
def test_f1_agrees_with_ms_tcns_counts_on_random_labels(rate: float) -> None:
    rng = np.random.default_rng(7)
    for _ in range(200):
        truth, predicted = ("".join(rng.choice(list("abc"), 30).repeat(rng.integers(1, 5, 30))[:60]) for _ in range(2))
        one = timeline(from_letters(truth, rate), from_letters(predicted, rate))
        for overlap in (0.1, 0.25, 0.5):
            right, wrong, missed = count_as_ms_tcn(truth, predicted, overlap)
            assert f1([one], overlap) == pytest.approx(2 * right / (2 * right + wrong + missed))


@pytest.mark.parametrize(
    ("num_frames", "num_predicted", "rate", "overlap"), [(20, 10, 25, 0.5), (10, 7, 30, 0.7), (10, 3, 24, 0.3)]
)
def test_an_overlap_exactly_at_the_threshold_is_enough(
    num_frames: int, num_predicted: int, rate: float, overlap: float
) -> None:
    for start in range(50):
        truth = [span(A, start / rate, (start + num_frames) / rate)]
        one = timeline(truth, [span(A, start / rate, (start + num_predicted) / rate)])
        assert (f1([one], overlap), average_precision([one], A, overlap)) == (1, 1)
        less = timeline(truth, [span(A, start / rate, (start + num_predicted - 0.01) / rate)])
        assert (f1([less], overlap), average_precision([less], A, overlap)) == (0, 0)


def test_average_precision_by_hand() -> None:
    # Ranked by score: right, wrong, right, of three true segments. Interpolated precision is 1 up to a recall of 1/3, and
    # 2/3 up to 2/3: (1 + 2/3) / 3.
    truth = [span(A, 0, 2), span(A, 10, 12), span(A, 20, 22)]
    predicted = [span(A, 0, 2, 0.9), span(A, 5, 7, 0.8), span(A, 10, 12, 0.7)]
    assert average_precision([timeline(truth, predicted)], A, 0.5) == pytest.approx((1 + 2 / 3) / 3)


def test_a_second_detection_of_one_segment_is_wrong() -> None:
    truth = [span(A, 0, 4), span(A, 8, 12)]
    predicted = [span(A, 0, 4, 0.9), span(A, 0, 4, 0.8), span(A, 8, 12, 0.7)]
    # Precisions at each hit: 1 and 2/3.
    assert average_precision([timeline(truth, predicted)], A, 0.5) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_detections_are_ranked_over_all_videos() -> None:
    first = timeline([span(A, 0, 4)], [span(A, 8, 9, 0.9)])
    second = timeline([span(A, 0, 4)], [span(A, 0, 4, 0.5)])
    assert average_precision([first, second], A, 0.5) == pytest.approx(0.5 * 0.5)


def test_the_mean_is_over_classes_with_a_true_segment() -> None:
    one = timeline([span(A, 0, 4), span(B, 4, 8)], [span(A, 0, 4, 0.9), span(C, 4, 8, 0.9)])
    assert mean_average_precision([one], 0.5) == pytest.approx(0.5)


def test_unlabelled_time_is_not_scored_without_a_background_class() -> None:
    truth = [span(A, 2, 4), span(B, 4, 6), span(A, 10, 12)]
    predicted = [span(A, 0, 4), span(B, 4, 8), span(A, 8, 14)]
    assert cut_to_labeled_time(predicted, truth) == (span(A, 2, 4), span(B, 4, 6), span(A, 10, 12))
    assert score_timelines([timeline(truth, predicted)]).frame_accuracy == 1


def test_scores_of_a_wrong_timeline_by_hand() -> None:
    truth = [span(A, 0, 4), span(B, 4, 8)]
    predicted = [
        span(A, 0, 1.5),
        span(B, 1.5, 8),
        span(C, 8, 11),
    ]  # overlaps of 1.5/4 and 4/6.5; C is not labelled time
    scores = score_timelines([timeline(truth, predicted), timeline([span(C, 0, 2)], [])])
    assert (scores.num_videos, scores.num_true_segments, scores.num_predicted_segments) == (2, 3, 2)
    assert scores.scored_seconds == 10
    assert scores.frame_accuracy == pytest.approx((1.5 + 4) / 10)
    assert scores.majority_accuracy == pytest.approx(4 / 10)
    assert scores.edit_score == pytest.approx((1 + 0) / 2)
    assert scores.f1 == pytest.approx({"0.10": 4 / 5, "0.25": 4 / 5, "0.50": 2 / 5})
    assert scores.mean_average_precision["0.30"] == pytest.approx(2 / 3)
    assert scores.mean_average_precision["0.50"] == pytest.approx(1 / 3)


def test_unlabelled_time_is_background_where_the_network_knows_it() -> None:
    truth = [span(A, 2, 4)]
    predicted = [span(C, 0, 2), span(A, 2, 4), span(A, 6, 8)]  # from 4 to 6 nothing is probable enough
    scores = score_timelines([timeline(truth, predicted)], background=C, fill_gaps=True)
    assert scores.frame_accuracy == pytest.approx(6 / 8)
    assert scores.scored_seconds == 8
    assert (scores.num_true_segments, scores.num_predicted_segments) == (1, 2)  # background is no segment
    assert scores.f1 is not None
    assert scores.f1["0.50"] == pytest.approx(2 / 3)
    assert scores.edit_score == pytest.approx(0.5)


def test_overlapping_classes_have_average_precision_alone() -> None:
    truth = [span(A, 0, 6), span(B, 4, 8)]
    scores = score_timelines([timeline(truth, [span(A, 0, 6, 0.8), span(B, 4, 8, 0.6)])])
    assert (scores.frame_accuracy, scores.majority_accuracy, scores.edit_score, scores.f1) == (None, None, None, None)
    assert scores.average_mean_average_precision == 1


def test_overlapping_predictions_have_average_precision_alone() -> None:
    """Else a network that predicts every class all along would be right everywhere."""
    scores = score_timelines([timeline([span(A, 0, 4), span(B, 4, 8)], [span(A, 0, 8), span(B, 0, 8)])])
    assert (scores.frame_accuracy, scores.edit_score, scores.f1) == (None, None, None)
    assert scores.mean_average_precision["0.50"] == 1


def test_touching_stretches_are_one() -> None:
    assert merge_spans([span(B, 4, 6), span(A, 0, 4), span(A, 9, 10)]) == [(0, 6), (9, 10)]


def test_true_segments_of_one_label_that_touch_are_one() -> None:
    truth = [span(A, 0, 2), span(A, 2, 4), span(B, 4, 5), span(A, 5, 6)]
    scores = score_timelines([timeline(truth, [span(A, 0, 4), span(B, 4, 5), span(A, 5, 6)])])
    assert (scores.num_true_segments, scores.edit_score, scores.f1 and scores.f1["0.50"]) == (3, 1, 1)
    between = [span(A, 0, 4), span(B, 2, 6), span(A, 4, 8)]  # another label begins in the first of two that touch
    assert score_timelines([timeline(between, [])]).num_true_segments == 2


def test_nothing_labelled_is_refused() -> None:
    with pytest.raises(ValueError, match="no labelled segment"):
        score_timelines([timeline([], [span(A, 0, 1)])])


@pytest.mark.parametrize("bounds", [(2.0, 2.0), (3.0, 1.0), (0.0, float("nan")), (0.0, float("inf"))])
def test_impossible_spans_are_refused(bounds: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="must be finite and end after its start"):
        span(A, *bounds)
