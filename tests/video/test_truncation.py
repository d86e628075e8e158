"""What containers promise: whole files are whole, and cuts at any place are seen."""

from __future__ import annotations

import math
import random
import struct
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
    assert is_too_short(10.0, 9.74, 0.04)
    assert not is_too_short(10.0, 9.75, 0.04)
    assert is_too_short(10.0, 9.69, 0.1)  # three frames
    assert not is_too_short(10.0, 9.71, 0.1)
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


def element(number: str, content: bytes, size: str | None = None) -> bytes:
    """An element of EBML (RFC 8794): id, size in one byte, content."""
    return bytes.fromhex(number) + (bytes.fromhex(size) if size else bytes([0x80 | len(content)])) + content


def matroska(*info: bytes, size: str | None = None, info_size: str | None = None, before: bytes = b"") -> bytes:
    content = before + element("1549a966", b"".join(info), info_size) + element("1f43b675", bytes(6))
    return element("1a45dfa3", b"\x42\x86\x81\1") + element("18538067", content, size)


SCALE, DURATION = element("2ad7b1", (500_000).to_bytes(3)), element("4489", struct.pack(">d", 3000.0))
SHORT_DURATION = element("4489", struct.pack(">f", 3000.0))
LONG_SCALE = element("2ad7b1", b"\xff" * 130, "4082")  # above the largest float
UNKNOWN_SIZE = "01ffffffffffffff"


@pytest.mark.parametrize(
    ("content", "seconds"),
    [
        (matroska(SCALE, DURATION), 1.5),
        (matroska(DURATION, SCALE), 1.5),
        (matroska(SHORT_DURATION), 3.0),  # in milliseconds, unless a scale is given
        (matroska(SHORT_DURATION, element("4461", bytes(8))), 3.0),  # and a date
        (matroska(DURATION, before=element("ec", bytes(3))), 3.0),  # behind a void
        (matroska(DURATION, size=UNKNOWN_SIZE), 3.0),
        (matroska(DURATION, size="080000002c"), 3.0),  # a size in five bytes
        (matroska(DURATION, info_size=UNKNOWN_SIZE), None),
        (matroska(SCALE), None),
        (matroska(element("4489", bytes(5))), None),
        (matroska(LONG_SCALE, DURATION, size=UNKNOWN_SIZE, info_size="4092"), 3.0),  # not a number of RFC 8794
        (matroska(element("2ad7b1", b"\xff" * 8), DURATION), None),  # 1.7 million years
        (matroska(element("4489", struct.pack(">d", math.nan))), None),
        (matroska(element("4489", struct.pack(">d", math.inf))), None),
        (element("1a45dfa3", b"") + element("18538067", element("1f43b675", bytes(6))), None),
        (element("1a45dfa3", b""), None),
        (b"", None),
    ],
)
def test_the_duration_of_matroska(tmp_path: Path, content: bytes, seconds: float | None) -> None:
    (tmp_path / "a").write_bytes(content)
    assert read_promised_seconds(str(tmp_path / "a"), "matroska,webm") == seconds


def asf(file_size: int, *, play: int = 0, preroll: int = 0, flags: int = 2) -> bytes:
    """A head with the properties of the file (ASF 3.2) behind 30 bytes of another object."""
    properties = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365") + bytes(24)
    return bytes(30) + properties + struct.pack("<6QI", file_size, 0, 0, play, 0, preroll, flags)


def flv(*tags: bytes) -> bytes:
    return b"FLV\1\5\0\0\0\x09\0\0\0\0" + b"".join(tags)


def flv_tag(kind: int, content: bytes) -> bytes:
    return bytes([kind]) + len(content).to_bytes(3) + bytes(7) + content + (len(content) + 11).to_bytes(4)


@pytest.mark.parametrize(
    ("format_name", "content", "seconds"),
    [
        ("asf", asf(0, play=50_000_000, preroll=1500), 3.5),
        ("asf", asf(0, play=50_000_000, preroll=6000), None),
        ("asf", asf(0, play=50_000_000, flags=3), None),  # a broadcast
        ("asf", asf(0, play=50_000_000)[:-1], None),
        ("flv", flv(flv_tag(18, b"\2\0\x0aonMetaData\0\x08duration\0" + struct.pack(">d", 12.5))), 12.5),
        ("flv", flv(flv_tag(18, b"\0\x08duration\0" + struct.pack(">d", 0.0))), None),
        ("flv", flv(flv_tag(18, b"\0\x08duration\0" + struct.pack(">d", 1e9))), None),
        ("flv", b"\0\x08duration\0" + struct.pack(">d", 2.0), 2.0),
        ("flv", b"\0\x08duration\0" + struct.pack(">d", 2.0)[:7], None),
        ("flv", flv(), None),
        ("mpegts", asf(0, play=50_000_000), None),
    ],
)
def test_the_durations_of_other_heads(tmp_path: Path, format_name: str, content: bytes, seconds: float | None) -> None:
    (tmp_path / "a").write_bytes(content)
    assert read_promised_seconds(str(tmp_path / "a"), format_name) == seconds


