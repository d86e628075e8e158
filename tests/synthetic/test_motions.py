"""Classes, settings, clip symmetry and paths of the generated motions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from muybridge.randomness import make_generator
from muybridge.synthetic.motions import (
    CLASS_NAMES,
    CLASS_PAIRS,
    MotionSettings,
    Poses,
    check_symmetric_clips,
    find_pair,
    find_partner,
    sample_poses,
)


def draw(label: str, number: int, *, num_frames: int = 24, spread: float = 1.0) -> Poses:
    settings = MotionSettings(num_frames=num_frames, height=80, width=96)
    return sample_poses(label, make_generator(0, "test", number), settings=settings, spread=spread)


def steps_of(label: str, number: int, *, num_frames: int = 25) -> NDArray[np.float64]:
    return np.diff(draw(label, number, num_frames=num_frames).centres_t2, axis=0)


def test_every_class_has_one_partner_and_a_name_of_its_own() -> None:
    assert len({name.replace("_", "") for name in CLASS_NAMES}) == len(CLASS_NAMES) == 2 * len(CLASS_PAIRS)
    for name in CLASS_NAMES:
        assert find_partner(find_partner(name)) == name != find_partner(name)
        assert name in find_pair(name) == find_pair(find_partner(name))
    with pytest.raises(ValueError, match="no motion named sideways"):
        find_partner("sideways")


def test_first_eight_classes_are_the_plain_motions() -> None:
    plain = ("left", "right", "up", "down", "approach", "recede", "clockwise", "counter_clockwise")
    assert MotionSettings().class_names == plain
    assert MotionSettings(classes=("down", "up")).class_names == ("down", "up")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"classes": 7}, "classes must be an even number from 2 to 28, not 7"),
        ({"classes": 30}, "classes must be an even number"),
        ({"classes": ("left", "sideways")}, "no motion named sideways"),
        ({"classes": ("left", "right", "up")}, "up without its reversal; add down"),
        ({"classes": ("left", "right", "left")}, "name each motion once"),
        ({"classes": ()}, "name each motion once"),
        ({"train_videos_per_class": 0}, "train_videos_per_class must be at least 1"),
        ({"num_frames": 1}, "num_frames must be at least 2"),
        ({"height": 81}, "must be even, not 81x80"),
        ({"contrast": 0.0}, "contrast must be above 0"),
        ({"contrast": 1.5}, "contrast must be above 0"),
        ({"spread": 1.1}, "spread must be between 0 and 1"),
        ({"noise": float("nan")}, "noise must be at least 0"),
        ({"seed": -1}, "seed must be at least 0"),
    ],
)
def test_settings_refuse_what_makes_no_sense(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        MotionSettings(**changes)  # type: ignore[arg-type]


def test_clips_pass_the_check_exactly_when_a_reversed_video_has_the_reversed_clips() -> None:
    for num_frames, length, stride, clips in itertools.product(range(1, 40), (1, 4, 8), (1, 2), (2, 3, 10)):
        span = (length - 1) * stride + 1
        frames = [
            tuple(i * (num_frames - span) // (clips - 1) + k * stride for k in range(length)) for i in range(clips)
        ]
        backwards = [tuple(num_frames - 1 - frame for frame in reversed(clip)) for clip in reversed(frames)]
        symmetric = num_frames >= span and frames == backwards
        if symmetric:
            check_symmetric_clips(num_frames, clip_span=span, num_clips=clips)
            continue
        with pytest.raises(ValueError, match="set num_frames to") as caught:
            check_symmetric_clips(num_frames, clip_span=span, num_clips=clips)
        remedy = int(str(caught.value).split("set num_frames to ")[1].split(",")[0])
        assert remedy >= num_frames
        check_symmetric_clips(remedy, clip_span=span, num_clips=clips)


def test_default_length_suits_ten_clips_of_eight_frames_at_stride_two() -> None:
    check_symmetric_clips(MotionSettings().num_frames, clip_span=15, num_clips=10)
    with pytest.raises(ValueError, match="at least 2 clips"):
        check_symmetric_clips(24, clip_span=24, num_clips=1)


@pytest.mark.parametrize("label", CLASS_NAMES)
def test_partner_takes_the_path_backwards_and_inside_the_frame(label: str) -> None:
    for number in range(20):
        poses, backwards = draw(label, number), draw(find_partner(label), number)
        np.testing.assert_array_equal(poses.linear_t22, backwards.linear_t22[::-1])
        np.testing.assert_array_equal(poses.centres_t2, backwards.centres_t2[::-1])
        assert (poses.centres_t2 > 0.15 * 80).all()
        assert (poses.centres_t2 < np.array([95, 79]) - 0.15 * 80).all()


@pytest.mark.parametrize("label", ["left", "clockwise", "right_then_up", "orbit_clockwise"])
def test_spread_says_how_far_from_the_centre_a_path_lies(label: str) -> None:
    def middles(spread: float) -> NDArray[np.float64]:
        paths = np.stack([draw(label, number, spread=spread).centres_t2 for number in range(40)])
        return np.asarray((paths.min(axis=1) + paths.max(axis=1)) / 2 - (47.5, 39.5))

    np.testing.assert_allclose(middles(0.0), 0, atol=1e-9)
    np.testing.assert_allclose(middles(0.5), middles(1.0) / 2, atol=1e-9)
    assert (middles(1.0).max(axis=0) > 8).all()
    assert (middles(1.0).min(axis=0) < -8).all()


@pytest.mark.parametrize(
    ("label", "first_half", "second_half"),
    [
        ("left", (-1, 0), (-1, 0)),
        ("right", (1, 0), (1, 0)),
        ("up", (0, -1), (0, -1)),
        ("down", (0, 1), (0, 1)),
        ("up_left", (-1, -1), (-1, -1)),
        ("down_right", (1, 1), (1, 1)),
        ("up_right", (1, -1), (1, -1)),
        ("down_left", (-1, 1), (-1, 1)),
        ("right_then_up", (1, 0), (0, -1)),
        ("down_then_left", (0, 1), (-1, 0)),
        ("up_then_right", (0, -1), (1, 0)),
        ("left_then_down", (-1, 0), (0, 1)),
        ("right_then_down", (1, 0), (0, 1)),
        ("up_then_left", (0, -1), (-1, 0)),
        ("down_then_right", (0, 1), (1, 0)),
        ("left_then_up", (-1, 0), (0, -1)),
    ],
)
def test_names_say_where_an_object_goes(label: str, first_half: tuple[int, int], second_half: tuple[int, int]) -> None:
    for number in range(10):
        signs = np.sign(steps_of(label, number).round(6))
        assert (signs[:12] == first_half).all()
        assert (signs[12:] == second_half).all()


@pytest.mark.parametrize(("label", "sign"), [("orbit_clockwise", 1), ("orbit_counter_clockwise", -1)])
def test_orbits_turn_as_named(label: str, sign: int) -> None:
    for number in range(10):
        steps = steps_of(label, number)
        turns = steps[:-1, 0] * steps[1:, 1] - steps[:-1, 1] * steps[1:, 0]  # y down: positive is clockwise
        assert (np.sign(turns) == sign).all()


@pytest.mark.parametrize(("label", "sign"), [("loop_clockwise", 1), ("loop_counter_clockwise", -1)])
def test_loops_turn_as_named_and_only_order_tells_them_apart(label: str, sign: int) -> None:
    starts = set()
    for number in range(30):
        steps = np.sign(steps_of(label, number).round(6))
        sides = steps[::6]
        assert sorted(map(tuple, sides)) == [(-1, 0), (0, -1), (0, 1), (1, 0)]
        assert (sides[:-1, 0] * sides[1:, 1] - sides[:-1, 1] * sides[1:, 0] == sign).all()
        starts.add(tuple(sides[0]))
    assert len(starts) == 4


def test_names_say_how_an_object_changes() -> None:
    for number in range(10):
        approach = np.linalg.det(draw("approach", number).linear_t22)
        assert (np.diff(approach) > 0).all()
        assert approach[-1] / approach[0] > 3
        clockwise = draw("clockwise", number).linear_t22
        # What points right at first turns towards the bottom: y grows.
        step = clockwise[1] @ np.linalg.inv(clockwise[0]) @ np.array([1.0, 0.0])
        assert step[0] > 0.9
        assert step[1] > 0.05
        np.testing.assert_allclose(clockwise @ clockwise.transpose(0, 2, 1), np.tile(np.eye(2), (24, 1, 1)), atol=1e-12)
        widen = draw("widen", number).linear_t22
        assert (np.diff(widen[:, 0, 0]) > 0).all()
        assert (np.diff(widen[:, 1, 1]) < 0).all()
        top = draw("shear_left", number).linear_t22 @ np.array([0.0, -1.0])
        assert (np.diff(top[:, 0]) < 0).all()
