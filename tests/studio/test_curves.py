"""Curves are reduced without losing a peak, and timelines are stored without growing the server."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from muybridge.prediction.timeline import Segment
from muybridge.studio.curves import reduce_curves, select_windows
from muybridge.studio.errors import StudioError
from muybridge.studio.folders import AllowedFolders, compute_project_id
from muybridge.studio.jobs import JobStore
from muybridge.studio.timelines import TimelineArrays, TimelineStore, read_file_key


def test_few_windows_are_exact() -> None:
    centers = np.arange(5.0)
    values = np.array([[0.0, 1.0, 0.5, 0.25, 0.75]], np.float32)
    points = reduce_curves(centers, values, [], 5)
    assert points.is_exact
    assert points.seconds.tolist() == centers.tolist()
    assert points.values.tolist() == values.tolist()


@pytest.mark.parametrize("num_windows", [11, 100, 1001, 54_000])
@pytest.mark.parametrize("max_points", [2, 10, 1000])
def test_no_peak_is_lost(num_windows: int, max_points: int) -> None:
    generator = np.random.default_rng(num_windows)
    centers = np.sort(generator.random(num_windows)) * 100
    values = generator.random((3, num_windows)).astype(np.float32)
    points = reduce_curves(centers, values, [], max_points)
    assert len(points.seconds) <= max_points
    assert points.is_exact == (num_windows <= max_points)
    assert (np.diff(points.seconds) >= 0).all()
    for curve, reduced in zip(values, points.values, strict=True):
        assert reduced.max() == curve.max()
        assert reduced.min() == curve.min()
        assert set(reduced.tolist()) <= set(curve.tolist())


def test_minimum_and_maximum_are_in_order_of_occurrence() -> None:
    centers = np.arange(8.0)
    values = np.array([[0, 9, 1, 1, 5, 5, 2, 5]], np.float32)
    points = reduce_curves(centers, values, [], 4)
    assert points.values.tolist() == [[0, 9, 5, 2]]
    assert points.seconds.tolist() == [0.75, 2.25, 4.75, 6.25]


def test_gaps_are_shown() -> None:
    points = reduce_curves(np.array([0.0, 1.0, 5.0, 6.0]), np.ones((1, 4), np.float32), [2], 100)
    assert points.seconds.tolist() == [0, 1, 3, 5, 6]
    assert np.isnan(points.values[0]).tolist() == [False, False, True, False, False]


def test_curves_reach_the_ends_of_a_range() -> None:
    centers = np.arange(10.0)
    assert select_windows(centers, 2.5, 5.5) == slice(2, 7)
    assert select_windows(centers, 0, 100) == slice(0, 10)
    assert select_windows(centers, 50, 60) == slice(9, 10)


def _store(folder: Path, num_windows: int, classes: tuple[str, ...]) -> tuple[TimelineStore, str]:
    store = TimelineStore("project", folder)
    (folder / "x.mp4").write_bytes(b"video")
    (folder / "w.safetensors").write_bytes(b"weights")
    values = {
        "path": "x.mp4",
        "model": "first",
        "classes": classes,
        "duration_seconds": num_windows * 0.1 + 0.4,
        "weights": str(folder / "w.safetensors"),
        "weights_key": read_file_key(folder / "w.safetensors"),
        "video_key": read_file_key(folder / "x.mp4"),
    }
    starts = np.arange(num_windows) * 0.1
    probabilities = np.random.default_rng(0).dirichlet(np.ones(len(classes)), num_windows).T.astype(np.float32)
    arrays = TimelineArrays(starts, starts + 0.4, probabilities)
    return store, store.write(values, arrays, [Segment(classes[0], 0.0, 1.0, 0.5), Segment(classes[1], 1.0, 2.0, 0.5)])


def test_predictions_of_before_heads_were_stored_are_read(tmp_path: Path) -> None:
    store, timeline_id = _store(tmp_path, 50, ("a", "b"))
    (file,) = tmp_path.rglob("prediction.json")
    values = json.loads(file.read_text())
    del values["head"]
    file.write_text(json.dumps({**values, "format": 1}))
    assert store.get(timeline_id).classes == ("a", "b")
    assert store.read_head(timeline_id) is None


def test_two_hours_with_many_classes_answer_at_once(tmp_path: Path) -> None:
    """Times are far above what is usual, so that a loaded machine passes."""
    classes = tuple(f"class {number}" for number in range(100))
    store, timeline_id = _store(tmp_path, 72_000, classes)
    started = time.process_time()
    for start in (0.0, 3000.0, 7000.0):
        window = store.read_curves(timeline_id, start, start + 100, 4000, ())
        assert len(window.curves) == 12
        assert window.is_exact
    whole = store.read_curves(timeline_id, 0.0, None, 4000, ("class 7",))
    assert not whole.is_exact
    assert len(whole.seconds) <= 4000
    assert time.process_time() - started < 8


def test_timelines_are_replaced_and_become_stale(tmp_path: Path) -> None:
    store, first = _store(tmp_path, 50, ("a", "b"))
    store, second = _store(tmp_path, 50, ("a", "b"))
    assert [info.id for info in store.list_timelines("x.mp4")] == [second]
    assert store.count() == {"x.mp4": 1}
    assert not store.get(second).stale
    (tmp_path / "w.safetensors").write_bytes(b"trained further")
    assert (store.get(second).stale, store.get(second).video_changed) == (True, False)
    (tmp_path / "x.mp4").write_bytes(b"another video")
    assert (store.get(second).stale, store.get(second).video_changed) == (True, True)
    assert [one.label for one in store.read_segments(second, 1.5)] == ["b"]
    with pytest.raises(StudioError, match="no class"):
        store.read_curves(second, 0, None, 10, ("c",))
    for wrong in (first, "../x", "", "project-"):
        with pytest.raises(StudioError, match="no prediction"):
            store.get(wrong)
    store.remove(second)
    assert store.list_timelines() == []


def test_a_prediction_of_somebody_else_deletes_nothing_outside(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    project = tmp_path / "project"
    for folder in (outside / "thesis", project):
        folder.mkdir(parents=True)
    store, first = _store(project, 50, ("a", "b"))
    predictions = project / ".muybridge" / "predictions"
    shutil.copytree(predictions / first, outside / "linked")
    (predictions / "linked").symlink_to(outside / "linked")
    for number, named in enumerate((str(outside / "thesis"), "../../../outside/thesis", "..", "")):
        shutil.copytree(predictions / first, predictions / f"foreign{number}")
        file = predictions / f"foreign{number}" / "prediction.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "id": named, "weights": "\0"}))
    assert {info.id for info in store.list_timelines()} == {
        first,
        *(f"project-foreign{number}" for number in range(4)),
    }
    store, second = _store(project, 50, ("a", "b"))
    assert [info.id for info in store.list_timelines()] == [second]
    assert {path.name for path in predictions.iterdir()} == {second, "linked"}
    assert {path.name for path in outside.iterdir()} == {"thesis", "linked"}
    with pytest.raises(StudioError, match="no prediction"):
        store.remove("project-linked")


def test_a_copied_or_moved_project_has_its_own_predictions(tmp_path: Path) -> None:
    original, copied = tmp_path / "original", tmp_path / "copy"
    original.mkdir()
    _, first = _store(original, 50, ("a", "b"))
    shutil.copytree(original, copied)
    store = TimelineStore("other", copied)
    (info,) = store.list_timelines()
    assert info.id == f"other-{first.partition('-')[2]}"
    assert not info.stale, "the copy's own weights and video are as they were"
    assert [one.label for one in store.read_segments(info.id)] == ["a", "b"]
    for elsewhere in (first, f"-{first}", info.id.replace("-", "")):
        with pytest.raises(StudioError, match="no prediction"):
            store.get(elsewhere)
    (copied / "w.safetensors").write_bytes(b"trained further")
    assert store.get(info.id).stale
    jobs = JobStore(copied, tmp_path / "queues", AllowedFolders([copied]))
    job = copied / ".muybridge" / "jobs" / "20260101-000000-abcdef"
    job.mkdir(parents=True)
    command = ["python", "-m", "muybridge.studio.predict_job", str(original / ".muybridge" / "jobs" / job.name)]
    description = {"kind": "predict", "title": "t", "command": command, "run": None, "paths": ["x.mp4"]}
    (job / "job.json").write_text(json.dumps({**description, "created": "2026-01-01T00:00:00+00:00"}))
    (job / "progress.json").write_text(json.dumps({"predictions": [first]}))
    assert jobs.get(job.name).predictions == (info.id.replace("other", compute_project_id(copied)),)
    store.remove(info.id)
    assert store.list_timelines() == []
    assert [one.id for one in TimelineStore("project", original).list_timelines()] == [first]


@pytest.mark.parametrize(
    ("name", "array", "sentence"),
    [
        ("starts", np.arange(49.0), r"have the shapes \(49,\), \(50,\), \(2, 50\)"),
        ("ends", np.full(50, np.nan), "not finite"),
        ("starts", np.array(["0.1"] * 50), "no arrays of numbers"),
        ("probabilities", np.zeros(50, np.float32), "no arrays of numbers"),
        ("probabilities", np.zeros((3, 50), np.float32), r"its probabilities have the shape \(3, 50\)"),
        ("probabilities", None, "is damaged"),
    ],
)
def test_a_damaged_prediction_is_named(
    tmp_path: Path, name: str, array: NDArray[np.float64] | None, sentence: str
) -> None:
    store, timeline_id = _store(tmp_path, 50, ("a", "b"))
    (file,) = tmp_path.rglob(f"{name}.npy")
    if array is None:
        np.savez(tmp_path / "archive.npz", probabilities=np.zeros((2, 50), np.float32))
        (tmp_path / "archive.npz").rename(file)
    else:
        np.save(file, array)
    with pytest.raises(StudioError, match=rf"is damaged \(.*{sentence}|{sentence}") as caught:
        store.read_curves(timeline_id, 0.0, None, 10, ())
    assert caught.value.status == 409


def test_probabilities_that_are_not_finite_are_gaps(tmp_path: Path) -> None:
    store, timeline_id = _store(tmp_path, 4, ("a", "b"))
    (file,) = tmp_path.rglob("probabilities.npy")
    np.save(file, np.array([[0.5, np.nan, np.inf, 0.25], [0.5, 0.5, -np.inf, 0.75]], np.float32))
    curves = store.read_curves(timeline_id, 0.0, None, 10, ("a", "b")).curves
    assert [curve.probabilities for curve in curves] == [(0.5, None, None, 0.25), (0.5, 0.5, None, 0.75)]
