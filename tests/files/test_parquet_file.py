"""Tables from outside: memory is bounded whatever a file says of itself."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from muybridge.files import parquet_file
from muybridge.files.parquet_file import read_finite_table, read_parquet, refuse_damaged
from muybridge.files.parquet_pages import agrees_with_footer, read_column_chunks
from muybridge.files.resumable_table import ResumableTable
from muybridge.limits import TABLE_BYTES

TABLES = {
    "numbers": pa.table({"n": np.arange(70_000), "f": np.linspace(0, 1, 70_000).astype(np.float32)}),
    "lists": pa.table({"l": pa.array([list(range(n % 7)) for n in range(9000)], pa.list_(pa.int32()))}),
    "texts": pa.table({"t": [f"class {n % 9}/video {n}.mp4" for n in range(30_000)], "same": ["ok"] * 30_000}),
    "nothing": pa.table({"n": pa.array([], pa.int64())}),
    "nulls": pa.table({"n": pa.array([None, 1.5, None] * 500)}),
}


def write_lie(path: Path, num_values: int) -> None:
    """One row with a list of equal numbers, of which the footer counts a few."""
    values = pa.ListArray.from_arrays(pa.array([0, num_values], pa.int32()), pa.array(np.zeros(num_values, np.float32)))
    pq.write_table(pa.table({"l": values}), path, compression="zstd", data_page_size=1 << 30)
    content = bytearray(path.read_bytes())
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    encoded = encode_number(num_values)
    few = bytes([0x94, *[0x80] * (len(encoded) - 2), 0])
    while (position := content.find(encoded, footer)) > 0:
        content[position : position + len(encoded)] = few
    path.write_bytes(content)


def encode_number(number: int) -> bytes:
    """A positive number in Thrift's compact protocol."""
    doubled, encoded = 2 * number, bytearray()
    while doubled > 127:
        encoded.append(doubled & 127 | 128)
        doubled >>= 7
    return bytes([*encoded, doubled])


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("name", TABLES)
def test_honest_files_agree_with_their_footers(name: str, version: str, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    for options in ({}, {"compression": "zstd", "write_page_checksum": True, "row_group_size": 10_000}):
        pq.write_table(TABLES[name], path, data_page_version=version, **options)
        with path.open("rb") as file:
            assert agrees_with_footer(file, read_column_chunks(file))
        assert read_parquet(path).equals(TABLES[name])
        assert read_parquet(path.read_bytes()).equals(TABLES[name])


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (pa.ArrowMemoryError("malloc of size 8 failed"), "malloc of size 8 failed"),
        (pa.ArrowException("Failed to launch worker thread: Resource temporarily unavailable"), "temporarily unavail"),
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), "Too many open files"),
    ],
)
def test_what_the_system_lacks_is_not_the_files_damage(error: Exception, expected: str) -> None:
    with pytest.raises((MemoryError, OSError), match=expected), refuse_damaged("damaged"):
        raise error


def test_damage_is_a_sentence_with_its_cause() -> None:
    with (
        pytest.raises(ValueError, match=r"^x is damaged \(Couldn't deserialize thrift\)$"),
        refuse_damaged("x is damaged"),
    ):
        raise pa.ArrowInvalid("Couldn't deserialize thrift\nmore")


def test_a_footer_that_lies_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lie.parquet"
    write_lie(path, 1 << 25)
    assert path.stat().st_size < 1000
    assert pq.read_metadata(path).row_group(0).column(0).num_values == 10
    monkeypatch.setenv(TABLE_BYTES.variable, "50000000")
    with path.open("rb") as file:
        assert not agrees_with_footer(file, read_column_chunks(file))
    for source in (path, path.read_bytes()):
        with pytest.raises(
            ValueError, match="more than the limit of 50,000,000 bytes; set MUYBRIDGE_MAX_TABLE_BYTES to"
        ):
            read_parquet(source)
    monkeypatch.delenv(TABLE_BYTES.variable)
    assert len(read_parquet(path)) == 1  # 128 MB are no harm


def test_small_files_of_many_rows_are_refused_by_their_footers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"n": pa.array(np.zeros(1_000_000, np.int64))}), path, compression="zstd")
    monkeypatch.setenv(TABLE_BYTES.variable, "1000000")
    with pytest.raises(
        ValueError, match=r"8,000,000 bytes, above the limit of 1,000,000; set MUYBRIDGE_MAX_TABLE_BYTES"
    ):
        read_parquet(path)
    pq.write_table(pa.table({"s": ["x" * 1000] * 100_000}), path)
    assert path.stat().st_size < 50_000
    with pytest.raises(ValueError, match=r"the table needs .* above the limit"):
        read_parquet(path)
    monkeypatch.setenv(TABLE_BYTES.variable, "200000000")
    assert read_parquet(path).num_rows == 100_000


