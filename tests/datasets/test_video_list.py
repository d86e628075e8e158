"""Lists as people have them: delimiters, headers, encodings, columns, frames, and rows that cannot be read."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from muybridge.datasets.text_table import parse_rows
from muybridge.datasets.video_list import read_video_list
from muybridge.loading.open_data import open_data

VIDEOS = ("a b.mp4", "c.mp4", "d.mp4")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in VIDEOS:
        (tmp_path / name).touch()
    return tmp_path


def pairs(folder: Path, text: str | bytes, name: str = "list.csv") -> list[tuple[str, tuple[str, ...]]]:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    videos = read_video_list(path)
    assert videos.problems == ()
    return [(row.path, row.labels) for row in videos.rows]


EXPECTED = [("a b.mp4", ("left",)), ("c.mp4", ("right",)), ("d.mp4", ("left",))]


@pytest.mark.parametrize(
    "text",
    [
        "path,label\na b.mp4,left\nc.mp4,right\nd.mp4,left\n",
        "\ufeff Path ; Class Name \r\n a b.mp4 ; left\r\nc.mp4;right\r\nd.mp4;left\r\n",
        "sep=;\r\npath;label\r\na b.mp4;left\r\nc.mp4;right\r\nd.mp4;left\r\n",
        "sep=\t\npath\tlabel\na b.mp4\tleft\nc.mp4\tright\nd.mp4\tleft\n",
        '"sep=\t"\npath\tlabel\na b.mp4\tleft\nc.mp4\tright\nd.mp4\tleft\n',
        "filename\taction\na b.mp4\tleft\nc.mp4\tright\nd.mp4\tleft\n",
        "a b.mp4 left\nc.mp4  right\nd.mp4 left\n",
        "a b.mp4 16 left\nc.mp4 20 right\nd.mp4 3 left\n",
        "a b.mp4,left,4,0\nc.mp4,right,3,0\nd.mp4,left,4,1\n",
        "a b;left\nc;right\nd;left\n",
        "label,video\rleft,a b.mp4\rright,c.mp4\rleft,d.mp4\r",
        "\ufeffpath\tlabel\r\na b.mp4\tleft\r\nc.mp4\tright\r\nd.mp4\tleft\r\n".encode("utf-16-le"),
        'path,label,note\n"a b.mp4",left,"two\nlines"\nc.mp4,right,\nd.mp4,left,\n',
    ],
)
def test_one_list_in_many_layouts(folder: Path, text: str | bytes) -> None:
    assert pairs(folder, text) == EXPECTED


def test_the_line_for_excel_counts_as_a_line(folder: Path) -> None:
    (folder / "list.csv").write_text("sep=,\npath,label\nc.mp4,right\nd.mp4\n")
    videos = read_video_list(folder / "list.csv")
    assert videos.line_numbers == (3,)
    assert videos.problems == ((4, "has no label"),)


def test_json_lines(folder: Path) -> None:
    lines = [json.dumps({"path": path, "label": label}) for path, (label,) in EXPECTED]
    assert pairs(folder, "\n\n".join(lines), "list.jsonl") == EXPECTED
    twice = '{"path": "e.mp4", "label": "a", "label": "b"}'
    (folder / "list.jsonl").write_text("\n".join([lines[0], "", '{"path": "c.mp4"', "7", '{"path": "d.mp4"}', twice]))
    videos = read_video_list(folder / "list.jsonl")
    assert videos.line_numbers == (1,)
    assert videos.problems == (
        (3, 'is \'{"path": "c.mp4"\', expected an object with a path'),
        (4, "is '7', expected an object with a path"),
        (5, "has no label"),
        (6, "has the key 'label' twice in one object, expected it once"),
    )
    with pytest.raises(ValueError, match=r"list\.jsonl cannot be used: line 3 is"):
        open_data(str(folder / "list.jsonl"))
    for text in ("", "[]\n7\n", json.dumps([{"path": "c.mp4", "label": "a"}])):
        (folder / "list.jsonl").write_text(text)
        with pytest.raises(ValueError, match="expected a JSON object with a path on each line"):
            read_video_list(folder / "list.jsonl")


def test_json_lists(folder: Path) -> None:
    entries = [{"file": path, "labels": list(labels)} for path, labels in EXPECTED]
    assert pairs(folder, json.dumps(entries), "list.json") == EXPECTED
    something = [{"id": Path(path).stem, "template": f"[{labels[0]}]", "label": "x"} for path, labels in EXPECTED]
    assert pairs(folder, json.dumps(something), "list.json") == EXPECTED
    (folder / "v_abc.mp4").touch()
    database = {
        "abc": {"subset": "training", "annotations": [{"label": "Surfing", "segment": [1.5, 4]}]},
        "def": {"subset": "testing", "annotations": []},
    }
    (folder / "net.json").write_text(json.dumps({"database": database}))
    videos = read_video_list(folder / "net.json")
    (row,) = videos.rows
    assert (row.path, row.labels, row.split, row.group) == ("v_abc.mp4", ("Surfing",), "train", "abc")
    assert (row.start_seconds, row.end_seconds) == (1.5, 4.0)
    assert "1 video of" in videos.notes[0]
    for text in ("[1, 2]", "{}", "[" * 100_000, '{"database": {"x": 3}}'):
        (folder / "net.json").write_text(text)
        with pytest.raises(ValueError, match=r"net\.json"):
            open_data(str(folder / "net.json"))


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (b'"c.mp4,right', "a quotation mark too few or too many"),
        (b'c.mp4,"right', "a quotation mark too few or too many"),
        (b'"c.mp4"x,right', "a quotation mark too few or too many"),
        (b"c\xe9.mp4,right", "is not UTF-8: it has the byte 0xe9"),
        (b"c\0.mp4,right", "contains a NUL character"),
        (b"c.mp4," + b"x" * 200_000, "has a field of more than 131,072 characters"),
        (b"c,d.mp4,right", "has 3 columns, expected 2"),
        (b",right", "has no path"),
        (b"c" * 256 + b".mp4,right", "has a path of 260 characters, more than a file system takes"),
        (b"c/" * 2100 + b"c.mp4,right", "has a path of 4,205 characters, more than a file system takes"),
        ("\u00e9".encode() * 200 + b",right", "has a path of 200 characters"),
    ],
)
def test_a_bad_row_is_named_and_leaves_the_others(folder: Path, row: bytes, problem: str) -> None:
    path = folder / "list.csv"
    path.write_bytes(b"path,label\na b.mp4,left\n" + row + b'\nd.mp4,left\n"d.mp4",right\n')
    videos = read_video_list(path)
    assert [(one.path, one.labels[0]) for one in videos.rows] == [
        ("a b.mp4", "left"),
        ("d.mp4", "left"),
        ("d.mp4", "right"),
    ]
    ((line_number, text),) = videos.problems
    assert line_number == 3
    assert problem in text
    with pytest.raises(ValueError, match=r"line 3 "):
        open_data(str(path))


def test_all_rows_are_seen_once_whatever_the_quotes() -> None:
    lines = ['x,"1\n', '"y,2\n', 'z,"3"\n', "w,4\n"]
    rows = list(parse_rows(lines, ",", num_columns=2))
    assert [row.line_number for row in rows] == [1, 2, 3, 4]
    assert [bool(row.problem) for row in rows] == [True, True, False, False]


def test_columns_are_given_or_guessed_and_said(folder: Path) -> None:
    path = folder / "list.csv"
    path.write_text(
        "filename,kind,subject,subset,age\na b.mp4,left,x,train,1\nc.mp4,right,y,test,2\nd.mp4,right,z,train,3\n"
    )
    data = open_data(str(path), columns="label=kind")
    assert data.table["group"].to_pylist() == ["x", "y", "z"]
    assert data.table["split"].to_pylist() == ["train", "test", "train"]
    assert data.notes[:2] == (
        f"Columns of {path}: path=filename,label=kind,split=subset,group=subject.",
        f"Columns of {path} that are not read: age.",
    )
    with pytest.raises(ValueError, match="lacks the columns label"):
        open_data(str(path))
    for columns, expected in (("kind", "expected ROLE=COLUMN"), ("label=sort", "says label=sort, but the columns are")):
        with pytest.raises(ValueError, match=expected):
            open_data(str(path), columns=columns)


def test_two_candidates_are_an_error(folder: Path) -> None:
    path = folder / "list.csv"
    path.write_text("clip_name,clip_path,label\na,a b.mp4,left\nc,c.mp4,right\n")
    with pytest.raises(
        ValueError, match="clip_name and clip_path may both be the path; say --columns path=clip_name or"
    ):
        open_data(str(path))
    assert [row.path for row in read_video_list(path, columns="path=clip_path").rows] == ["a b.mp4", "c.mp4"]


def test_segments_in_frames_use_the_rate_of_their_row(folder: Path) -> None:
    path = folder / "list.csv"
    path.write_text("path,label,start_frame,end_frame,fps\nc.mp4,left,0,25,25\nc.mp4,right,25,50,25\n")
    bounds = [(row.start_seconds, row.end_seconds) for row in read_video_list(path).rows]
    assert bounds == [(0.0, 0.98), (0.98, 1.98)]
    path.write_text("path,label,start_frame,end_frame,start\nc.mp4,left,5,5,\nc.mp4,right,x,,\nd.mp4,left,1,2,0.5\n")
    assert read_video_list(path).problems == (
        (2, "ends at frame 5, not after its start"),
        (3, "has the start_frame 'x', expected a frame"),
        (4, "gives its segment in seconds and in frames; keep one of them"),
    )


def test_names_are_found_in_any_unicode_form(folder: Path) -> None:
    (folder / "cafe\u0301.mp4").touch()
    assert pairs(folder, "path,label\ncaf\u00e9.mp4,left\n") == [("cafe\u0301.mp4", ("left",))]
    (folder / "list.csv").write_text(
        "path,label,split\nc.mp4,cafe\u0301,train\na b.mp4,caf\u00e9,train\nd.mp4,x,train\n"
    )
    assert open_data(str(folder / "list.csv")).classes == ("caf\u00e9", "x")


def test_one_bad_entry_of_a_json_list_is_one_problem(folder: Path) -> None:
    entries = [{"path": "a.mp4", "label": "x"}, {"label": "y"}, 7, {"path": "b.mp4", "label": "y"}]
    something = [{"id": "a", "template": "Holding [something]"}, {"id": "b"}, {"id": "b", "template": "Holding [it]"}]
    for content, numbers, words in (
        (entries, [2, 3], ["has no path", "is '7', expected an object with a path"]),
        (something, [2], ["is no entry of Something-Something V2: it lacks id or template"]),
    ):
        (folder / "list.json").write_text(json.dumps(content))
        videos = read_video_list(folder / "list.json", needs_labels=False)
        assert len(videos.rows) == 2
        assert videos.problems == tuple(zip(numbers, words, strict=True))
        with pytest.raises(ValueError, match=r"list\.json cannot be used: line 2"):
            open_data(str(folder / "list.json"))


@pytest.mark.parametrize("cell", ["1_0", "\u0661", "nan", "inf", "1e309", "0x10", "-1", "9" * 400])
def test_what_only_python_takes_for_a_number_is_none(folder: Path, cell: str) -> None:
    (folder / "list.csv").write_text(
        f"path,label,start_seconds,end_seconds\na.mp4,x,{cell},99\nb.mp4,y,1e-1,2\n", "utf-8"
    )
    videos = read_video_list(folder / "list.csv")
    assert [(row.path, row.start_seconds) for row in videos.rows] == [("b.mp4", 0.1)]
    assert videos.problems == ((2, f"has the start_seconds {cell!r}, expected seconds"),)


@pytest.mark.parametrize("bound", ["1" * 400, "1e999", "NaN", '"x"', "null", "{}"])
def test_one_bad_segment_of_activity_net_is_one_problem(folder: Path, bound: str) -> None:
    entry = '{"subset": "training", "annotations": [{"label": "x", "segment": [%s, 4]}]}'
    (folder / "net.json").write_text(f'{{"database": {{"abc": {entry % bound}, "def": {entry % 1}}}}}')
    videos = read_video_list(folder / "net.json")
    assert [row.path for row in videos.rows] == ["v_def.mp4" if (folder / "v_def.mp4").exists() else "v_def"]
    assert len(videos.problems) == 1


def test_columns_that_only_training_reads_need_not_be_clear_to_predict(folder: Path) -> None:
    (folder / "two.csv").write_text("path,action,category,start\na.mp4,x,y,1\n")
    videos = read_video_list(folder / "two.csv", needs_labels=False)
    assert videos.rows[0].start_seconds == 1
    assert "not read: action, category" in videos.notes[-1]
    with pytest.raises(ValueError, match="action and category may both be the label"):
        read_video_list(folder / "two.csv")
    (folder / "two.csv").write_text("path,label,label\na.mp4,x,y\n")
    with pytest.raises(ValueError, match="2 columns are called label; rename them"):
        read_video_list(folder / "two.csv")


def test_any_task_needs_labels_or_targets(folder: Path) -> None:
    path = folder / "list.csv"
    path.write_text("path,note\nc.mp4,x\n")
    with pytest.raises(ValueError, match=r"list\.csv lacks the columns label; its first line names path, note"):
        read_video_list(path, task=None)
    path.write_text("path,target_age\nc.mp4,31\nd.mp4,\n")
    videos = read_video_list(path, task=None)
    assert [row.targets for row in videos.rows] == [(("age", 31.0),)]
    assert videos.problems == ((3, "has no age"),)
    path.write_text("path,label\nc.mp4,left\n")
    assert read_video_list(path, task=None).rows[0].labels == ("left",)


def test_what_is_read_otherwise_than_listed_is_said(folder: Path) -> None:
    path = folder / "list.csv"
    path.write_text("path,label,start_frame,end_frame\nc,left,0,5\nd.mp4,left,,\n")
    videos = read_video_list(path)
    assert [row.path for row in videos.rows] == ["c.mp4", "d.mp4"]
    assert "segments in frames: they are converted by the rate of each file" in videos.notes[0]
    assert videos.notes[1] == f"1 path in {path} looked up by name, such as c: c.mp4."


def test_rows_keep_the_numbers_of_their_lines(folder: Path) -> None:
    for text in ("path,label\n\nc.mp4,left\n\n\nd.mp4\n", "\nc.mp4  left\n\n\n\nd.mp4 \n"):
        (folder / "list.csv").write_text(text)
        videos = read_video_list(folder / "list.csv")
        assert videos.line_numbers == ((3,) if "," in text else (2,))
        assert videos.problems == ((6, "has no label"),)


def test_segments_in_frames_of_stored_frames_use_their_own_rate(tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", frames=np.zeros((60, 8, 8, 3), np.uint8), fps=50)
    (tmp_path / "pictures").mkdir()
    for number in range(20):
        Image.new("RGB", (8, 8)).save(tmp_path / "pictures" / f"{number}.png")
    path = tmp_path / "list.csv"
    path.write_text("path,label,start_frame,end_frame\nown.npz,left,10,20\npictures,right,10,20\n")

    for source_fps in (None, 10.0):
        rows = read_video_list(path, source_fps=source_fps).rows
        for row, rate in zip(rows, (50, source_fps or 25), strict=True):
            assert (row.start_seconds, row.end_seconds) == pytest.approx((9.5 / rate, 19.5 / rate))
