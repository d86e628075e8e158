"""Drawn splits: the shares they promise, for any mixture of classes and groups."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace

import pytest

from muybridge.datasets.manifest import Manifest
from muybridge.datasets.rows import VideoRow
from muybridge.datasets.splits import ValidationSplit, apply_rule_to_prepared, assign_splits


def rows_of(groups_per_class: dict[str, int], videos_per_group: int = 3) -> list[VideoRow]:
    return [
        VideoRow(f"{label}/g{group}_{video}.mp4", (label,), group=f"{label}-g{group}")
        for label, groups in groups_per_class.items()
        for group in range(groups)
        for video in range(videos_per_group)
    ]


def groups_by(rows: list[VideoRow], split: str) -> dict[str, set[str]]:
    groups_by_label: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.split == split:
            for label in row.labels:
                groups_by_label[label].add(row.group_key)
    return groups_by_label


@pytest.mark.parametrize("seed", range(8))
def test_every_class_with_two_groups_is_tested_and_trained(seed: int) -> None:
    counts = random.Random(seed)
    groups = {f"class{index}": counts.randint(1, 12) for index in range(10)}
    rows, _ = assign_splits(rows_of(groups), ValidationSplit(seed))
    test, train = groups_by(rows, "test"), groups_by(rows, "train")
    for label, num_groups in groups.items():
        assert train[label], label
        assert bool(test[label]) == (num_groups >= 2), label
        assert len(test[label]) <= max(1, round(0.2 * num_groups) + 1)


@pytest.mark.parametrize("num_groups", [10, 25, 100])
def test_shares_are_a_fifth_and_a_tenth_class_by_class(num_groups: int) -> None:
    rows, notes = assign_splits(rows_of({"a": num_groups, "b": num_groups, "c": 2 * num_groups}), ValidationSplit(0))
    test, validation = groups_by(rows, "test"), groups_by(rows, "validation")
    for label, groups in (("a", num_groups), ("b", num_groups), ("c", 2 * num_groups)):
        assert abs(len(test[label]) - groups / 5) <= 1
        assert abs(len(validation[label]) - 0.08 * groups) <= 1.5
    assert len(notes) == 2


def test_groups_that_span_classes_are_never_torn() -> None:
    draws = random.Random(3)
    for _ in range(30):
        rows = [
            VideoRow(f"{index}.mp4", tuple(draws.sample("abcd", draws.randint(1, 2))), group=f"g{draws.randint(0, 9)}")
            for index in range(60)
        ]
        split, _ = assign_splits(rows, ValidationSplit(1))
        sides: dict[str, set[str | None]] = defaultdict(set)
        for row in split:
            sides[row.group_key].add(row.split)
        assert all(len(side) == 1 for side in sides.values())
        trained = {label for row in split if row.split == "train" for label in row.labels}
        assert trained == {label for row in rows for label in row.labels}


def test_the_test_split_depends_on_nothing_but_the_names() -> None:
    rows = rows_of({"a": 9, "b": 14})
    first, _ = assign_splits(rows, ValidationSplit(0))
    other_seed, _ = assign_splits(rows, ValidationSplit(7))
    other_order, _ = assign_splits(rows[::-1], ValidationSplit(0))
    assert groups_by(first, "test") == groups_by(other_seed, "test") == groups_by(other_order, "test")
    assert groups_by(first, "validation") == groups_by(other_order, "validation")
    assert groups_by(first, "validation") != groups_by(other_seed, "validation")


def test_small_sets_hold_out_one_group_for_validation() -> None:
    rows, notes = assign_splits(
        [VideoRow(f"{label}/{n}.mp4", (label,), "train") for label in "ab" for n in range(2)], ValidationSplit(0)
    )
    assert sum(row.split == "validation" for row in rows) == 1
    assert notes == [
        "No validation split given: 1 of 4 training videos is held out for it, a tenth of the groups, drawn by seed 0."
    ]


def test_given_splits_stay() -> None:
    rows = [VideoRow(f"{split}.mp4", ("a",), split) for split in ("train", "validation", "test", "unused")]
    assert assign_splits(rows, ValidationSplit(0)) == (rows, [])
    evaluation_only = [VideoRow("x.mp4", ("a",), "test")]
    assert assign_splits(evaluation_only, ValidationSplit(0)) == (evaluation_only, [])


def test_the_path_is_the_group_where_there_is_none() -> None:
    rows, notes = assign_splits(
        [VideoRow(f"{label}/{n}.mp4", (label,)) for label in "ab" for n in range(10)], ValidationSplit(0)
    )
    assert sum(row.split == "test" for row in rows) == 4
    assert notes[0] == "No split given: 4 of 20 videos are the test split, drawn by a hash of their path."
    segments = [VideoRow("long.mp4", ("a",), start_seconds=float(n)) for n in range(5)] + [VideoRow("b.mp4", ("a",))]
    assert len({row.split for row in assign_splits(segments, ValidationSplit(0))[0] if row.path == "long.mp4"}) == 1


def test_without_validation_every_training_video_is_trained_on() -> None:
    rows, notes = assign_splits([VideoRow(f"{n}.mp4", ("a",), "train") for n in range(20)], ValidationSplit(0, "none"))
    assert {row.split for row in rows} == {"train"}
    assert notes == [
        "No validation split given, and none is drawn: all 20 training videos are trained on, and there are no best weights."
    ]
    given = [VideoRow("a.mp4", ("a",), "train"), VideoRow("b.mp4", ("a",), "validation")]
    assert assign_splits(given, ValidationSplit(0, "none")) == (given, [])  # never trains on what the data holds out


def test_a_share_is_held_out() -> None:
    rows, notes = assign_splits([VideoRow(f"{n}.mp4", ("a",), "train") for n in range(40)], ValidationSplit(0, "0.3"))
    assert sum(row.split == "validation" for row in rows) == 12
    assert "12 of 40 training videos are held out for it, 0.3 of the groups, drawn by seed 0" in notes[0]
    auto, _ = assign_splits([VideoRow(f"{n}.mp4", ("a",), "train") for n in range(40)], ValidationSplit(0))
    drawn, fewer = ({row.path for row in part if row.split == "validation"} for part in (rows, auto))
    assert fewer < drawn


def test_a_rule_that_does_not_fit_the_data_is_an_error() -> None:
    without = [VideoRow("a.mp4", ("a",), "train"), VideoRow("b.mp4", ("a",), "train")]
    with pytest.raises(ValueError, match="--validation given needs data with a validation split, and this has none"):
        assign_splits(without, ValidationSplit(0, "given"))
    with_split = [*without, VideoRow("c.mp4", ("a",), "validation")]
    assert assign_splits(with_split, ValidationSplit(0, "given")) == (with_split, [])
    with pytest.raises(ValueError, match=r"--validation 0\.2 draws a validation split, and this data has one"):
        assign_splits(with_split, ValidationSplit(0, "0.2"))


@pytest.mark.parametrize("rule", ["half", "0", "1", "-0.1", "nan", ""])
def test_other_rules_are_refused(rule: str) -> None:
    with pytest.raises(ValueError, match="expected auto, none, given, or a share above 0 and below 1"):
        ValidationSplit(0, rule)


@pytest.mark.parametrize(("note", "fold"), [("", None), ("Fold 2: ", 2), ("Fold 1: ", None)])
def test_a_draw_of_prepared_data_is_undone_and_a_given_split_is_not(note: str, fold: int | None) -> None:
    rows = [
        {"video": f"{n}.mp4", "labels": [0], "split": split, "status": status}
        for n, (split, status) in enumerate(
            [("train", "ok"), ("validation", "ok"), ("validation", "unreadable"), ("test", "ok")]
        )
    ]
    drawn = Manifest.from_rows(
        rows, classes=["a"], root="", notes=[f"{note}No validation split given: 2 of 3 training"]
    )
    merged = apply_rule_to_prepared(drawn, ValidationSplit(0, "none"), fold)
    assert merged.table["split"].to_pylist() == ["train", "train", "unused", "test"]
    assert len(merged.notes) == 1 and "are trained on, and there are no best weights" in merged.notes[0]
    assert apply_rule_to_prepared(drawn, ValidationSplit(), fold) is drawn
    given = replace(drawn, notes=())
    assert apply_rule_to_prepared(given, ValidationSplit(0, "none"), fold) is given
    assert apply_rule_to_prepared(given, ValidationSplit(0, "given"), fold) is given
    with pytest.raises(ValueError, match="this one was drawn when it was prepared; use auto or none"):
        apply_rule_to_prepared(drawn, ValidationSplit(0, "given"), fold)
    with pytest.raises(ValueError, match="this was prepared without; use auto or none"):
        apply_rule_to_prepared(given.select_split("train"), ValidationSplit(0, "given"), fold)
    with pytest.raises(ValueError, match="give it to `muybridge prepare`"):
        apply_rule_to_prepared(drawn, ValidationSplit(0, "0.2"), fold)
