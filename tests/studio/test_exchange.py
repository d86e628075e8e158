"""Annotations in the files of other tools: read as their documents define them, and the same after a round trip."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any
from xml.etree.ElementTree import fromstring

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muybridge.studio.annotation_records import EventMark, SegmentMark, VideoMarks, current_time
from muybridge.studio.errors import StudioError
from muybridge.studio.exchange.formats import FORMATS, FormatName, read_annotations
from muybridge.studio.exchange.marks import ImportedMarks, ProjectMarks, VideoFacts, parse_seconds
from studio_client import StudioClient

FACTS = {
    "day 1/cow.mp4": VideoFacts(25.0, 60.0, 640, 480),
    "pig.mp4": VideoFacts(30.0, 90.0, 640, 480),
    "a/same.mp4": VideoFacts(),
    "b/same.mp4": VideoFacts(),
}


def _read(file_format: FormatName, content: Any, only_path: str | None = None) -> ImportedMarks:
    imported = ImportedMarks(FACTS, "importer", current_time(), only_path)
    text = content if isinstance(content, str) else json.dumps(content)
    read_annotations(file_format, text.encode(), imported)
    return imported


def _segments(imported: ImportedMarks, path: str) -> list[tuple[str, float, float, str]]:
    marks = sorted(imported.segments.get(path, ()), key=lambda one: one.bounds)
    return [(one.label, *one.bounds, one.annotator) for one in marks]


def _events(imported: ImportedMarks, path: str) -> list[tuple[str, float, str]]:
    return [(one.label, one.time_seconds, one.annotator) for one in imported.events.get(path, ())]


MARKS = {
    "day 1/cow.mp4": VideoMarks(
        segments=(
            SegmentMark(label="walk", start_seconds=1, end_seconds=2.4, annotator="kim", split="test"),
            SegmentMark(label="walk", start_seconds=2, end_seconds=4, annotator="kim", split="test"),
            SegmentMark(label='<graze & "chew">', start_seconds=2, end_seconds=4, annotator="lee", split="test"),
        ),
        events=(EventMark(label="moo", time_seconds=3.2, annotator="kim"),),
    ),
    "pig.mp4": VideoMarks(segments=(SegmentMark(label="walk", start_seconds=0, end_seconds=0.5, annotator="lee"),)),
}
WITHOUT_EVENTS = ("csv", "createml", "activitynet")
WITHOUT_ANNOTATORS = ("createml", "activitynet")


@pytest.mark.parametrize("file_format", list(FORMATS))
def test_round_trip(file_format: FormatName) -> None:
    marks = dict(MARKS)
    if file_format == "elan":
        del marks["pig.mp4"]
    text = FORMATS[file_format].write(ProjectMarks(marks, FACTS, {"walk": "#ff0000"}))
    imported = _read(file_format, text)
    assert imported.skipped == []
    for path, expected in marks.items():
        annotators = {"kim", "lee"} if file_format not in WITHOUT_ANNOTATORS else {"importer"}
        wanted = sorted((one.label, *one.bounds) for one in expected.segments)
        found = _segments(imported, path)
        assert sorted(row[:3] for row in found) == wanted
        assert {row[3] for row in found} <= annotators
        events = (
            [] if file_format in WITHOUT_EVENTS else [(one.label, one.time_seconds, "kim") for one in expected.events]
        )
        assert _events(imported, path) == events
    marked = _read(file_format, f"\ufeff{text}")  # with a byte-order mark
    assert [_segments(marked, path) for path in marks] == [_segments(imported, path) for path in marks]
    again = FORMATS[file_format].write(ProjectMarks(marks, FACTS, {"walk": "#ff0000"}))
    assert again == text


_FRAME_SECONDS = 0.04  # of FACTS: every format keeps times of whole frames
_frames = st.integers(0, 6)
_names = st.fixed_dictionaries(
    {"label": st.sampled_from(("walk", "sit")), "annotator": st.sampled_from(("kim", "lee"))}
)


@st.composite
def _video_marks(draw: st.DrawFn) -> VideoMarks:
    """Few classes, people and times, so that marks overlap, touch and are equal in all ways."""
    bounds = st.tuples(_frames, _frames).filter(lambda pair: pair[0] < pair[1])
    segments = [
        SegmentMark(start_seconds=start * _FRAME_SECONDS, end_seconds=end * _FRAME_SECONDS, **names)
        for (start, end), names in draw(st.lists(st.tuples(bounds, _names), max_size=6))
    ]
    events = [
        EventMark(time_seconds=frame * _FRAME_SECONDS, **names)
        for frame, names in draw(st.lists(st.tuples(_frames, _names), max_size=4))
    ]
    return VideoMarks(segments=tuple(segments), events=tuple(events))


@pytest.mark.parametrize("file_format", list(FORMATS))
@given(marks=_video_marks())
def test_any_marks_round_trip(file_format: FormatName, marks: VideoMarks) -> None:
    path = "day 1/cow.mp4"
    imported = _read(file_format, FORMATS[file_format].write(ProjectMarks({path: marks}, FACTS, {})))
    keeps_names = file_format not in WITHOUT_ANNOTATORS
    segments = {(one.label, *one.bounds, one.annotator if keeps_names else "importer") for one in marks.segments}
    assert {
        (label, round(start, 3), round(end, 3), who) for label, start, end, who in _segments(imported, path)
    } == segments
    events = {(one.label, one.time_seconds, one.annotator) for one in marks.events}
    found = {(label, round(time, 3), who) for label, time, who in _events(imported, path)}
    assert found == (set() if file_format in WITHOUT_EVENTS else events)


def test_boris() -> None:
    """A project of BORIS 7: two observations, states as pairs, a modifier, a comment, frame indices of newer versions."""
    project = {
        "time_format": "hh:mm:ss",
        "project_name": "cows",
        "project_format_version": "7.0",
        "subjects_conf": {"0": {"key": "1", "name": "Bella", "description": ""}},
        "behaviors_conf": {
            "0": {"type": "State event", "key": "w", "code": "walk", "modifiers": ""},
            "1": {"type": "Point event", "key": "m", "code": "moo", "modifiers": ""},
            "2": {"type": "State event with coding map", "key": "g", "code": "graze", "modifiers": ""},
        },
        "observations": {
            "first": {
                "file": {"1": ["/home/x/cow.mp4"], "2": []},
                "type": "MEDIA",
                "time offset": 0.0,
                "events": [
                    [1.0, "Bella", "walk", "", "", 25],
                    [1.5, "", "graze", "near", ""],
                    [2.0, "Bella", "moo", "", "loud"],
                    [3.5, "", "graze", "near", ""],
                    [4.0, "Bella", "walk", "", ""],
                    [5.0, "Bella", "walk", "", ""],
                    ["NA", "Bella", "moo", "", ""],
                ],
                "media_info": {"length": {"/home/x/cow.mp4": 60.0}, "fps": {"/home/x/cow.mp4": 25.0}},
            },
            "two cameras": {"file": {"1": ["pig.mp4"], "2": ["other.mp4"]}, "events": []},
            "elsewhere": {"file": {"1": ["horse.mp4"]}, "events": [[1, "", "moo", "", ""]]},
        },
    }
    imported = _read("boris", project)
    assert _segments(imported, "day 1/cow.mp4") == [("walk", 1, 4, "Bella"), ("graze", 1.5, 3.5, "importer")]
    assert _events(imported, "day 1/cow.mp4") == [("moo", 2, "Bella")]
    assert [name for name, _ in imported.skipped] == ["first", "first", "two cameras", "horse.mp4"]
    assert imported.skipped[0][1] == "1 event without a time in seconds"


@pytest.mark.parametrize("offset", [10.0, "00:00:10", -2.5, None])
def test_boris_adds_its_offset_to_times(offset: float | str | None) -> None:
    seconds = 10.0 if isinstance(offset, str) else offset or 0.0
    events = [[seconds + time, "", "walk", "", ""] for time in (3.0, 4.0)]
    observations = {"one": {"file": {"1": ["cow.mp4"]}, "time offset": offset, "events": events}}
    imported = _read("boris", {"behaviors_conf": {"0": {"type": None, "code": "x"}}, "observations": observations})
    assert _segments(imported, "day 1/cow.mp4") == [("walk", 3, 4, "importer")]


def test_csv_keeps_splits_and_groups_and_does_not_mix_videos() -> None:
    rows = [
        "path,label,split,group,start_seconds,end_seconds,annotator",
        "day 1/cow.mp4,walk,test,subject7,0,1,kim",
        "day 1/cow.mp4,sit,,,1,2,",
        "day 2/cow.mp4,run,,,0,1,kim",
    ]
    imported = _read("csv", "\n".join(rows))
    walk, sit = imported.segments["day 1/cow.mp4"]
    assert (walk.label, walk.split, walk.group, walk.annotator) == ("walk", "test", "subject7", "kim")
    assert (sit.label, sit.split, sit.group, sit.annotator) == ("sit", None, None, "importer")
    assert [name for name, _ in imported.skipped] == ["day 2/cow.mp4"]


@pytest.mark.parametrize("num_lost", [1000, 1001, 1002])
def test_where_much_is_left_out_that_is_said(num_lost: int) -> None:
    imported = ImportedMarks(FACTS, "importer", current_time())
    for number in range(num_lost):
        imported.add(f"lost {number}.mp4", "walk", 0, 1)
    more = [("...", "more was left out than these 1,000")] * (num_lost > 1000)
    assert imported.skipped[1000:] == more
    assert imported.skipped[999][0] == "lost 999.mp4"


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_csv_of_spreadsheets(line_end: str) -> None:
    rows = ["path,label,start_seconds,end_seconds,weather,", "cow.mp4,walk,1,2.5,rain,,,", "", "pig.mp4,sit,0,1,,"]
    imported = _read("csv", f"\ufeff{line_end.join(rows)}")
    assert _segments(imported, "day 1/cow.mp4") == [("walk", 1, 2.5, "importer")]
    assert _segments(imported, "pig.mp4") == [("sit", 0, 1, "importer")]
    assert [name for name, _ in imported.skipped] == ["the file"]
    assert "weather" in imported.skipped[0][1]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("path,label,start_seconds,end_seconds,annotator\npig.mp4,walk,1,5,2,5,kim", "line 2: it has more cells"),
        ("path,label,label,start_seconds,end_seconds\npig.mp4,a,b,1,2", "has the column label twice"),
        ("path;label;start_seconds;end_seconds\npig.mp4;a;1,5;2", "lacks the columns .* path;label"),
    ],
)
def test_csv_that_would_be_misread_is_refused(text: str, sentence: str) -> None:
    """Times with a decimal comma, without quotes, are two cells each."""
    with pytest.raises(ValueError, match=sentence):
        _read("csv", text)


def test_elan() -> None:
    document = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="" DATE="2020-01-01T00:00:00+01:00" FORMAT="3.0" VERSION="3.0">
  <HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">
    <MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/videos/pig.mp4" MIME_TYPE="video/mp4" RELATIVE_MEDIA_URL="./pig.mp4"/>
  </HEADER>
  <TIME_ORDER>
    <TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="780"/><TIME_SLOT TIME_SLOT_ID="ts2" TIME_VALUE="1340"/>
    <TIME_SLOT TIME_SLOT_ID="ts3"/>
  </TIME_ORDER>
  <TIER ANNOTATOR="lee" LINGUISTIC_TYPE_REF="default-lt" TIER_ID="behaviour">
    <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2">
      <ANNOTATION_VALUE>run</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
    <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a2" TIME_SLOT_REF1="ts2" TIME_SLOT_REF2="ts3">
      <ANNOTATION_VALUE>run</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
  </TIER>
  <TIER LINGUISTIC_TYPE_REF="default-lt" TIER_ID="sleep">
    <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a3" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2">
      <ANNOTATION_VALUE></ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
  </TIER>
</ANNOTATION_DOCUMENT>"""
    imported = _read("elan", document)
    assert sorted(_segments(imported, "pig.mp4")) == [("run", 0.78, 1.34, "lee"), ("sleep", 0.78, 1.34, "importer")]
    assert imported.skipped == [("behaviour", "1 annotation without a time")]
    assert _segments(_read("elan", document, "day 1/cow.mp4"), "day 1/cow.mp4")
    with pytest.raises(StudioError, match="of one video"):
        FORMATS["elan"].write(ProjectMarks(MARKS, FACTS, {}))