def box(kind: bytes, num_bytes: int, *, wide: bool = False) -> bytes:
    """A box of MP4 with `num_bytes` of content; `wide`: its size in 64 bits."""
    size = (1).to_bytes(4) + kind + (16 + num_bytes).to_bytes(8) if wide else (8 + num_bytes).to_bytes(4) + kind
    return size + bytes(num_bytes)


def pes(num_bytes: int) -> bytes:
    return b"\0\0\1\xe0" + num_bytes.to_bytes(2) + b"\xff" * num_bytes


PACK_1, PACK_2 = b"\0\0\1\xba\x21" + b"\1" * 7, b"\0\0\1\xba\x44" + b"\1" * 8 + b"\xfa\xff\xff"  # two bytes of stuffing
SYSTEM = b"\0\0\1\xbb\0\4" + bytes(4)
TS = b"\x47" + bytes(187)
OGG = b"OggS\0" + bytes(21) + b"\2\xff\x05" + bytes(260)
FRAGMENTS = box(b"ftyp", 8) + box(b"moov", 20) + box(b"moof", 12)
NO_TABLE = "the table of frames (moov) is missing or incomplete: the recording or the download was cut off"
SHORT_TS = "the file ends in the middle of a transport packet"
SHORT_FLV, SHORT_OGG = "the last tag of the file is incomplete", "the last page of the file is incomplete"


def overrun(what: str, num_bytes: int, needed: int) -> str:
    return f"the file has {num_bytes:,} bytes, and its head says that its {what} needs {needed:,}"


