"""Preparing on a local Ray cluster, one of whose workers is killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from muybridge.data.children import Outcome, transcode_in_children
from muybridge.data.cluster import transcode_on_ray
from muybridge.data.prepare import Preparation, Recipe, prepare, read_source
from muybridge.data.transcode import Transcoding
from videos import write_video

ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'muybridge[ray]'")


def ray_workers() -> list[int]:
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdecimal():
            try:
                title = (path / "cmdline").read_bytes()
            except OSError:
                continue  # it ended in the meantime
            if title.startswith(b"ray::_one"):  # it runs our task; ray has other processes of its own
                found.append(int(path.name))
    return found


def kill_a_worker() -> None:
    """One that runs a task now; whoever ends in the meantime is no worker any more."""
    while True:
        for worker in ray_workers():
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
                return
        time.sleep(0.01)


@pytest.mark.long
@pytest.mark.filterwarnings("default")
def test_a_killed_worker_changes_nothing(tmp_path: Path) -> None:
    for label in ("hug", "kick"):
        (tmp_path / "source" / label).mkdir(parents=True)
        for number in range(6):
            write_video(tmp_path / "source" / label / f"{number}.mp4", 40 + number)
    source, recipe = read_source(str(tmp_path / "source"), "folder"), Recipe(videos_per_shard=5)

    def on_ray(jobs: Iterable[tuple[int, Transcoding]]) -> Iterator[tuple[int, Outcome]]:
        for place, outcome in enumerate(transcode_on_ray(jobs, address="local", timeout_seconds=120)):
            if place == 2:
                kill_a_worker()
            yield outcome

    def here(jobs: Iterable[tuple[int, Transcoding]]) -> Iterator[tuple[int, Outcome]]:
        return transcode_in_children(jobs, num_children=1, timeout_seconds=120)

    for name, transcoder in (("ray", on_ray), ("here", here)):
        prepare(Preparation(source, tmp_path / name, recipe), transcoder)
    ours, theirs = (
        {str(path.relative_to(tmp_path / name)): path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
        for name in ("ray", "here")
    )
    assert ours == theirs
