"""An index of a project's windows: what is like a part of a video, and labels by nearest neighbours before any training."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from shutil import copy
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

import muybridge
from muybridge.records import Preprocessing
from muybridge.studio.annotation_store import STUDIO_FOLDER
from muybridge.studio.app import create_app
from muybridge.studio.config import StudioConfig
from muybridge.studio.errors import StudioError
from muybridge.studio.feature_store import FeatureStore, IndexSettings, VideoFeatures
from muybridge.studio.index_job import run_index_job
from muybridge.studio.job_runner import JOB_FILE, PROGRESS_FILE
from muybridge.studio.neighbor_job import run_neighbor_job
from studio_client import TOKEN, StudioClient
from videos import write_damaged_video, write_video

VIDEOS = ["a.mp4", "b.mp4"]


def _paint(index: int) -> Any:
    """Bright for a second, dark for a second."""
    return np.full((48, 64, 3), 220 if index // 25 % 2 == 0 else 40, np.uint8)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StudioClient]:
    root = tmp_path_factory.mktemp("similar")
    folder = root / "videos"
    folder.mkdir()
    for name in VIDEOS:
        write_video(folder / name, 100, paint=_paint)
    net = muybridge.create_model("r2plus1d_10", num_classes=2, clip_length=4, width=4)
    small = Preprocessing(clip_length=4, scale_height=32, scale_width=32, crop=28)
    muybridge.save(net, folder / "net.safetensors", classes=["x", "y"], preprocessing=small)
    config = StudioConfig(folders=(str(folder),), token=TOKEN, state_folder=str(root / "state"))
    with TestClient(create_app(config), base_url="http://127.0.0.1:8420") as test_client:
        yield StudioClient(test_client, folder)


def _find_job_folder(folder: Path, project_folder: Path) -> Path:
    return project_folder / STUDIO_FOLDER / "jobs" / f"{folder.parent.name}-{folder.name}"


def _write_job(folder: Path, project_folder: Path, **values: Any) -> Path:
    """The folder of a job in the project; `folder` names it."""
    folder = _find_job_folder(folder, project_folder)
    folder.mkdir(parents=True)
    job = {"memory_bytes": 1 << 50, **values}
    (folder / JOB_FILE).write_text(json.dumps(job))
    return folder


def _index(client: StudioClient, folder: Path, paths: list[str]) -> int:
    address = str(client.folder / "net.safetensors")
    values = {"model": address, "model_name": "net", "step_frames": 4, "paths": paths}
    return run_index_job(_write_job(folder, client.folder, **values))


def test_windows_like_a_part_of_a_video(client: StudioClient, tmp_path: Path) -> None:
    assert client.get("index") == {"index": None}
    part = {"path": "a.mp4", "start_seconds": 0.2, "end_seconds": 0.6, "top": 4}
    assert "no index" in client.get("similar", 409, **part)["detail"]
    (client.folder / "broken.mp4").write_bytes(b"no video")
    assert _index(client, tmp_path / "job", ["a.mp4", "broken.mp4"]) == 3
    assert (
        json.loads((_find_job_folder(tmp_path / "job", client.folder) / PROGRESS_FILE).read_text())["progress"] == 1.0
    )
    assert _index(client, tmp_path / "again", VIDEOS) == 0
    (client.folder / "broken.mp4").unlink()
    index = client.get("index")["index"]
    assert (index["model"], index["step_frames"], index["num_videos"]) == ("net", 4, 2)
    marks = {
        "path": "b.mp4",
        "segments": [{"label": "light", "start_seconds": 0, "end_seconds": 1, "annotator": "kim"}],
    }
    client.call("PUT", f"{client.project}/annotations?path=b.mp4", json=marks)
    windows = client.get("similar", **part)["windows"]
    assert len(windows) == 4
    similarities = [window["similarity"] for window in windows]
    assert similarities == sorted(similarities, reverse=True)
    assert all(window["start_seconds"] % 2 < 1 for window in windows)  # bright ones, as the query is
    every = client.get("similar", **{**part, "top": 100})["windows"]
    marked = [window for window in every if window["path"] == "b.mp4" and window["end_seconds"] < 1]
    assert {tuple(window["labels"]) for window in marked} == {("light",)}
    for wrong in ({"end_seconds": 0.1}, {"path": "missing.mp4"}, {"path": "../a.mp4"}, {"top": 0}):
        assert client.request("GET", f"{client.project}/similar", params={**part, **wrong}).status_code in (
            400,
            403,
            404,
            422,
        )


def test_labels_of_nearest_neighbours_are_a_prediction(client: StudioClient, tmp_path: Path) -> None:
    _index(client, tmp_path / "index", VIDEOS)
    values = {"model_name": "nearest neighbours", "neighbors": 3, "paths": VIDEOS}
    marks = [{"label": "light", "start_seconds": 0, "end_seconds": 1, "annotator": "kim"}]
    reviewed = [{"start_seconds": 0, "end_seconds": 2, "annotator": "kim"}]
    client.call("PUT", f"{client.project}/annotations?path=b.mp4", json={"path": "b.mp4", "segments": marks})
    with pytest.raises(ValueError, match="two classes"):
        run_neighbor_job(_write_job(tmp_path / "few", client.folder, **values))
    body = {"path": "b.mp4", "segments": marks, "reviewed": reviewed}
    client.call("PUT", f"{client.project}/annotations?path=b.mp4", json=body)
    assert run_neighbor_job(_write_job(tmp_path / "job", client.folder, **values)) == 0
    (prediction,) = client.get("predictions", path="a.mp4")["predictions"]
    assert prediction["classes"] == ["background", "light"]
    segments = client.call("GET", f"/api/predictions/{prediction['id']}/segments")["segments"]
    assert [segment["label"] for segment in segments] == ["light", "background"] * 2
    assert [round(segment["start_seconds"]) for segment in segments] == [0, 1, 2, 3]
    suggested = client.get("suggestions", path="a.mp4")["suggestions"]
    assert {one["label"] for one in suggested} == {"light"}


def test_a_changed_video_or_network_is_extracted_again(client: StudioClient, tmp_path: Path) -> None:
    _index(client, tmp_path / "job", VIDEOS)
    store = FeatureStore(client.folder)
    assert store.has("a.mp4")
    write_video(client.folder / "a.mp4", 60, paint=_paint)
    assert not store.has("a.mp4")
    assert store.read_index().videos == ("b.mp4",)
    assert _index(client, tmp_path / "again", VIDEOS) == 0
    assert store.read_index().videos == ("a.mp4", "b.mp4")
    assert len(list(store.folder.glob("*.npz"))) == 2

    (client.folder / "net.safetensors").touch()
    _index(client, tmp_path / "third", ["b.mp4"])
    assert store.read_index().videos == ("b.mp4",)


def test_a_damaged_index_is_named(client: StudioClient, tmp_path: Path) -> None:
    copy(client.folder / VIDEOS[0], tmp_path / "a.mp4")
    store = FeatureStore(tmp_path)
    store.prepare(IndexSettings("net", "net.safetensors", None, 4, "2026-01-01"))
    rows = np.arange(3.0)

    def expect(sentence: str) -> None:
        with pytest.raises((StudioError, ValueError), match=sentence):
            store.read_index()

    store.write(VideoFeatures("a.mp4", rows, rows + 1, np.ones((3, 2), np.float32)))
    assert len(store.read_index().features_nd) == 3
    (file,) = store.folder.glob("*.npz")
    content = file.read_bytes()
    store.write(VideoFeatures("a.mp4", rows, rows + 1, np.full((3, 2), np.nan, np.float32)))
    expect("some features are not finite")
    np.savez(file, path="a.mp4", starts=rows, ends=rows[:2], features=np.ones((3, 2), np.float32))
    expect(r"is damaged \(starts, ends and features have the shapes \(3,\), \(2,\), \(3, 2\)")
    for damaged in (content[: len(content) // 2], b"", b"no numbers"):
        file.write_bytes(damaged)
        expect(r"is damaged .*make the index again")


def test_windows_that_cannot_be_read_are_told(
    client: StudioClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_damaged_video(client.folder / "gap.mp4")
    assert _index(client, tmp_path / "gap", ["gap.mp4"]) == 0
    assert "gap.mp4: 5 of 15 clips could not be read: the file is damaged" in capsys.readouterr().err
    (client.folder / "gap.mp4").unlink()
