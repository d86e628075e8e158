"""Folds keep groups whole, hold each class evenly, and hold each video once."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest

from muybridge.datasets.cross_validation import assign_cross_validation, spread_groups
from muybridge.datasets.manifest import Manifest
from muybridge.datasets.splits import TENTH, ValidationSplit


def make_data(num_groups: int = 20, per_group: int = 3, *, groups: bool = True) -> Manifest:
    rows = [
        {
            "video": f"g{group}-{index}.mp4",
            "labels": [0 if group % 4 else 1],
            "split": "unused" if group == 0 else ("train", "test")[group % 2],
            "group": f"g{group}" if groups else None,
        }
        for group in range(num_groups)
        for index in range(per_group)
    ]
    return Manifest.from_rows(rows, classes=("a", "b"), root="data")


def test_each_video_is_tested_once_and_groups_stay_whole() -> None:
    data, tested = make_data(), Counter[str]()
    for fold in range(1, 6):
        split = assign_cross_validation(data, fold, 5, by="group", validation=TENTH)
        tested.update(split.select_split("test").table["video"].to_pylist())
        splits_by_group: dict[str, set[str]] = {}
        for group, name in zip(split.table["group"].to_pylist(), split.table["split"].to_pylist(), strict=True):
            splits_by_group.setdefault(group, set()).add(name)
        assert all(len(splits) == 1 for splits in splits_by_group.values())
        assert splits_by_group["g0"] == {"unused"}
        assert 9 <= len(split.select_split("test")) <= 15
        assert len(split.select_split("validation")) in (3, 6)
        assert split.notes[-1].startswith(f"Fold {fold} of 5, of whole groups:")
    assert set(tested.values()) == {1}
    assert len(tested) == 19 * 3


def test_classes_are_spread_evenly() -> None:
    names = [f"g{index}" for index in range(40)]
    counts = np.array([[5.0, 0.0, 5.0] if index % 4 else [0.0, 5.0, 5.0] for index in range(40)])
    folds = spread_groups(names, counts, 5)
    for fold in range(5):
        assert counts[folds == fold].sum(axis=0).tolist() == [30.0, 10.0, 40.0]
    assert spread_groups(names, counts, 5).tolist() == folds.tolist()


def test_folds_by_video_and_of_a_regression() -> None:
    data = make_data(1, 10, groups=False)
    rows = [{"video": f"{index}", "labels": [], "split": "train"} for index in range(30)]
    table = Manifest.from_rows(rows, classes=(), root="data").table
    targets = Manifest(table.append_column("target_x", [np.arange(30.0)]), (), "data")
    for fold in (1, 2, 3):
        test = assign_cross_validation(targets, fold, 3, by="video", validation=TENTH).select_split("test")
        assert len(test) == 10
        assert 11 < np.mean([test.get_targets(index)[0] for index in range(10)]) < 18
    with pytest.raises(ValueError, match="0 videos for 3 folds"):
        assign_cross_validation(data, 1, 3, by="video", validation=TENTH)  # all unused


def test_what_cannot_be_split_is_refused() -> None:
    with pytest.raises(ValueError, match=r"data names no groups, .* --fold-by video"):
        assign_cross_validation(make_data(groups=False), 1, 3, by="group", validation=TENTH)
    with pytest.raises(ValueError, match="19 groups for 30 folds"):
        assign_cross_validation(make_data(), 1, 30, by="group", validation=TENTH)
    with pytest.raises(ValueError, match="fold is 4, expected 1 to 3"):
        assign_cross_validation(make_data(), 4, 3, by="group", validation=TENTH)
    with pytest.raises(ValueError, match="--validation given needs data whose splits are used"):
        assign_cross_validation(make_data(), 1, 3, by="group", validation=ValidationSplit(rule="given"))


def test_a_share_of_the_training_groups_is_for_validation() -> None:
    for rule, expected in (("none", 0), ("0.5", 21)):
        split = assign_cross_validation(make_data(), 1, 5, by="group", validation=ValidationSplit(rule=rule))
        assert abs(len(split.select_split("validation")) - expected) <= 3


def test_segments_of_a_file_stay_together() -> None:
    rows = [
        {"video": f"r{file}.mp4#{start}-{start + 1}", "labels": [start % 2], "split": "train", "group": group}
        for file in range(6)
        for start in range(10)
        for group in (("g" if file else None),)
    ]
    data = Manifest.from_rows(rows, classes=("a", "b"), root="data")
    for by, num_folds in (("video", 5), ("group", 2)):
        for fold in range(1, num_folds + 1):
            split = assign_cross_validation(data, fold, num_folds, by=by, validation=TENTH)  # type: ignore[arg-type]
            videos, splits = (split.table[name].to_pylist() for name in ("video", "split"))
            assert len({(video.partition("#")[0], name) for video, name in zip(videos, splits, strict=True)}) == 6


def test_no_class_loses_its_last_training_group_to_validation() -> None:
    rows = [
        {"video": f"{label}{number}.mp4", "labels": ["abc".index(label)], "split": "train"}
        for label, count in (("a", 9), ("b", 9), ("c", 2), ("d", 0))
        for number in range(count)
    ]
    data = Manifest.from_rows(rows, classes=("a", "b", "c"), root="data")
    for seed, fold in product(range(12), (1, 2)):
        split = assign_cross_validation(data, fold, 2, by="video", validation=ValidationSplit(seed, "0.4"))
        counts = split.count_videos()
        assert counts["train"]["c"] == counts["test"]["c"] == 1
        assert sum(counts["validation"].values()) == 4
        assert not any("no training videos" in note for note in split.notes)
    alone = Manifest.from_rows(rows[:-1], classes=("a", "b", "c"), root="data")
    notes = [assign_cross_validation(alone, fold, 2, by="video", validation=TENTH).notes[-1] for fold in (1, 2)]
    expected = "c has test videos and no training videos in this fold: none of them can be right."
    assert sorted(note == expected for note in notes) == [False, True]
