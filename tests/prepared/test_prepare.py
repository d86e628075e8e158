"""Preparing: every row accounted for, the same bytes however often it was stopped, and scores as from the raw files."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from muybridge.cli.main import main
from muybridge.distributed.stop import StopRequested
from muybridge.files.hashing import hash_ends
from muybridge.loading.clip_reader import open_frame_source
from muybridge.loading.datasets import read_segment_times
from muybridge.loading.open_data import open_data
from muybridge.prepared.dataset import SOURCE_COLUMNS, find_damage
from muybridge.prepared.prepare import Preparation, PreparationOptions, prepare
from muybridge.prepared.source_listing import read_source
from muybridge.prepared.transcode import TranscodeJob, transcode
from muybridge.prepared.worker_pool import TranscodeResult
from muybridge.records import Preprocessing, VideoError
from videos import index_picture, read_indices, write_sound, write_video

SMALL = PreparationOptions(scale_height=32, scale_width=43, videos_per_shard=3)


def one_by_one(jobs: Iterable[tuple[int, TranscodeJob]]) -> Iterator[tuple[int, TranscodeResult]]:
    for row_index, job in jobs:
        try:
            yield row_index, transcode(job)
        except VideoError as error:
            yield row_index, error


@pytest.fixture(scope="module")
def source_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("source")
    for split in ("train", "validation", "test"):
        for label in ("hug", "kick"):
            folder = root / split / label
            folder.mkdir(parents=True)
            first = 100 * (label == "kick")
            paint = lambda number, first=first: index_picture(first + number, 48, 64)  # noqa: E731
            write_video(folder / f"{split}_{label}.mp4", 30 + 5 * len(split), paint=paint)
    whole = root / "train" / "hug" / "train_hug.mp4"
    (root / "train" / "kick" / "cut.mp4").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    (root / "train" / "kick" / "text.mp4").write_text("not a video")
    write_sound(root / "test" / "hug" / "sound.mp4")
    shutil.copy(root / "train" / "hug" / "train_hug.mp4", root / "test" / "hug" / "copy.mp4")
    return root


def prepared(source: Path, output: Path) -> Path:
    prepare(Preparation(read_source(str(source), "folder"), output, SMALL), one_by_one)
    return output


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def data_folder(source_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(source_folder, tmp_path_factory.mktemp("prepared") / "data")


def test_every_row_ends_in_the_manifest(data_folder: Path) -> None:
    rows = {row["video"]: row for row in pq.read_table(data_folder / "manifest.parquet").to_pylist()}
    assert len(rows) == 10
    statuses = {name.split("/")[-1]: row["status"] for name, row in rows.items() if row["status"] != "ok"}
    assert statuses == {"cut.mp4": "truncated", "text.mp4": "unreadable", "sound.mp4": "no_video"}
    assert all(row["reason"] for row in rows.values() if row["status"] != "ok")
    assert rows["train/hug/train_hug.mp4"]["num_frames"] == 55
    assert (rows["train/hug/train_hug.mp4"]["width"], rows["train/hug/train_hug.mp4"]["height"]) == (64, 48)


def test_coverage_counts_and_warns_of_leaks(data_folder: Path) -> None:
    coverage = json.loads((data_folder / "coverage.json").read_text())
    assert coverage["splits"]["train"] == {"ok": 2, "failed": 2}
    assert coverage["classes"]["hug"] == {"ok": 4, "failed": 1}
    assert {row["status"] for row in coverage["failed"]} == {"unreadable", "truncated", "no_video"}
    (leak,) = coverage["duplicates"]
    assert sorted(map(tuple, leak)) == [("test/hug/copy.mp4", "test"), ("train/hug/train_hug.mp4", "train")]
    assert coverage["num_leaks"] == 1


def test_shards_are_webdatasets(data_folder: Path) -> None:
    names = []
    for path in sorted((data_folder / "shards").iterdir()):
        with tarfile.open(path) as tar:
            members = tar.getmembers()
            names += [member.name for member in members]
            assert all((member.mtime, member.uid, member.gid, member.uname) == (0, 0, 0, "") for member in members)
    assert len(names) == 14
    assert all(a[:-4] == b[:-5] for a, b in zip(names[::2], names[1::2], strict=True))


def test_the_same_frames_as_from_the_raw_files(source_folder: Path, data_folder: Path) -> None:
    raw, stored = open_data(str(source_folder)), open_data(str(data_folder))
    sizes = Preprocessing(scale_height=32, scale_width=43, crop=24)
    sources = [open_frame_source(data.root, sizes) for data in (raw, stored)]
    for split in ("validation", "test"):
        raw_split, stored_split = raw.select_split(split), stored.select_split(split)
        assert [raw_split.get_video(n) for n in range(len(raw_split))] == [
            stored_split.get_video(n) for n in range(len(stored_split))
        ]
        for index in range(len(raw_split)):
            if raw_split.get_video(index).endswith("sound.mp4"):
                with pytest.raises(VideoError, match="sound and no video"):
                    read_segment_times(sources[1], stored_split, index)
                continue
            times = [
                read_segment_times(source, data, index)
                for source, data in zip(sources, (raw_split, stored_split), strict=True)
            ]
            assert [t.to_seconds(tick) for t in times for tick in t.ticks[:20]][:20] == [
                times[1].to_seconds(tick) for tick in times[1].ticks[:20]
            ]
            assert times[0].duration_seconds == times[1].duration_seconds
            clips = [
                source.read(data.get_path(index), t.ticks)
                for source, data, t in zip(sources, (raw_split, stored_split), times, strict=True)
            ]
            assert read_indices(clips[0].luma_thw) == read_indices(clips[1].luma_thw)
            assert np.abs(clips[0].luma_thw.astype(int) - clips[1].luma_thw).mean() < 3


def test_failed_training_videos_are_set_aside_with_a_note(data_folder: Path) -> None:
    data = open_data(str(data_folder))
    assert len(data.select_split("train")) == 2
    assert len(data.select_split("test")) == 4
    assert any("2 training videos failed" in note for note in data.notes)


@pytest.mark.parametrize("stop_after", [1, 4, 9])
def test_stopped_and_taken_up_it_is_the_same_bytes(
    source_folder: Path, data_folder: Path, tmp_path: Path, stop_after: int
) -> None:
    source = read_source(str(source_folder), "folder")

    def stopped(jobs: Iterable[tuple[int, TranscodeJob]]) -> Iterator[tuple[int, TranscodeResult]]:
        for row_index, result in one_by_one(jobs):
            if row_index == stop_after:
                os.kill(os.getpid(), signal.SIGTERM)
            yield row_index, result

    with pytest.raises(StopRequested):
        prepare(Preparation(source, tmp_path / "data", SMALL), stopped)

    def backwards(jobs: Iterable[tuple[int, TranscodeJob]]) -> Iterator[tuple[int, TranscodeResult]]:
        return one_by_one(reversed(list(jobs)))

    prepare(Preparation(source, tmp_path / "data", SMALL), backwards)
    assert contents(tmp_path / "data") == contents(data_folder)


@pytest.mark.long
@pytest.mark.parametrize("options", [(), ("--flow",)])
def test_killed_without_warning_it_goes_on(source_folder: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    def line(output: str) -> list[str]:
        argv = ["prepare", str(source_folder), "-o", str(tmp_path / output), "--workers", "2", *options]
        return [sys.executable, "-m", "muybridge", *argv]

    subprocess.run(line("whole"), check=False)
    results = tmp_path / "killed" / "work" / "results.jsonl"
    for num_done in (0, 1, 4, 6):
        process = subprocess.Popen(line("killed"))
        while process.poll() is None and num_done > (len(results.read_text().splitlines()) if results.exists() else 0):
            time.sleep(0.01)
        assert process.poll() is None, "it is killed before it has ended"
        process.kill()
        process.wait()
    assert subprocess.run(line("killed"), check=False).returncode == 3
    killed, whole = contents(tmp_path / "killed"), contents(tmp_path / "whole")
    assert sorted(killed) == sorted(whole)
    assert [name for name in whole if killed[name] != whole[name]] == []


@pytest.mark.parametrize(
    "left", [("work/.plan.json.a1b2c3d4.partial",), ("shards/.000000.tar.b2c3d4e5.muybridge.partial", "work/plan.json")]
)
def test_what_a_killed_run_left_half_written_is_removed(
    source_folder: Path, data_folder: Path, tmp_path: Path, left: tuple[str, ...]
) -> None:
    preparation = Preparation(read_source(str(source_folder), "folder"), tmp_path / "data", SMALL)
    preparation.open()
    (tmp_path / "data" / "work" / "plan.json").rename(tmp_path / "plan.json")
    for name in left:
        path = tmp_path / "data" / name
        path.parent.mkdir(exist_ok=True)
        shutil.copy(tmp_path / "plan.json", path)
    prepared(source_folder, tmp_path / "data")
    assert contents(tmp_path / "data") == contents(data_folder)


def test_a_full_disk_is_a_sentence_and_can_be_taken_up(
    source_folder: Path, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = read_source(str(source_folder), "folder")

    def full(jobs: Iterable[tuple[int, TranscodeJob]]) -> Iterator[tuple[int, TranscodeResult]]:
        for row_index, result in one_by_one(jobs):
            if row_index == 5:
                raise OSError(errno.ENOSPC, "No space left on device")
            yield row_index, result

    with pytest.raises(RuntimeError, match=r"no space is left .* after 5 of 10 videos; free some space and run"):
        prepare(Preparation(source, tmp_path / "data", SMALL), full)
    prepare(Preparation(source, tmp_path / "data", SMALL), one_by_one)
    assert contents(tmp_path / "data") == contents(data_folder)


def test_a_vanished_source_is_a_sentence_and_not_a_thousand_missing_videos(
    source_folder: Path, data_folder: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "source"
    shutil.copytree(source_folder, copy)
    away = tmp_path / "away"

    def vanishing(jobs: Iterable[tuple[int, TranscodeJob]]) -> Iterator[tuple[int, TranscodeResult]]:
        for row_index, job in jobs:
            if row_index == 4:
                copy.rename(away)
            yield from one_by_one([(row_index, job)])

    preparation = Preparation(read_source(str(copy), "folder"), tmp_path / "data", SMALL)
    with pytest.raises(RuntimeError, match=r"is no longer available: .* restore it and run the same command again"):
        prepare(preparation, vanishing)
    away.rename(copy)
    prepare(Preparation(read_source(str(copy), "folder"), tmp_path / "data", SMALL), one_by_one)
    assert contents(tmp_path / "data" / "shards") == contents(data_folder / "shards")


def test_other_options_on_a_begun_folder_are_refused(source_folder: Path, tmp_path: Path) -> None:
    source = read_source(str(source_folder), "folder")
    Preparation(source, tmp_path / "data", SMALL).open()
    with pytest.raises(ValueError, match="started from another source or with other options"):
        Preparation(source, tmp_path / "data", PreparationOptions(frames_per_second=5.0)).open()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").touch()
    with pytest.raises(ValueError, match="contains other files"):
        Preparation(source, tmp_path / "full", SMALL).open()


def test_a_rate_by_time_stamps(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 50, frames_per_second=25)
    video = transcode(TranscodeJob(str(path), None, None, 15.0, 32, 43))
    assert (video.num_frames, video.frames_per_second, video.duration_seconds) == (30, 15.0, 2.0)


def test_segments_are_cut_out(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 50, frames_per_second=25)
    assert transcode(TranscodeJob(str(path), 0.4, 1.2, None, 32, 43)).num_frames == 20
    with pytest.raises(VideoError, match="no frames between 9 s and its end") as caught:
        transcode(TranscodeJob(str(path), 9.0, None, None, 32, 43))
    assert caught.value.status == "too_short"


def test_the_manifest_says_what_was_stored(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 50, frames_per_second=25)
    rows = ("path,label,split,start_seconds,end_seconds", "a.mp4,x,train,0.4,1.2", "a.mp4,x|y,train,,")
    (tmp_path / "list.csv").write_text("\n".join(rows) + "\n")
    manifest = pq.read_table(prepared(tmp_path / "list.csv", tmp_path / "data") / "manifest.parquet")
    found = manifest.select(SOURCE_COLUMNS.names).to_pylist()
    source = {"source_num_bytes": path.stat().st_size, "source_sha256": hash_ends(path)}
    assert found == [
        {**source, "source_start_seconds": 0.4, "source_end_seconds": 1.2},
        {**source, "source_start_seconds": None, "source_end_seconds": None},
    ]
    assert manifest["start_seconds"].to_pylist() == [None, None], "what is stored is the segment"


def test_segments_of_a_player_count_from_its_clock(tmp_path: Path) -> None:
    """The sound begins a second before the picture; 1.4 s in a player is 0.4 s after the first picture."""
    late = [25 + number for number in range(30)]
    path = write_video(tmp_path / "late.mp4", 30, ticks=late, audio=True)
    for origin, bounds, num_frames in (
        ("picture", (0.4, 0.8), 10),
        ("container", (1.4, 1.8), 10),
        ("container", (0.0, 1.2), 5),
    ):
        job = TranscodeJob(str(path), *bounds, None, 32, 43, time_origin=origin)  # type: ignore[arg-type]  # literals
        assert transcode(job).num_frames == num_frames, (origin, bounds)
    plain = write_video(tmp_path / "plain.mp4", 30, audio=True)
    assert transcode(TranscodeJob(str(plain), 0.4, 0.8, None, 32, 43, time_origin="container")).num_frames == 10


def test_a_header_that_promises_more_frames_is_believed(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", 30, codec="mjpeg", pixel_format="yuvj420p")
    content = bytearray(path.read_bytes())
    offset = content.index(b"strh") + 8 + 32  # dwLength of the stream's header
    content[offset : offset + 4] = (45).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(VideoError, match="ends after 30 of 45 frames") as caught:
        transcode(TranscodeJob(str(path), None, None, None, 32, 43))
    assert caught.value.status == "truncated"


def test_check_names_what_is_damaged(data_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "data"
    shutil.copytree(data_folder, copy)
    assert list(find_damage(str(copy))) == []
    rows = pq.read_table(copy / "manifest.parquet").to_pylist()
    victim = next(row for row in rows if row["shard"] == 0)
    shard = copy / "shards" / "000000.tar"
    content = bytearray(shard.read_bytes())
    content[victim["offset"] + victim["num_bytes"] - 5] ^= 4
    shard.write_bytes(content)
    assert list(find_damage(str(copy))) == [f"shards/000000.tar is damaged; damaged videos: {victim['video']}"]
    (copy / "shards" / "000001.tar").unlink()
    assert "shards/000001.tar does not exist" in list(find_damage(str(copy)))
    (copy / "manifest.parquet").write_bytes(b"PAR1")
    assert list(find_damage(str(copy))) == ["manifest.parquet is damaged: its checksum does not match"]
    assert main(["prepare", "--check", str(copy)]) == 1
    assert main(["prepare", "--check", str(data_folder)]) == 0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"format": 3}, "prepared data of format 3, this version reads formats 1 and 2"),
        ({"extra": 1}, "cannot be used: .* (is not known|is missing)"),
        (None, "is not JSON, or damaged"),
    ],
)
def test_other_versions_and_damage_of_the_description(
    data_folder: Path, tmp_path: Path, change: dict[str, int] | None, sentence: str
) -> None:
    copy = tmp_path / "data"
    shutil.copytree(data_folder, copy)
    path = copy / "dataset.json"
    path.write_text("{" if change is None else json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=sentence):
        open_data(str(copy))


def test_a_manifest_with_missing_columns(data_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "data"
    shutil.copytree(data_folder, copy)
    pq.write_table(
        pq.read_table(copy / "manifest.parquet").drop_columns(["offset", "labels"]), copy / "manifest.parquet"
    )
    with pytest.raises(ValueError, match=r"lacks the columns labels, offset; it has"):
        open_data(str(copy))


def test_folds_and_sizes_that_are_not_there(data_folder: Path) -> None:
    with pytest.raises(ValueError, match="has no official folds, not fold 2"):
        open_data(str(data_folder), fold=2)
    with pytest.raises(
        ValueError,
        match=r"has frames of 32x43, but the preprocessing expects 128x171; prepare the data again with --scale 128 171",
    ):
        open_frame_source(str(data_folder), Preprocessing())


def test_the_verb_tells_and_returns(source_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["prepare", str(source_folder), "-o", str(tmp_path / "data"), "--workers", "1"]
    assert main(argv) == 3
    out, err = capsys.readouterr()
    assert "MORE THAN ONE SPLIT" in out
    assert "WARNING: 1 video is on both sides" in err
    assert main(argv) == 2
    assert "is prepared already" in capsys.readouterr().err
    assert main(["prepare", str(source_folder), "-o", str(tmp_path / "x"), "--format", "imagenet"]) == 2
    assert "there is no format 'imagenet'" in capsys.readouterr().err


def test_a_damaged_folder_of_frames_is_one_failed_video(tmp_path: Path) -> None:
    for name, num_frames in (("a", 0), ("b", 4), ("c", 4)):
        folder = tmp_path / "raw" / "train" / ("hug" if name == "c" else "kick") / name
        folder.mkdir(parents=True)
        (folder / "img_0.png").write_text("no picture")
        for number in range(num_frames):
            Image.fromarray(index_picture(number, 48, 64)).save(folder / f"img_{number}.png")
    preparation = Preparation(read_source(str(tmp_path / "raw"), "folder"), tmp_path / "prepared", SMALL)
    coverage = prepare(preparation, one_by_one)
    assert [row["status"] for row in coverage.failed] == ["unreadable"]


def test_other_files_under_the_same_names_are_not_mixed_in(source_folder: Path, tmp_path: Path) -> None:
    source = read_source(str(source_folder), "folder")

    def stopped(jobs: Iterable[tuple[int, TranscodeJob]]) -> Iterator[tuple[int, TranscodeResult]]:
        yield from (result for _, result in zip(range(6), one_by_one(jobs), strict=False))
        raise StopRequested(signal.SIGTERM)

    with pytest.raises(StopRequested):
        prepare(Preparation(source, tmp_path / "data", SMALL), stopped)
    shutil.copytree(source_folder, tmp_path / "other")
    Preparation(read_source(str(tmp_path / "other"), "folder"), tmp_path / "data", SMALL).open()
    for path in (tmp_path / "other").rglob("*.mp4"):
        path.write_bytes(path.read_bytes() + b"\0")
    other = read_source(str(tmp_path / "other"), "folder")
    with pytest.raises(ValueError, match=r"started from other files: [2-6] files have another size now under .*other"):
        Preparation(other, tmp_path / "data", SMALL).open()


def test_folds_test_failed_videos_as_those_of_the_raw_data(source_folder: Path, data_folder: Path) -> None:
    raw, stored = (
        [open_data(str(folder), num_folds=2, fold=fold, fold_by="video").count_videos()["test"] for fold in (1, 2)]
        for folder in (source_folder, data_folder)
    )
    assert sum(sum(counts.values()) for counts in stored) == sum(sum(counts.values()) for counts in raw) == 10
    for fold in (1, 2):
        data = open_data(str(data_folder), num_folds=2, fold=fold, fold_by="video")
        assert set(data.select_split("train").table["status"].to_pylist()) == {"ok"}


def test_labels_that_are_numbers_are_checked_when_they_are_classes(tmp_path: Path) -> None:
    for number in range(4):
        write_video(tmp_path / f"{number}.mp4", 4)
    splits = ("train", "train", "train", "test")
    for name, labels, problem in (
        ("one", "7777", "has only one class, '7'"),
        ("unseen", "1225", "has labels for validation or test that no training video has: 5"),
    ):
        rows = [f"{number}.mp4,{label},{splits[number]}" for number, label in enumerate(labels)]
        (tmp_path / f"{name}.csv").write_text("path,label,split\n" + "\n".join(rows))
        preparation = Preparation(read_source(str(tmp_path / f"{name}.csv"), "csv"), tmp_path / name, SMALL)
        prepare(preparation, one_by_one)
        with pytest.raises(ValueError, match=problem):
            open_data(str(tmp_path / name))
        assert len(open_data(str(tmp_path / name), task="regression")) == 4
