from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from muybridge.prediction.inputs import list_videos


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_folders_become_the_videos_below_them(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    touch(folder / "b.mp4", folder / "a.AVI", folder / "deep" / "er" / "c.mkv", folder / "notes.txt", folder / "d.jpg")
    touch(folder / ".hidden.mp4", folder / ".trash" / "e.mp4", folder / "deep" / ".f" / "g.mp4")
    (folder / "z.mp4").mkdir()
    names = [Path(name).relative_to(folder).as_posix() for name in list_videos([folder]).videos]
    assert names == ["a.AVI", "b.mp4", "deep/er/c.mkv"]


def test_files_stay_as_given_whatever_they_are(tmp_path: Path) -> None:
    touch(tmp_path / "odd.name", tmp_path / "clips" / "a.mp4")
    given = [tmp_path / "odd.name", tmp_path / "absent.mp4", tmp_path / "clips", str(tmp_path / "clips" / "a.mp4")]
    assert list_videos(given).videos == (str(given[0]), str(given[1]), str(given[3]))


def test_a_hidden_folder_may_be_named_itself(tmp_path: Path) -> None:
    touch(tmp_path / ".secret" / "a.mp4")
    assert len(list_videos([tmp_path / ".secret"]).videos) == 1


def test_nothing_to_do_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path / "notes.txt")
    with pytest.raises(ValueError, match=r"there is no video in the folder .*; expected files such as \.mp4"):
        list_videos([tmp_path])
    with pytest.raises(ValueError, match="no video was given"):
        list_videos([])


def test_a_csv_file_that_lists_nothing(tmp_path: Path, finished_run: Path, cli: Callable[..., Any]) -> None:
    (tmp_path / "a.csv").write_text("where\na\n")
    (tmp_path / "b.csv").write_text("path\n")
    assert "lacks the columns path; its first line names where" in cli("predict", finished_run, tmp_path / "a.csv").err
    assert "lists no video" in cli("predict", finished_run, tmp_path / "b.csv").err
