"""Annotations: stored at once beside the videos, in the form that `train` reads; classes changed everywhere at once."""

from __future__ import annotations

import csv
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from muybridge.datasets.video_list import read_video_list
from muybridge.studio.annotation_files import read_annotation_files
from muybridge.studio.annotation_records import EventMark, RejectedMark, ReviewedRange, SegmentMark, VideoMarks
from muybridge.studio.annotation_store import AnnotationStore
from muybridge.studio.classes import ClassStore, ClassUpdate
from muybridge.studio.errors import StudioError
from studio_client import StudioClient


def _segment(label: str, start: float, end: float, annotator: str = "kim", **fields: Any) -> dict[str, Any]:
    return {"label": label, "start_seconds": start, "end_seconds": end, "annotator": annotator, **fields}


def test_marks_are_stored_in_files_that_train_reads(studio_client: StudioClient) -> None:
    address = f"{studio_client.project}/annotations?path=sub/b.avi"
    document = {
        "path": "sub/b.avi",
        "revision": studio_client.get("annotations", path="sub/b.avi")["revision"],
        "segments": [
            _segment("walk", 0.1, 0.5, group="day1"),
            _segment("talk", 0.1, 0.5, annotator="lee"),
            _segment("sit", 0.5, 1.0),
        ],
        "events": [{"label": "step", "time_seconds": 0.25, "annotator": "kim"}],
        "reviewed": [{"start_seconds": 0, "end_seconds": 1.2, "annotator": "kim"}],
        "rejected": [_segment("run", 0.3, 0.4)],
    }
    stored = studio_client.call("PUT", address, json=document)
    assert stored == studio_client.get("annotations", path="sub/b.avi")
    assert [segment["label"] for segment in stored["segments"]] == ["walk", "talk", "sit"]
    assert stored["segments"][0]["created"].endswith("Z")
    rows = list(csv.DictReader((studio_client.folder / "annotations.csv").read_text().splitlines()))
    assert [(row["label"], row["start_seconds"], row["end_seconds"]) for row in rows] == [
        ("talk|walk", "0.1", "0.5"),
        ("sit", "0.5", "1"),
    ]
    listed = read_video_list(studio_client.folder / "annotations.csv")
    assert [row.labels for row in listed.rows] == [("talk", "walk"), ("sit",)]
    assert not listed.problems
    video = studio_client.get("video", path="sub/b.avi")
    assert (video["num_segments"], video["num_events"], video["reviewed_seconds"]) == (3, 1, 1.2)

    again = studio_client.call("PUT", address, json=stored)
    assert again == stored, "storing the same again changes nothing"
    assert "meanwhile" in studio_client.refuse("PUT", address, 409, json={**document, "segments": []})
    undone = studio_client.call("PUT", address, json={"path": "sub/b.avi", "revision": stored["revision"]})
    assert undone["segments"] == []


@pytest.mark.parametrize(
    "segment",
    [
        _segment("", 0, 1),
        _segment("a|b", 0, 1),
        _segment("=cmd()", 0, 1),
        _segment("a\nb", 0, 1),
        _segment("walk", 1, 1),
        _segment("walk", -1, 1),
        _segment("walk", 0, 1, unknown=1),
        _segment("x" * 101, 0, 1),
    ],
)
def test_wrong_marks_are_refused(studio_client: StudioClient, segment: dict[str, Any]) -> None:
    address = f"{studio_client.project}/annotations?path=a.mp4"
    before = studio_client.get("annotations", path="a.mp4")
    assert studio_client.refuse("PUT", address, 422, json={"path": "a.mp4", "segments": [segment]})
    assert studio_client.get("annotations", path="a.mp4") == before


@pytest.mark.parametrize(
    ("bounds", "sentence"),
    [
        ((2, 1), "segments.0: a range ends at 1.0 s, not after its start at 2.0 s"),
        ((0, float("nan")), "segments.0.end_seconds is nan, expected a finite number"),
        ((-1, 1), "segments.0.start_seconds is -1, expected a number greater than or equal to 0"),
        ((None, 1), "segments.0.start_seconds is None, expected a valid number"),
    ],
)
def test_a_refusal_is_one_plain_sentence(
    studio_client: StudioClient, bounds: tuple[float, float], sentence: str
) -> None:
    body = json.dumps(
        {"path": "a.mp4", "segments": [_segment("walk", *bounds)]}
    )  # NaN is a number to many writers of JSON
    headers = {"Content-Type": "application/json"}
    address = f"{studio_client.project}/annotations?path=a.mp4"
    assert studio_client.refuse("PUT", address, 422, content=body, headers=headers) == sentence


