from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from muybridge.datasets.folders import read_video_rows
from muybridge.datasets.rows import VideoRow
from muybridge.datasets.source_rates import set_source_rates
from muybridge.loading.open_data import open_data


def write_tree(root: Path, num_frames: int = 3) -> Path:
    for label in ("left", "right"):
        for clip in ("clip 1", "clip 2", "clip 10"):
            folder = root / label / clip
            folder.mkdir(parents=True)
            for number in range(num_frames):
                Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(folder / f"{number}.png")
    return root


def test_folders_of_frames_are_videos(tmp_path: Path) -> None:
    root, rows, _ = read_video_rows(str(write_tree(tmp_path / "data")))
    assert root == str(tmp_path / "data")
    assert sorted(row.path for row in rows if row.labels == ("left",)) == ["left/clip 1", "left/clip 10", "left/clip 2"]


def test_pictures_directly_in_a_class_folder_are_no_video(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "data")
    (root / "up").mkdir()
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(root / "up" / "1.jpg")
    with pytest.raises(
        ValueError, match=r"hold pictures and no videos: up; put the frames of each video into a folder"
    ):
        read_video_rows(str(root))


def test_an_assumed_rate_is_said_once_and_a_given_one_is_used(tmp_path: Path) -> None:
    root = str(write_tree(tmp_path / "data"))
    assumed = open_data(root)
    assert [note for note in assumed.notes if "read at 25 frames a second" in note and "6 videos are" in note]
    assert assumed.get_source_rate(0) is None
    given = open_data(root, source_fps=12.5)
    assert not any("a second" in note for note in given.notes)
    assert given.get_source_rate(0) == 12.5
    with pytest.raises(ValueError, match="--source-fps must be a positive number"):
        open_data(root, source_fps=0)


def test_a_rate_of_a_row_takes_precedence(tmp_path: Path) -> None:
    rows = [VideoRow("a.mp4", ("x",)), VideoRow("b", ("x",)), VideoRow("c.npz", ("x",), source_fps=5)]
    filled, notes = set_source_rates(rows, 30, tmp_path)
    assert [row.source_fps for row in filled] == [None, 30, 5]
    assert notes == []
    assert "--source-fps is not used" in set_source_rates(rows[:1], 30, tmp_path)[1][0]
    assert set_source_rates(rows, None, tmp_path)[1][0].startswith("1 video is stored as frames")


def test_folders_of_frames_have_any_name(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").mkdir()
    rows = [VideoRow(path, ("x",)) for path in ("take1.session0", "clip.mp4", "other.mp4")]
    assert [row.source_fps for row in set_source_rates(rows, 10, tmp_path)[0]] == [10, 10, None]
    assert set_source_rates(rows, None, tmp_path)[1][0].startswith("1 video is stored as frames")


def test_a_column_of_rates(tmp_path: Path) -> None:
    write_tree(tmp_path)
    lines = [f"{label}/clip {n},{label},{rate}\n" for label in ("left", "right") for n, rate in ((1, "30"), (2, ""))]
    (tmp_path / "list.csv").write_text("path,label,source_fps\n" + "".join(lines))
    data = open_data(str(tmp_path / "list.csv"))
    rates = {data.get_path(index): data.get_source_rate(index) for index in range(len(data))}
    assert rates["left/clip 1"] == 30
    assert rates["left/clip 2"] is None
    assert not any("not read" in note for note in data.notes)
    (tmp_path / "list.csv").write_text("path,label,source_fps\nleft/clip 1,left,fast\n")
    with pytest.raises(ValueError, match="line 2 has the frames_per_second 'fast', expected a rate"):
        open_data(str(tmp_path / "list.csv"))
