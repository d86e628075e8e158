"""A table in parts: rows survive an interruption, other settings are noticed, and the final file appears complete."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from muybridge.files.resumable_table import ResumableTable

SCHEMA = pa.schema([pa.field("video", pa.string(), nullable=False)])


def open_table(path: Path, seed: int = 0) -> ResumableTable:
    return ResumableTable(path, SCHEMA, {"seed": seed}, rows_per_part=2)


def make_batch(videos: Sequence[str]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array(videos, pa.string())], schema=SCHEMA)


def test_an_interrupted_table_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    with pytest.raises(OSError, match="stopped"), open_table(path) as table:
        for video in "abc":
            table.add(make_batch([video]))
        raise OSError("stopped")
    assert not path.exists()
    with open_table(path) as table:
        assert table.has_same_settings
        assert table.read_column("video") == ["a", "b", "c"]
        table.add(make_batch(["d"]))
        assert table.write_file({b"muybridge": "{}"}) == 4
    written = pq.read_table(path)
    assert written["video"].to_pylist() == ["a", "b", "c", "d"]
    assert written.schema.metadata == {b"muybridge": b"{}"}
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_left_of_parts_that_were_being_removed_is_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "table.parquet"
    with open_table(path) as table:
        for video in "abcdef":
            table.add(make_batch([video]))
    unlink = Path.unlink

    def kill(part: Path, **options: bool) -> None:
        if part.stem == "000000":
            raise KeyboardInterrupt
        unlink(part, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "unlink", kill)
        open_table(path).remove()
    with open_table(path) as table:
        assert table.read_column("video") == ["a", "b"]
        table.add(make_batch(["c", "d"]))
        unlink(table.folder / "000000.parquet")  # as an older version removed them
    with open_table(path) as table:
        table.add(make_batch(["a", "b"]))
        assert table.read_column("video") == ["c", "d", "a", "b"]


def test_parts_of_other_settings_are_refused(tmp_path: Path) -> None:
    with open_table(tmp_path / "table.parquet") as table:
        table.add(make_batch(["a"]))
    table.check_settings()
    other = open_table(tmp_path / "table.parquet", seed=1)
    with pytest.raises(ValueError, match=r"unfinished table\.parquet .* other settings; delete that folder"):
        other.check_settings()
    other.remove()
    other.check_settings()


def test_a_file_that_fails_its_verification_does_not_appear(tmp_path: Path) -> None:
    def refuse(path: Path) -> None:
        assert pq.read_table(path)["video"].to_pylist() == ["b"]
        raise ValueError("wrong")

    with open_table(tmp_path / "table.parquet") as table:
        table.add(make_batch(["a", "b"]))
    with pytest.raises(ValueError, match="wrong"):
        table.write_file({}, tables=(part.slice(1) for part in table.iterate_tables()), verify=refuse)
    assert not (tmp_path / "table.parquet").exists()
    assert table.read_column("video") == ["a", "b"]


@pytest.mark.parametrize("content", [b"", b"no numbers", "other columns", "cut"])
def test_a_damaged_part_is_named(tmp_path: Path, content: bytes | str) -> None:
    path = tmp_path / "table.parquet"
    with open_table(path) as table:
        table.add(make_batch(["a", "b"]))
        (part,) = table.folder.glob("*.parquet")
        whole = part.read_bytes()
        settings = pq.read_schema(part).metadata
        if content == "other columns":
            pq.write_table(pa.table({"video": [1]}).replace_schema_metadata(settings), part)
        else:
            part.write_bytes(whole[: len(whole) // 2] if isinstance(content, str) else content)
        with pytest.raises(
            ValueError, match=r"000000\.parquet is damaged; delete the folder .*\.table\.parquet\.parts and run"
        ):
            table.read_column("video")
        with pytest.raises(ValueError, match="is damaged; delete the folder"):
            table.write_file({})
        part.unlink()
    assert not path.exists()


def test_a_part_without_settings_is_of_other_settings(tmp_path: Path) -> None:
    with open_table(tmp_path / "table.parquet") as table:
        pq.write_table(pa.table({"video": ["a"]}), table.folder / "000000.parquet")
        assert not table.has_same_settings


def test_parts_of_an_older_version_lack_late_settings_and_columns(tmp_path: Path) -> None:
    path, length = tmp_path / "table.parquet", pa.field("length", pa.int64())
    with open_table(path) as table:
        table.add(make_batch(["a", "b"]))

    def open_later(number: int) -> ResumableTable:
        more: dict[str, Any] = {"late_settings": {"number": number}, "part_fields": [length]}
        return ResumableTable(path, SCHEMA, {"seed": 0}, rows_per_part=2, **more)

    with open_later(1) as table:
        table.check_settings()
        assert table.read_column("length") == [None, None]
        table.add(pa.RecordBatch.from_arrays([pa.array(["c"]), pa.array([3])], schema=table.part_schema))
    with open_later(2) as table, pytest.raises(ValueError, match="other settings"):
        table.check_settings()
    with open_later(1) as table:
        table.check_settings()
        assert table.read_column("length") == [None, None, 3]
        table.write_file({})
    assert pq.read_table(path).to_pylist() == [{"video": "a"}, {"video": "b"}, {"video": "c"}]
