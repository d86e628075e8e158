"""Means over seeds and videos against textbook values and simulation."""

import math
import statistics

import numpy as np
import pytest

from muybridge.studies.intervals import (
    Estimate,
    compute_clustered_variance,
    count_seeds,
    difference,
    estimate_mean,
    join_by_seed,
    mean_by_seed,
    pool_deviations,
    pool_recordings,
)


def by_seed(values: dict[int, float]) -> dict[int, np.ndarray]:
    return {seed: np.array([value]) for seed, value in values.items()}


def test_three_seeds_have_the_interval_of_the_textbook() -> None:
    found = estimate_mean([1.0, 2.0, 3.0])
    assert found is not None and found.low is not None and found.high is not None
    assert found.mean == 2.0
    assert found.high - 2.0 == pytest.approx(4.303 / math.sqrt(3), abs=1e-3)  # t(2) at 97.5 %, deviation 1
    assert 2.0 - found.low == pytest.approx(found.high - 2.0)


def test_many_seeds_come_near_the_normal_interval() -> None:
    values = [float(number % 7) for number in range(200)]
    found = estimate_mean(values)
    assert found is not None and found.high is not None
    half = statistics.stdev(values) / math.sqrt(200)
    assert 1.96 * half < found.high - found.mean < 2.1 * half


def test_one_seed_has_no_interval_and_decides_nothing() -> None:
    found = estimate_mean([3.0])
    assert found == Estimate(3.0, None, None, 1)
    assert found is not None and found.is_positive is None
    assert found.format() == "3.0"
    assert estimate_mean([]) is None


def test_videos_that_all_seeds_agree_on_widen_the_interval() -> None:
    """Every seed is right about the same half of the videos: seeds alone would give an interval of no width."""
    values = np.tile(np.repeat([0.0, 100.0], 50), (4, 1))
    found = estimate_mean(list(values))
    assert found is not None and found.high is not None
    assert found.mean == 50.0
    deviation = statistics.stdev(values[0]) / math.sqrt(100)  # of the mean over 100 videos
    assert found.high - 50.0 == pytest.approx(3.182 * deviation, rel=1e-3)  # t(3)


def test_segments_of_one_recording_are_one_sample() -> None:
    """Four recordings, all segments of each alike: as wide as an interval over four videos."""
    by_segment = np.repeat([0.0, 100.0, 100.0, 0.0], 25)
    pooled = pool_recordings(by_segment, [25] * 4)
    assert pooled.tolist() == [0.0, 100.0, 100.0, 0.0]
    unequal = pool_recordings(np.array([100.0, 0.0, 100.0, 100.0]), [1, 3])
    assert unequal.mean() == 75.0  # that of the segments, not of the recordings
    assert unequal.tolist() == [75 + 25 / 2, 75 - 25 / 2]
    with pytest.raises(ValueError, match="the recordings have 5 videos, and there are results of 4"):
        pool_recordings(by_segment[:4], [2, 3])


def test_the_variance_is_that_of_means_over_drawn_seeds_and_videos() -> None:
    rng = np.random.default_rng(0)

    def draw() -> np.ndarray:
        return rng.normal(0, 3, (8, 1)) + rng.normal(0, 20, (1, 60)) + rng.normal(0, 5, (8, 60))

    samples = [draw() for _ in range(3000)]
    true_variance = np.var([sample.mean() for sample in samples])
    assert np.mean([compute_clustered_variance(sample) for sample in samples]) == pytest.approx(true_variance, rel=0.1)


def test_the_variance_of_two_seeds_and_two_videos() -> None:
    """Residuals -1, 0, 0, 1: by seed 0.25, by video 0.25, single values 2 / (4 * 3)."""
    values = np.array([[0.0, 1.0], [1.0, 2.0]])
    assert compute_clustered_variance(values) == pytest.approx(0.25 + 0.25 - 1 / 6)


def test_a_side_of_zero_beyond_the_margin_is_a_decision() -> None:
    assert Estimate(1.0, 0.5, 1.5, 3, 0.0).is_positive is True
    assert Estimate(-1.0, -1.5, -0.5, 3, 0.4).is_positive is False
    assert Estimate(1.0, -0.5, 2.5, 3, 0.0).is_positive is None
    assert Estimate(1.0, 0.5, 1.5, 3, 0.6).is_positive is None  # what rounding alone could do
    assert Estimate(1.0, 0.5, 1.5, 3).is_positive is None  # the floor was not measured