@pytest.mark.parametrize(
    ("format_name", "content", "missing"),
    [
        ("matroska,webm", matroska(DURATION), None),
        ("matroska,webm", matroska(DURATION)[:-1], overrun("segment", 40, 41)),
        ("matroska,webm", matroska(DURATION, size=UNKNOWN_SIZE)[:-1], None),
        ("avi", b"RIFF\x0a\0\0\0" + bytes(10), None),
        ("avi", b"RIFF\x0a\0\0\0" + bytes(12), None),
        ("avi", b"RIFF\xe8\3\0\0" + bytes(9), overrun("RIFF chunk", 17, 1008)),
        ("webp_pipe", b"RIFF\xe8\3\0\0" + bytes(9), overrun("RIFF chunk", 17, 1008)),
        ("avi", b"RIFF\0\0\0\0", None),
        ("avi", b"RIFF\xff\xff\xff\xff" + bytes(9), None),
        ("avi", b"RIFX\xe8\3\0\0" + bytes(9), None),
        ("mpegts", TS * 3, None),
        ("mpegts", TS * 3 + TS[:1], SHORT_TS),
        ("mpegts", TS * 3 + TS[:187], SHORT_TS),
        ("mpegts", b"x" * 5 + TS * 2, None),
        ("mpegts", b"x" * 5 + TS * 20 + TS[:9], SHORT_TS),
        ("mpegts", TS * 3 + bytes(50), None),  # no packet: something is appended
        ("mpegts", (bytes(4) + TS) * 3, None),
        ("mpegts", (bytes(4) + TS) * 3 + bytes(4) + TS[:70], SHORT_TS),
        ("mpegts", (TS + b"p" * 16) * 3, None),
        ("mpegts", (TS + b"p" * 16) * 3 + TS, None),  # all but the parity
        ("mpegts", (TS + b"p" * 16) * 3 + TS[:70], SHORT_TS),
        ("mpegts", TS, None),  # one byte of synchronization is none
        ("mpeg", PACK_2 + SYSTEM + pes(20) + PACK_2 + pes(300), None),
        ("mpeg", PACK_1 + SYSTEM + pes(20) + PACK_1 + pes(300), None),
        ("mpeg", PACK_2 + pes(300)[:-1], "the last packet of the file lacks 1 byte"),
        ("mpeg", PACK_1 + pes(300)[:-44], "the last packet of the file lacks 44 bytes"),
        ("mpeg", PACK_2[:-2], "the last packet of the file lacks 2 bytes"),
        ("mpeg", PACK_2[:-3], "the last packet of the file lacks 1 byte"),
        ("mpeg", PACK_1[:-1], "the last packet of the file lacks 1 byte"),
        ("mpeg", PACK_2 + pes(3) + b"\0", "the last packet of the file lacks 1 byte"),
        ("mpeg", PACK_2 + pes(3) + b"\0\0\1\xe0\0", "the last packet of the file lacks 1 byte"),
        ("mpeg", PACK_2 + pes(3) + b"x", None),
        ("mpeg", PACK_2 + pes(3) + b"\0\0\1\xb9", None),  # its end
        ("mpeg", PACK_2 + pes(3) + b"\0\0\1\xb9" + b"\0", None),
        ("mpeg", PACK_2 + pes(3) + b"\0\0\1\xb9" + pes(3)[:-1], None),
        ("mpeg", PACK_2 + b"\0\0\1\x00" + bytes(2), None),  # a picture: damage, not an end
        ("mpeg", pes(3)[:-1], None),
        ("mpeg", b"x" * (1 << 18) + PACK_1 + pes(5)[:-1], "the last packet of the file lacks 1 byte"),
        ("mpeg", PACK_2 + pes(3) + bytes(4096), "the file ends in 4,096 bytes of zeros"),
        ("mpeg", PACK_2 + pes(3) + bytes(1 << 19), "the file ends in at least 262,144 bytes of zeros"),
        ("mpeg", PACK_2 + pes(3) + bytes(4095), None),  # padding
        ("mpeg", PACK_2 + pes(3) + b"\0\0\1\xb9" + bytes(8192), None),
        ("asf", asf(122), None),
        ("asf", asf(2000), overrun("file", 122, 2000)),
        ("asf", asf(2000, flags=1), None),
        ("asf", asf(2000)[:-1], None),
        ("flv", flv(flv_tag(9, bytes(40))), None),
        ("flv", flv(flv_tag(9, bytes(40)), flv_tag(8, bytes(4))), None),
        ("flv", flv(flv_tag(0, b"")), SHORT_FLV),
        ("flv", flv(flv_tag(18, b"")), None),
        ("flv", flv(flv_tag(9, bytes(40)))[:-1], SHORT_FLV),
        ("flv", flv(flv_tag(9, bytes(40))[:-4] + (50).to_bytes(4)), SHORT_FLV),
        ("flv", flv()[:13] + bytes(15), SHORT_FLV),
        ("flv", flv()[:13] + bytes(14), None),  # too short for a tag
        ("ogg", OGG + OGG, None),
        ("ogg", (OGG + OGG)[:-1], SHORT_OGG),
        ("ogg", OGG + OGG[:28], SHORT_OGG),
        ("ogg", OGG + OGG[:27], SHORT_OGG),
        ("ogg", OGG + OGG[:26], SHORT_OGG),
        ("ogg", b"OggS\0" + bytes(22), None),  # a page without a segment
        ("ogg", bytes(100), SHORT_OGG),
        ("ogg", OGG[:-260] + b"x" * 260 + bytes(4095), None),
        ("ogg", OGG[:-260] + b"x" * 260 + bytes(4096), "the file ends in 4,096 bytes of zeros"),
        ("mov,mp4,m4a", FRAGMENTS + box(b"mdat", 30), None),
        ("mov,mp4,m4a", FRAGMENTS + box(b"mdat", 30)[:-4], "the last fragment of the file lacks 4 bytes"),
        ("mov,mp4,m4a", FRAGMENTS + box(b"mdat", 5000)[:8], "the last fragment of the file lacks 5,000 bytes"),
        ("mov,mp4,m4a", FRAGMENTS + box(b"mdat", 30, wide=True)[:-4], "the last fragment of the file lacks 4 bytes"),
        ("mov,mp4,m4a", FRAGMENTS[:-1], "the last fragment of the file lacks 1 byte"),
        ("mov,mp4,m4a", FRAGMENTS + box(b"mdat", 0) + box(b"free", 9)[:-1], None),
        ("mov,mp4,m4a", box(b"ftyp", 8) + box(b"moov", 9) + box(b"mdat", 30)[:-4], None),  # judged by its table
        ("mov,mp4,m4a", box(b"ftyp", 8) + box(b"mdat", 30)[:-4], NO_TABLE),
        (
            "mov,mp4,m4a",
            box(b"ftyp", 8) + box(b"free", 0) + bytes(4) + b"mdat" + bytes(99),
            NO_TABLE,
        ),  # a recorder died
        ("mov,mp4,m4a", box(b"ftyp", 8) + box(b"mdat", 30) + box(b"moov", 9)[:5], NO_TABLE),
        ("mov,mp4,m4a", box(b"ftyp", 8) + box(b"moov", 90)[:-1], NO_TABLE),
        ("mov,mp4,m4a", box(b"ftyp", 8) + box(b"free", 90), None),
        ("mov,mp4,m4a", FRAGMENTS + bytes(8) + box(b"mdat", 30)[:-4], None),  # a box to the end of the file
        ("gif", b"x" * 90 + b"\0;", None),
        ("gif", b"x" * 90 + b"\0;" + b"\0" * 62, None),
        ("gif", b"x" * 90 + b"\0;" + b"\0" * 63, "the file lacks its end mark"),
        ("gif", b"\0x", "the file lacks its end mark"),
        ("apng", b"x" * 2000 + b"IEND\xaeB\x60\x82", None),
        ("apng", b"IEND" + b"x" * 1024, "the file lacks its end mark (IEND)"),
        ("apng", b"IEND", None),
        ("wav", b"RIFF\xe8\3\0\0", None),
    ],
)
def test_what_is_missing_at_the_end(tmp_path: Path, format_name: str, content: bytes, missing: str | None) -> None:
    (tmp_path / "a").write_bytes(content)
    assert find_missing_end(str(tmp_path / "a"), format_name) == missing
