"""Ordering and listing of a confusion matrix.

Input: counts (labels, predictions) of `evaluation.metrics.compute_confusion_matrix`. Output: an order of the classes, windows
of it, and the confused pairs. A matrix of hundreds of classes sorted by name shows isolated dots; sorted by confusion, it shows
blocks along the diagonal.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import squareform


class ConfusedPair(NamedTuple):
    """`num_confused` of the `num_videos` readable videos of class `label` were classified as `predicted` (class indices)."""

    label: int
    predicted: int
    num_confused: int
    num_videos: int


def normalize_rows(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Divide each row of counts (classes, classes) by its sum; rows without videos stay zero."""
    return np.asarray(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))


def list_confused_pairs(counts: NDArray[np.int64]) -> list[ConfusedPair]:
    """List all confused pairs, sorted by count, then by share of the label's videos, then by class index."""
    videos_per_class = counts.sum(axis=1)
    labels, predicted = np.nonzero(counts - np.diag(np.diag(counts)))
    pairs = [
        ConfusedPair(label, prediction, int(counts[label, prediction]), int(videos_per_class[label]))
        for label, prediction in zip(labels.tolist(), predicted.tolist(), strict=True)
    ]
    return sorted(
        pairs, key=lambda pair: (-pair.num_confused, -pair.num_confused / pair.num_videos, pair.label, pair.predicted)
    )


def compute_confusion_order(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Order the classes so that classes often confused with each other are neighbours.

    Average-linkage clustering of each set of classes connected by confusions, its leaves ordered optimally (Bar-Joseph et al.
    2001). Classes never confused with another one follow in their own order. 0.1 s for 400 classes.
    """
    shares = normalize_rows(counts)
    similarity = shares + shares.T  # at most 2
    np.fill_diagonal(similarity, 0)
    num_components, component_indices = connected_components(similarity > 0, directed=False)
    clusters = [
        _order_leaves(np.flatnonzero(component_indices == component), similarity) for component in range(num_components)
    ]
    clusters.sort(key=lambda cluster: (len(cluster) == 1, cluster.min()))
    return np.concatenate(clusters)


def _order_leaves(classes: NDArray[np.int64], similarity: NDArray[np.float64]) -> NDArray[np.int64]:
    if len(classes) < 3:
        return classes
    distances = squareform(2 - similarity[np.ix_(classes, classes)], checks=False)
    leaves: NDArray[np.int64] = leaves_list(linkage(distances, "average", optimal_ordering=True))
    return classes[leaves]


def find_densest_windows(
    counts: NDArray[np.int64], order: NDArray[np.int64], *, size: int, max_windows: int
) -> list[slice]:
    """Find up to `max_windows` windows of `size` neighbours in `order` with the most confusions, none overlapping."""
    ordered = counts[np.ix_(order, order)].astype(np.int64)
    np.fill_diagonal(ordered, 0)
    sums = np.zeros((len(order) + 1,) * 2, np.int64)  # summed-area table
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
