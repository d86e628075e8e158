"""Bodies are limited in size, number and pace; a client that goes away is no failure of the server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from muybridge.studio.app import create_app
from muybridge.studio.body_limits import BodyLimits
from muybridge.studio.config import StudioConfig
from studio_client import HEADERS, TOKEN

FORM = {**HEADERS, "Content-Type": "multipart/form-data; boundary=b"}
PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x.mp4"\r\n\r\n'


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    root = tmp_path_factory.mktemp("limits")
    (root / "videos").mkdir()
    config = StudioConfig((str(root / "videos"),), TOKEN, state_folder=str(root / "state"), max_upload_bytes=1000)
    with TestClient(create_app(config), base_url="http://127.0.0.1:8420") as client:
        yield client


@pytest.mark.parametrize("address", ["projects/{}/videos", "predict", "timeline"])
def test_large_uploads_are_refused_before_and_while_they_come(client: TestClient, address: str) -> None:
    project = client.get("/api/projects", headers=HEADERS).json()["default"]
    body = PART + b"x" * (2 << 20) + b"\r\n--b--\r\n"
    announced = client.post(f"/api/{address.format(project)}", content=body, headers=FORM)
    chunked = client.post(f"/api/{address.format(project)}", content=iter([body]), headers=FORM)
    for answer in (announced, chunked):
        assert answer.status_code == 413
        assert "--max-upload-gib" in answer.json()["detail"]
    assert announced.headers["connection"] == "close"
    assert client.post("/api/projects", content=iter([b"x" * (65 << 20)]), headers=HEADERS).status_code == 413


def _call(receive: Any, headers: list[tuple[bytes, bytes]], limits: BodyLimits) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(limits({"type": "http", "method": "POST", "headers": headers}, receive, send))
    return sent


def test_a_body_that_stalls_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("muybridge.studio.body_limits._STALL_SECONDS", 0.01)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with pytest.raises(HTTPException, match="408"):
            await receive()

    async def receive() -> Any:
        await asyncio.sleep(10)

    _call(receive, [], BodyLimits(app, 1000))


def test_only_so_many_uploads_come_at_a_time() -> None:
    limits = BodyLimits(_read_nothing, 1000)
    limits._num_uploads = 8
    headers = [(b"content-type", b"multipart/form-data; boundary=b"), (b"content-length", b"5")]
    assert _call(None, headers, limits)[0]["status"] == 429
    limits._num_uploads = 7
    assert _call(None, headers, limits) == []
    assert limits._num_uploads == 7


async def _read_nothing(scope: Any, receive: Any, send: Any) -> None:
    pass


def test_a_client_that_goes_away_is_no_failure(client: TestClient, tmp_path: Path) -> None:
    def break_off() -> Iterator[bytes]:
        yield PART
        raise ClientDisconnect

    answer = client.post("/api/predict", content=break_off(), headers=FORM)
    assert answer.status_code == 400