def _format_reference(name: str, parent: str, value: str, previous: str = "") -> str:
    follows = f'PREVIOUS_ANNOTATION="{previous}"' if previous else ""
    attributes = f'ANNOTATION_ID="{name}" ANNOTATION_REF="{parent}" {follows}'
    content = f"<ANNOTATION_VALUE>{value}</ANNOTATION_VALUE>"
    return f"<ANNOTATION><REF_ANNOTATION {attributes}>{content}</REF_ANNOTATION></ANNOTATION>"


def test_elan_dependent_tiers_have_the_times_of_their_parents() -> None:
    """An association has its parent's time, subdivisions share it in order; a tier may stand before its parent."""
    aligned = '<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2">'
    aligned += "<ANNOTATION_VALUE>walk</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>"
    tiers = [
        ('TIER_ID="detail" PARENT_REF="step"', _format_reference("c1", "b2", "left")),
        (
            'TIER_ID="step" PARENT_REF="act"',
            _format_reference("b2", "a1", "two", previous="b1") + _format_reference("b1", "a1", "one"),
        ),
        ('TIER_ID="act"', aligned),
        ('TIER_ID="note" PARENT_REF="act"', _format_reference("n1", "a1", "")),
        ('TIER_ID="lost" PARENT_REF="none"', _format_reference("l1", "x", "x") + _format_reference("l2", "x", "y")),
        ('TIER_ID="loop" PARENT_REF="loop"', _format_reference("o1", "o1", "x")),
    ]
    document = '<ANNOTATION_DOCUMENT><TIME_ORDER><TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="1000"/>'
    document += '<TIME_SLOT TIME_SLOT_ID="ts2" TIME_VALUE="3000"/></TIME_ORDER>'
    document += "".join(f"<TIER {attributes}>{content}</TIER>" for attributes, content in tiers)
    imported = _read("elan", f"{document}</ANNOTATION_DOCUMENT>", "pig.mp4")
    assert [row[:3] for row in sorted(_segments(imported, "pig.mp4"))] == [
        ("left", 2, 3),
        ("note", 1, 3),
        ("one", 1, 2),
        ("two", 2, 3),
        ("walk", 1, 3),
    ]
    assert imported.skipped == [("lost", "2 annotations without a time"), ("loop", "1 annotation without a time")]


