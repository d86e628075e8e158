"""Headers of pages, written by hand: every type of Thrift is passed over, and what no honest file has is not believed."""

from __future__ import annotations

import io
import struct
from types import SimpleNamespace
from typing import Any

import pytest

from muybridge.files.parquet_pages import agrees_with_footer

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, STRUCT = 1, 2, 3, 4, 5, 6, 7, 8, 12


def encode_varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    return bytes([*encoded, number])


def encode_value(kind: int, value: Any) -> bytes:
    if kind in (TRUE, FALSE):
        return b""
    if kind == BYTE:
        return bytes([value])
    if kind in (I16, I32, I64):
        return encode_varint(2 * value if value >= 0 else -2 * value - 1)
    if kind == DOUBLE:
        return struct.pack("<d", value)
    if kind == BINARY:
        return encode_varint(len(value)) + value
    return encode_struct(value)


def encode_struct(fields: dict[int, tuple[int, Any]]) -> bytes:
    """Fields as `number: (type, value)`; a step of more than 15 is written in the long form."""
    encoded, last = b"", 0
    for number, (kind, value) in fields.items():
        step = number - last
        encoded += bytes([step << 4 | kind]) if step < 16 else bytes([kind]) + encode_value(I16, number)
        encoded += encode_value(kind, value)
        last = number
    return encoded + b"\0"


def make_page(
    num_values: int, extras: dict[int, tuple[int, Any]] | None = None, *, size: int = 40, field: int = 5
) -> bytes:
    """A data page of 24 bytes compressed and `size` uncompressed."""
    fields = {1: (I32, 0), 2: (I32, size), 3: (I32, 24), field: (STRUCT, {1: (I32, num_values)}), **(extras or {})}
    return encode_struct(fields) + bytes(24)


def agrees(pages: list[bytes], num_values: int, *, num_bytes: int | None = None, dictionary: int = 0) -> bool:
    content = b"PAR1" + b"".join(pages)
    uncompressed = sum(len(page) - 24 + 40 for page in pages) if num_bytes is None else num_bytes
    column = SimpleNamespace(
        dictionary_page_offset=4 if dictionary else None,
        data_page_offset=4 + sum(map(len, pages[:dictionary])),
        total_compressed_size=len(content) - 4,
        num_values=num_values,
        total_uncompressed_size=uncompressed,
    )
    group = SimpleNamespace(num_columns=1, column=lambda _: column)
    metadata: Any = SimpleNamespace(num_row_groups=1, row_group=lambda _: group)
    return agrees_with_footer(io.BytesIO(content), metadata)


def nest(depth: int) -> tuple[int, Any]:
    return (STRUCT, {1: nest(depth - 1)}) if depth > 1 else (STRUCT, {})


EXTRAS = {
    9: (TRUE, None),
    10: (FALSE, None),
    11: (BYTE, 200),
    12: (I16, -3),
    13: (I64, 1 << 50),
    14: (DOUBLE, 2.5),
    15: (BINARY, b"the smallest value" * 20),
    40: (I32, 7),
    41: nest(8),
}


@pytest.mark.parametrize("number", EXTRAS)
@pytest.mark.parametrize("field", [5, 8])
def test_every_type_is_passed_over(number: int, field: int) -> None:
    pages = [make_page(300, {number: EXTRAS[number]}, field=field), make_page(5)]
    assert agrees(pages, 305)
    assert not agrees(pages, 304)
    assert not agrees(pages, 305, num_bytes=1)


def test_a_dictionary_is_no_data_page_and_counts_by_its_bytes() -> None:
    dictionary = encode_struct({1: (I32, 2), 2: (I32, 40), 3: (I32, 24), 7: (STRUCT, {1: (I32, 9)})}) + bytes(24)
    assert agrees([dictionary, make_page(3)], 3, dictionary=1)
    assert not agrees([dictionary, make_page(3)], 12, dictionary=1)


@pytest.mark.parametrize(
    "pages",
    [
        [make_page(-5), make_page(15)],
        [make_page(10, size=-40)],
        [encode_struct({2: (I32, 40), 3: (I32, -24), 5: (STRUCT, {1: (I32, 10)})}) + bytes(24)],
        [encode_struct({2: (I32, 40), 5: (STRUCT, {1: (I32, 10)})}) + bytes(24)],
        [encode_struct({2: (I32, 40), 3: (I32, 24), 5: (I32, 10)}) + bytes(24)],
        [make_page(10, {9: nest(9)})],
        [make_page(10, {9: (13, {})})],
        [make_page(10)[:4]],
    ],
)
def test_what_no_honest_file_has_is_not_believed(pages: list[bytes]) -> None:
    uncompressed = sum(len(page) - 24 + 40 for page in pages)
    for num_bytes in (uncompressed, uncompressed - 80):
        assert not agrees(pages, 10, num_bytes=num_bytes)
