"""Headers of pages, written by hand: every type of Thrift is passed over, and what no honest file has is not believed."""

from __future__ import annotations

import io
import struct
from typing import Any

import pytest

from muybridge.files.parquet_pages import ColumnChunk, agrees_with_footer, read_column_chunks

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, STRUCT = 1, 2, 3, 4, 5, 6, 7, 8, 9, 12


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
    if kind == LIST:
        element = value[0][0] if value else BYTE
        head = (
            bytes([len(value) << 4 | element])
            if len(value) < 15
            else bytes([240 | element]) + encode_varint(len(value))
        )
        return head + b"".join(
            bytes([entry]) if kind in (TRUE, FALSE) else encode_value(kind, entry) for kind, entry in value
        )
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
    column = {
        1: (I32, 6),
        5: (I64, num_values),
        6: (I64, uncompressed),
        7: (I64, len(content) - 4),
        9: (I64, 4 + sum(map(len, pages[:dictionary]))),
        **({11: (I64, 4)} if dictionary else {}),
    }
    file = io.BytesIO(content + make_footer(column))
    return agrees_with_footer(file, read_column_chunks(file))


def make_footer(column: dict[int, tuple[int, Any]], *, num_groups: int = 1, **wrong: Any) -> bytes:
    """The footer of a file with one column in each of its groups of rows."""
    chunk = {2: (I64, 4), 3: (STRUCT, column), **wrong.get("chunk", {})}
    group = {1: (LIST, [(STRUCT, chunk)]), 2: (I64, 10)}
    schema = [(STRUCT, {4: (BINARY, b"root"), 5: (I32, 1)}), (STRUCT, {1: (I32, 6), 4: (BINARY, b"a")})]
    encoded = encode_struct({1: (I32, 2), 2: (LIST, schema), 3: (I64, 10), 4: (LIST, num_groups * [(STRUCT, group)])})
    return encoded + struct.pack("<I", len(encoded)) + b"PAR1"


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
    42: (LIST, [(I32, number) for number in range(40)]),
    43: (LIST, [(TRUE, 1), (TRUE, 2)]),
    44: (LIST, []),
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
        [make_page(5, size=200), make_page(5, size=-40)],
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
    for num_bytes in (uncompressed, abs(uncompressed - 80), uncompressed + 80):
        assert not agrees(pages, 10, num_bytes=num_bytes)


COLUMN = {1: (I32, 6), 5: (I64, 10), 6: (I64, 50), 7: (I64, 30), 9: (I64, 20), 11: (I64, 4)}


def test_a_footer_lists_the_columns_of_all_groups_of_rows() -> None:
    chunk = ColumnChunk(holds_text=True, num_values=10, num_bytes=50, num_compressed_bytes=30, start=4)
    assert read_column_chunks(io.BytesIO(b"PAR1" + make_footer(COLUMN, num_groups=20))) == 20 * [chunk]
    numbers = {**COLUMN, 1: (I32, 2)}
    del numbers[11]
    (chunk,) = read_column_chunks(io.BytesIO(b"PAR1" + make_footer(numbers)))
    assert (chunk.holds_text, chunk.start) == (False, 20)


@pytest.mark.parametrize("kind", [1, 2, 4, 5, 6, 7])
def test_byte_arrays_of_a_fixed_length_are_as_long_as_they_like(kind: int) -> None:
    (chunk,) = read_column_chunks(io.BytesIO(b"PAR1" + make_footer({**COLUMN, 1: (I32, kind)})))
    assert chunk.holds_text == (kind in (6, 7))


@pytest.mark.parametrize(
    ("column", "wrong"),
    [
        ({**COLUMN, 5: (I64, -1)}, {}),
        ({**COLUMN, 9: (I64, -20)}, {}),
        ({**COLUMN, 5: (I32, 10)}, {}),  # Arrow passes over a field of another type
        ({**COLUMN, 1: (I32, 6 + (1 << 33))}, {}),  # ... and keeps the lower half of a number that is too large
        ({**COLUMN, 5: (I64, 1 << 70)}, {}),
        ({1: COLUMN[1], 5: COLUMN[5]}, {}),
        ({**COLUMN, 65541: (I64, 3)}, {}),  # ... and takes the number of a field modulo 65,536
        (COLUMN, {"chunk": {3: (I32, 1)}}),  # encrypted: the column's description stands elsewhere
        (COLUMN, {"chunk": {8: (13, {})}}),
    ],
)
def test_a_footer_that_may_be_taken_in_two_ways_is_refused(column: dict[int, Any], wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="its footer is damaged"):
        read_column_chunks(io.BytesIO(b"PAR1" + make_footer(column, **wrong)))


def test_a_field_that_stands_twice_is_refused() -> None:
    column = encode_struct(COLUMN)[:-1] + bytes([0 << 4 | I64, *encode_value(I16, 5), *encode_value(I64, 3), 0])
    footer = make_footer(COLUMN)
    content = footer[:-8].replace(encode_struct(COLUMN), column)
    with pytest.raises(ValueError, match="its footer is damaged"):
        read_column_chunks(io.BytesIO(b"PAR1" + content + struct.pack("<I", len(content)) + b"PAR1"))


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + bytes(4) + b"PAR1", b"\xff\xff\xff\x7fPAR1"])
def test_a_file_without_a_footer_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="its footer is damaged"):
        read_column_chunks(io.BytesIO(content))
