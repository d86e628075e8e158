from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from muybridge.evaluation import scores as scores_module
from muybridge.evaluation.scores import Scores, read_execution, read_scores, score_batch, write_scores
from muybridge.evaluation.scores_header import SCHEMA, ScoresHeader
from muybridge.loading.datasets import EvaluationBatch
from muybridge.records import PlannedView, Preprocessing, Scorer, YuvClip
from muybridge.video.views import collate_views, make_evaluation_view

PREPROCESSING = Preprocessing(
    clip_length=2, scale_height=8, scale_width=8, crop=6, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
)
CPU = torch.device("cpu")


def gray_batch(rows: list[PlannedView]) -> EvaluationBatch:
    """Every readable view is one gray level: ten times its video's number plus its view's."""
    views = []
    for row in rows:
        if row.status == "ok":
            level = 10 * int(row.video.removesuffix(".mp4")) + row.view
            luma = np.full((2, 8, 8), level, np.uint8)
            clip = YuvClip(luma, np.full((2, 2, 4, 4), 128, np.uint8), "bt601", full_range=True)
            views.append(make_evaluation_view(clip, PREPROCESSING.crop))
    return EvaluationBatch(tuple(rows), collate_views(views) if views else None, looped=())


def gray_scorer(clips_ncthw: torch.Tensor) -> torch.Tensor:
    assert not torch.is_grad_enabled()
    level = clips_ncthw.mean((1, 2, 3, 4))
    return torch.stack([level, -level, torch.full_like(level, 0.25)], 1)


BATCHES = [
    [
        PlannedView("1.mp4", 0, 0.0, (2,)),
        PlannedView("1.mp4", 1, 1.5, (2,), "truncated", "ends after 3 frames"),
        PlannedView("1.mp4", 2, 3.0, (2,)),
        PlannedView("7.mp4", 0, None, (), "unreadable", "no moov atom"),
        PlannedView("7.mp4", 1, None, (), "unreadable", "no moov atom"),
        PlannedView("7.mp4", 2, None, (), "unreadable", "no moov atom"),
    ],
    [PlannedView("2.mp4", view, None, (1, 0), "missing", "not there") for view in range(3)],
    [PlannedView("3.mp4", view, float(view), (0, 1)) for view in range(3)],
]


@pytest.fixture
def header(new_header: Callable[..., ScoresHeader]) -> ScoresHeader:
    return new_header(4, clips=3)


def score(rows: list[PlannedView], scorer: Scorer = gray_scorer) -> pa.RecordBatch:
    return score_batch(gray_batch(rows), scorer, preprocessing=PREPROCESSING, device=CPU)


@pytest.fixture
def table() -> pa.Table:
    return pa.Table.from_batches([score(rows) for rows in BATCHES])


def test_every_planned_view_is_a_row_and_keeps_its_own_scores(table: pa.Table) -> None:
    planned = [row for batch in BATCHES for row in batch]
    assert table.schema.equals(SCHEMA)
    assert len(table) == len(planned)
    for stored, row in zip(table.to_pylist(), planned, strict=True):
        level = 10 * int(row.video[0]) + row.view
        assert stored == {
            "video": row.video,
            "view": row.view,
            "start_seconds": row.start_seconds,
            "labels": list(row.labels),
            "logits": pytest.approx([level, -level, 0.25], abs=1e-3) if row.status == "ok" else None,
            "status": row.status,
            "reason": row.reason,
        }


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_that_are_not_finite_name_the_video(value: float) -> None:
    def damaged(clips_ncthw: torch.Tensor) -> torch.Tensor:
        logits = gray_scorer(clips_ncthw)
        logits[logits[:, 0] > 11, 1] = value  # view 2 of 1.mp4, the second readable one of its batch
        return logits

    with pytest.raises(ValueError, match=r"scores of 1\.mp4, view 2 are not finite"):
        score(BATCHES[0], damaged)


def test_a_scorer_that_loses_views_is_caught() -> None:
    with pytest.raises(AssertionError, match="1 scores for 2 readable views"):
        score(BATCHES[0], lambda clips_ncthw: torch.zeros(1, 3))


