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

Batches = list[tuple[pa.RecordBatch, int]]
VIDEOS = [(f"{number}.mp4", (number % 3,), [[float(number), 1.0, 2.0], None]) for number in range(5)]


@pytest.fixture
def header(new_header: Callable[..., ScoresHeader]) -> ScoresHeader:
    return new_header(len(VIDEOS), clips=2)


@pytest.fixture
def batches(new_batch: Callable[..., pa.RecordBatch]) -> Batches:
    """Five videos, two of them in a loop."""
    return [(new_batch(video), int(number in (0, 3))) for number, video in enumerate(VIDEOS)]


def break_off(batches: Batches) -> Iterator[tuple[pa.RecordBatch, int]]:
    yield from batches
    raise KeyboardInterrupt


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
    assert writer.num_done == num_done
    assert writer.write(batches[num_done:]) == 2
    assert path.read_bytes() == whole.read_bytes()
    assert read_scores(path).table["video"].to_pylist() == [name for name, _, _ in VIDEOS for _ in range(2)]
    assert read_execution(path) == execution
    assert sorted(file.name for file in tmp_path.iterdir()) == ["s.parquet", "whole.parquet"]


def test_parts_of_another_evaluation_are_removed(batches: Batches, header: ScoresHeader, tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    with pytest.raises(KeyboardInterrupt):
        ViewScoresWriter(path, header).write(break_off(batches[:2]))
    assert ViewScoresWriter(path, header).num_done == 2
    assert ViewScoresWriter(path, header, {"precision": "bf16"}).num_done == 0
    with pytest.raises(KeyboardInterrupt):
        ViewScoresWriter(path, header).write(break_off(batches[:2]))
    assert ViewScoresWriter(path, replace(header, model_sha256="n" * 64)).num_done == 0
    assert ViewScoresWriter(path, header).num_done == 0


def test_parts_of_a_copy_elsewhere_are_removed(batches: Batches, header: ScoresHeader, tmp_path: Path) -> None:
    path, places = tmp_path / "s.parquet", [{"precision": "fp32", "data": f"/copies/{name}"} for name in "ab"]
    with pytest.raises(KeyboardInterrupt):
        ViewScoresWriter(path, header, places[0]).write(break_off(batches[:2]))
    assert ViewScoresWriter(path, header, places[0]).num_done == 2
    assert ViewScoresWriter(path, header, places[1]).num_done == 0
    with pytest.raises(KeyboardInterrupt):  # as an older version, which did not say where the data was
        ViewScoresWriter(path, header, {"precision": "fp32"}).write(break_off(batches[:2]))
    assert ViewScoresWriter(path, header, places[1]).num_done == 2
