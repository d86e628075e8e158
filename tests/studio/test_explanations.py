"""Why a network says what it says: an explanation of a part of a video, as numbers and as tiles of colour."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image

import muybridge
from muybridge.records import Preprocessing
from muybridge.studio.app import create_app
from muybridge.studio.config import StudioConfig
from muybridge.studio.explain_job import run_explain_job
from muybridge.studio.folders import AllowedFolders
from muybridge.studio.job_runner import STATE_FILE
from muybridge.studio.jobs import JobStore
from studio_client import TOKEN, StudioClient
from videos import write_video

PART = {"model": "net.safetensors", "path": "a.mp4", "start_seconds": 0.4, "end_seconds": 0.9}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StudioClient]:
    root = tmp_path_factory.mktemp("explain")
    folder = root / "videos"
    folder.mkdir()
    write_video(folder / "a.mp4", 50)
    torch.manual_seed(0)
    net = muybridge.create_model("r2plus1d_10", num_classes=2, clip_length=4, width=4)
    small = Preprocessing(clip_length=4, scale_height=32, scale_width=40, crop=28)
    muybridge.save(net, folder / "net.safetensors", classes=["x", "y"], preprocessing=small)
    config = StudioConfig(folders=(str(folder),), token=TOKEN, state_folder=str(root / "state"), child_bytes=1 << 50)
    with TestClient(create_app(config), base_url="http://127.0.0.1:8420") as test_client:
        yield StudioClient(test_client, folder)


@pytest.fixture(autouse=True)
def started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs run in this process, at once: no process is started, and none holds a lock."""

    def run(store: JobStore, folder: Path) -> None:
        code = run_explain_job(folder)
        (folder / STATE_FILE).write_text(json.dumps({"state": "done" if code == 0 else "failed"}))

    monkeypatch.setattr(JobStore, "_launch", run)


def _explain(client: StudioClient, **changes: Any) -> dict[str, Any]:
    job = client.call("POST", f"{client.project}/explanations", 202, json={**PART, **changes})
    assert isinstance(job, dict)
    return job


def test_evidence_over_a_part_of_a_video(client: StudioClient) -> None:
    jobs = [_explain(client, label=label) for label in ("x", "y")]
    assert {(job["kind"], job["state"], *job["paths"]) for job in jobs} == {("explain", "done", "a.mp4")}
    answers = [client.get(f"explanations/{job['id']}") for job in jobs]
    assert [(why["label"], why["is_predicted"], why["stale"]) for why in answers] == [
        ("x", False, False),
        ("y", False, False),
    ]
    # Of random weights, nothing may speak for one of the classes.
    job, why = max(zip(jobs, answers, strict=True), key=lambda pair: sum(pair[1]["importance"]))
    starts = [window["start_seconds"] for window in why["windows"]]
    assert starts == pytest.approx([0.36, 0.52, 0.68, 0.84], abs=0.021)  # 13 frames of 25 a second by clips of four
    assert why["windows"][-1]["end_seconds"] >= 0.9
    assert why["seconds"] == sorted(why["seconds"])
    assert len(why["seconds"]) == len(why["importance"]) == 16
    assert max(why["importance"]) == 1.0
    assert why["box"] == pytest.approx({"left": 0.15, "top": 0.0625, "width": 0.7, "height": 0.875})
    answer = client.request("GET", f"{client.project}/explanations/{job['id']}/maps")
    assert answer.headers["content-type"] == "image/png"
    tiles = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert tiles.shape == (why["tile_pixels"], why["tile_columns"] * why["tile_pixels"], 4)
    opacity = tiles[..., 3].reshape(why["tile_pixels"], why["tile_columns"], why["tile_pixels"]).mean(axis=(0, 2))
    assert opacity[16:].max() == 0  # no frame
    # The more there is in a frame, the more opaque its tile is.
    np.testing.assert_allclose(opacity[:16] / opacity.max(), why["importance"], atol=0.05)


def test_without_a_class_it_is_the_one_that_the_network_finds(client: StudioClient) -> None:
    point = {"start_seconds": 1.0, "end_seconds": 1.0}
    why = client.get(f"explanations/{_explain(client, **point)['id']}")
    assert why["is_predicted"]
    assert len(why["windows"]) == 1
    both = [client.get(f"explanations/{_explain(client, **point, label=label)['id']}") for label in ("x", "y")]
    probabilities = {one["label"]: one["windows"][0]["probability"] for one in both}
    assert why["label"] == max(probabilities, key=lambda label: probabilities[label])


def test_the_same_question_is_answered_once(client: StudioClient) -> None:
    job = _explain(client, label="x")
    assert _explain(client, label="x")["id"] == job["id"]
    assert _explain(client, label="y")["id"] != job["id"]
    file = client.folder / "net.safetensors"
    os.utime(file, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns + 1))  # trained further
    assert client.get(f"explanations/{job['id']}")["stale"]
    newer = _explain(client, label="x")
    assert newer["id"] != job["id"]
    assert not client.get(f"explanations/{newer['id']}")["stale"]


def test_old_explanations_are_removed(client: StudioClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("muybridge.studio.routes.explanations._NUM_KEPT", 2)
    ids = [_explain(client, start_seconds=start, end_seconds=start)["id"] for start in (0.1, 0.2, 0.3)]
    kept = {job["id"] for job in client.get("jobs")["jobs"]}
    assert len(kept) == 2
    assert ids[-1] in kept


def test_what_cannot_be_is_refused(client: StudioClient, tmp_path: Path) -> None:
    for changes, status in (
        ({"path": "missing.mp4"}, 404),
        ({"path": "../a.mp4"}, 403),
        ({"model": "/etc"}, 403),
        ({"model": "absent"}, 404),
        ({"end_seconds": 0.1}, 422),
        ({"start_seconds": -1}, 422),
        ({"label": ""}, 422),
    ):
        answer = client.request("POST", f"{client.project}/explanations", json={**PART, **changes})
        assert answer.status_code == status, answer.text
    unknown = client.call("POST", f"{client.project}/explanations", 400, json={**PART, "label": "z"})
    assert unknown["detail"] == "the network has no class 'z'; it has x, y"
    job = _explain(client)
    maps = JobStore(client.folder, tmp_path, AllowedFolders([client.folder])).find_folder(job["id"]) / "maps.png"
    maps.unlink()
    assert client.request("GET", f"{client.project}/explanations/{job['id']}/maps").status_code == 409
    (tmp_path / "secret").write_text("secret")
    maps.symlink_to(tmp_path / "secret")
    assert client.request("GET", f"{client.project}/explanations/{job['id']}/maps").status_code == 403
    maps.unlink()
    (maps.parent / "explanation.json").unlink()
    assert "no explanation yet" in client.get(f"explanations/{job['id']}", 409)["detail"]
    client.get("explanations/none", 404)
    assert _explain(client)["id"] != job["id"]  # what is damaged is computed again
