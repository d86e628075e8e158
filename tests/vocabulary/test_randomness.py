"""Draws are pure functions of their arguments; permutations are permutations."""

import numpy as np
import pytest

from muybridge.randomness import hash_to_fraction, make_generator, shuffle_index


def test_same_arguments_same_draw() -> None:
    first = make_generator(1, "crop", 7).integers(0, 2**62, size=4)
    again = make_generator(1, "crop", 7).integers(0, 2**62, size=4)
    assert first.tolist() == again.tolist()


@pytest.mark.parametrize("other", [(2, "crop", 7), (1, "label", 7), (1, "crop", 8)])
def test_every_argument_matters(other: tuple[int, str, int]) -> None:
    first = make_generator(1, "crop", 7).integers(0, 2**62, size=4)
    assert first.tolist() != make_generator(*other).integers(0, 2**62, size=4).tolist()


def test_neighbouring_draws_do_not_overlap() -> None:
    streams = [make_generator(0, "clip", number).integers(0, 2**63, size=1000) for number in range(20)]
    assert len(np.unique(np.concatenate(streams))) == 20_000


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 16, 17, 63, 100, 1000])
def test_a_permutation_hits_every_place_once(size: int) -> None:
    for number in range(3):
        places = [shuffle_index(n, size, seed=3, purpose="order", permutation_index=number) for n in range(size)]
        assert sorted(places) == list(range(size))


def test_permutations_look_random() -> None:
    size, passes = 50, 400
    counts = np.zeros((size, size))
    for number in range(passes):
        for position in range(size):
            counts[position, shuffle_index(position, size, seed=0, purpose="order", permutation_index=number)] += 1
    # Each cell is binomial with mean 8 and deviation 2.8; six deviations are never reached by chance among 2500 cells.
    assert counts.max() < passes / size + 6 * (passes / size) ** 0.5
    # Neighbours do not stay neighbours more often than chance allows (2 in 50).
    order = [shuffle_index(n, 10_000, seed=0, purpose="order", permutation_index=1) for n in range(10_000)]
    assert np.mean(np.abs(np.diff(order)) == 1) < 0.002


def test_fractions_are_spread_evenly() -> None:
    values = np.array([hash_to_fraction(0, "split", f"video_{number}") for number in range(5000)])
    assert values.min() >= 0
    assert values.max() < 1
    assert np.histogram(values, bins=10, range=(0, 1))[0].min() > 400


def test_draws_are_those_of_earlier_versions() -> None:
    """A resumed run would draw other clips otherwise, and a split by hash would change."""
    places = [shuffle_index(n, 10, seed=3, purpose="order", permutation_index=2) for n in range(10)]
    assert places == [5, 3, 0, 1, 6, 7, 2, 4, 8, 9]
    far = [shuffle_index(n, 1_000_003, seed=0, purpose="draw", permutation_index=0) for n in range(4)]
    assert far == [286234, 526801, 133621, 777590]
    draws = make_generator(1, "crop", 7).integers(0, 2**62, size=2)
    assert draws.tolist() == [1222020695749552609, 503224261899779551]
    assert hash_to_fraction(0, "split", "video_1") == 0.5721255331158607
    for index in (-1, 5):
        with pytest.raises(ValueError, match=f"index {index} is outside a permutation of 5 elements"):
            shuffle_index(index, 5, seed=0, purpose="order", permutation_index=0)
