import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from muybridge.loading.open_data import open_data
from muybridge.prediction.inputs import VideoInputs, list_videos
from muybridge.prediction.recognizer import Prediction, load
from muybridge.prediction.timeline import TimelineOptions
from videos import write_video


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
    inputs = list_videos(given)
    assert inputs.videos == (str(given[0]), str(given[1]), str(given[3]))
    assert inputs.notes == ("1 duplicate left out; each video or segment is read once",)


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


def test_an_empty_name_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "a.mp4")
    monkeypatch.chdir(tmp_path)
    for name in ("", " "):
        with pytest.raises(ValueError, match="an empty name was given for a video"):
            list_videos([name])
    with pytest.raises(ValueError, match="the address of the data is empty"):
        open_data("")


def test_a_list_gives_files_and_segments_and_names_bad_rows(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_bytes(
        b"\xef\xbb\xbfFile, start ,end\r\n a.mp4 ,,\r\nb.mp4,1.5,4\r\nb.mp4,x,\r\nc\xe9.mp4,,\r\nb.mp4,4,\r\n"
    )
    inputs = list_videos([tmp_path / "list.csv"])
    assert [name.removeprefix(f"{tmp_path}/") for name in inputs.videos] == [
        *("a.mp4", "b.mp4#1.5-4", "list.csv, line 4", "list.csv, line 5", "b.mp4#4-")
    ]
    assert list(inputs.problems.values()) == [
        "the line has the start_seconds 'x', expected seconds",
        "the line is not UTF-8: it has the byte 0xe9; save the file as UTF-8",
    ]
    predictions = [Prediction(video, "ok") for video in inputs.readable_videos]
    assert [one.video for one in inputs.add_problems(predictions)] == list(inputs.videos)
    assert inputs.notes == (f"Columns of {tmp_path}/list.csv: path=File,start_seconds=start,end_seconds=end.",)


def test_rates_of_a_list_are_those_of_its_rows_and_columns_that_are_not_used_are_named(tmp_path: Path) -> None:
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", np.zeros((50, 16, 16, 3), np.uint8))
    (tmp_path / "list.csv").write_text(
        "path,label,split,start_seconds,fps,mood\na.npy,x,test,,50,\nb.npy,y,train,1,,\nc.mp4,z,test,,,\n"
    )
    names = [f"{tmp_path}/{name}" for name in ("a.npy", "b.npy#1-", "c.mp4")]
    inputs = list_videos([tmp_path / "list.csv"], source_fps=10)
    assert inputs.get_rates(names) == [50, 10, 10]
    assert inputs.notes[1:] == (f"Columns of {tmp_path}/list.csv that are not read: mood, label, split.",)
    assumed = list_videos([tmp_path / "list.csv"])
    assert assumed.get_rates(names) == [50, None, None]
    assert assumed.notes[-1].startswith("1 video is stored as frames without a rate")
    assert "--source-fps is not used" in list_videos([names[2]], source_fps=10).notes[0]
    absolute = VideoInputs(("a.npy", "l.csv, line 3"), {"l.csv, line 3": "bad"}, rates={"a.npy": 5.0}).make_absolute()
    assert absolute.videos == (str(Path("a.npy").absolute()), "l.csv, line 3")
    assert absolute.get_rates(absolute.videos) == [5, None]


def test_the_rate_of_a_row_decides_the_frames_of_its_segment(
    tmp_path: Path, finished_run: Path, cli: Callable[..., Any]
) -> None:
    np.save(tmp_path / "a.npy", np.zeros((50, 32, 32, 3), np.uint8))
    (tmp_path / "list.csv").write_text("path,start_seconds,fps\na.npy,1.5,25\na.npy,4.5,10\na.npy,4.4,10\n")
    result = cli("predict", finished_run, tmp_path / "list.csv", "--json")
    assert [json.loads(line)["status"] for line in result.out.splitlines()] == ["ok", "ok", "ok"]
    (tmp_path / "list.csv").write_text("path,start_seconds,fps\na.npy,1.5,50\n")
    assert json.loads(cli("predict", finished_run, tmp_path / "list.csv", "--json").out)["status"] == "too_short"


def test_times_of_a_player(tmp_path: Path, finished_run: Path, cli: Callable[..., Any]) -> None:
    """The sound begins a second before the picture: so do the seconds of --time-origin container, given and printed."""
    video = write_video(tmp_path / "late.mp4", 50, ticks=range(25, 75), audio=True)
    segment = f"{video}#2.8-"
    assert json.loads(cli("predict", finished_run, segment, "--json").out)["status"] == "too_short"
    options = ("--json", "--timeline", "--step", 1, "--time-origin", "container")
    for name, start in ((segment, 2.8), (str(video), 1.0)):
        result = json.loads(cli("predict", finished_run, name, *options).out)
        assert result["timeline"]["windows"][0]["start_seconds"] == pytest.approx(start, abs=0.06)
        assert result["timeline"]["segments"][-1]["end_seconds"] == pytest.approx(3.0, abs=0.1)
        cli("extract", finished_run, name, "--time-origin", "container", "--clips", 1, "-o", tmp_path / "f.parquet")
        assert pq.read_table(tmp_path / "f.parquet")["start_seconds"][0].as_py() > start - 0.06
    assert "--time-origin is not used" in cli("predict", finished_run, video, "--time-origin", "container").err
    (tmp_path / "l.csv").write_text("path,start_frame\nlate.mp4,3\n")
    refused = cli("predict", finished_run, tmp_path / "l.csv", "--time-origin", "container")
    assert (refused.code, "1 row is in frames, which count from the first picture" in refused.err) == (2, True)


def test_predict_and_extract_read_segments_of_lists(
    tmp_path: Path, finished_run: Path, motions: Path, cli: Callable[..., Any]
) -> None:
    video = next(motions.rglob("*.mp4"))
    rows = [f"{video},0.2,0.6", f'"{video},0,1', f"{video},,"]
    (tmp_path / "list.csv").write_text("\n".join(["path,start_seconds,end_seconds", *rows]))
    result = cli("predict", finished_run, tmp_path / "list.csv", "--json")
    assert result.code == 3
    segment, bad, whole = map(json.loads, result.out.splitlines())
    assert (segment["video"], segment["status"]) == (f"{video}#0.2-0.6", "ok")
    assert (bad["video"], bad["status"]) == (f"{tmp_path}/list.csv, line 3", "unreadable")
    assert segment["classes"] != whole["classes"]
    result = cli("extract", finished_run, tmp_path / "list.csv", "--clips", "1", "-o", tmp_path / "x.parquet")
    assert result.code == 3
    table = pq.read_table(tmp_path / "x.parquet")
    assert table["video"].to_pylist() == [f"{video}#0.2-0.6", str(video)]
    assert table["start_seconds"].to_pylist()[0] >= 0.2


def test_the_windows_of_a_segment_count_from_the_beginning_of_the_file(finished_run: Path, motions: Path) -> None:
    video = next(motions.rglob("*.mp4"))
    recognizer = load(finished_run, device="cpu")
    segment = recognizer.predict(f"{video}#0.2-0.6", clips=1, timeline=TimelineOptions(step_frames=1))
    assert segment.windows[0].start_seconds == pytest.approx(0.2, abs=0.05)
    assert segment.segments[-1].end_seconds <= 0.65
    assert recognizer.predict(f"{video}#90-", clips=1).status == "too_short"
    assert recognizer.predict("absent.mp4#1-2", clips=1).status == "missing"
