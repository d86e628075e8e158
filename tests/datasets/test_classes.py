"""Class names are matched without case, whitespace, '-' and '_'; missing and ambiguous names are refused."""

from __future__ import annotations

import pytest

from muybridge.datasets.classes import match_classes


def test_classes_are_matched_by_name() -> None:
    assert match_classes(["Hand Shake", "hug"], ["HUG", "hand_shake", "kick"]) == [1, 0]
    assert match_classes(["HandStandPushups"], ["Handstand-Pushups"]) == [0]
    assert match_classes([], ["hug"]) == []


def test_classes_that_are_missing_or_ambiguous_are_named() -> None:
    with pytest.raises(ValueError, match="push, run are not among hug, kick") as caught:
        match_classes(["push", "hug", "run"], ["hug", "kick"])
    assert "by name" in str(caught.value)
    with pytest.raises(ValueError, match="'hug' and 'H-ug' are the same name"):
        match_classes(["hug"], ["hug", "H-ug"])
    with pytest.raises(ValueError, match="'hug' and 'Hug' are the same name"):
        match_classes(["hug", "Hug"], ["hug"])
