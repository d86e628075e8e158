"""Data that fails while a run goes: shards with wrong bytes, an object store that is away, a disk that hangs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

import rank_work
from muybridge.files.run_folder import read_json_lines
from muybridge.prepared import object_store
from muybridge.prepared.dataset import open_prepared
from muybridge.prepared.prepare import Preparation, PreparationOptions, prepare
from muybridge.prepared.source_listing import read_source
from muybridge.prepared.transcode import transcode
from muybridge.prepared.worker_pool import TranscodeResult
from muybridge.training.checkpoint import find_last_step
from ranks import run_ranks
from runs import tiny_run


@pytest.fixture(scope="module")
def shards(motions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The motions, prepared."""

    def here(jobs: Any) -> Iterator[tuple[int, TranscodeResult]]:
        for row_index, job in jobs:
            yield row_index, transcode(job)

    folder = tmp_path_factory.mktemp("prepared") / "data"
    prepare(
        Preparation(read_source(str(motions), "folder"), folder, PreparationOptions(scale_height=32, scale_width=32)),
        here,
    )
    return folder


def losses(run: Path) -> list[tuple[int, float]]:
    return [(line["step"], line["loss"]) for line in read_json_lines(run / "log.jsonl") if line["kind"] == "train"]


def test_videos_in_a_broken_shard_are_counted_named_and_left_out_alike(shards: Path, tmp_path: Path) -> None:
    """One rank and two, that meet wrong bytes in some draws: the same failures, and nobody stops."""
    shutil.copytree(shards, tmp_path / "data")
    train = open_prepared(str(shards)).select_split("train")
    row = train.table.slice(3, 1).to_pylist()[0]
    path = tmp_path / "data" / "shards" / f"{row['shard']:06d}.tar"
    content = bytearray(path.read_bytes())
    content[row["offset"] + row["num_bytes"] - 20] ^= 1
    path.write_bytes(content)
    failures_by_world_size = []
    for world_size in (1, 2):
        changes = {"training.global_batch": 4, "training.batch_size": 4 // world_size, "loading.max_failed_share": 0.5}
        settings = tiny_run(tmp_path / "data", tmp_path / str(world_size), changes)
        assert [result[0] for result in run_ranks(world_size, rank_work.train, settings)] == [12] * world_size
        failures = read_json_lines(tmp_path / str(world_size) / "failures.jsonl")
        failures_by_world_size.append(sorted((line["step"], line["video"], line["reason"]) for line in failures))
    assert failures_by_world_size[0] == failures_by_world_size[1]
    assert {video for _, video, _ in failures_by_world_size[0]} == {row["video"]}
    assert all("is damaged near byte" in reason for _, _, reason in failures_by_world_size[0])


class Unsteady(MemoryFileSystem):
    """A store in memory that answers while `patience` lasts, or fails every third read."""

    protocol = "unsteady"
    patience: int | None = None
    num_reads = 0

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.replace("unsteady://", "memory://")))

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        Unsteady.num_reads += 1
        if self.num_reads % 3 == 0 if self.patience is None else self.num_reads > self.patience:
            raise ConnectionResetError("connection reset by the store")
        return bytes(super().cat_file(path, start=start, end=end, **options))


@pytest.fixture
def unsteady(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of the shards in such a store, without a copy on this machine, and without waiting."""
    monkeypatch.setenv("MUYBRIDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(object_store, "sleep", lambda seconds: None)
    fsspec.register_implementation("unsteady", Unsteady, clobber=True)
    files = Unsteady()
    for path in shards.rglob("*.*"):
        files.pipe(f"/bucket/{path.relative_to(shards)}", path.read_bytes())
    Unsteady.num_reads, Unsteady.patience = 0, None
    yield "unsteady://bucket"
    Unsteady.patience = None
    files.rm("/bucket", recursive=True)


def test_reads_that_fail_now_and_then_change_nothing(unsteady: str, shards: Path, tmp_path: Path) -> None:
    rank_work.train(tiny_run(shards, tmp_path / "steady"))
    rank_work.train(tiny_run(unsteady, tmp_path / "unsteady"))
    assert Unsteady.num_reads > 30
    assert losses(tmp_path / "unsteady") == losses(tmp_path / "steady")
    assert read_json_lines(tmp_path / "unsteady" / "failures.jsonl") == []


def test_a_store_that_is_gone_ends_the_run_which_goes_on_when_it_is_back(unsteady: str, tmp_path: Path) -> None:
    Unsteady.patience = 1000
    rank_work.train(tiny_run(unsteady, tmp_path / "steady"))
    shutil.rmtree(tmp_path / "cache")
    settings = tiny_run(unsteady, tmp_path / "run")
    Unsteady.num_reads, Unsteady.patience = 0, Unsteady.num_reads - 4  # the last two are of the validation at the end
    with pytest.raises(
        object_store.ObjectStoreError, match=r"could not be read in 8 attempts \(connection reset by the store"
    ):
        rank_work.train(settings)
    assert 0 < find_last_step(tmp_path / "run" / "checkpoints") < 12
    Unsteady.patience = None
    rank_work.train(settings, True)
    assert losses(tmp_path / "run") == losses(tmp_path / "steady")
    assert read_json_lines(tmp_path / "run" / "failures.jsonl") == []


def test_a_read_that_hangs_ends_the_run_with_its_videos(motions: Path, tmp_path: Path) -> None:
    ((ended, _),) = run_ranks(
        1, rank_work.train_while_a_read_hangs, tiny_run(motions, tmp_path / "run"), 3, errors=tmp_path / "stderr"
    )
    assert ended == "died"
    stderr = (tmp_path / "stderr").read_text()
    assert "muybridge: reading the clips of step 3 has taken longer than 0.0166667 minutes" in stderr
    assert ".mp4" in stderr