def test_a_change_to_a_segment_that_ends_before_its_start_is_refused(studio_client: StudioClient) -> None:
    """The bounds that are not given are those that were suggested."""
    suggested = {"label": "walk", "start_seconds": 0, "end_seconds": 1}
    body = {"path": "a.mp4", "suggested": suggested, "decision": "change", "annotator": "kim", "start_seconds": 1.5}
    address = f"{studio_client.project}/suggestions/decision"
    sentence = "a range ends at 1.0 s, not after its start at 1.5 s"
    assert studio_client.refuse("POST", address, 422, json=body) == sentence


def test_classes_change_everywhere_at_once(studio_client: StudioClient) -> None:
    for path in ("a.mp4", "sub/b.avi"):
        body = {
            "path": path,
            "segments": [_segment("walk", 0, 1), _segment("stroll", 0, 1), _segment("sit", 1, 2)],
            "events": [{"label": "walk", "time_seconds": 0.5, "annotator": "kim"}],
        }
        studio_client.call("PUT", f"{studio_client.project}/annotations?path={path}", json=body)
    listed = studio_client.get("classes")
    assert {entry["name"] for entry in listed["classes"]} == {"walk", "stroll", "sit"}
    assert len({entry["color"] for entry in listed["classes"]}) == 3
    assert "merge" in studio_client.refuse(
        "POST", f"{studio_client.project}/classes/rename", 409, json={"name": "walk", "new_name": "Stroll"}
    )
    renamed = studio_client.call(
        "POST", f"{studio_client.project}/classes/rename", json={"name": "sit", "new_name": "Sit down"}
    )
    assert "Sit down" in [entry["name"] for entry in renamed["classes"]]
    merged = studio_client.call(
        "POST", f"{studio_client.project}/classes/merge", json={"names": ["walk", "stroll"], "into": "walk"}
    )
    counts = {entry["name"]: (entry["num_segments"], entry["num_events"]) for entry in merged["classes"]}
    assert counts == {"walk": (2, 2), "Sit down": (2, 0)}
    styles = [{"name": entry["name"], "color": "#000000", "key": None} for entry in merged["classes"]]
    assert studio_client.refuse("PUT", f"{studio_client.project}/classes", 409, json={"classes": styles[:1]})
    styles.append({"name": "<b>run</b>", "color": "#ffffff", "key": "r"})
    updated = studio_client.call("PUT", f"{studio_client.project}/classes", json={"classes": styles})
    assert updated["classes"][-1]["name"] == "<b>run</b>"
    deleted = studio_client.call("POST", f"{studio_client.project}/classes/delete", json={"name": "walk"})
    assert [entry["name"] for entry in deleted["classes"]] == ["Sit down", "<b>run</b>"]
    assert {segment["label"] for segment in studio_client.get("annotations", path="a.mp4")["segments"]} == {"Sit down"}
    assert studio_client.refuse("POST", f"{studio_client.project}/classes/delete", 404, json={"name": "walk"})


def test_files_round_trip(tmp_path: Path) -> None:
    store = AnnotationStore(tmp_path)
    marks = VideoMarks(
        segments=(
            SegmentMark(start_seconds=1 / 3, end_seconds=2, label='ä, "b"', annotator="kim", origin="accepted"),
            SegmentMark(start_seconds=1 / 3, end_seconds=2, label="c", annotator="kim", split="test", group="g"),
        ),
        events=(EventMark(label="e", time_seconds=3, annotator="kim"),),
        reviewed=(ReviewedRange(start_seconds=0, end_seconds=4, annotator="kim"),),
        rejected=(RejectedMark(label="e", start_seconds=0, end_seconds=4, annotator="kim"),),
    )
    for path in ("=sum.mp4", "folder/x.mp4"):
        store.replace(path, marks, None)
    read = read_annotation_files(tmp_path)
    assert set(read) == {"=sum.mp4", "folder/x.mp4"}
    assert sorted(mark.label for mark in read["=sum.mp4"].segments) == ["c", 'ä, "b"']
    assert {mark.origin for mark in read["=sum.mp4"].segments} == {"accepted", "manual"}
    assert AnnotationStore(tmp_path).read("=sum.mp4").revision == store.read("=sum.mp4").revision
    for line in (tmp_path / "annotations.csv").read_text(encoding="utf-8").splitlines():
        assert not line.startswith(("=", "+", "-", "@"))


@pytest.mark.parametrize("path", [" a.mp4", "\u3000a.mp4", "sub/ a.mp4", "frames ", " =a "])
def test_blanks_at_the_ends_of_a_path_belong_to_it(tmp_path: Path, path: str) -> None:
    """They did not survive a restart: the marks were another video's then."""
    mark = SegmentMark(start_seconds=0, end_seconds=1, label="walk", annotator="kim")
    event = EventMark(time_seconds=1, label="step", annotator="kim")
    stored = AnnotationStore(tmp_path).replace(path, VideoMarks(segments=(mark,), events=(event,)), None)
    assert list(read_annotation_files(tmp_path)) == [path]
    assert AnnotationStore(tmp_path).read(path) == stored
    assert [row.path for row in read_video_list(tmp_path / "annotations.csv").rows] == [path]