def test_what_is_written_is_read(tmp_path: Path, table: pa.Table, header: ScoresHeader) -> None:
    path = tmp_path / "run" / "scores.parquet"
    write_scores(path, table.to_batches(), header)
    scores = read_scores(path)
    assert scores.header == header
    assert scores.table.schema.equals(SCHEMA)
    assert scores.table.equals(table)
    assert [entry.name for entry in path.parent.iterdir()] == ["scores.parquet"]


def test_how_scores_were_computed_stands_in_a_key_of_its_own(
    tmp_path: Path, table: pa.Table, header: ScoresHeader
) -> None:
    plain, told = tmp_path / "plain.parquet", tmp_path / "told.parquet"
    write_scores(plain, table.to_batches(), header)
    write_scores(told, table.to_batches(), header, {"precision": "bf16", "device": "a GPU"})
    assert read_execution(plain) is None
    assert read_execution(told) == {"precision": "bf16", "device": "a GPU"}
    assert read_scores(told).header == read_scores(plain).header
    assert b"muybridge_execution" in pq.read_schema(told).metadata


def test_other_software_reads_the_header(tmp_path: Path, table: pa.Table, header: ScoresHeader) -> None:
    write_scores(tmp_path / "scores.parquet", table.to_batches(), header)
    stored = json.loads(pq.read_schema(tmp_path / "scores.parquet").metadata[b"muybridge"])
    names = {"format", "classes", "protocol", "split", "fold", "model_sha256", "manifest_sha256", "num_videos"}
    assert set(stored) == names
    assert stored["format"] == 1
    assert stored["protocol"]["clips"] == 3
    assert ScoresHeader.from_json(stored) == header


def test_row_groups_do_not_depend_on_the_batches(
    tmp_path: Path, table: pa.Table, header: ScoresHeader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scores_module, "ROW_GROUP_ROWS", 7)
    write_scores(tmp_path / "scores.parquet", table.to_batches(), header)
    with pq.ParquetFile(tmp_path / "scores.parquet") as file:
        assert [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)] == [7, 5]
    write_scores(tmp_path / "others.parquet", table.combine_chunks().to_batches(max_chunksize=2), header)
    assert (tmp_path / "others.parquet").read_bytes() == (tmp_path / "scores.parquet").read_bytes()
    assert read_scores(tmp_path / "scores.parquet").table.equals(table)


