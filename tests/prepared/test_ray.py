"""Preparing on a local Ray cluster, one of whose workers is killed."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from muybridge.prepared.prepare import Preparation, PreparationOptions, prepare
from muybridge.prepared.ray import transcode_on_ray
from muybridge.prepared.source_listing import read_source
from muybridge.prepared.transcode import TranscodeJob
from muybridge.prepared.worker_pool import TranscodeResult, transcode_in_workers
from ray_workers import a_worker_killed, why_no_cluster
from videos import write_video

ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'muybridge[ray]'")


@pytest.fixture(autouse=True, scope="module")
def a_cluster_starts_here() -> None:
    if reason := why_no_cluster():
        pytest.skip(reason)


@pytest.mark.long
@pytest.mark.filterwarnings("default")
def test_a_killed_worker_changes_nothing(tmp_path: Path) -> None:
    for label in ("hug", "kick"):
        (tmp_path / "source" / label).mkdir(parents=True)
        for index in range(6):
            write_video(tmp_path / "source" / label / f"{index}.mp4", 40 + index)
    source, recipe = read_source(str(tmp_path / "source"), "folder"), PreparationOptions(videos_per_shard=5)

    def on_ray(jobs: Iterable[tuple[int, TranscodeJob]]) -> Iterator[tuple[int, TranscodeResult]]:
        for outcome in transcode_on_ray(jobs, address="local", timeout_seconds=1000):
            begin.set()
            yield outcome

    def here(jobs: Iterable[tuple[int, TranscodeJob]]) -> Iterator[tuple[int, TranscodeResult]]:
        return transcode_in_workers(jobs, num_workers=1, timeout_seconds=1000)

    prepare(Preparation(source, tmp_path / "here", recipe), here)
    killed: list[int] = []
    while not killed:  # all may be done before a worker is found
        shutil.rmtree(tmp_path / "ray", ignore_errors=True)
        with a_worker_killed("_transcode_one") as (begin, killed):
            prepare(Preparation(source, tmp_path / "ray", recipe), on_ray)
    expected, actual = (
        {str(path.relative_to(tmp_path / name)): path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
        for name in ("ray", "here")
    )
    assert expected == actual