def test_segments_of_equal_bounds_keep_their_splits_and_groups(tmp_path: Path) -> None:
    fields = {"start_seconds": 0, "end_seconds": 1, "annotator": "kim"}
    segments = (
        SegmentMark(label="walk", split="train", group="g1", **fields),
        SegmentMark(label="sit", split="test", group="g2", **fields),
        SegmentMark(label="talk", split="train", group="g1", **fields),
    )
    AnnotationStore(tmp_path).replace("a.mp4", VideoMarks(segments=segments), None)
    read = AnnotationStore(tmp_path).read("a.mp4")
    assert {(one.label, one.split, one.group) for one in read.segments} == {
        ("walk", "train", "g1"),
        ("sit", "test", "g2"),
        ("talk", "train", "g1"),
    }
    listed = read_video_list(tmp_path / "annotations.csv").rows
    assert [(row.labels, row.split) for row in listed] == [(("sit",), "test"), (("talk", "walk"), "train")]


def test_marks_added_to_a_list_with_splits_have_one(tmp_path: Path) -> None:
    """Else nothing trains on the list: some rows have a split and others do not."""
    header = "path,label,split,group,start_seconds,end_seconds"
    rows = ("a.mp4,walk,test,room2,1,2", "b.mp4,walk,train,,1,2")
    (tmp_path / "annotations.csv").write_text("\n".join((header, *rows)) + "\n")
    store = AnnotationStore(tmp_path)
    new = SegmentMark(label="sit", start_seconds=3, end_seconds=4, annotator="kim")
    for path in ("a.mp4", "b.mp4", "c.mp4"):
        present = store.read(path)
        stored = store.replace(path, VideoMarks(segments=(*present.segments, new)), present.revision)
        assert stored == store.read(path) == AnnotationStore(tmp_path).read(path)
    added = [
        (row.path, row.split, row.group)
        for row in read_video_list(tmp_path / "annotations.csv").rows
        if row.start_seconds == 3
    ]
    assert added == [("a.mp4", "test", "room2"), ("b.mp4", "train", None), ("c.mp4", "train", None)]


def test_files_of_others_are_not_overwritten(tmp_path: Path) -> None:
    mark = SegmentMark(start_seconds=0, end_seconds=1, label="a", annotator="kim")
    text = "path,label,start_seconds,end_seconds,weather\nx.mp4,walk,1,2,rain\n"
    (tmp_path / "annotations.csv").write_text(text)
    store = AnnotationStore(tmp_path)
    assert [segment.label for segment in store.read("x.mp4").segments] == ["walk"]
    with pytest.raises(ValueError, match="weather"):
        store.replace("x.mp4", VideoMarks(segments=(mark,)), None)
    (tmp_path / "annotations.csv").write_text("path,label,start_seconds,end_seconds\nx.mp4,walk,2,1\n")
    with pytest.raises(ValueError, match="line 2"):
        store.replace("x.mp4", VideoMarks(segments=(mark,)), None)
    assert "x.mp4,walk,2,1" in (tmp_path / "annotations.csv").read_text()


def test_many_writers_lose_nothing(tmp_path: Path) -> None:
    """Two stores, as in two worker processes, each with threads."""
    stores = [AnnotationStore(tmp_path), AnnotationStore(tmp_path)]

    def write(number: int) -> None:
        mark = SegmentMark(start_seconds=number, end_seconds=number + 1, label="a", annotator="kim")
        stores[number % 2].replace(f"{number}.mp4", VideoMarks(segments=(mark,)), None)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_annotation_files(tmp_path)) == 12


def test_classes_are_told_apart(tmp_path: Path) -> None:
    classes = ClassStore(AnnotationStore(tmp_path))
    with pytest.raises(StudioError, match="twice"):
        classes.update(ClassUpdate.model_validate({"classes": [{"name": "Sit down"}, {"name": "sit_down"}]}))
    with pytest.raises(StudioError, match="several classes"):
        classes.update(ClassUpdate.model_validate({"classes": [{"name": "a", "key": "x"}, {"name": "b", "key": "x"}]}))
    classes.update(ClassUpdate.model_validate({"classes": [{"name": "a", "key": "x"}]}))
    with pytest.raises(StudioError, match="meanwhile"):
        classes.update(ClassUpdate.model_validate({"classes": [], "revision": "old"}))


def test_agreement_is_over_the_whole_of_each_video(studio_client: StudioClient) -> None:
    segments = [_segment("walk", 0, 0.4), _segment("walk", 0.2, 0.4, "lee")]
    address = f"{studio_client.project}/annotations?path=a.mp4"
    studio_client.call("PUT", address, json={"path": "a.mp4", "segments": segments})
    before = studio_client.get("agreement", first="kim", second="lee")
    studio_client.get("video", path="a.mp4")  # now its duration is known
    assert studio_client.get("agreement", first="kim", second="lee") == before
