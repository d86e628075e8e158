import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from muybridge.prediction import inputs
from muybridge.prediction.inputs import FeaturesWriter, list_video_files
from muybridge.prediction.recognizer import Features

SETTINGS = {"model_sha256": "abc", "clips": 3}


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_folders_become_the_videos_below_them(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    touch(folder / "b.mp4", folder / "a.AVI", folder / "deep" / "er" / "c.mkv", folder / "notes.txt", folder / "d.jpg")
    touch(folder / ".hidden.mp4", folder / ".trash" / "e.mp4", folder / "deep" / ".f" / "g.mp4")
    (folder / "z.mp4").mkdir()
    found = [Path(name).relative_to(folder).as_posix() for name in list_video_files([folder])]
    assert found == ["a.AVI", "b.mp4", "deep/er/c.mkv"]


def test_files_stay_as_given_whatever_they_are(tmp_path: Path) -> None:
    touch(tmp_path / "odd.name", tmp_path / "clips" / "a.mp4")
    given = [tmp_path / "odd.name", tmp_path / "absent.mp4", tmp_path / "clips", str(tmp_path / "clips" / "a.mp4")]
    assert list_video_files(given) == [str(given[0]), str(given[1]), str(given[3])]


def test_a_hidden_folder_may_be_named_itself(tmp_path: Path) -> None:
    touch(tmp_path / ".secret" / "a.mp4")
    assert len(list_video_files([tmp_path / ".secret"])) == 1


def test_nothing_to_do_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path / "notes.txt")
    with pytest.raises(ValueError, match=r"there is no video in the folder .*; looked for files such as \.mp4"):
        list_video_files([tmp_path])
    with pytest.raises(ValueError, match="no video was given"):
        list_video_files([])


def features(video: str, num_views: int = 3, seed: int = 0) -> Features:
    drawn = np.random.default_rng(seed)
    return Features(
        video,
        np.arange(num_views, dtype=np.int32) * 2,
        drawn.random(num_views),
        drawn.random((num_views, 5), dtype=np.float32),
    )


def test_rows_are_what_was_added(tmp_path: Path) -> None:
    path = tmp_path / "out" / "features.parquet"
    given = [features("b", 3, seed=1), features("a", 2, seed=2)]
    with FeaturesWriter(path, SETTINGS) as file:
        for item in given:
            file.add(item)
        assert file.finish(["a", "b"]) == 5
    table = pq.read_table(path)
    assert table.column_names == ["video", "view", "start_seconds", "features"]
    assert str(table.schema.field("features").type).startswith("list<") and "float" in str(
        table.schema.field("features")
    )
    assert table["video"].to_pylist() == ["b"] * 3 + ["a"] * 2
    assert table["view"].to_pylist() == [0, 2, 4, 0, 2]
    expected = np.concatenate([item.features for item in given])
    assert np.array_equal(np.array(table["features"].to_pylist(), np.float32), expected)
    assert table["start_seconds"].to_pylist() == [*given[0].start_seconds, *given[1].start_seconds]
    assert json.loads(table.schema.metadata[b"muybridge"]) == {"format": 1, **SETTINGS}
    assert [entry.name for entry in path.parent.iterdir()] == ["features.parquet"]


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "PART_VIDEOS", 2)
    path = tmp_path / "features.parquet"
    with pytest.raises(KeyboardInterrupt), FeaturesWriter(path, SETTINGS) as file:
        for name in "abc":
            file.add(features(name))
        raise KeyboardInterrupt
    assert not path.exists()
    with FeaturesWriter(path, SETTINGS) as file:
        assert file.done_videos == {"a", "b", "c"}
        file.add(features("d"))
        file.finish("abcd")
    assert list(dict.fromkeys(pq.read_table(path)["video"].to_pylist())) == ["a", "b", "c", "d"]
    with FeaturesWriter(path, SETTINGS) as file:
        assert file.done_videos == frozenset()


def test_a_killed_run_loses_only_what_was_not_yet_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "PART_VIDEOS", 2)
    path = tmp_path / "features.parquet"
    killed = FeaturesWriter(path, SETTINGS)
    for name in "abc":
        killed.add(features(name))
    assert FeaturesWriter(path, SETTINGS).done_videos == {"a", "b"}


def test_videos_of_another_list_stay_out(tmp_path: Path) -> None:
    path = tmp_path / "features.parquet"
    with FeaturesWriter(path, SETTINGS) as file:
        file.add(features("a"))
        file.add(features("b"))
    with FeaturesWriter(path, SETTINGS) as file:
        assert file.finish(["b", "never read"]) == 3
    assert set(pq.read_table(path)["video"].to_pylist()) == {"b"}


def test_parts_of_other_settings_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "features.parquet"
    with FeaturesWriter(path, SETTINGS) as file:
        file.add(features("a"))
    with pytest.raises(ValueError, match=r"unfinished features.parquet in .* other settings; delete that folder"):
        FeaturesWriter(path, {**SETTINGS, "clips": 4})


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "features.parquet"
    path.write_text("the old one")

    class Full:
        def __init__(self, *arguments: Any, **options: Any) -> None:
            raise OSError(28, "No space left on device")

    with FeaturesWriter(path, SETTINGS) as file:
        file.add(features("a"))
        monkeypatch.setattr(pq, "ParquetWriter", Full)
        monkeypatch.setattr(inputs.FeaturesWriter, "_write_part", lambda self: None)
        with pytest.raises(OSError, match="No space"):
            file.finish("a")
    assert path.read_text() == "the old one"