def test_elan_media_have_origins() -> None:
    """Where a sound stands first, and the video began two seconds before the annotations' time 0."""
    marks = {"pig.mp4": VideoMarks(segments=MARKS["pig.mp4"].segments)}
    document = FORMATS["elan"].write(ProjectMarks(marks, FACTS, {}))
    sound = '<MEDIA_DESCRIPTOR MEDIA_URL="file:///a/pig.wav" MIME_TYPE="audio/x-wav" TIME_ORIGIN="500"/>'
    document = document.replace("<MEDIA_DESCRIPTOR ", f'{sound}<MEDIA_DESCRIPTOR TIME_ORIGIN="2000" ')
    assert _segments(_read("elan", document), "pig.mp4") == [("walk", 2, 2.5, "lee")]


def test_elan_in_frames_is_refused() -> None:
    """Frame numbers taken for milliseconds would be marks at the wrong time."""
    document = FORMATS["elan"].write(ProjectMarks({"pig.mp4": MARKS["pig.mp4"]}, FACTS, {}))
    with pytest.raises(StudioError, match="times are not in milliseconds"):
        _read("elan", document.replace('TIME_UNITS="milliseconds"', 'TIME_UNITS="PAL-frames"'))
    unstated = document.replace(' TIME_UNITS="milliseconds"', "")
    assert _segments(_read("elan", unstated), "pig.mp4") == _segments(_read("elan", document), "pig.mp4")


