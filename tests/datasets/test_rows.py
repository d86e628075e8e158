"""A video as a list describes it."""

import pytest

from muybridge.datasets.rows import VideoRow, check_file_names, check_time_origin, normalize_names


@pytest.mark.parametrize(
    ("bounds", "name"), [((None, None), "a#-"), ((1.5, None), "a#1.5-"), ((None, 4.0), "a#-4"), ((0.0, 4.0), "a#0-4")]
)
def test_a_bound_makes_a_segment(bounds: tuple[float | None, float | None], name: str) -> None:
    row = VideoRow("a", ("hug",), start_seconds=bounds[0], end_seconds=bounds[1])
    assert row.segment_name == name
    assert row.is_whole_file == (bounds == (None, None))
    notes = check_time_origin([VideoRow("b", ("hug",)), row], "container")
    assert bool(notes) == row.is_whole_file  # the origin has nothing to count
    assert check_time_origin([row], "picture") == []


def test_frames_count_from_the_first_picture() -> None:
    with pytest.raises(ValueError, match="1 row is in frames, which count from the first picture"):
        check_time_origin([VideoRow("a", ("hug",), start_seconds=1.0, bounds_in_frames=True)], "container")


def test_a_group_is_the_path_unless_it_is_given() -> None:
    assert VideoRow("a", ()).group_key == "a"
    assert VideoRow("a", (), group="x").group_key == "x"


def test_one_name_is_one_class_however_it_is_spelled() -> None:
    (row,) = normalize_names([VideoRow("a", ("cafe\u0301", "caf\u00e9", "tea"), group="e\u0301")])
    assert row.labels == ("caf\u00e9", "tea")
    assert row.group == "\u00e9"


def test_file_names_that_are_not_utf8_are_named() -> None:
    check_file_names("/data", [VideoRow("caf\u00e9\n.mp4", ())])
    with pytest.raises(ValueError, match=r"/data has file names that are not UTF-8: 'a\\udce9.mp4'; rename them"):
        check_file_names("/data", [VideoRow("a\udce9.mp4", ()), VideoRow("b.mp4", ())])
