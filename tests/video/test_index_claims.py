"""What makes FFmpeg list more frames than a file has, and what happens to such a file."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from muybridge.limits import VIDEO_BYTES
from muybridge.records import VideoError
from muybridge.video import containers, frame_index
from muybridge.video.index_claims import may_list_more_than_it_has
from videos import write_video

MANY = 3_000_000  # frames, whose list takes 72 MB
FRAGMENTS = {"container_options": {"movflags": "frag_keyframe+empty_moov+default_base_moof"}}
HONEST = {
    "a.mp4": {},
    "fragments.mp4": FRAGMENTS,
    "a.mov": {},
    "a.mkv": {},
    "a.webm": {"codec": "libvpx", "options": {"deadline": "realtime", "cpu-used": "8"}},
    "a.avi": {"codec": "mpeg4"},
    "a.ts": {},
    "a.mpg": {"codec": "mpeg2video"},
    "a.flv": {},
    "a.gif": {"codec": "gif", "pixel_format": "rgb8"},
    "a.wmv": {"codec": "wmv2", "container": "asf"},
}


def replace_number(data: bytearray, box: bytes, offset: int, number: int) -> None:
    start = data.index(box) + 4 + offset
    data[start : start + 4] = struct.pack(">I", number)


def write_claim(path: Path, num_frames: int = MANY) -> None:
    """A video whose table says that all of its many frames have one byte."""
    data = bytearray(write_video(path, 20).read_bytes())
    replace_number(data, b"stsz", 4, 1)
    replace_number(data, b"stsz", 8, num_frames)
    replace_number(data, b"stts", 8, num_frames)
    replace_number(data, b"stsc", 12, num_frames)
    path.write_bytes(data)


@pytest.mark.parametrize("name", HONEST)
def test_honest_files_are_not_suspected(name: str, tmp_path: Path) -> None:
    assert not may_list_more_than_it_has(str(write_video(tmp_path / name, 40, **HONEST[name])))


def test_claims_of_mp4_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_claim(path)
    assert may_list_more_than_it_has(str(path))
    whole = write_video(path, 20).read_bytes()
    fragments = bytearray(write_video(tmp_path / "f.mp4", 20, **FRAGMENTS).read_bytes())
    replace_number(fragments, b"trun", 0, 0)  # no field for each frame
    replace_number(fragments, b"trun", 4, 1 << 30)
    path.write_bytes(fragments)
    assert may_list_more_than_it_has(str(path))
    edits = bytearray(whole)
    replace_number(edits, b"elst", 4, 100_000)
    path.write_bytes(edits)
    assert may_list_more_than_it_has(str(path))
    path.write_bytes(whole.replace(b"udta", b"cmov"))
    assert may_list_more_than_it_has(str(path))


def test_an_avi_with_many_indexes_of_indexes_is_suspected(tmp_path: Path) -> None:
    entries = struct.pack("<HBBI4s12x", 4, 0, 0, 5000, b"00dc") + bytes(16 * 8)
    header = (
        b"LIST" + struct.pack("<I", 12 + 8 + len(entries)) + b"hdrl" + b"LIST" + struct.pack("<I", 12 + len(entries))
    )
    header += b"strl" + b"indx" + struct.pack("<I", len(entries)) + entries
    path = tmp_path / "a.avi"
    path.write_bytes(b"RIFF" + struct.pack("<I", len(header) + 4) + b"AVI " + header)
    assert may_list_more_than_it_has(str(path))


def test_unknown_kinds_are_suspected_and_read_all_the_same(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.nut", 20, codec="mpeg4", container="nut")
    assert may_list_more_than_it_has(str(path))
    assert len(frame_index.index_frames(str(path)).times) == 20


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is limited by what /proc tells")
def test_a_suspected_file_is_opened_in_a_child_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.mp4"
    write_claim(path)
    monkeypatch.setenv(VIDEO_BYTES.variable, str(32 << 20))
    with monkeypatch.context() as patch:
        patch.setattr(containers.av, "open", None)  # this process does not open it
        with pytest.raises(
            VideoError, match=r"lists far more frames than it holds: .* set MUYBRIDGE_MAX_VIDEO_BYTES to raise it"
        ):
            frame_index.index_frames(str(path))
    other = tmp_path / "b.mp4"
    write_claim(other, 5000)  # few enough
    with pytest.raises(VideoError, match="the file ends after"):
        frame_index.index_frames(str(other))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is limited by what /proc tells")
def test_a_worker_has_the_limit_itself(tmp_path: Path) -> None:
    """In a process of its own, since the highest size that a process ever had counts."""
    path = tmp_path / "a.mp4"
    write_claim(path)
    write_video(tmp_path / "b.mp4", 20)
    program = (
        "import sys\n"
        "from muybridge.memory import declare_reader_process\n"
        "from muybridge.records import VideoError\n"
        "from muybridge.video.frame_index import index_frames\n"
        "declare_reader_process()\n"
        "try:\n    index_frames(sys.argv[1])\nexcept VideoError as error:\n    print(error)\n"
        "print(len(index_frames(sys.argv[2]).times))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, path, tmp_path / "b.mp4"],
        env=os.environ | {VIDEO_BYTES.variable: str(32 << 20)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == [
        "indexing the file takes more than the limit of 33,554,432 bytes of memory; set MUYBRIDGE_MAX_VIDEO_BYTES to raise it",
        "20",
    ]
