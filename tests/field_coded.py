"""H.264 with a picture a field, which no encoder of FFmpeg writes: every macroblock holds its samples as they are (I_PCM)."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from videos import index_picture

HEIGHT, WIDTH = 64, 32
_DELIMITER = b"\0\0\0\1\x09\x10"


class _Bits:
    def __init__(self) -> None:
        self._bits: list[str] = []

    def put(self, value: int, num_bits: int) -> _Bits:
        self._bits.append(f"{value:0{num_bits}b}" if num_bits else "")
        return self

    def put_ue(self, *values: int) -> _Bits:
        for value in values:
            self.put(value + 1, 2 * (value + 1).bit_length() - 1)
        return self

    def align(self) -> _Bits:
        return self.put(0, -sum(map(len, self._bits)) % 8)

    def make_unit(self, head: int) -> bytes:
        """A unit with its start code, and the bytes that keep start codes out of it."""
        self.put(1, 1).align()
        text = "".join(self._bits)
        data, num_zeros = bytearray(), 0
        for byte in int(text, 2).to_bytes(len(text) // 8):
            if num_zeros >= 2 and byte <= 3:
                data.append(3)
                num_zeros = 0
            data.append(byte)
            num_zeros = num_zeros + 1 if byte == 0 else 0
        return b"\0\0\0\1" + bytes([head]) + bytes(data)


def _make_parameter_sets() -> bytes:
    sps = _Bits().put(77, 8).put(0, 8).put(30, 8).put_ue(0, 4, 2, 1).put(0, 1).put_ue(WIDTH // 16 - 1, HEIGHT // 32 - 1)
    sps.put(0b00100, 5)  # fields allowed, no macroblock fields, direct_8x8 on, no cropping, no VUI
    pps = _Bits().put_ue(0, 0).put(0, 2).put_ue(0, 0, 0).put(0, 3).put_ue(0, 0, 0).put(0b100, 3)
    return sps.make_unit(0x67) + pps.make_unit(0x68)


def _make_field(luma: NDArray[np.uint8], *, bottom: bool, idr: bool, frame_number: int, idr_id: int) -> bytes:
    bits = _Bits().put_ue(0, 7, 0).put(frame_number, 8).put(1, 1).put(bottom, 1)
    if idr:
        bits.put_ue(idr_id).put(0, 2)
    else:
        bits.put(0, 1)
    bits.put_ue(0, 1)
    for top in range(0, HEIGHT // 2, 16):
        for left in range(0, WIDTH, 16):
            bits.put_ue(25).align()
            for sample in luma[top : top + 16, left : left + 16].reshape(-1).tolist():
                bits.put(sample, 8)
            for _ in range(128):
                bits.put(128, 8)
    return bits.make_unit(0x65 if idr else 0x61)


def write_field_coded_video(path: Path, num_frames: int, *, gop: int = 10) -> Path:
    """`num_frames` frames of 25 a second that show their index, each field a packet with a time stamp of its own."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.options = {"x264-params": "log-level=none"}
        output.start_encoding()
        for number in range(num_frames):
            luma, place = index_picture(number, HEIGHT, WIDTH)[:, :, 0], number % gop
            top = _make_field(luma[0::2], bottom=False, idr=place == 0, frame_number=place, idr_id=number // gop % 2)
            bottom = _make_field(luma[1::2], bottom=True, idr=False, frame_number=place, idr_id=0)
            for data, field in (
                (_DELIMITER + (_make_parameter_sets() if place == 0 else b"") + top, 0),
                (_DELIMITER + bottom, 1),
            ):
                packet = av.Packet(data)
                packet.stream, packet.time_base = stream, Fraction(1, 90000)
                packet.pts = packet.dts = 90000 + 3600 * number + 1800 * field
                packet.is_keyframe = place == 0 and field == 0
                output.mux(packet)
    return path
