"""The windows of a stretch, and what is counted of those that are skipped."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from muybridge.prediction.live_stretch import Stretch, Timestep
from muybridge.records import YuvClip

PLANES = YuvClip(np.zeros((1, 4, 4), np.uint8), np.zeros((2, 1, 2, 2), np.uint8), "bt601", False)


def add(stretch: Stretch, count: int) -> None:
    for _ in range(count):
        index = stretch.num_forgotten + len(stretch.timesteps)
        stretch.add(Timestep(PLANES, float(index), index + 1.0, 0.0))


def read(window: list[Timestep]) -> list[int]:
    return [int(timestep.start_seconds) for timestep in window]


def test_windows_are_taken_in_order_and_the_rest_ends_with_the_stretch() -> None:
    stretch = Stretch(span=4, step=2)
    windows = []
    for _ in range(9):
        add(stretch, 1)
        while stretch.count_complete():
            windows.append(read(stretch.take()))
        assert len(stretch.timesteps) <= 4 + 2
    assert windows == [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7]]
    assert list(map(read, stretch.take_rest())) == [[5, 6, 7, 8]]


@pytest.mark.parametrize(("count", "rest"), [(0, []), (3, [[0, 1, 2]]), (4, [])])
def test_a_short_stretch_is_its_own_rest(count: int, rest: list[list[int]]) -> None:
    stretch = Stretch(span=4, step=1)
    add(stretch, count)
    if stretch.count_complete():
        assert read(stretch.take()) == [0, 1, 2, 3]
    assert list(map(read, stretch.take_rest())) == rest


@pytest.mark.parametrize(("span", "step"), [*itertools.product((1, 3, 4), (1, 2, 4, 6))])
def test_timesteps_of_skipped_windows_alone_are_counted(span: int, step: int) -> None:
    for num_taken, num_skipped, is_next_taken in itertools.product(range(3), range(1, 4), (True, False)):
        num_windows = num_taken + num_skipped + is_next_taken
        stretch = Stretch(span, step)
        add(stretch, (num_windows - 1) * step + span)
        starts = [index * step for index in range(num_windows)]
        taken = [read(stretch.take()) for _ in range(num_taken)]
        num_alone = stretch.skip(num_skipped)
        taken += [read(stretch.take()) for _ in range(stretch.count_complete())]
        skipped = starts[num_taken : num_taken + num_skipped]
        assert [window[0] for window in taken] == [start for start in starts if start not in skipped]
        alone = {start + offset for start in skipped for offset in range(span)} - set(itertools.chain(*taken))
        assert num_alone == len(alone)
