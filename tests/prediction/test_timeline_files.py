"""Timelines as text and as a table."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from muybridge.prediction.recognizer import Prediction
from muybridge.prediction.timeline import Segment, Window
from muybridge.prediction.timeline_files import format_timeline, resolve_timeline_path, write_segments_table

WHOLE = Prediction(
    "a.mp4", "ok", windows=(Window(0.0, 2.0, (0.25, 0.75)),), segments=(Segment("wave\x1b", 0.0, 2.5, 0.756),)
)
ENDED = Prediction("b.mp4", "ok", segments=(Segment("clap", 0.0, 1.0, 0.5),), unscored=Segment("(rest)", 1.0, 9.0, 0.0))


def test_a_table_has_a_row_for_each_segment_and_no_gaps(tmp_path: Path) -> None:
    write_segments_table(tmp_path / "t.parquet", [WHOLE, ENDED])
    table = pq.read_table(tmp_path / "t.parquet")
    assert [(field.name, str(field.type), field.nullable) for field in table.schema] == [
        *(("video", "string", False), ("start_seconds", "double", False), ("end_seconds", "double", False)),
        *(("label", "string", False), ("mean_probability", "double", False)),
    ]
    assert [tuple(row.values()) for row in table.to_pylist()] == [
        *(("a.mp4", 0.0, 2.5, "wave\x1b", 0.756), ("b.mp4", 0.0, 1.0, "clap", 0.5), ("b.mp4", 1.0, 9.0, "(rest)", 0.0)),
    ]


def test_a_timeline_that_was_ended_early_says_so() -> None:
    whole, ended = (json.loads(format_timeline(prediction, ("clap", "wave"), "json")) for prediction in (WHOLE, ENDED))
    assert whole == {
        "video": "a.mp4",
        "classes": ["clap", "wave"],
        "windows": [{"start_seconds": 0.0, "end_seconds": 2.0, "probabilities": [0.25, 0.75]}],
        "segments": [{"label": "wave\x1b", "start_seconds": 0.0, "end_seconds": 2.5, "mean_probability": 0.756}],
    }
    assert ended["interrupted_at_seconds"] == 1.0
    assert [len(format_timeline(prediction, (), "csv").splitlines()) for prediction in (WHOLE, ENDED)] == [2, 3]
    assert [format_timeline(prediction, (), "srt").count("-->") for prediction in (WHOLE, ENDED)] == [1, 2]
    assert format_timeline(WHOLE, (), "txt") == "   0.00 -    2.50 s  wave\\x1b (76 %)\n"
    assert format_timeline(ENDED, (), "txt") == "   0.00 -    1.00 s  clap (50 %)\n   1.00 -    9.00 s  (rest)\n"


@pytest.mark.parametrize(
    ("video", "videos", "expected"),
    [
        ("x/a.mp4", ["x/a.mp4"], "out/a.mp4.srt"),
        ("x/a.mp4", ["x/a.mp4", "x/b.mp4"], "out/a.mp4.srt"),
        ("x/y/a.mp4", ["x/y/a.mp4", "x/z/a.mp4"], "out/y/a.mp4.srt"),
        ("../a.mp4", ["../a.mp4"], "out/a.mp4.srt"),
        ("x/../../a.mp4", ["x/../../a.mp4", "x/c.mp4"], "out/a.mp4.srt"),
        ("x/c.mp4", ["x/../../a.mp4", "x/c.mp4"], f"out/{Path.cwd().name}/x/c.mp4.srt"),
    ],
)
def test_a_name_without_an_extension_is_a_folder(video: str, videos: list[str], expected: str) -> None:
    assert resolve_timeline_path(video, videos, "srt", Path("out")) == Path(expected)


@pytest.mark.parametrize("name", ["out.srt", "/dev/null"])
def test_a_name_with_an_extension_is_the_file_of_a_single_video(name: str) -> None:
    assert resolve_timeline_path("x/a.mp4", ["x/a.mp4"], "srt", Path(name)) == Path(name)


def test_a_folder_takes_the_timeline_of_a_single_video_too(tmp_path: Path) -> None:
    assert resolve_timeline_path("x/a.mp4", ["x/a.mp4"], "csv", tmp_path) == tmp_path / "a.mp4.csv"
