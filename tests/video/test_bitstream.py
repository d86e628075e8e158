"""What packets say: entries, fields, and the parameter sets that a decoder lacks which starts in the middle."""

from __future__ import annotations

import random
from collections.abc import Iterator

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
    draws = random.Random(codec)
    for _ in range(300):
        extradata = draws.choice([b"", b"\1"]) + draws.randbytes(draws.randrange(60))
        parser = BitstreamParser(codec, extradata)
        for _ in range(6):
            junk = b"\0\0\1".join(draws.randbytes(draws.randrange(12)) for _ in range(6))
            head = draws.choice([SPS, PPS, IDR, b"\x06\x06\xff\xff", b""])
            assert parser.parse(in_stream(head) + junk, is_key=True).is_second_field in (True, False)


def ue(value: int) -> str:
    """The bits of an unsigned Exp-Golomb code (H.264, 9.1)."""
    code = f"{value + 1:b}"
    return "0" * (len(code) - 1) + code


def se(value: int) -> str:
    """Of a signed one (9.1.1)."""
    return ue(2 * value - 1 if value > 0 else -2 * value)


def to_unit(head: int, bits: str) -> bytes:
    """A NAL unit, with the bytes that keep start codes out of it (7.4.1)."""
    bits += "1" + "0" * (-(len(bits) + 1) % 8)
    unit = bytes([head])
    for byte in int(bits, 2).to_bytes(len(bits) // 8):
        unit += b"\3" if unit.endswith(b"\0\0") and byte <= 3 else b""
        unit += bytes([byte])
    return unit


FLAT_LIST, ABSENT_LIST, ENDED_LIST = (
    "1" + se(1) * 16,
    "0",
    "1" + se(-8),
)  # a next value of 0 repeats the last to the end
LONG_LIST = "1" + (se(127) + se(-127)) * 32


def sps_of_fields(
    profile: int, *, chroma: str = "", frame_number_bits: int, order: str, number: int = 0, frames_only: str = "0"
) -> bytes:
    """A sequence parameter set (7.3.2.1.1) of 45 x 18 macroblock pairs; `chroma`: what the High profiles add."""
    bits = f"{profile:08b}{0:08b}{40:08b}{ue(number)}{chroma}{ue(frame_number_bits - 4)}{order}"
    return to_unit(0x67, f"{bits}{ue(4)}0{ue(44)}{ue(17)}{frames_only}01")


def pps_of(number: int, sps: int = 0) -> bytes:
    return to_unit(0x68, f"{ue(number)}{ue(sps)}0011")


def slice_of(frame_number: str, field: str, *, pps: int = 0, plane: str = "") -> bytes:
    """A slice (7.3.3): `field` is 0 for a frame, 10 for the top field, 11 for the bottom field."""
    return to_unit(0x41, f"{ue(0)}{ue(5)}{ue(pps)}{plane}{frame_number}{field}{ue(3)}0101")


PROFILES = {
    "main, order type 0": (sps_of_fields(77, frame_number_bits=4, order=ue(0) + ue(2)), 4, ""),
    "main, order type 2": (sps_of_fields(77, frame_number_bits=16, order=ue(2)), 16, ""),
    "main, order type 1": (
        *(
            sps_of_fields(
                77, frame_number_bits=9, order=ue(1) + "1" + se(-3) + se(2) + ue(3) + se(1) + se(-70) + se(9)
            ),
            9,
        ),
        "",
    ),
    "high": (sps_of_fields(100, chroma=ue(1) + ue(2) + ue(2) + "00", frame_number_bits=7, order=ue(0) + ue(4)), 7, ""),
    "high, eight lists": (
        sps_of_fields(
            100,
            chroma=ue(1)
            + ue(0)
            + ue(0)
            + "01"
            + FLAT_LIST
            + ABSENT_LIST * 2
            + ENDED_LIST
            + FLAT_LIST * 2
            + LONG_LIST
            + "0",
            frame_number_bits=8,
            order=ue(2),
        ),
        *(8, ""),
    ),
    "4:4:4, twelve lists": (
        sps_of_fields(
            244,
            chroma=ue(3) + "0" + ue(0) + ue(0) + "11" + "0" * 6 + "0" * 2 + LONG_LIST + "0" * 2 + ENDED_LIST,
            frame_number_bits=6,
            order=ue(0) + ue(0),
        ),
        *(6, ""),
    ),
    "4:4:4, separate planes": (
        sps_of_fields(244, chroma=ue(3) + "1" + ue(0) + ue(0) + "00", frame_number_bits=5, order=ue(2)),
        *(5, "10"),
    ),
}


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("framing", ["start codes", "lengths", "extradata"])
def test_the_second_field_of_a_picture(name: str, framing: str) -> None:
    """Of one frame number, of the other parity, and directly behind the first."""
    sps, num_bits, plane = PROFILES[name]
    record = bytes([1, *sps[1:4], 255, 225, 0, len(sps), *sps, 1, 0, len(pps_of(0)), *pps_of(0)])
    parser = BitstreamParser(
        "h264", {"start codes": None, "extradata": record, "lengths": record[:5] + b"\xe0\0"}[framing]
    )
    frame = in_stream if framing == "start codes" else with_lengths
    if framing != "extradata":
        parser.parse(frame(sps, pps_of(0)), is_key=False)
    number, low, high = "10" * (num_bits // 2) + "1" * (num_bits % 2), "0" * num_bits, "1" + "0" * (num_bits - 1)
    lowest = "0" * (num_bits - 1) + "1"

    def parse(*slices: tuple[str, str]) -> Iterator[bool]:
        parser.parse(frame(slice_of(low, "0", plane=plane)), is_key=False)
        for frame_number, field in slices:
            yield parser.parse(frame(slice_of(frame_number, field, plane=plane)), is_key=False).is_second_field

    assert list(parse((number, "10"), (number, "11"), (number, "10"), (number, "11"))) == [False, True] * 2
    assert list(parse((low, "11"), (low, "10"), (low, "0"), (low, "10"), (low, "11"))) == [
        False,
        True,
        False,
        False,
        True,
    ]
    assert list(parse((low, "10"), (low, "10"), (low, "11"))) == [False, False, True]
    assert list(parse((low, "10"), (high, "11"), (lowest, "10"), (low, "11"))) == [False] * 4
    assert list(parse((low, "10"), (low, "0"), (low, "10"))) == [False, False, False]


def test_a_field_follows_the_parameter_sets_that_its_slice_names() -> None:
    """Slices name a picture parameter set, which names a sequence parameter set; neither is always number 0."""
    parser = BitstreamParser("h264", None)
    frames = sps_of_fields(77, frame_number_bits=4, order=ue(2), number=1, frames_only="1")
    fields = sps_of_fields(77, frame_number_bits=11, order=ue(2), number=3)
    parser.parse(in_stream(frames, fields, pps_of(2, 3), pps_of(40, 1)), is_key=True)
    top, bottom = (slice_of("10000000001", field, pps=2) for field in ("10", "11"))
    of_frames = slice_of("1000", "10", pps=40)
    units = (top, bottom, top, of_frames, bottom, slice_of("1000", "10", pps=7))
    assert [parser.parse(in_stream(unit), is_key=False).is_second_field for unit in units] == [
        *(False, True, False, False, False, False),
    ]


def test_a_second_field_is_no_entry() -> None:
    parser = BitstreamParser("h264", None)
    sps = sps_of_fields(77, frame_number_bits=4, order=ue(2))
    top, bottom = (b"\x65" + slice_of("0000", field)[1:] for field in ("10", "11"))
    pictures = [parser.parse(in_stream(sps, pps_of(0), unit), is_key=True) for unit in (top, bottom, top)]
    assert [(picture.is_entry, picture.is_second_field) for picture in pictures] == [
        *((True, False), (False, True), (True, False)),
    ]


def test_parameter_sets_are_kept_by_number_and_put_before_those_that_refer_to_them() -> None:
    sets = [pps_of(1), pps_of(0), SPS]
    parser = BitstreamParser("h264", None)
    parser.parse(in_stream(*sets, IDR), is_key=True)
    assert parser.parse(in_stream(IDR), is_key=True).header == in_stream(SPS, pps_of(0), pps_of(1))
    hevc = BitstreamParser("hevc", None)
    vps, sps, refresh = bytes([32 << 1, 1, 0xC0, 7]), bytes([33 << 1, 1, 0xC0, 7]), bytes([16 << 1, 1, 9])
    first, second = bytes([34 << 1, 1, 0xC0, 7]), bytes([34 << 1, 1, 0b01000000, 7])  # numbers 0 and 1
    hevc.parse(in_stream(second, first, sps, vps, refresh), is_key=True)
    assert hevc.parse(in_stream(refresh), is_key=True).header == in_stream(vps, sps, first, second)
    for kind, is_entry in ((15, False), (16, True), (23, True), (24, False), (31, False)):
        assert hevc.parse(in_stream(bytes([kind << 1, 1, 9])), is_key=True).is_entry == is_entry
    assert not hevc.parse(in_stream(refresh), is_key=False).is_entry


@pytest.mark.parametrize("length_size", [1, 2, 4])
def test_lengths_have_the_size_that_the_record_says(length_size: int) -> None:
    def frame(*units: bytes) -> bytes:
        return b"".join(len(unit).to_bytes(length_size) + unit for unit in units)

    h264 = BitstreamParser("h264", bytes([1, 66, 192, 30, 252 + length_size - 1, 224, 0]))
    assert h264.parse(frame(SPS, PPS, IDR), is_key=True).is_entry
    assert h264.parse(frame(IDR), is_key=True).header == frame(SPS, PPS)
    hevc = BitstreamParser("hevc", b"\1" + bytes(20) + bytes([252 + length_size - 1, 0]))
    units = [bytes([kind << 1, 1, 0xC0, 7]) for kind in (32, 33, 34, 19)]
    assert hevc.parse(frame(*units), is_key=True).is_entry
    assert hevc.parse(frame(units[3]), is_key=True).header == frame(*units[:3])


def test_messages_are_read_one_behind_the_other() -> None:
    """Types and sizes of 255 and more go on in the next byte (7.3.2.3.1)."""
    long_one, other = b"\x04\xff\x05" + b"\xaa" * 260, b"\xff\x01\x02\xbb\xbb"
    recovery, later = b"\x06\x01\x84", b"\x06\x01\x28"
    for messages, is_entry in (
        (long_one + recovery, True),
        (other + recovery, True),
        (recovery + other, True),
        (long_one + later, False),
        (b"\x04\x03" + recovery, False),  # within the payload of another
        (b"\xff\x07\x01\x84", False),  # 255 + 7 is another type
    ):
        parser = BitstreamParser("h264", None)
        picture = parser.parse(in_stream(SPS, PPS, b"\x06" + messages + b"\x80", SLICE), is_key=True)
        assert picture.is_entry == is_entry, messages
