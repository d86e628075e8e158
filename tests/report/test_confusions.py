from __future__ import annotations

import itertools

import numpy as np
import pytest

from muybridge.report.confusions import (
    compute_confusion_order,
    find_densest_windows,
    list_confused_pairs,
    normalize_rows,
)


def blocks(num_blocks: int, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts of classes that are confused within hidden groups, and the group of each class."""
    rng = np.random.default_rng(seed)
    group = rng.permutation(np.repeat(np.arange(num_blocks), size))
    counts = np.where(group[:, None] == group[None], rng.integers(1, 5, (len(group),) * 2), 0)
    np.fill_diagonal(counts, 20)
    return counts, group


@pytest.mark.parametrize("seed", range(5))
def test_hidden_groups_come_to_stand_together(seed: int) -> None:
    counts, group = blocks(10, 5, seed)
    order = compute_confusion_order(counts)
    assert sorted(order) == list(range(50))
    assert len(list(itertools.groupby(group[order]))) == 10


def test_a_chain_is_laid_out_as_a_chain() -> None:
    """Classes of which each is confused with the next alone have one best order, up to its direction."""
    rng = np.random.default_rng(0)
    hidden = rng.permutation(9)
    counts = np.eye(9, dtype=np.int64) * 10
    for first, second in itertools.pairwise(hidden):
        counts[first, second] = counts[second, first] = 2
    order = compute_confusion_order(counts).tolist()
    steps = sum(abs(order.index(first) - order.index(second)) for first, second in itertools.pairwise(hidden))
    assert steps <= 10  # 8 at best; chains joined in the wrong turn cost many more


def test_classes_that_nothing_is_confused_with_keep_their_order_at_the_end() -> None:
    counts = np.diag([3, 3, 3, 3, 0])
    counts[3, 1] = 1
    assert compute_confusion_order(counts).tolist()[2:] == [0, 2, 4]
    assert compute_confusion_order(np.diag([1, 2, 3])).tolist() == [0, 1, 2]


def test_a_large_class_does_not_outweigh_the_others() -> None:
    counts = np.array([[900, 100, 0, 0], [0, 10, 0, 0], [0, 0, 1, 9], [0, 0, 0, 10]])
    order = compute_confusion_order(counts).tolist()
    assert abs(order.index(2) - order.index(3)) == 1
    assert normalize_rows(counts)[0].tolist() == [0.9, 0.1, 0, 0]
    assert normalize_rows(np.zeros((2, 2), np.int64)).tolist() == [[0, 0], [0, 0]]


def test_pairs_by_number_then_by_share() -> None:
    counts = np.array([[5, 2, 0], [2, 0, 1], [0, 0, 7]])
    assert [tuple(pair) for pair in list_confused_pairs(counts)] == [(1, 0, 2, 3), (0, 1, 2, 7), (1, 2, 1, 3)]


def test_windows_are_where_most_confusion_is() -> None:
    counts, _ = blocks(6, 4, 1)
    order = compute_confusion_order(counts)
    windows = find_densest_windows(counts, order, size=4, max_windows=3)
    assert len(windows) == 3
    ordered = counts[np.ix_(order, order)] - np.diag(np.full(24, 20))
    inside = [ordered[start : start + 4, start : start + 4].sum() for start in range(21)]
    assert ordered[windows[0], windows[0]].sum() == max(inside)
    for first, second in itertools.combinations(windows, 2):
        assert first.stop <= second.start or second.stop <= first.start
    assert find_densest_windows(np.diag([1] * 9), np.arange(9), size=4, max_windows=3) == []