def test_differences_are_taken_seed_by_seed() -> None:
    """Seeds that differ much between themselves, and by one within each: the interval is that of the differences."""
    first, second = by_seed({0: 10.0, 1: 50.0, 2: 90.0, 3: 1.0}), by_seed({0: 9.0, 1: 49.0, 2: 89.0})
    found = difference(first, second, 0.3)
    assert found is not None
    assert (found.mean, found.low, found.high, found.num) == (1.0, 1.0, 1.0, 3)
    assert found.margin == pytest.approx(0.3 * math.sqrt(2 / 3))
    assert difference(first, {}, 0.3) is None


def test_differences_are_taken_video_by_video() -> None:
    """Two networks of the same mean accuracy whose difference is the same two videos in every seed."""
    right = np.repeat([100.0, 0.0], [30, 70])
    better = np.repeat([100.0, 0.0], [32, 68])
    found = difference({0: better, 1: better, 2: better}, {0: right, 1: right, 2: right}, 0.0)
    assert found is not None and found.low is not None
    assert found.mean == 2.0
    assert found.low < 0 < found.mean  # two videos of a hundred prove nothing
    many = difference({s: np.repeat(better, 50) for s in range(3)}, {s: np.repeat(right, 50) for s in range(3)}, 0.0)
    assert many is not None and many.is_positive is True


def test_a_mean_needs_all_members() -> None:
    found = mean_by_seed([by_seed({0: 1.0, 1: 2.0}), by_seed({0: 3.0, 2: 9.0})])
    assert list(found) == [0] and found[0] == [2.0]
    assert mean_by_seed([]) == {}


def test_members_of_other_videos_follow_one_another_and_count_by_their_weights() -> None:
    members = [{0: np.array([100.0, 100.0, 100.0, 0.0])}, {0: np.array([0.0, 50.0])}]
    found = join_by_seed(members, [1, 1])
    assert found[0].mean() == pytest.approx(50.0) and len(found[0]) == 6
    assert join_by_seed(members, [3, 1])[0].mean() == pytest.approx((3 * 75 + 25) / 4)
    assert join_by_seed([], []) == {}
    with pytest.raises(ValueError, match="results of 2, 4 videos"):
        mean_by_seed(members)


def test_folds_of_different_sizes_that_agree_have_an_interval_of_no_width() -> None:
    seeds = {seed: np.full(8, 30.0) for seed in range(3)}
    found = estimate_mean(list(join_by_seed([seeds, {seed: np.full(13, 30.0) for seed in range(3)}], [1, 1]).values()))
    assert found is not None and found.low is not None
    assert found.mean == pytest.approx(30.0) and found.low == pytest.approx(30.0)


def test_folds_are_as_wide_as_one_sample_of_all_their_videos() -> None:
    """Every seed is right about the same videos: averaged by their place in a fold, half of the spread would vanish."""
    folds = [np.repeat([100.0, 0.0], 20), np.repeat([0.0, 100.0], 20)]
    joined = join_by_seed([dict.fromkeys(range(4), values) for values in folds], [1, 1])
    assert estimate_mean(list(joined.values())) == estimate_mean([np.concatenate(folds)] * 4)


def test_an_interval_of_a_share_ends_at_its_bounds() -> None:
    wide = estimate_mean([40.0, 60.0])
    assert wide is not None and wide.low is not None and wide.low < 0
    assert wide.clip(0.0, 100.0) == Estimate(50.0, 0.0, 100.0, 2)
    single = estimate_mean([40.0])
    assert single is not None and single.clip(50.0, 100.0) == single


def test_deviations_are_pooled_by_degrees_of_freedom() -> None:
    assert pool_deviations([{0: 1.0, 1: 3.0}, {0: 0.0, 1: 0.0, 2: 3.0}]) == pytest.approx(math.sqrt((2 + 2 * 3) / 3))
    assert pool_deviations([{0: 5.0}]) is None


def test_the_number_of_seeds_is_the_smallest_whose_interval_is_narrow_enough() -> None:
    num = count_seeds(2.0, 3.0)
    assert num is not None
    # By hand: t(4) 2.776 x 2 x sqrt(2 / 5) is 3.51, t(5) 2.571 x 2 x sqrt(2 / 6) is 2.97.
    assert num == 6
    assert count_seeds(100.0, 0.1, max_seeds=50) is None


def test_runs_scored_on_other_videos_are_not_compared() -> None:
    first, second = {0: np.array([100.0, 0.0])}, {0: np.array([100.0, 0.0, 0.0])}
    with pytest.raises(ValueError, match="results of 2, 3 videos, expected the same test videos"):
        difference(first, second, None)
    with pytest.raises(ValueError, match="results of 2, 3 videos"):
        estimate_mean([first[0], second[0]])
