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