def test_elan_tiers_do_not_overlap() -> None:
    marks = {"day 1/cow.mp4": MARKS["day 1/cow.mp4"]}
    document = fromstring(FORMATS["elan"].write(ProjectMarks(marks, FACTS, {})))
    times = {slot.get("TIME_SLOT_ID"): int(slot.get("TIME_VALUE") or 0) for slot in document.iter("TIME_SLOT")}
    for tier in document.iter("TIER"):
        spans = [
            (times[one.get("TIME_SLOT_REF1")], times[one.get("TIME_SLOT_REF2")])
            for one in tier.iter("ALIGNABLE_ANNOTATION")
        ]
        assert all(before[1] <= after[0] for before, after in pairwise(spans))


@pytest.mark.parametrize(
    "document",
    [
        '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><x>&b;</x>',
        '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><ANNOTATION_DOCUMENT>&a;</ANNOTATION_DOCUMENT>',
        "<ANNOTATION_DOCUMENT>",
        "no XML",
        "<html/>",
    ],
)
def test_elan_refuses_entities_and_other_files(document: str) -> None:
    with pytest.raises(StudioError) as refused:
        _read("elan", document)
    assert refused.value.status == 400


def test_label_studio() -> None:
    """Frames count from 1 and both ends are included: frames 1 to 25 at 25 frames a second are the first second."""
    task = {
        "id": 7,
        "data": {"video": "/data/local-files/?d=videos/cow.mp4"},
        "annotations": [
            {
                "completed_by": {"id": 1, "email": "kim@example.org"},
                "result": [
                    {
                        "type": "timelinelabels",
                        "from_name": "videoLabels",
                        "to_name": "video",
                        "value": {"ranges": [{"start": 1, "end": 25}], "timelinelabels": ["Movement"]},
                    },
                    {"type": "videorectangle", "value": {"sequence": []}},
                ],
            }
        ],
    }
    short = {
        "video": "pig.mp4",
        "id": 1,
        "videoLabels": [{"ranges": [{"start": 31, "end": 60}], "timelinelabels": ["Rest"]}],
    }
    imported = _read("label_studio", [task, short])
    assert _segments(imported, "day 1/cow.mp4") == [("Movement", 0, 1, "kim@example.org")]
    assert _segments(imported, "pig.mp4") == [("Rest", 1, 2, "importer")]


