"""Which classes are taken for which: an order in which confused classes are neighbours, and the pairs by number.

Enter: the counts of `evaluation.metrics.compute_confusion_matrix`. Leave: orders, windows and lists. Pure numpy. With
hundreds of classes a
matrix in the order of names is dust; in this order confusion gathers along the diagonal, where it can be seen and named.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class ConfusedPair(NamedTuple):
    """`num` of the `of` readable videos of class `label` were taken for class `taken_for`; both are numbers of classes."""

    label: int
    predicted: int
    num_confused: int
    num_videos: int


def normalize_rows(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Each row of counts (classes, classes) as shares of its videos; a class without videos has zeros."""
    return np.asarray(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))


def list_confused_pairs(counts: NDArray[np.int64]) -> list[ConfusedPair]:
    """Every pair that occurs, the most frequent first; among equals the larger share of its class, then by number."""
    videos_per_class = counts.sum(axis=1)
    labels, predicted = np.nonzero(counts - np.diag(np.diag(counts)))
    pairs = [
        ConfusedPair(label, other, int(counts[label, other]), int(videos_per_class[label]))
        for label, other in zip(labels.tolist(), predicted.tolist(), strict=True)
    ]
    return sorted(
        pairs, key=lambda pair: (-pair.num_confused, -pair.num_confused / pair.num_videos, pair.label, pair.predicted)
    )


def compute_confusion_order(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The classes' numbers in an order in which those that are often confused stand together.

    Average linkage over chains: the two most confused chains are joined, turned so that confusion lies close to the joint,
    until nothing is confused; what is left follows in the order of classes. O(classes^3) at worst; 0.1 s for 400.
    """
    shares = normalize_rows(counts)
    similarity = shares + shares.T
    np.fill_diagonal(similarity, 0)
    chains = [[number] for number in range(len(counts))]
    linkage_sums = similarity.copy()  # sums over the pairs of two chains
    sizes = np.ones(len(counts))
    while len(chains) > 1:
        mean = linkage_sums / np.outer(sizes, sizes)
        first, second = sorted(divmod(int(mean.argmax()), len(chains)))
        if mean[first, second] <= 0:
            break
        chains[first] = _join_chains(chains[first], chains.pop(second), similarity)
        linkage_sums[first] += linkage_sums[second]
        linkage_sums[:, first] += linkage_sums[:, second]
        linkage_sums[first, first] = 0
        linkage_sums = np.delete(np.delete(linkage_sums, second, axis=0), second, axis=1)
        sizes[first] += sizes[second]
        sizes = np.delete(sizes, second)
    chains.sort(key=lambda chain: (len(chain) == 1, min(chain)))
    return np.array([number for chain in chains for number in chain], np.int64)


def _join_chains(left: list[int], right: list[int], similarity: NDArray[np.float64]) -> list[int]:
    """Two chains as one, each turned so that what is confused between them lies as close as it can."""

    def distance(chain: list[int]) -> float:
        positions = np.arange(len(chain))
        block = similarity[np.ix_(chain[: len(left)], chain[len(left) :])]
        return float((block * (positions[None, len(left) :] - positions[: len(left), None])).sum())

    arrangements = [[*one, *other] for one in (left, left[::-1]) for other in (right, right[::-1])]
    return min(arrangements, key=distance)


def find_densest_windows(
    counts: NDArray[np.int64], order: NDArray[np.int64], *, size: int, max_windows: int
) -> list[slice]:
    """Up to `most` stretches of `size` neighbours in `order` with the most confusion among themselves, none overlapping."""
    ordered = counts[np.ix_(order, order)].astype(np.int64)
    np.fill_diagonal(ordered, 0)
    sums = np.zeros((len(order) + 1,) * 2, np.int64)
    sums[1:, 1:] = ordered.cumsum(axis=0).cumsum(axis=1)
    starts = np.arange(len(order) - size + 1)
    inside = sums[starts + size, starts + size] - sums[starts, starts + size]
    inside += sums[starts, starts] - sums[starts + size, starts]
    windows: list[slice] = []
    for start in np.argsort(-inside, kind="stable").tolist():
        if len(windows) == max_windows or inside[start] == 0:
            break
        if all(abs(start - window.start) >= size for window in windows):
            windows.append(slice(start, start + size))
    return windows
