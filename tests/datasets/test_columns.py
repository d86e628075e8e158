"""Which column of a list is which."""

import pytest

from muybridge.datasets.columns import AS_VERSION_0_1, is_header, map_columns


def test_synonyms_are_found_and_the_role_itself_comes_first() -> None:
    mapping = map_columns(["File Name", "class", "label", "t-start", "other"], None)
    assert dict(mapping.indices) == {"path": 0, "label": 2, "start_seconds": 3}
    assert str(mapping) == "path=File Name,label=label,start_seconds=t-start"
    assert mapping.has_synonyms
    assert mapping.unread_names == ["class", "other"]
    assert not map_columns(["path", "label"], None).has_synonyms


def test_weak_synonyms_count_where_nothing_else_is_meant() -> None:
    assert dict(map_columns(["video_id", "label_name"], None).indices) == {"path": 0, "label": 1}
    assert dict(map_columns(["id", "filename", "class_id", "class"], None).indices) == {"path": 1, "label": 3}
    with pytest.raises(ValueError, match="id and name may both be the path; say --columns path=id or"):
        map_columns(["id", "name", "label"], None)
    assert is_header(["video_id", "label"], None)
    assert not is_header(["video_id", "label"], AS_VERSION_0_1)
    assert "path" not in map_columns(["id", "label"], AS_VERSION_0_1).indices


def test_a_cell_that_a_short_row_lacks_is_empty() -> None:
    mapping = map_columns(["path", "label"], None)
    assert [mapping.get(["a.mp4", "hug"], role) for role in ("path", "label", "split")] == ["a.mp4", "hug", ""]
    assert mapping.get(["a.mp4"], "label") == ""


def test_two_columns_that_may_be_the_label_matter_to_training_only() -> None:
    names = ["path", "action", "tag"]
    with pytest.raises(ValueError, match=r"action and tag may both be the label; say --columns label=action or"):
        map_columns(names, None)
    assert dict(map_columns(names, None, needs_labels=False).indices) == {"path": 0}
    assert dict(map_columns(names, "label=tag").indices) == {"path": 0, "label": 2}
    with pytest.raises(ValueError, match="clip and video may both be the path"):  # of which predictions need one
        map_columns(["clip", "video"], None, needs_labels=False)


def test_a_column_that_is_given_twice_or_not_there() -> None:
    with pytest.raises(ValueError, match="2 columns are called label; rename them"):
        map_columns(["path", "label", "Label"], None)
    with pytest.raises(ValueError, match="--columns says label=kind, but the columns are path, label"):
        map_columns(["path", "label"], "label=kind")
    with pytest.raises(ValueError, match="gives the column of label twice"):
        map_columns(["path", "a", "b"], "label=a,label=b")


def test_version_0_1_knew_no_synonyms() -> None:
    assert dict(map_columns(["path", "class", "fps"], AS_VERSION_0_1).indices) == {"path": 0}
    assert is_header(["Path", "x"], AS_VERSION_0_1)
    assert not is_header(["file", "x"], AS_VERSION_0_1)
    assert is_header(["file", "x"], None)
    assert is_header(["x", "Kind "], "label=kind")
    assert not is_header(["path", "x"], "label=kind")