def test_no_videos_are_no_rows(tmp_path: Path, new_header: Callable[..., ScoresHeader]) -> None:
    write_scores(tmp_path / "scores.parquet", [], new_header(0, clips=3))
    assert len(read_scores(tmp_path / "scores.parquet").table) == 0


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, table: pa.Table, header: ScoresHeader) -> None:
    path = tmp_path / "scores.parquet"
    write_scores(path, table.to_batches(), header)
    before = path.read_bytes()

    def interrupted() -> Iterator[pa.RecordBatch]:
        yield table.to_batches()[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_scores(path, interrupted(), header)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# What must not pass: each as a change to the rows of the fixture, and the message.
WRONG_ROWS: dict[str, tuple[Callable[[list[dict[str, Any]]], object], str]] = {
    "padded by a copy": (lambda rows: rows.append(rows[-1]), r"view 2 of 3\.mp4 is there 2 times"),
    "a view lost": (lambda rows: rows.pop(1), r"view 1 of 1\.mp4 is missing"),
    "a view replaced": (lambda rows: rows[1].update(view=0), r"view 0 of 1\.mp4 is there 2 times"),
    "a video replaced": (lambda rows: [row.update(video="3.mp4") for row in rows[3:6]], "of 3 videos, expected 4"),
    "a view too many": (lambda rows: rows[2].update(view=3), r"1\.mp4 has a view 3, but 3 views"),
    "a negative view": (lambda rows: rows[2].update(view=-1), r"1\.mp4 has a view -1"),
    "too few scores": (
        lambda rows: rows[2].update(logits=[1.0, 2.0]),
        r"1\.mp4, view 2 does not have a score for each",
    ),
    "a NaN": (lambda rows: rows[2].update(logits=[1.0, float("nan"), 0.0]), "not finite"),
    "failed with scores": (lambda rows: rows[1].update(logits=[1.0, 2.0, 3.0]), r"1\.mp4, view 1 has a status"),
    "ok without scores": (lambda rows: rows[0].update(logits=None), r"1\.mp4, view 0 has a status that contradicts"),
    "an unknown status": (lambda rows: rows[1].update(status="skipped"), "status 'skipped' is unknown"),
    "a label beyond the classes": (lambda rows: [row.update(labels=[3]) for row in rows[:3]], "labels run from 0 to 3"),
    "labels that differ": (lambda rows: rows[1].update(labels=[1]), "different labels"),
}


def write_unchecked(path: Path, table: pa.Table, header: dict[str, Any] | None) -> None:
    metadata = None if header is None else {b"muybridge": json.dumps(header)}
    pq.write_table(table.replace_schema_metadata(metadata), path)


@pytest.mark.parametrize("case", WRONG_ROWS)
def test_wrong_rows_are_neither_written_nor_read(
    case: str, tmp_path: Path, table: pa.Table, header: ScoresHeader
) -> None:
    spoil, message = WRONG_ROWS[case]
    rows = table.to_pylist()
    spoil(rows)
    spoilt = pa.Table.from_pylist(rows, SCHEMA)
    with pytest.raises(ValueError, match=message):
        write_scores(tmp_path / "written.parquet", spoilt.to_batches(), header)
    assert not list(tmp_path.iterdir())
    write_unchecked(tmp_path / "stored.parquet", spoilt, header.to_json())
    with pytest.raises(ValueError, match=rf"stored\.parquet: .*{message}"):
        read_scores(tmp_path / "stored.parquet")
    with pytest.raises(ValueError, match=message):
        Scores(spoilt, header)


def test_wrong_files_are_refused_in_a_sentence(tmp_path: Path, table: pa.Table, header: ScoresHeader) -> None:
    def refused(message: str) -> None:
        with pytest.raises(ValueError, match=message) as caught:
            read_scores(path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)

    path = tmp_path / "scores.parquet"
    refused("there is no score file")
    path.write_text("video,view\n")
    refused("not a Parquet file, or a damaged one")
    path.write_bytes(b"")
    refused("not a Parquet file, or a damaged one")
    write_unchecked(path, table, None)
    refused("it has no muybridge metadata")
    write_unchecked(path, table, {**header.to_json(), "format": 2})
    refused("have format 2, which lacks a head")
    write_unchecked(path, table, {**header.to_json(), "format": 3})
    refused("have format 3, but this version reads format 1 and 2")
    write_unchecked(path, table, {key: value for key, value in header.to_json().items() if key != "classes"})
    refused("classes is missing")
    write_unchecked(path, table, {**header.to_json(), "split": "val"})
    refused("split is 'val'")
    write_unchecked(path, table.drop_columns(["labels", "reason"]), header.to_json())
    refused("the columns labels, reason are missing")
    write_unchecked(path, table.set_column(1, "view", table["view"].cast(pa.string())), header.to_json())
    refused("the column view holds string, expected int32")
    pq.write_table(table.replace_schema_metadata({b"muybridge": b"{"}), path)
    refused("metadata is not JSON")


def test_a_truncated_file_is_refused(tmp_path: Path, table: pa.Table, header: ScoresHeader) -> None:
    path = tmp_path / "scores.parquet"
    write_scores(path, table.to_batches(), header)
    whole = path.read_bytes()
    for length in (len(whole) - 1, len(whole) // 2, 3):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"scores\.parquet"):
            read_scores(path)


def test_a_flipped_byte_never_becomes_another_score(tmp_path: Path, table: pa.Table, header: ScoresHeader) -> None:
    path = tmp_path / "scores.parquet"
    write_scores(path, table.to_batches(), header)
    whole = path.read_bytes()
    with pq.ParquetFile(path) as file:
        names = [file.metadata.row_group(0).column(number).path_in_schema for number in range(7)]
        column = file.metadata.row_group(0).column(names.index("logits.list.element"))
        end = column.data_page_offset + column.total_compressed_size
    for position in range(end - 20, end):  # inside the page's data
        damaged = bytearray(whole)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"scores\.parquet.*damaged"):
            read_scores(path)


def test_columns_of_others_are_left_alone(tmp_path: Path, table: pa.Table, header: ScoresHeader) -> None:
    more = table.add_column(0, "note", pa.array(["x"] * len(table)))
    write_unchecked(tmp_path / "scores.parquet", more, header.to_json())
    assert read_scores(tmp_path / "scores.parquet").table.equals(table)
