"""Walking folders: links, cycles, what is left out."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from muybridge.datasets.video_files import SkippedFiles, VideoFinder, iterate_videos, path_exists
from muybridge.loading.open_data import open_data
from muybridge.video.media import MediaFiles


def test_links_are_followed_without_going_in_circles(tmp_path: Path) -> None:
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    for path in (data / "hug" / "a.mp4", elsewhere / "b.mp4", elsewhere / "notes.txt"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (data / "hug" / "linked").symlink_to(elsewhere)
    (data / "hug" / "back").symlink_to(data)
    (elsewhere / "up").symlink_to(tmp_path)
    (data / "hug" / "gone").symlink_to(tmp_path / "nothing")
    (data / "hug" / "gone.mp4").symlink_to(tmp_path / "nothing.mp4")
    skipped = SkippedFiles()
    assert list(iterate_videos(data, "hug", skipped)) == ["hug/a.mp4", "hug/gone.mp4", "hug/linked/b.mp4"]
    assert list(iterate_videos(data, "hug", follow_links=False)) == ["hug/a.mp4", "hug/gone.mp4"]
    assert skipped.describe("data") == [
        "1 file in data is left out, not called like a video: 1 .txt.",
        "Links to nothing are left out: hug/gone.",
        "Links to a folder that they are in are left out: hug/back, hug/linked/up.",
    ]


@pytest.mark.parametrize("extension", ["png", "webp"])
def test_animated_pictures_are_videos_and_still_ones_are_not(tmp_path: Path, extension: str) -> None:
    """Whatever they are called: an APNG file may end in .png, and a folder of them holds no frames of one video."""
    pictures = [Image.fromarray(np.full((16, 16, 3), 20 * number, np.uint8)) for number in range(8)]
    still = "png" if extension == "png" else "jpg"  # .webp is taken for a video, and refused when it is read
    (tmp_path / "data" / "mixed").mkdir(parents=True)
    (tmp_path / "data" / "animated").mkdir()
    text = PngInfo()
    text.add_text("comment", "before the pixels")
    for name in ("mixed/a", "animated/b", "animated/c"):
        options = {"save_all": True, "append_images": pictures[1:], "duration": 40, "pnginfo": text}
        pictures[0].save(tmp_path / "data" / f"{name}.{extension}", **options)
    pictures[0].save(tmp_path / "data" / "mixed" / f"still.{still}", pnginfo=text)
    (tmp_path / "data" / "mixed" / "empty.png").touch()
    skipped = SkippedFiles()
    videos = list(iterate_videos(tmp_path / "data", skipped=skipped))
    assert videos == [f"{name}.{extension}" for name in ("animated/b", "animated/c", "mixed/a")]
    assert skipped.num_files.total() == 2
    source = MediaFiles(str(tmp_path / "data"), scale_height=16, scale_width=16)
    times = source.read_frame_times(videos[0])
    assert len(times) == 8
    assert (np.diff(source.read(videos[0], times.ticks).luma_thw.mean((1, 2))) > 10).all()  # each lighter than the last


def test_numeric_classes_are_ordered_as_numbers(tmp_path: Path) -> None:
    for number in range(12):
        for name in "ab"[: 1 + (number < 11)]:
            (tmp_path / str(number)).mkdir(exist_ok=True)
            (tmp_path / str(number) / f"{name}.mp4").touch()
    data = open_data(str(tmp_path))
    assert data.classes == tuple(map(str, range(12)))
    assert data.notes[0].startswith(
        "The labels are numbers: each of the 12, from 0 to 11, is taken as the name of a class"
    )
    assert data.notes[1].startswith("Class 11 has one video only")
    assert open_data(str(tmp_path), columns="as-version-0.1").classes == tuple(sorted(map(str, range(12))))


def test_a_tree_of_frames_is_opened_without_a_scan_of_every_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    num_folders, num_frames = 6, 500
    for number in range(num_folders):
        folder = tmp_path / "ab"[number % 2] / f"video_{number}"
        folder.mkdir(parents=True)
        for frame in range(num_frames):
            (folder / f"img_{frame:05d}.jpg").touch()
    num_read = 0

    class CountedEntries:
        def __init__(self, entries: Any) -> None:
            self.entries = entries

        def __enter__(self) -> Iterator[os.DirEntry[str]]:
            for entry in self.entries.__enter__():
                nonlocal num_read
                num_read += 1
                yield entry

        def __exit__(self, *error: object) -> None:
            self.entries.__exit__(*error)

    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: CountedEntries(scandir(path)))
    assert len(open_data(str(tmp_path))) == num_folders
    assert num_folders < num_read < num_folders * num_frames / 4


@pytest.mark.parametrize("name", ["é" * 300, "a\0é", "é/" * 3000], ids=["long", "NUL", "deep"])
def test_a_path_that_no_file_system_takes_is_not_found(name: str, tmp_path: Path) -> None:
    assert VideoFinder(tmp_path).find(name) is None
    assert not path_exists(tmp_path / name)