def test_label_studio_files_of_other_settings() -> None:
    """Tags and keys have names of one's own, uploads have a prefix, and a task that was skipped has a cancelled annotation."""
    result = {"type": "timelinelabels", "value": {"ranges": [{"start": 1, "end": 25}], "timelinelabels": ["walk"]}}
    reversed_range = {**result, "value": {"ranges": [{"start": 25, "end": 1}], "timelinelabels": ["walk"]}}
    empty = {**result, "value": {"ranges": [{"start": 1, "end": 25}], "timelinelabels": []}}
    tasks = [
        {"data": {"title": "x", "film": "/data/upload/1/5a3b2c1d-cow.mp4"}, "annotations": [{"result": [result]}]},
        {"data": {"video": "cow.mp4"}, "annotations": [{"was_cancelled": True, "result": [result]}]},
        {"data": {"video": "cow.mp4"}, "annotations": [{"result": [reversed_range, empty, {"type": "choices"}]}]},
        {"video": "pig.mp4", "tricks": [result["value"]], "events": [result["value"]]},
    ]
    imported = _read("label_studio", tasks)
    assert _segments(imported, "day 1/cow.mp4") == [("walk", 0, 1, "importer")]
    assert [row[0] for row in _segments(imported, "pig.mp4")] == ["walk"]
    assert _events(imported, "pig.mp4") == [("walk", 0, "importer")]
    assert [reason for _, reason in imported.skipped] == [
        "an annotation was cancelled",
        "a range ends at 0.04 s, not after its start at 0.96 s",
        "a timeline label has no range or no label",
        "a result of the type choices is no timeline label",
    ]


