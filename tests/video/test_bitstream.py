"""What packets say: entries, fields, and the parameter sets that a decoder lacks which starts in the middle."""

from __future__ import annotations

import pytest

from muybridge.video.bitstream import BitstreamParser, Picture

SPS = bytes.fromhex("6742c01ed9008ceb")  # baseline, frames only
PPS, OTHER_PPS = bytes.fromhex("68ce3c80"), bytes.fromhex("68ce3880")
IDR, SLICE = bytes.fromhex("65888400"), bytes.fromhex("419a2000")
RECOVERED_AT_ONCE, RECOVERED_LATER = bytes.fromhex("06060184" + "80"), bytes.fromhex("06060128" + "80")
USER_DATA = b"\x06\x05\x04name\x80"


def in_stream(*units: bytes) -> bytes:
    return b"".join(b"\0\0\0\1" + unit for unit in units)


def with_lengths(*units: bytes) -> bytes:
    return b"".join(len(unit).to_bytes(4, "big") + unit for unit in units)


def test_an_entry_of_h264_is_a_refresh_with_nothing_left_to_recover() -> None:
    parser = BitstreamParser("h264", None)
    assert parser.parse(in_stream(SPS, PPS, IDR), is_key=True).is_entry
    assert not parser.parse(in_stream(SLICE), is_key=False).is_entry
    assert not parser.parse(in_stream(SLICE), is_key=True).is_entry
    assert parser.parse(in_stream(RECOVERED_AT_ONCE, SLICE), is_key=True).is_entry
    assert not parser.parse(in_stream(RECOVERED_LATER, SLICE), is_key=True).is_entry
    assert not parser.parse(in_stream(RECOVERED_AT_ONCE, SLICE), is_key=False).is_entry  # containers seek to key frames


def test_the_latest_parameter_sets_and_the_first_user_data_precede_an_entry() -> None:
    parser = BitstreamParser("h264", None)
    assert parser.parse(in_stream(SPS, PPS, USER_DATA, IDR), is_key=True).header == b""
    assert parser.parse(in_stream(OTHER_PPS, SLICE), is_key=False).header == b""
    assert parser.parse(in_stream(IDR), is_key=True).header == in_stream(USER_DATA, SPS, OTHER_PPS)
    assert parser.parse(in_stream(SPS, PPS, IDR), is_key=True).header == in_stream(USER_DATA)
    assert parser.parse(in_stream(IDR), is_key=True).header == in_stream(USER_DATA, SPS, PPS)


def test_units_keep_the_framing_of_their_stream() -> None:
    record = bytes([1, 66, 192, 30, 255, 225, 0, len(SPS), *SPS, 1, 0, len(PPS), *PPS])
    parser = BitstreamParser("h264", record)
    parser.parse(with_lengths(USER_DATA, IDR), is_key=True)
    parser.parse(with_lengths(SLICE), is_key=False)
    assert parser.parse(with_lengths(IDR), is_key=True) == Picture(True, header=with_lengths(USER_DATA))


def test_hevc_entries() -> None:
    parser = BitstreamParser("hevc", None)
    sets = [bytes([kind << 1, 1, 0x80, 7]) for kind in (32, 33, 34)]
    assert parser.parse(in_stream(*sets, bytes([19 << 1, 1, 9])), is_key=True).is_entry
    assert parser.parse(in_stream(bytes([21 << 1, 1, 9])), is_key=True) == Picture(True, header=in_stream(*sets))
    assert not parser.parse(in_stream(bytes([1 << 1, 1, 9])), is_key=True).is_entry


def test_mpeg4_user_data_names_the_encoder() -> None:
    layer, user_data, picture = b"\0\0\1\x20abc", b"\0\0\1\xb2XviD", b"\0\0\1\xb6\x10"
    parser = BitstreamParser("mpeg4", None)
    parser.parse(layer + user_data + picture, is_key=True)
    assert parser.parse(picture, is_key=False).header == b""
    assert parser.parse(picture, is_key=True).header == layer + user_data
    assert parser.parse(layer + picture, is_key=True).header == user_data


def test_mpeg2_sequence_headers_precede_pictures_without_them() -> None:
    header, extension, picture = b"\0\0\1\xb3abc", b"\0\0\1\xb5\x14x", b"\0\0\1\x00\x10"
    parser = BitstreamParser("mpeg2video", None)
    assert parser.parse(header + extension + picture, is_key=True).header == b""
    assert parser.parse(picture, is_key=True).header == header + extension
    assert parser.parse(header + picture, is_key=True).header == b""


def test_other_codecs_trust_the_container() -> None:
    parser = BitstreamParser("vp9", None)
    assert parser.parse(b"\x82", is_key=True) == Picture(True)
    assert parser.parse(b"\x86", is_key=False) == Picture(False)


@pytest.mark.parametrize("codec", ["h264", "hevc", "mpeg4", "mpeg2video", "mpeg1video"])
def test_noise_is_parsed_without_an_error(codec: str) -> None:
    import random

    draws = random.Random(codec)
    for _ in range(300):
        extradata = draws.choice([b"", b"\1"]) + draws.randbytes(draws.randrange(60))
        parser = BitstreamParser(codec, extradata)
        for _ in range(6):
            junk = b"\0\0\1".join(draws.randbytes(draws.randrange(12)) for _ in range(6))
            head = draws.choice([SPS, PPS, IDR, b"\x06\x06\xff\xff", b""])
            assert parser.parse(in_stream(head) + junk, is_key=True).is_second_field in (True, False)
