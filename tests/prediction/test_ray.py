"""Predicting on a local Ray cluster, one of whose workers is killed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import copyfile
from typing import Any

import pyarrow.parquet as pq
import pytest

from muybridge.prediction import ray as prediction_ray
from muybridge.prediction.recognizer import Prediction
from ray_workers import a_worker_killed, why_no_cluster

ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'muybridge[ray]'")


@pytest.fixture(autouse=True, scope="module")
def a_cluster_starts_here() -> None:
    if reason := why_no_cluster():
        pytest.skip(reason)


@pytest.mark.long
@pytest.mark.filterwarnings("default")
def test_a_killed_worker_and_a_broken_video_cost_nothing_else(
    motions: Path, finished_run: Path, tmp_path: Path, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every video is there once, in order, with what one process says of it; then all is done, and nothing is asked again."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for number in range(40):
        copyfile(
            motions / "train" / ("left", "right")[number % 2] / f"{number % 8:05d}.mp4", folder / f"{number:02d}.mp4"
        )
    (folder / "05.mp4").write_bytes(b"torn")
    original, seen = prediction_ray.predict_on_ray, list[str]()

    def watched(*arguments: Any, **options: Any) -> Iterator[Prediction]:
        for prediction in original(*arguments, **options):
            begin.set()
            seen.append(prediction.video)
            yield prediction

    monkeypatch.setattr(prediction_ray, "predict_on_ray", watched)
    arguments = ("predict", finished_run, folder, "--clips", 2)
    killed: list[int] = []
    while not killed:  # all may be done before a worker is found
        seen.clear()
        with a_worker_killed("_predict_one") as (begin, killed):
            assert cli(*arguments, "-o", tmp_path / "ray.parquet", "--ray", "local").code == 3
    assert sorted(seen) == sorted(map(str, folder.iterdir()))
    assert cli(*arguments, "-o", tmp_path / "here.parquet").code == 3
    on_ray, in_process = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("ray", "here"))
    assert on_ray["video"].to_pylist() == in_process["video"].to_pylist() == sorted(map(str, folder.iterdir()))
    assert on_ray["labels"].to_pylist() == in_process["labels"].to_pylist()
    for actual, expected in zip(
        on_ray["probabilities"].to_pylist(), in_process["probabilities"].to_pylist(), strict=True
    ):
        assert actual == pytest.approx(expected, abs=1e-6)  # the workers' own number of threads
    assert [row["video"][-6:] for row in on_ray.to_pylist() if row["status"] == "unreadable"] == ["05.mp4"]