def test_create_ml() -> None:
    rows = [
        {"file": "cow.mp4", "label": "Jumping Jacks", "start": "00:01.5", "end": 3},
        {"video": "pig.mp4", "label": "Squats"},
        {"video": "same.mp4", "label": "Squats", "start": 0, "end": 1},
        {"video": "pig.mp4", "label": ["a", "b"], "start": 0, "end": 1},
        {"video": "pig.mp4", "label": "a", "start": "0,5", "end": "1,5"},
        {"video": "pig.mp4", "label": "a", "start": 2, "end": 1},
    ]
    imported = _read("createml", rows)
    assert _segments(imported, "day 1/cow.mp4") == [("Jumping Jacks", 1.5, 3, "importer")]
    assert _segments(imported, "pig.mp4") == [("Squats", 0, 90, "importer")]
    assert imported.skipped == [
        ("same.mp4", "there is no video of this name in the project"),
        ("pig.mp4", "label is ['a', 'b'], expected a valid string"),
        ("pig.mp4", "'0,5' to '1,5' are no times"),
        ("pig.mp4", "a range ends at 1.0 s, not after its start at 2.0 s"),
    ]


def test_via() -> None:
    project = {
        "project": {"pname": "x", "data_format_version": "3.1.1", "vid_list": ["1"]},
        "attribute": {
            "1": {"aname": "TEMPORAL-SEGMENTS", "anchor_id": "FILE1_Z2_XY0", "type": 4, "options": {"default": "Walk"}},
            "2": {"aname": "boxes", "anchor_id": "FILE1_Z2_XY0", "type": 2, "options": {"0": "Sit", "1": "Talk"}},
        },
        "file": {"2": {"fid": "2", "fname": "pig.mp4", "type": 4, "loc": 1, "src": "pig.mp4"}},
        "view": {"1": {"fid_list": ["2"]}},
        "metadata": {
            "1_BXLfdQfa": {"vid": "1", "flg": 0, "z": [376.279e-1, 381.54942e-1], "xy": [], "av": {"1": "default"}},
            "1_free": {"vid": "1", "flg": 0, "z": [1, 2], "xy": [], "av": {"1": "4CV"}},
            "1_boxes": {"vid": "1", "flg": 0, "z": [3, 4], "xy": [], "av": {"2": "0,1"}},
            "1_none": {"vid": "1", "flg": 0, "z": [5, 6], "xy": [], "av": {}},
            "1_box": {"vid": "1", "flg": 0, "z": [1], "xy": [2, 1, 1, 5, 5], "av": {"1": "default"}},
        },
    }
    imported = _read("via", project)
    assert [row[:3] for row in _segments(imported, "pig.mp4")] == [
        ("4CV", 1, 2),
        ("Sit", 3, 4),
        ("Talk", 3, 4),
        ("Walk", 37.6279, 38.154942),
    ]
    assert [reason for _, reason in imported.skipped] == [
        "a temporal segment has no class",
        "it is a region, or of the whole file",
    ]


def test_activity_net() -> None:
    database = {
        "pig": {
            "duration": 90.0,
            "subset": "training",
            "url": "https://www.youtube.com/watch?v=x",
            "annotations": [{"segment": [28.8, 81.5], "label": "Playing"}, {"segment": [1], "label": "x"}],
        },
        "unknown": {"annotations": [{"segment": [0, 1], "label": "x"}]},
    }
    imported = _read("activitynet", {"version": "VERSION 1.3", "taxonomy": [], "database": database})
    assert _segments(imported, "pig.mp4") == [("Playing", 28.8, 81.5, "importer")]
    assert [name for name, _ in imported.skipped] == ["pig", "unknown"]


