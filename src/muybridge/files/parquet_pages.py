"""What the footer of a Parquet file says of its columns, and whether the pages say the same of themselves.

Arrow decodes as many values as a page's own header claims, and a page of 20 bytes may claim two billion equal ones. A footer
that is right bounds the memory; whether it is right is seen by reading the headers of all pages, 20 microseconds each. Footer
and headers are structures of Thrift's compact protocol (parquet.thrift). The footer is read here, since pyarrow ends the whole
process where it is asked for a column whose statistics do not fit (`RowGroupMetaData.column`, pyarrow 26).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa

_MAX_HEADER_BYTES = 1 << 16  # with the smallest and the largest value of the page
_FOOTER_END_BYTES = 8  # the footer's length and a mark
_I16, _I32, _I64, _BINARY, _LIST, _SET, _STRUCT = 4, 5, 6, 8, 9, 10, 12  # types of Thrift
_BITS = {_I16: 16, _I32: 32, _I64: 64}
_BOOLEANS, _LONG_LIST = (1, 2), 15  # a byte each in a list; a list of 15 elements or more
_FIXED_SIZES = {1: 0, 2: 0, 3: 1, 7: 8}  # true, false, a byte, a double
_MAX_DEPTH = 8
_ROW_GROUPS, _COLUMNS, _COLUMN = (4, _LIST), (1, _LIST), (3, _STRUCT)  # of FileMetaData, RowGroup and ColumnChunk
_TYPE, _NUM_VALUES, _UNCOMPRESSED, _COMPRESSED = (1, _I32), (5, _I64), (6, _I64), (7, _I64)  # of ColumnMetaData
_DATA_OFFSET, _DICTIONARY_OFFSET = (9, _I64), (11, _I64)
_TEXT_TYPES = (6, 7)  # byte arrays, of any length or of a fixed one
_NOT_THRIFT = (IndexError, KeyError, TypeError, ValueError, OverflowError, AttributeError)  # or another structure
# Fields, by number and type as Arrow's reader takes them: of another type it passes over them.
_DATA_PAGE, _DATA_PAGE_V2 = (5, _STRUCT), (8, _STRUCT)  # of PageHeader
_UNCOMPRESSED_SIZE, _COMPRESSED_SIZE, _NUM_PAGE_VALUES = (2, _I32), (3, _I32), (1, _I32)  # the last within a data page


@dataclass(frozen=True)
class ColumnChunk:
    """A column of a group of rows, as the footer describes it; `start` is where its first page begins."""

    holds_text: bool
    num_values: int
    num_bytes: int  # uncompressed, with the headers of pages
    num_compressed_bytes: int
    start: int

    def __post_init__(self) -> None:
        if min(self.num_values, self.num_bytes, self.num_compressed_bytes, self.start) < 0:
            raise ValueError("a negative size")


def read_column_chunks(file: BinaryIO) -> list[ColumnChunk]:
    """All columns of all groups of rows. Raises pa.ArrowInvalid for a footer that is none, or encrypted."""
    end = file.seek(0, 2) - _FOOTER_END_BYTES
    try:
        file.seek(end)
        length = int.from_bytes(file.read(4), "little")
        file.seek(end - length)
        footer, _ = _read_struct(file.read(length), 0)
        columns = [column[_COLUMN] for group in footer[_ROW_GROUPS] for column in group[_COLUMNS]]
        return [
            ColumnChunk(
                column[_TYPE] in _TEXT_TYPES,
                column[_NUM_VALUES],
                column[_UNCOMPRESSED],
                column[_COMPRESSED],
                min(filter(None, (column[_DATA_OFFSET], column.get(_DICTIONARY_OFFSET)))),
            )
            for column in columns
        ]
    except _NOT_THRIFT as error:
        raise pa.ArrowInvalid("its footer is damaged, or its columns are encrypted") from error


def agrees_with_footer(file: BinaryIO, chunks: Sequence[ColumnChunk]) -> bool:
    """Whether the pages of all columns hold the values and take the bytes that the footer says. False where that is unclear."""
    try:
        return all(_count_values_and_bytes(file, chunk) == (chunk.num_values, chunk.num_bytes) for chunk in chunks)
    except _NOT_THRIFT:
        return False


def _count_values_and_bytes(file: BinaryIO, chunk: ColumnChunk) -> tuple[int, int]:
    """The values of a column's data pages, and the bytes of all its pages uncompressed, with their headers."""
    position = chunk.start
    end = position + chunk.num_compressed_bytes
    num_values = num_bytes = 0
    while position < end:
        if position < 0:
            raise ValueError("a page before the file")
        file.seek(position)
        header, size = _read_struct(file.read(min(_MAX_HEADER_BYTES, end - position)), 0)
        data = header.get(_DATA_PAGE, header.get(_DATA_PAGE_V2, {}))
        if not isinstance(data, dict):
            raise ValueError("no page")
        num_values += data.get(_NUM_PAGE_VALUES, 0)
        num_bytes += size + header[_UNCOMPRESSED_SIZE]
        if header[_COMPRESSED_SIZE] < 0 or header[_UNCOMPRESSED_SIZE] < 0 or data.get(_NUM_PAGE_VALUES, 0) < 0:
            raise ValueError("a negative size")
        position += size + header[_COMPRESSED_SIZE]
    return num_values, num_bytes


def _read_struct(data: bytes, position: int, depth: int = 0) -> tuple[dict[tuple[int, int], Any], int]:
    """The whole numbers, lists and structures of a structure by field number and type, and where it ends.

    ValueError for what readers may take in different ways: fields that stand there twice, numbers too large for their type.
    """
    fields: dict[tuple[int, int], Any] = {}
    number = 0
    while head := data[position]:
        position += 1
        kind, step = head & 15, head >> 4
        if step:
            number += step
        else:
            number, position = _read_number(data, position, _I16)
        if (number, kind) in fields or not 0 <= number < 1 << 15:
            raise ValueError("a field twice, or none that exists")
        fields[number, kind], position = _read_value(data, position, kind, depth)
    return fields, position + 1


def _read_value(data: bytes, position: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in _BITS:
        return _read_number(data, position, kind)
    if kind in _FIXED_SIZES:
        return None, position + _FIXED_SIZES[kind]
    if kind == _BINARY:
        size, position = _read_varint(data, position, 31)
        return None, position + size
    if kind == _STRUCT and depth < _MAX_DEPTH:
        return _read_struct(data, position, depth + 1)
    if kind in (_LIST, _SET) and depth < _MAX_DEPTH:
        return _read_list(data, position, depth + 1)
    raise ValueError(f"a value of type {kind}, or too deep")


def _read_list(data: bytes, position: int, depth: int) -> tuple[list[Any], int]:
    size, kind = data[position] >> 4, data[position] & 15
    position += 1
    if size == _LONG_LIST:
        size, position = _read_varint(data, position, 31)
    if size > len(data) - position:
        raise ValueError("a list of more elements than bytes")
    values = []
    for _ in range(size):
        value, position = (None, position + 1) if kind in _BOOLEANS else _read_value(data, position, kind, depth)
        values.append(value)
    return values, position


def _read_varint(data: bytes, position: int, num_bits: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if value >> num_bits:
            raise ValueError("a number too large for its type")
        if byte < 128:
            return value, position


def _read_number(data: bytes, position: int, kind: int) -> tuple[int, int]:
    """A number with its sign in the last bit."""
    value, position = _read_varint(data, position, _BITS[kind])
    return (value >> 1) ^ -(value & 1), position
