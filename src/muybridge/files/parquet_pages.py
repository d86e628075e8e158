"""What the pages of a Parquet file say of themselves, against what the file's footer says of them.

Arrow decodes as many values as a page's own header claims, and a page of 20 bytes may claim two billion equal ones. A footer
that is right bounds the memory; whether it is right is seen by reading the headers of all pages, 20 microseconds each. The
headers are structures of Thrift's compact protocol (parquet.thrift, `PageHeader`).
"""

from __future__ import annotations

from typing import Any, BinaryIO

import pyarrow.parquet as pq

_MAX_HEADER_BYTES = 1 << 16  # with the smallest and the largest value of the page
_BINARY, _STRUCT = 8, 12  # types of Thrift
_NUMBERS = (4, 5, 6)  # of 16, 32 and 64 bits
_FIXED_SIZES = {1: 0, 2: 0, 3: 1, 7: 8}  # true, false, a byte, a double
_MAX_DEPTH = 8
_DATA_PAGE, _DATA_PAGE_V2 = 5, 8  # fields of PageHeader; within, field 1 is the number of values
_UNCOMPRESSED_SIZE, _COMPRESSED_SIZE = 2, 3


def agrees_with_footer(file: BinaryIO, metadata: pq.FileMetaData) -> bool:
    """Whether the pages of all columns hold the values and take the bytes that the footer says. False where that is unclear."""
    try:
        return all(
            _count_values_and_bytes(file, column) == (column.num_values, column.total_uncompressed_size)
            for group in map(metadata.row_group, range(metadata.num_row_groups))
            for column in map(group.column, range(group.num_columns))
        )
    except (IndexError, KeyError, TypeError, ValueError, OverflowError):  # no Thrift, or another structure
        return False


def _count_values_and_bytes(file: BinaryIO, column: pq.ColumnChunkMetaData) -> tuple[int, int]:
    """The values of a column's data pages, and the bytes of all its pages uncompressed, with their headers."""
    offsets = (column.dictionary_page_offset, column.data_page_offset)
    position = min(offset for offset in offsets if offset)
    end = position + column.total_compressed_size
    num_values = num_bytes = 0
    while position < end:
        if position < 0:
            raise ValueError("a page before the file")
        file.seek(position)
        header, size = _read_struct(file.read(min(_MAX_HEADER_BYTES, end - position)), 0)
        data = header.get(_DATA_PAGE, header.get(_DATA_PAGE_V2, {}))
        if not isinstance(data, dict):
            raise ValueError("no page")
        num_values += data.get(1, 0)
        num_bytes += size + header[_UNCOMPRESSED_SIZE]
        if header[_COMPRESSED_SIZE] < 0 or header[_UNCOMPRESSED_SIZE] < 0 or data.get(1, 0) < 0:
            raise ValueError("a negative size")
        position += size + header[_COMPRESSED_SIZE]
    return num_values, num_bytes


def _read_struct(data: bytes, position: int, depth: int = 0) -> tuple[dict[int, Any], int]:
    """The whole numbers and structures of a structure by field number, and where it ends."""
    fields: dict[int, Any] = {}
    number = 0
    while head := data[position]:
        position += 1
        kind, step = head & 15, head >> 4
        if step:
            number += step
        else:
            number, position = _read_number(data, position)
        fields[number], position = _read_value(data, position, kind, depth)
    return fields, position + 1


def _read_value(data: bytes, position: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in _NUMBERS:
        return _read_number(data, position)
    if kind in _FIXED_SIZES:
        return None, position + _FIXED_SIZES[kind]
    if kind == _BINARY:
        size, position = _read_varint(data, position)
        return None, position + size
    if kind == _STRUCT and depth < _MAX_DEPTH:
        return _read_struct(data, position, depth + 1)
    raise ValueError(f"a value of type {kind} in a page header")


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return value, position


def _read_number(data: bytes, position: int) -> tuple[int, int]:
    """A number with its sign in the last bit."""
    value, position = _read_varint(data, position)
    return (value >> 1) ^ -(value & 1), position