@pytest.mark.parametrize("file_format", list(FORMATS))
@pytest.mark.parametrize(
    "content", ["", "null", "[]", "{}", "[1, 2]", '{"database": 3}', '{"observations": {"x": 1}}', "\x00"]
)
def test_other_files_are_refused_or_give_nothing(file_format: FormatName, content: str) -> None:
    try:
        imported = _read(file_format, content)
    except (StudioError, ValueError):
        return
    assert not imported.segments
    assert not imported.events


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(1.5, 1.5), ("1:02.5", 62.5), ("01:00:01", 3601), ("x", None), (-1, None), (True, None), (float("nan"), None)],
)
def test_times(value: Any, seconds: float | None) -> None:
    assert parse_seconds(value) == seconds


def test_huge_numbers_and_odd_names_are_left_out() -> None:
    ranges = [{"start": 10**400, "end": 10**401}, {"start": 1, "end": 25}]
    result = {"type": "timelinelabels", "value": {"ranges": ranges, "timelinelabels": ["walk"]}}
    tasks = [{"data": {"video": "cow.mp4"}, "annotations": [{"result": [result]}]}]
    assert [one[:2] for one in _segments(_read("label_studio", tasks), "day 1/cow.mp4")] == [("walk", 0.0)]
    assert _read("createml", [{"video": "x.mp4", "label": "walk"}], only_path="elsewhere.mp4").segments == {}


def test_an_event_of_elan_is_a_millisecond_long() -> None:
    document = FORMATS["elan"].write(ProjectMarks({"pig.mp4": MARKS["day 1/cow.mp4"]}, FACTS, {}))
    assert _events(_read("elan", document), "pig.mp4") == [("moo", 3.2, "kim")]
    assert 'TIME_VALUE="3201"' in document
    imported = _read("elan", document.replace('TIME_VALUE="3201"', 'TIME_VALUE="3900"'))
    assert imported.events == {} and ("moo", 3.2, 3.9, "kim") in _segments(imported, "pig.mp4")


def test_times_rounded_to_milliseconds_are_not_new(studio_client: StudioClient) -> None:
    segment = {"label": "walk", "start_seconds": 1 / 30, "end_seconds": 1 / 3, "annotator": "kim"}
    address = f"{studio_client.project}/annotations?path=a.mp4"
    studio_client.call("PUT", address, json={"path": "a.mp4", "segments": [segment]})
    exported = studio_client.request("GET", f"{studio_client.project}/export?format=elan&path=a.mp4")
    files = {"file": ("a.eaf", exported.content, "application/xml")}
    data = {"format": "elan", "annotator": "kim", "path": "a.mp4"}
    result = studio_client.call("POST", f"{studio_client.project}/import", data=data, files=files)
    assert (result["num_segments"], result["skipped"]) == (0, [])


def test_over_http(studio_client: StudioClient) -> None:
    body = {
        "path": "a.mp4",
        "segments": [{"label": "=a", "start_seconds": 0, "end_seconds": 1, "annotator": "kim"}],
    }
    address = f"{studio_client.project}/annotations?path=a.mp4"
    assert studio_client.refuse("PUT", address, 422, json=body), "a class that is a formula"
    body["segments"][0]["label"] = "walk"  # type: ignore[index]
    studio_client.call("PUT", address, json=body)
    exported = studio_client.request("GET", f"{studio_client.project}/export?format=boris")
    assert exported.headers["content-disposition"].endswith("videos.boris")
    studio_client.call("PUT", address, json={"path": "a.mp4"})
    data = {"format": "boris", "annotator": "importer"}
    files = {"file": ("x.boris", exported.content, "application/json")}
    for expected in (1, 0):
        result = studio_client.call("POST", f"{studio_client.project}/import", data=data, files=files)
        assert (result["num_segments"], result["skipped"]) == (expected, [])
    assert studio_client.get("annotations", path="a.mp4")["segments"][0]["origin"] == "imported"
    assert studio_client.refuse("GET", f"{studio_client.project}/export?format=odf", 422)
    files = {"file": ("x.json", b"{", "application/json")}
    assert studio_client.refuse("POST", f"{studio_client.project}/import", 400, data=data, files=files)
