"""Ticks from stamps that are missing, step back or jump."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from muybridge.video.stamps import MAX_FRAME_SECONDS, has_step_back, interpolate_stamps, join_stamps

MILLISECOND = Fraction(1, 1000)


@pytest.mark.parametrize(
    ("stamps", "expected"),
    [
        ([5, 6, 7], [5, 6, 7]),
        ([5, 9, 10], [5, 9, 10]),
        ([None, None, None], [0, 100, 200]),
        ([7, None, None], [7, 107, 207]),
        ([None, 300, None], [200, 300, 400]),
        ([2, None, 6, None, None], [2, 4, 6, 8, 10]),
        ([None, 10, None, None, 40, None], [0, 10, 20, 30, 40, 50]),
        ([3, 2, 1], [3, 103, 203]),
        ([3, 3, 4], [3, 103, 203]),
        ([0, None, None, 1], [0, 100, 200, 300]),
        ([8], [8]),
        ([], []),
    ],
)
def test_missing_stamps_are_spread_evenly(stamps: list[int | None], expected: list[int]) -> None:
    assert interpolate_stamps(stamps, 100).tolist() == expected


def test_sound_stamps_stay_as_they_are() -> None:
    stamps = [5, 45, 85, 90, 400]
    joined = join_stamps(stamps, MILLISECOND, 40)
    assert joined.ticks.tolist() == stamps
    assert joined.notes == ()


def test_a_stretch_after_a_step_back_is_appended() -> None:
    stamps = [*range(1000, 2000, 40), *range(0, 1000, 40)]
    joined = join_stamps(stamps, MILLISECOND, 40)
    assert joined.ticks.tolist() == [1000 + 40 * number for number in range(50)]
    assert joined.notes == ("its time stamps step back before frame 25; what follows is appended",)


def test_one_absurd_stamp_costs_no_time() -> None:
    stamps = [40 * number for number in range(50)]
    stamps[20] += 3_600_000
    joined = join_stamps(stamps, MILLISECOND, 40)
    assert joined.ticks.tolist() == [40 * number for number in range(50)]
    assert len(joined.notes) == 2


@pytest.mark.parametrize("gap_seconds", [MAX_FRAME_SECONDS + 1, 86_400 * 46, 3_600 * 24 * 365 * 56])
def test_a_jump_of_the_clock_is_left_out_and_named(gap_seconds: int) -> None:
    stamps = [40 * number + (1000 * gap_seconds if number >= 25 else 0) for number in range(50)]
    joined = join_stamps(stamps, MILLISECOND, 40)
    assert joined.ticks.tolist() == [40 * number for number in range(50)]
    assert joined.notes == (f"its clock jumps by {gap_seconds} s before frame 25; the jump is left out",)


def test_a_still_picture_may_stand_and_is_named() -> None:
    stamps = [0, 40, 80, 60_080, 60_120]
    joined = join_stamps(stamps, MILLISECOND, 40)
    assert joined.ticks.tolist() == stamps
    assert joined.notes == ("frame 2 is shown for 60.0 s, in which the picture does not change",)


@pytest.mark.parametrize(
    ("stamps", "ticks", "notes"),
    [
        ([0, 600_000], [0, 600_000], ()),
        ([7, 600_008], [7, 47], ("its clock jumps by 600 s before frame 1; the jump is left out",)),
        # A long frame lasts for more than 10 s and for more than 20 of the others.
        ([0, 40, 80, 10_080], [0, 40, 80, 10_080], ()),
        (
            [0, 40, 80, 10_081],
            [0, 40, 80, 10_081],
            ("frame 2 is shown for 10.0 s, in which the picture does not change",),
        ),
        ([0, 1000, 2000, 22_000], [0, 1000, 2000, 22_000], ()),
        (
            *([0, 1000, 2000, 22_001], [0, 1000, 2000, 22_001]),
            ("frame 2 is shown for 20.0 s, in which the picture does not change",),
        ),
        (
            *([0, 40, 20, 60, 30, 700_000, 1_400_000], [0, 40, 80, 120, 160, 200, 240]),
            (
                "its time stamps step back at 2 places, first before frame 2; what follows is appended",
                "its clock jumps by 700 s before frame 5 (and 1 more); the jump is left out",
            ),
        ),
        ([5, 5], [5, 45], ("its time stamps step back before frame 1; what follows is appended",)),
    ],
)
def test_what_is_kept_and_what_is_said(stamps: list[int], ticks: list[int], notes: tuple[str, ...]) -> None:
    joined = join_stamps(stamps, MILLISECOND, 40)
    assert (joined.ticks.tolist(), joined.notes) == (ticks, notes)


def test_a_step_that_is_no_step_is_one_tick() -> None:
    """Where stamps do not tell and the rate of the file is absurd, frames are a tick or the longest frame apart."""
    assert join_stamps([3, 3, 3], MILLISECOND, 0).ticks.tolist() == [3, 4, 5]
    assert join_stamps([3, 3], MILLISECOND, 10**9).ticks.tolist() == [3, 600_003]
    assert join_stamps([0, 5000], Fraction(1000), 40).ticks.tolist() == [0, 1]
    assert join_stamps([9, 1] * 30, MILLISECOND, 0).ticks.tolist() == list(range(9, 69))


@pytest.mark.parametrize(("num_frames", "is_disorder"), [(23, True), (24, False)])
def test_five_steps_back_in_so_many_frames(num_frames: int, is_disorder: bool) -> None:
    """Disorder is more than a step back in eight frames, not counting two."""
    stamps = np.arange(num_frames) * 40
    for start in range(2, 12, 2):
        stamps[start:] -= 60
    [note] = join_stamps(stamps, MILLISECOND, 40).notes
    assert ("disorder" in note) == is_disorder


@pytest.mark.parametrize(("num_places", "expected"), [(16, False), (17, True)])
def test_reordering_moves_a_frame_by_sixteen_places_at_most(num_places: int, expected: bool) -> None:
    """H.264 and HEVC allow 16 frames between decoding and presentation (max_num_reorder_frames)."""
    stamps = [0, *range(2, num_places + 2), 1]
    assert has_step_back(stamps, are_presentation_stamps=True) == expected


def test_stamps_in_disorder_are_spaced_evenly() -> None:
    joined = join_stamps([80, 0, 40, 200, 120, 160] * 8, MILLISECOND, 40)
    assert np.unique(np.diff(joined.ticks)).tolist() == [40]
    assert joined.notes == ("its time stamps are in disorder, so its frames are spaced evenly",)


def test_frames_days_apart_take_no_days() -> None:
    joined = join_stamps([0, 86_400_000, 2 * 86_400_000], MILLISECOND, 40)
    assert joined.ticks.tolist() == [0, 40, 80]


def test_steps_back_in_decoding_order() -> None:
    b_frames = [0, 120, 40, 80, 240, 160, 200]
    assert not has_step_back(b_frames, are_presentation_stamps=True)
    assert has_step_back([*range(0, 4000, 40), *range(0, 4000, 40)], are_presentation_stamps=True)
    assert has_step_back([0, 40, 80, 0, 40], are_presentation_stamps=False)
    assert has_step_back([0, 40, 40], are_presentation_stamps=False)
    assert not has_step_back([0, 40, 80], are_presentation_stamps=False)


@pytest.mark.parametrize("seed", range(40))
def test_any_stamps_give_increasing_ticks_in_bounded_time(seed: int) -> None:
    draws = np.random.default_rng(seed)
    largest = int(10.0 ** draws.uniform(0, 18))
    stamps = draws.integers(-largest, largest, int(draws.integers(1, 60)))
    if seed % 2:
        stamps = np.sort(stamps)
    ticks = join_stamps(stamps, MILLISECOND, 40).ticks
    assert len(ticks) == len(stamps)
    steps = np.diff(ticks)
    assert bool(np.all(steps > 0))
    assert bool(np.all(steps <= 1000 * MAX_FRAME_SECONDS))
