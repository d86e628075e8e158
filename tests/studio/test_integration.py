"""Predictions for other programs: files, uploads, batches; measurements; several workers."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from muybridge.prediction.recognizer import load
from muybridge.studio.app import create_app
from muybridge.studio.config import StudioConfig
from studio_client import HEADERS, TOKEN, StudioClient, wait_until
from videos import write_video


@pytest.fixture(scope="module")
def rest_client(tmp_path_factory: pytest.TempPathFactory, finished_run: Path) -> Iterator[StudioClient]:
    root = tmp_path_factory.mktemp("rest")
    folder = root / "videos"
    folder.mkdir()
    write_video(folder / "a.mp4", 30)
    write_video(root / "outside.mp4", 10)
    (folder / "broken.mp4").write_bytes(b"none")
    config = StudioConfig(
        folders=(str(folder),),
        token=TOKEN,
        state_folder=str(root / "state"),
        model=str(finished_run),
        max_upload_bytes=1 << 20,
    )
    with TestClient(create_app(config), base_url="http://127.0.0.1:8420") as client:
        yield StudioClient(client, folder)


def test_a_file_is_predicted_as_by_the_library(rest_client: StudioClient, finished_run: Path) -> None:
    expected = load(finished_run).predict(str(rest_client.folder / "a.mp4"), clips=3)
    result = rest_client.call("POST", "/api/predict", json={"path": "a.mp4", "clips": 3})
    assert result["status"] == "ok"
    assert result["video"] == "a.mp4"
    assert [(one["label"], one["probability"]) for one in result["classes"]] == [
        (label, pytest.approx(probability)) for label, probability in expected.classes
    ]


def test_an_upload_is_predicted_and_not_kept(rest_client: StudioClient) -> None:
    content = (rest_client.folder / "a.mp4").read_bytes()
    files = {"file": ("<x>.mp4", content, "video/mp4")}
    result = rest_client.call("POST", "/api/timeline", files=files, data={"clips": "2", "step_frames": "4"})
    assert (result["status"], result["video"]) == ("ok", "<x>.mp4")
    assert result["segments"][0]["start_seconds"] == 0
    plain = rest_client.call("POST", "/api/predict", json={"path": "a.mp4", "clips": 2})
    assert result["classes"] == plain["classes"]
    assert not list((rest_client.folder.parent / "state" / "uploads").iterdir())


def test_what_cannot_be_read_has_a_status(rest_client: StudioClient) -> None:
    result = rest_client.call("POST", "/api/predict", json={"path": "broken.mp4"})
    assert (result["status"], result["classes"]) == ("unreadable", [])
    assert result["reason"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"path": "../outside.mp4"}, 403),
        ({"path": "http://example.org/x.mp4"}, 404),
        ({"path": "absent.mp4"}, 404),
        ({"path": "a.mp4", "model": "/etc/passwd"}, 403),
        ({"path": "a.mp4", "model": "absent"}, 404),
        ({"path": "a.mp4", "clips": 0}, 422),
        ({"path": "a.mp4", "unknown": 1}, 422),
        ({"path": "a.mp4", "file": "x"}, 422),
        ([], 422),
        ({}, 422),
    ],
)
def test_wrong_requests(rest_client: StudioClient, body: Any, status: int) -> None:
    assert rest_client.refuse("POST", "/api/predict", status, json=body)


def test_uploads_are_limited(rest_client: StudioClient) -> None:
    files = {"file": ("x.mp4", b"0" * ((1 << 20) + 1), "video/mp4")}
    assert "bytes" in rest_client.refuse("POST", "/api/predict", 413, files=files)
    assert "bytes" in rest_client.refuse("POST", f"{rest_client.project}/videos", 413, files=files)
    two = [("file", ("x.mp4", b"0", "video/mp4"))] * 2
    assert rest_client.request("POST", "/api/predict", files=two).status_code in (400, 413)
    assert rest_client.refuse("POST", "/api/predict", 415, data={"clips": "1"})
    assert rest_client.refuse("POST", "/api/predict", 422, data={"file": "text"}, files={"other": b"x"})
    headers = {"Content-Type": "text/plain"}
    assert rest_client.refuse("POST", "/api/predict", 415, content=b"x", headers=headers)


def test_a_batch_goes_on_by_itself(rest_client: StudioClient) -> None:
    request = {"paths": ["a.mp4", "broken.mp4", "a.mp4"], "task": "timeline", "clips": 2}
    batch = rest_client.call("POST", "/api/batches", 202, json=request)
    assert batch["num_videos"] == 3
    address = f"/api/batches/{batch['id']}"
    done = wait_until(lambda: (one := rest_client.call("GET", address))["state"] == "done" and one, 240)
    assert (done["num_done"], done["num_failed"]) == (3, 1)
    results = rest_client.call("GET", f"{address}/results")
    assert [one["status"] for one in results["results"]] == ["ok", "unreadable", "ok"]
    assert results["results"][0] == results["results"][2]
    assert results["results"][0]["segments"]
    assert rest_client.call("GET", f"{address}/results", params={"offset": 2})["total"] == 3
    assert rest_client.call("DELETE", address, 204) is None
    assert rest_client.refuse("GET", address, 404)
    assert rest_client.refuse("POST", "/api/batches", 403, json={"paths": ["a.mp4", "/etc/passwd"]})


def test_the_description_is_a_page_too(rest_client: StudioClient) -> None:
    description = rest_client.call("GET", "/api/openapi.json")
    operations = [one["operationId"] for methods in description["paths"].values() for one in methods.values()]
    assert len(operations) == len(set(operations))
    page = rest_client.request("GET", "/api/docs")
    assert "<script" not in page.text
    assert "style=" not in page.text
    for path in description["paths"]:
        assert f"<code>{path}</code>" in page.text
    assert rest_client.request("GET", "/api/docs.css").headers["content-type"].startswith("text/css")


def test_measurements(rest_client: StudioClient) -> None:
    rest_client.call("GET", "/api/projects")
    rest_client.request("GET", "/api/projects/none/videos")
    text = rest_client.request("GET", "/api/metrics").text
    assert 'muybridge_studio_requests_total{method="GET",route="/projects",status="200"}' in text
    assert "none" not in text, "addresses of clients are no labels"
    counts = dict(re.findall(r'^muybridge_studio_batches{state="(\w+)"} (\S+)$', text, re.MULTILINE))
    assert counts.keys() == {"queued", "running", "stopping", "stopped", "done", "failed"}
    batches = rest_client.client.app.state.studio.batches  # type: ignore[attr-defined]
    assert sum(map(float, counts.values())) == len(batches.list_jobs())


@pytest.mark.long
def test_the_command_serves_with_several_workers(tmp_path: Path) -> None:
    """Requests land in different processes, which share projects, annotations and measurements."""
    write_video(tmp_path / "a.mp4", 10)
    environment = {**os.environ, "MUYBRIDGE_CACHE": str(tmp_path / "cache"), "MUYBRIDGE_STUDIO_TOKEN": TOKEN}
    command = [
        sys.executable,
        "-m",
        "muybridge",
        "studio",
        str(tmp_path),
        "--port",
        "0",
        "--workers",
        "2",
        "--no-browser",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        try:
            assert server.stdout is not None
            server.stdout.readline()
            address = server.stdout.readline().strip().partition("/?token")[0]
            wait_until(lambda: _get(f"{address}/api/health"), 60)
            projects = {_get(f"{address}/api/projects") for _ in range(10)}
            assert len(projects) == 1
            counted = 'requests_total{method="GET",route="/projects",status="200"} 10.0'
            assert counted in (_get(f"{address}/api/metrics") or "")
        finally:
            server.send_signal(signal.SIGTERM)
            assert server.wait(60) in (0, 75, 143, -15)


def _get(address: str) -> str | None:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=HEADERS), timeout=60) as response:
            return str(response.read().decode())
    except (urllib.error.URLError, ConnectionError):
        time.sleep(0.1)
        return None
