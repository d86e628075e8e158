"""Balanced draws: every class equally often, every video of a class equally often."""

from __future__ import annotations

from collections import Counter

import pytest

from muybridge.datasets.manifest import Manifest
from muybridge.loading.class_draws import VideoDraws
from muybridge.loading.datasets import encode_targets

LABELS: list[list[int]] = [[0]] * 8 + [[1]] * 2 + [[0, 1]] + [[]]


@pytest.fixture
def manifest() -> Manifest:
    rows = [{"video": f"{index}.mp4", "labels": labels} for index, labels in enumerate(LABELS)]
    return Manifest.from_rows(rows, classes=("a", "b", "c"), root="")


def test_every_class_is_drawn_equally_often(manifest: Manifest) -> None:
    draws = VideoDraws(manifest, seed=3, balanced=True)
    found = [draws.find_video(draw) for draw in range(3 * 9 * 3 * 4)]
    assert Counter(label for _, label in found) == {0: 108, 1: 108, None: 108}  # no video has class c
    assert all(label in LABELS[video] if label is not None else not LABELS[video] for video, label in found)
    assert Counter(video for video, label in found if label == 1) == {8: 36, 9: 36, 10: 36}
    assert {label for _, label in found[6:9]} == {0, 1, None}
    assert found[:9] != found[9:18]  # another order


def test_uniform_draws_are_passes_over_the_videos(manifest: Manifest) -> None:
    draws = VideoDraws(manifest, seed=3, balanced=False)
    assert sorted(draws.find_video(draw)[0] for draw in range(12)) == list(range(12))
    assert draws.find_video(5)[1] is None


@pytest.mark.parametrize("balanced", [False, True])
def test_a_video_is_drawn_several_times_in_a_row(balanced: bool, manifest: Manifest) -> None:
    once, thrice = (VideoDraws(manifest, seed=3, balanced=balanced, draws_per_video=number) for number in (1, 3))
    assert [thrice.find_video(draw) for draw in range(90)] == [once.find_video(draw // 3) for draw in range(90)]


def test_targets_of_each_task(manifest: Manifest) -> None:
    assert encode_targets(manifest, 10, "multi_label") == (1.0, 1.0, 0.0)
    assert encode_targets(manifest, 11, "multi_label") == (0.0, 0.0, 0.0)
    assert encode_targets(manifest, 8, "ordinal") == (1.0,)
    assert encode_targets(manifest, 8, "single_label") == ()
