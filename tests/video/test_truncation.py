"""What containers promise: whole files are whole, and cuts at any place are seen."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import av
import pytest

from muybridge.video.truncation import find_missing_end, is_too_short, read_promised_seconds
from videos import write_video

KINDS: dict[str, dict[str, Any]] = {
    "a.mkv": {},
    "a.webm": {"codec": "libvpx", "options": {"deadline": "realtime", "cpu-used": "8"}},
    "a.ts": {},
    "a.m2ts": {},
    "a.mpg": {"codec": "mpeg2video"},
    "a.avi": {"codec": "mpeg4"},
    "a.wmv": {"codec": "wmv2", "container": "asf"},
    "a.flv": {"audio": True},
    "a.gif": {"codec": "gif", "pixel_format": "rgb8"},
    "a.apng": {"codec": "apng", "pixel_format": "rgb24", "container": "apng"},
}


def get_format(path: Path) -> str:
    with av.open(str(path)) as container:
        return container.format.name


@pytest.mark.parametrize("name", KINDS)
def test_cuts_are_seen(tmp_path: Path, name: str) -> None:
    path = write_video(tmp_path / name, 50, **KINDS[name])
    format_name, data = get_format(path), path.read_bytes()
    assert find_missing_end(str(path), format_name) is None
    draws, cut_file = random.Random(name), tmp_path / "cut"
    missed = []
    for _ in range(60):
        cut = draws.randrange(len(data) // 5, len(data) - 1)
        cut_file.write_bytes(data[:cut])
        if find_missing_end(str(cut_file), format_name) is None:
            missed.append(cut)
    assert len(missed) <= 6, f"cuts at {missed} of {len(data)} bytes look whole"


@pytest.mark.parametrize(
    ("name", "promised"), [("a.mkv", 2.0), ("a.webm", 2.0), ("a.wmv", 2.0), ("a.avi", None), ("a.ts", None)]
)
def test_promised_durations(tmp_path: Path, name: str, promised: float | None) -> None:
    path = write_video(tmp_path / name, 50, **KINDS[name])
    seconds = read_promised_seconds(str(path), get_format(path))
    assert seconds == (promised if promised is None else pytest.approx(promised, abs=0.01))


def test_a_file_written_to_a_pipe_promises_nothing(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", 50, container_options={"live": "1"})
    assert find_missing_end(str(path), "matroska,webm") is None
    assert read_promised_seconds(str(path), "matroska,webm") is None
    path.write_bytes(path.read_bytes()[:-1000])
    assert find_missing_end(str(path), "matroska,webm") is None


def test_durations_are_rounded_by_muxers() -> None:
    assert is_too_short(10.0, 9.5, 0.04)
    assert not is_too_short(10.0, 9.8, 0.04)
    assert not is_too_short(10.0, 7.5, 1.0)
    assert not is_too_short(10.0, 11.0, 0.04)


@pytest.mark.parametrize(
    "format_name", ["matroska,webm", "avi", "mpegts", "mpeg", "asf", "flv", "ogg", "mov,mp4", "gif", "apng"]
)
def test_noise_is_no_error(tmp_path: Path, format_name: str) -> None:
    draws, path = random.Random(format_name), tmp_path / "noise"
    for size in (0, 1, 3, 8, 13, 64, 300, 5000):
        path.write_bytes(draws.randbytes(size))
        find_missing_end(str(path), format_name)
        read_promised_seconds(str(path), format_name)
