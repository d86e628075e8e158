from __future__ import annotations

import pytest

from muybridge.prepared.coverage import Coverage


@pytest.mark.parametrize("num_copies", [2, 3, 300])
def test_a_large_group_of_equal_videos_is_a_short_line_with_all_splits(num_copies: int) -> None:
    group = tuple((f"train/class/{number}.mp4", "train") for number in range(num_copies)) + (("test/x.mp4", "test"),)
    lines = Coverage({}, {}, (), (group,)).format_lines()
    assert lines[1] == "1 video occurs more than once with equal content"
    assert lines[2].startswith("WARNING: 1 of them is in MORE THAN ONE SPLIT")
    [line] = lines[3:]
    assert "train/class/0.mp4 (train) = test/x.mp4 (test)" in line
    assert len(line) < 200
    assert ("more" in line) == (num_copies > 3)


def test_groups_that_are_not_listed_are_counted() -> None:
    groups = tuple(((f"a{number}", "train"), (f"b{number}", "test")) for number in range(13))
    assert Coverage({}, {}, (), groups).format_lines()[-1] == "  and 3 more"
