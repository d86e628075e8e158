"""What the packets of a stream say without being decoded: where decoding may start, which parameter sets are in force, which
packets are only the second field of a picture.

Input: the packets of one stream in decoding order. Output: a `Picture` per packet. Only the units before the first slice are
looked at, and of an interlaced H.264 stream the head of that slice, so parsing costs microseconds per packet.
References: H.264 (ITU-T H.264, 7.3), HEVC (H.265, 7.3), MPEG-4 (ISO 14496-2, 6.2), MPEG-2 (ISO 13818-2, 6.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

_UnitKey: TypeAlias = tuple[int, int]  # the type of a unit, and its number among those of the type

_START_CODE = b"\0\0\1"
_MAX_UNITS = 64  # looked at in a packet before its first slice
_H264_SLICE, _H264_IDR, _H264_SEI, _H264_SPS, _H264_PPS = 1, 5, 6, 7, 8
_HEVC_IRAP, _HEVC_PARAMETER_SETS = range(16, 24), (32, 33, 34)
_SEI_USER_DATA, _SEI_RECOVERY_POINT = 5, 6
_CHROMA_PROFILES = frozenset((44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244))
_MPEG_HEADERS = {
    # Codes of units that belong to the sequence; the user data of MPEG-4 name the encoder, whose faults decoders make up for.
    "mpeg4": (frozenset((*range(0x30), 0xB0, 0xB2, 0xB5)), range(0x20, 0x30)),
    "mpeg2video": (frozenset((0xB3, 0xB5)), range(0xB3, 0xB4)),
    "mpeg1video": (frozenset((0xB3,)), range(0xB3, 0xB4)),
}


@dataclass(frozen=True)
class Picture:
    """A packet: `is_entry`, decoding may start here; `header`, units in force that a decoder which starts here lacks."""

    is_entry: bool
    is_second_field: bool = False
    header: bytes = b""


_PLAIN_PICTURE = Picture(False)


class BitstreamParser:
    """Parses the packets of one stream in decoding order. Codecs without rules of their own trust the key-frame flag."""

    def __init__(self, codec: str, extradata: bytes | None) -> None:
        self._codec = codec
        self._units: dict[
            _UnitKey, bytes
        ] = {}  # in force, besides those of the extradata; in order of first appearance
        self._first_field: tuple[int, bool] | None = None  # frame number and parity of a first field
        self._length_size = _read_length_size(codec, extradata or b"")
        self._sps: dict[int, _SequenceParameters] = {}
        self._sps_of_pps: dict[int, int] = {}
        self._frames_only = codec == "h264"
        self._num_packets = 0
        if codec == "h264":
            for unit in _split_extradata(extradata or b"", self._length_size):
                self._note_h264_parameters(unit)

    def parse(self, packet: bytes, *, is_key: bool) -> Picture:
        """What packet says; call once for each packet, in order."""
        self._num_packets += 1
        if self._is_plain_slice(packet):
            return _PLAIN_PICTURE
        match self._codec:
            case "h264":
                return self._parse_h264(packet, is_key)
            case "hevc":
                return self._parse_hevc(packet, is_key)
            case "mpeg4" | "mpeg2video" | "mpeg1video":
                return self._parse_mpeg(packet, is_key)
        return Picture(is_key)

    def _is_plain_slice(self, packet: bytes) -> bool:
        """Whether the packet of an H.264 stream without fields begins with a slice that is no entry: nearly all do."""
        return self._frames_only and self._length_size == 4 and len(packet) > 4 and packet[4] & 31 == _H264_SLICE

    def _parse_h264(self, packet: bytes, is_key: bool) -> Picture:
        own: dict[_UnitKey, bytes] = {}
        is_entry = is_second_field = False
        for unit in self._iterate_units(packet):
            kind = unit[0] & 31
            if kind in (_H264_SPS, _H264_PPS):
                own[kind, self._note_h264_parameters(unit)] = unit
            elif kind == _H264_SEI:
                messages = list(_iterate_sei_messages(unit))
                # The first bit is the code of 0: no frames are to be recovered.
                is_entry |= any(kind == _SEI_RECOVERY_POINT and payload[:1] >= b"\x80" for kind, payload in messages)
                if self._num_packets == 1 and any(kind == _SEI_USER_DATA for kind, _ in messages):
                    own[_H264_SEI, 0] = unit
            elif kind in (_H264_SLICE, 2, _H264_IDR):
                is_entry |= kind == _H264_IDR
                is_second_field = self._is_second_field(unit)
                break
        is_entry &= is_key and not is_second_field
        return Picture(is_entry, is_second_field, self._update_header(own, is_entry))

    def _parse_hevc(self, packet: bytes, is_key: bool) -> Picture:
        own: dict[_UnitKey, bytes] = {}
        is_entry = False
        for unit in self._iterate_units(packet):
            kind = unit[0] >> 1 & 63
            if kind in _HEVC_PARAMETER_SETS and len(unit) > 2:
                own[kind, _BitReader(unit[2:16]).read_ue() if kind == _HEVC_PARAMETER_SETS[-1] else 0] = unit
            elif kind < 32:
                is_entry = kind in _HEVC_IRAP
                break
        is_entry &= is_key
        return Picture(is_entry, False, self._update_header(own, is_entry))

    def _parse_mpeg(self, packet: bytes, is_key: bool) -> Picture:
        sequence_codes, start_codes = _MPEG_HEADERS[self._codec]
        own: dict[_UnitKey, bytes] = {}
        for unit in _split_at_start_codes(packet):
            if unit[0] not in sequence_codes:
                break
            if unit[0] != 0xB2 or self._num_packets == 1:
                own[unit[0], unit[1] >> 4 if unit[0] == 0xB5 and len(unit) > 1 else 0] = unit
        missing = self._update_header(own, is_key)
        if any(code in start_codes for code, _ in own):  # complete but for the name of the encoder
            missing = self._frame_unit(self._units[0xB2, 0]) if (0xB2, 0) in self._units.keys() - own.keys() else b""
        return Picture(is_key, False, missing)

    def _update_header(self, own: dict[_UnitKey, bytes], is_entry: bool) -> bytes:
        """Put the units of a packet in force; for an entry, return those that it does not hold, ready to be decoded."""
        missing = [key for key in self._units if key not in own] if is_entry else []
        if self._codec in ("h264", "hevc"):
            missing.sort()  # sequence parameter sets before picture parameter sets, which refer to them
        header = b"".join(self._frame_unit(self._units[key]) for key in missing)
        if len(self._units) < _MAX_UNITS or own.keys() <= self._units.keys():
            self._units.update(own)
        return header

    def _frame_unit(self, unit: bytes) -> bytes:
        if self._length_size:
            return len(unit).to_bytes(self._length_size, "big") + unit
        return (b"\0" + _START_CODE if self._codec in ("h264", "hevc") else _START_CODE) + unit

    def _iterate_units(self, packet: bytes) -> Iterator[bytes]:
        if self._length_size:
            return _split_by_length(packet, self._length_size)
        return _split_at_start_codes(packet)

    def _note_h264_parameters(self, unit: bytes) -> int:
        """Remember the parts of a parameter set that tell fields from frames; return its number."""
        bits = _BitReader(_unescape(unit[1:256]))
        if unit[0] & 31 == _H264_PPS:
            pps_id = bits.read_ue()
            self._sps_of_pps[pps_id & 255] = bits.read_ue()
            return pps_id
        sps_id, parameters = _parse_h264_sps(bits)
        self._frames_only &= parameters.frames_only
        self._sps[sps_id & 31] = parameters
        return sps_id

    def _is_second_field(self, unit: bytes) -> bool:
        """Whether a slice belongs to the field that completes the picture of the packet before."""
        if self._frames_only:
            return False
        bits = _BitReader(_unescape(unit[1:64]))
        _, _, pps_id = bits.read_ue(), bits.read_ue(), bits.read_ue()
        parameters = self._sps.get(self._sps_of_pps.get(pps_id, 0))
        if parameters is None or parameters.frames_only:
            self._first_field = None
            return False
        if parameters.separate_planes:
            bits.read(2)
        frame_number = bits.read(parameters.frame_number_bits)
        if not bits.read(1):  # a frame
            self._first_field = None
            return False
        field = (frame_number, bool(bits.read(1)))
        if self._first_field == (field[0], not field[1]):
            self._first_field = None
            return True
        self._first_field = field
        return False


@dataclass(frozen=True)
class _SequenceParameters:
    frames_only: bool
    frame_number_bits: int
    separate_planes: bool


class _BitReader:
    """Bits from the highest on; past the end, zeros."""

    def __init__(self, data: bytes) -> None:
        self._value, self._num_left = int.from_bytes(data), 8 * len(data)

    def read(self, num_bits: int) -> int:
        self._num_left -= num_bits
        shifted = self._value >> self._num_left if self._num_left >= 0 else self._value << -self._num_left
        return shifted & ((1 << num_bits) - 1)

    def read_ue(self) -> int:
        """An unsigned Exp-Golomb code (H.264, 9.1)."""
        num_zeros = 0
        while num_zeros < 32 and self._num_left > 0 and not self.read(1):
            num_zeros += 1
        return (1 << num_zeros) - 1 + self.read(num_zeros)

    def read_se(self) -> int:
        code = self.read_ue()
        return (code + 1) // 2 if code % 2 else -(code // 2)


def _parse_h264_sps(bits: _BitReader) -> tuple[int, _SequenceParameters]:
    """The number of a sequence parameter set, and the parts of it that slice headers depend on (7.3.2.1.1)."""
    profile = bits.read(8)
    bits.read(16)
    sps_id, chroma_format, separate_planes = bits.read_ue(), 1, False
    if profile in _CHROMA_PROFILES:
        chroma_format = bits.read_ue()
        separate_planes = chroma_format == 3 and bool(bits.read(1))
        _, _, _ = bits.read_ue(), bits.read_ue(), bits.read(1)
        if bits.read(1):
            _skip_scaling_lists(bits, 12 if chroma_format == 3 else 8)
    frame_number_bits = min(bits.read_ue(), 12) + 4
    order_type = bits.read_ue()
    if order_type == 0:
        bits.read_ue()
    elif order_type == 1:
        _, _, _ = bits.read(1), bits.read_se(), bits.read_se()
        for _ in range(min(bits.read_ue(), 255)):
            bits.read_se()
    _, _, _, _ = bits.read_ue(), bits.read(1), bits.read_ue(), bits.read_ue()
    return sps_id, _SequenceParameters(bool(bits.read(1)), frame_number_bits, separate_planes)


def _skip_scaling_lists(bits: _BitReader, num_lists: int) -> None:
    for list_index in range(num_lists):
        last = following = 8
        for _ in range((16 if list_index < 6 else 64) if bits.read(1) else 0):
            if following != 0:
                following = (last + bits.read_se()) % 256
            last = following or last


def _iterate_sei_messages(unit: bytes) -> Iterator[tuple[int, bytes]]:
    """The types and payloads of the messages of a unit of supplemental information (7.3.2.3.1)."""
    data, position = _unescape(unit[1:]), 0
    while position + 2 < len(data):  # the last byte holds only the bit that ends the unit
        numbers = []
        for _ in range(2):
            number = 0
            while position < len(data) - 1 and data[position] == 255:
                number, position = number + 255, position + 1
            numbers.append(number + data[position])
            position += 1
            if position >= len(data):
                return
        yield numbers[0], data[position : position + numbers[1]]
        position += numbers[1]


def _unescape(data: bytes) -> bytes:
    """Without the bytes that keep start codes out of a unit (7.4.1)."""
    return data.replace(b"\0\0\3", b"\0\0")


def _split_by_length(data: bytes, length_size: int) -> Iterator[bytes]:
    position = 0
    for _ in range(_MAX_UNITS):
        start = position + length_size
        size = int.from_bytes(data[position:start])
        if size == 0 or start >= len(data):
            return
        yield data[start : start + size]
        position = start + size


def _split_at_start_codes(data: bytes) -> Iterator[bytes]:
    """The units of a byte stream, without the zeros between them. Slices are cut at 4 KiB, the units before them are whole."""
    start = data.find(_START_CODE) + 3
    for _ in range(_MAX_UNITS):
        if start < 3 or start >= len(data):
            return
        stop = data.find(_START_CODE, start, start + 65536)
        if stop < 0:
            yield data[start : start + 4096]
            return
        if unit := data[start:stop].rstrip(b"\0"):
            yield unit
        start = stop + 3


def _read_length_size(codec: str, extradata: bytes) -> int:
    """The bytes of the length before each unit, or 0 for a byte stream with start codes."""
    position = {"h264": 4, "hevc": 21}.get(codec, 0)
    if not position or len(extradata) <= position or extradata[0] != 1:
        return 0
    return (extradata[position] & 3) + 1


def _split_extradata(extradata: bytes, length_size: int) -> Iterable[bytes]:
    """The parameter sets of an H.264 stream's extradata: an avcC record (ISO 14496-15, 5.3.3) or a byte stream."""
    if not length_size:
        yield from _split_at_start_codes(extradata)
        return
    position = 5
    for mask in (31, 255):
        count, position = (extradata[position] & mask if position < len(extradata) else 0), position + 1
        for _ in range(count):
            size = int.from_bytes(extradata[position : position + 2])
            if unit := extradata[position + 2 : position + 2 + size]:
                yield unit
            position += 2 + size