def test_parts_of_an_unfinished_table_have_the_same_limit(tmp_path: Path) -> None:
    schema = pa.schema([("l", pa.list_(pa.float32()))])
    folder = tmp_path / ".t.parquet.parts"
    folder.mkdir()
    write_lie(folder / "000000.parquet", 1 << 25)
    with (
        pytest.MonkeyPatch.context() as patch,
        ResumableTable(tmp_path / "t.parquet", schema, {}, rows_per_part=9) as table,
    ):
        patch.setenv(TABLE_BYTES.variable, "50000000")
        with pytest.raises(ValueError, match="MUYBRIDGE_MAX_TABLE_BYTES"):
            table.read_column("l")
        with pytest.raises(ValueError, match="MUYBRIDGE_MAX_TABLE_BYTES"):
            next(table.iterate_tables())


def test_lists_of_text_take_a_process_only_where_they_are_read_and_may_be_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.parquet"
    labels = ["left", "x" * 1000] * 1000
    pq.write_table(pa.table({"video": ["a.mp4"], "labels": [labels]}), path)
    with monkeypatch.context() as patch:
        tried: list[Path | bytes] = []
        patch.setattr(parquet_file, "_try_in_child", tried.append)
        assert read_parquet(path).to_pydict() == {"video": ["a.mp4"], "labels": [labels]}
        patch.setenv(TABLE_BYTES.variable, "100000")
        assert read_parquet(path, ["video"]).to_pydict() == {"video": ["a.mp4"]}
        assert tried == []
        for columns in (["labels"], ["video", "labels"]):
            assert read_parquet(path, columns)["labels"].to_pylist() == [labels]
        assert tried == [path] * 2
    monkeypatch.setenv(TABLE_BYTES.variable, "100000")
    with pytest.raises(ValueError, match="reading it takes more than the limit of 100,000 bytes"):
        read_parquet(path, ["labels"])


def test_damage_is_a_sentence_of_arrow(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(TABLES["texts"], path, write_page_checksum=True)
    whole = path.read_bytes()
    for position in range(4, len(whole) - 8, len(whole) // 60):
        content = bytearray(whole)
        content[position] ^= 0x55
        path.write_bytes(content)
        try:
            read_parquet(path)
        except (pa.ArrowException, OSError, ValueError) as error:
            assert str(error)


def test_a_table_is_of_its_schema_and_its_numbers_are_finite(tmp_path: Path) -> None:
    path, schema = tmp_path / "t.parquet", pa.schema([("name", pa.string()), ("x", pa.float64())])
    pq.write_table(pa.table({"x": [1.0, 2.0], "more": [1, 2], "name": ["a", "b"]}), path)
    assert read_finite_table(path, schema).to_pydict() == {"name": ["a", "b"], "x": [1.0, 2.0]}
    for table, sentence in (
        (pa.table({"x": ["1"]}), "the columns name are missing; the column x holds string, expected double"),
        (
            pa.table({"x": [1.0, np.nan], "name": ["a", None]}),
            "1 rows have no name; the column x holds numbers that are not finite",
        ),
    ):
        pq.write_table(table, path)
        with pytest.raises(ValueError, match=rf"t\.parquet cannot be used: {sentence}"):
            read_finite_table(path, schema)
    path.write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"t\.parquet: the file is damaged, or not"):
        read_finite_table(path, schema)


def test_columns_are_those_asked_for_however_much_is_read_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(TABLES["texts"], path)
    whole = TABLES["texts"]
    assert read_parquet(path, ["same"]).equals(whole.select(["same"]))
    monkeypatch.setenv(TABLE_BYTES.variable, "10000000")  # in batches
    assert read_parquet(path, ["same"]).equals(whole.select(["same"]))
    assert read_parquet(path, ["t", "same"]).equals(whole)


def test_statistics_that_do_not_fit_end_no_process(tmp_path: Path) -> None:
    """pyarrow 26 aborts where it is asked for the column: its histogram of levels has a bin too many."""
    path = tmp_path / "a.parquet"
    pq.write_table(TABLES["nulls"], path)
    data = path.read_bytes()
    footer = data[len(data) - 8 - int.from_bytes(data[-8:-4], "little") : -8]
    histogram = bytes([0x26]) + encode_number(1000) + encode_number(500)  # so many rows without a value, and with one
    assert histogram in footer
    damaged = footer.replace(histogram, bytes([0x36, 0]) + histogram[1:])
    path.write_bytes(data[: -8 - len(footer)] + damaged + len(damaged).to_bytes(4, "little") + b"PAR1")
    with pytest.raises(ValueError, match=r"damaged .*histogram"), refuse_damaged("damaged"):
        read_parquet(path)


def test_a_row_of_bytes_of_a_fixed_length_counts_as_long_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"b": pa.array([bytes(10_000)] * 20_000, pa.binary(10_000))}), path, compression="zstd")
    assert path.stat().st_size < 1_000_000
    monkeypatch.setenv(TABLE_BYTES.variable, "50000000")
    with pytest.raises(ValueError, match="above the limit of 50,000,000"):
        read_parquet(path)


def test_more_columns_than_any_table_has_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table([pa.array([], pa.int8())] * 10_001, [str(n) for n in range(10_001)]), path)
    with (
        pytest.raises(ValueError, match=r"damaged \(it has 10,001 columns, expected at most 10,000\)"),
        refuse_damaged("damaged"),
    ):
        read_parquet(path)
