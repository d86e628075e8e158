"""Score files with a row a view: an interrupted evaluation resumes, and ends in the same file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from muybridge.evaluation import view_scores
from muybridge.evaluation.scores import read_execution, read_scores
from muybridge.evaluation.scores_header import ScoresHeader
from muybridge.evaluation.view_scores import ViewScoresWriter

Batches = list[tuple[pa.RecordBatch, list[bool]]]
VIDEOS = [
    (f"{number}.mp4", (number % 3,), [[float(number), 1.0, 2.0], None if number == 1 else [0.0, 0.0, 1.0]])
    for number in range(5)
]
PATHS = {name: f"/nowhere/{name}" for name, _, _ in VIDEOS}


@pytest.fixture
def header(new_header: Callable[..., ScoresHeader]) -> ScoresHeader:
    return new_header(len(VIDEOS), clips=2)


@pytest.fixture
def batches(new_batch: Callable[..., pa.RecordBatch]) -> Batches:
    """Five videos, two of them in a loop."""
    return [(new_batch(video), [number in (0, 3)]) for number, video in enumerate(VIDEOS)]


def break_off(batches: Batches) -> Iterator[tuple[pa.RecordBatch, list[bool]]]:
    yield from batches
    raise KeyboardInterrupt


def count_done(path: Path, header: ScoresHeader, execution: dict[str, str] | None = None) -> int:
    return len(VIDEOS) - len(ViewScoresWriter(path, header, execution).select_pending(PATHS))


@pytest.mark.parametrize("num_done", [1, 3, 5])
def test_what_ended_early_is_resumed(
    num_done: int, batches: Batches, header: ScoresHeader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view_scores, "_ROWS_PER_PART", 4)
    execution = {"precision": "fp32"}
    whole, path = tmp_path / "whole.parquet", tmp_path / "s.parquet"
    assert ViewScoresWriter(whole, header, execution).write(batches) == 2
    with pytest.raises(KeyboardInterrupt):
        ViewScoresWriter(path, header, execution).write(break_off(batches[:num_done]))
    assert not path.exists()
    (tmp_path / ".s.parquet.parts" / ".000009.parquet.x0000000.partial").write_bytes(b"half, of a killed process")
    writer = ViewScoresWriter(path, header, execution)
    pending = writer.select_pending(PATHS)
    assert pending == [1] * (num_done > 1) + list(range(num_done, 5))  # the second was not readable
    assert writer.write(batches[index] for index in pending) == 2
    assert path.read_bytes() == whole.read_bytes()
    assert read_scores(path).table["video"].to_pylist() == [name for name, _, _ in VIDEOS for _ in range(2)]
    assert read_execution(path) == execution
    assert sorted(file.name for file in tmp_path.iterdir()) == ["s.parquet", "whole.parquet"]


def test_parts_of_another_evaluation_are_removed(batches: Batches, header: ScoresHeader, tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    with pytest.raises(KeyboardInterrupt):
        ViewScoresWriter(path, header).write(break_off(batches[:2]))
    assert count_done(path, header) == 1
    assert count_done(path, header, {"precision": "bf16"}) == 0
    with pytest.raises(KeyboardInterrupt):
        ViewScoresWriter(path, header).write(break_off(batches[:2]))
    assert count_done(path, replace(header, model_sha256="n" * 64)) == 0
    assert count_done(path, header) == 0


def test_parts_of_a_copy_elsewhere_are_removed(batches: Batches, header: ScoresHeader, tmp_path: Path) -> None:
    path, places = tmp_path / "s.parquet", [{"precision": "fp32", "data": f"/copies/{name}"} for name in "ab"]
    with pytest.raises(KeyboardInterrupt):
        ViewScoresWriter(path, header, places[0]).write(break_off(batches[:2]))
    assert count_done(path, header, places[0]) == 1
    assert count_done(path, header, places[1]) == 0
    with pytest.raises(KeyboardInterrupt):  # as an older version, which did not say where the data was
        ViewScoresWriter(path, header, {"precision": "fp32"}).write(break_off(batches[:2]))
    assert count_done(path, header, places[1]) == 1


def test_rows_of_videos_that_changed_are_replaced_in_their_place(
    batches: Batches, header: ScoresHeader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice: the first resumed evaluation is broken off before it gets on."""
    monkeypatch.setattr(view_scores, "_ROWS_PER_PART", 2)
    path, whole = tmp_path / "s.parquet", tmp_path / "whole.parquet"
    paths = {name: tmp_path / name for name in PATHS}
    for file in paths.values():
        file.write_bytes(b"first")
    old = [(rows, [True]) for rows, _ in batches]
    with pytest.raises(KeyboardInterrupt):
        writer = ViewScoresWriter(path, header)
        assert writer.select_pending(paths) == [0, 1, 2, 3, 4]
        writer.write(break_off(old[:4]))
    paths["0.mp4"].write_bytes(b"changed")
    paths["3.mp4"].unlink()  # which is no change
    with pytest.raises(KeyboardInterrupt):
        writer = ViewScoresWriter(path, header)
        assert writer.select_pending(paths) == [0, 1, 4]
        writer.write(break_off(batches[:1]))
    paths["2.mp4"].write_bytes(b"changed")
    writer = ViewScoresWriter(path, header)
    assert writer.select_pending(paths) == [1, 2, 4]
    assert writer.write(batches[index] for index in (1, 2, 4)) == 2  # the first and the fourth
    ViewScoresWriter(whole, header).write(batches)
    assert path.read_bytes() == whole.read_bytes()
