"""The page of `muybridge watch --page`: who gets in, what is sent, and that nobody holds the stream up."""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from muybridge.records import YuvClip
from studio_client import wait_until

pytest.importorskip("fastapi")
pytest.importorskip("websockets")

from websockets.sync.client import connect

from muybridge.studio.live_page import LivePage

HELLO = {"source": "rtsp://camera/stream", "model": "first", "classes": ["<b>up</b>", "down"]}


@pytest.fixture
def live_page() -> Iterator[LivePage]:
    with LivePage(0, HELLO) as page:
        yield page


def _get(page: LivePage, path: str, cookie: str | None = None) -> http.client.HTTPResponse:
    """The answer, read and closed."""
    port = page.address.partition("/?")[0].rpartition(":")[2]
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=60)
    connection.request("GET", path, headers={"Cookie": cookie} if cookie else {})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer


def _get_cookie(page: LivePage) -> str:
    answer = _get(page, "/?" + page.address.partition("?")[2])
    assert answer.status == 303
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly; SameSite=Strict" in cookie
    return str(cookie).partition(";")[0]


def _connect(page: LivePage, cookie: str | None, **kwargs: Any) -> Any:
    address = page.address.partition("?")[0].replace("http://", "ws://") + "api/live"
    return connect(address, additional_headers={"Cookie": cookie} if cookie else {}, **kwargs)


def _make_frame() -> YuvClip:
    return YuvClip(np.full((1, 128, 171), 120, np.uint8), np.full((2, 1, 64, 86), 128, np.uint8), "bt601", False)


def test_a_page_gets_what_happens_and_what_has_happened(live_page: LivePage) -> None:
    cookie = _get_cookie(live_page)
    live_page.add_picture(_make_frame(), None)  # nobody looks
    live_page.add({"type": "event", "label": "up"})
    with _connect(live_page, cookie) as connection:
        assert json.loads(connection.recv(timeout=60)) == {"type": "hello", **HELLO}
        assert json.loads(connection.recv(timeout=60))["type"] == "event"
        for _ in range(10):
            live_page.add_picture(_make_frame(), 16 / 9)  # one of them is shown
        live_page.add({"type": "window", "delay_seconds": 0.1})
        assert connection.recv(timeout=60).startswith(b"\xff\xd8")
        assert json.loads(connection.recv(timeout=60))["delay_seconds"] == 0.1
    wait_until(lambda: not live_page._clients, 5)


def test_the_page_is_confined_and_needs_the_token(live_page: LivePage) -> None:
    cookie = _get_cookie(live_page)
    for path in ("/", "/js/live.js", "/style.css"):
        assert _get(live_page, path).status == 401
        answer = _get(live_page, path, cookie)
        assert answer.status == 200
        assert "default-src 'self'" in answer.headers["content-security-policy"]
    for path in ("/../app.py", "/%2e%2e/app.py", "/js/../../app.py", "/vendor"):
        assert _get(live_page, path, cookie).status == 404


def test_strangers_get_no_websocket(live_page: LivePage) -> None:
    cookie = _get_cookie(live_page)
    for wrong, origin in ((None, None), ("muybridge_studio_1=guess", None), (cookie, "http://evil.example")):
        with pytest.raises(Exception, match="HTTP 403"), _connect(live_page, wrong, origin=origin):
            pass


def test_a_connection_without_a_request_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("muybridge.studio.body_limits._HEAD_SECONDS", 0.3)
    with LivePage(0, HELLO) as page, _connect(page, _get_cookie(page)) as websocket:
        port = int(page.address.partition("/?")[0].rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as slow:
            slow.sendall(b"GET / HTTP/1.1\r\n")
            assert slow.recv(1) == b""
        websocket.recv(timeout=60)
        page.add({"type": "event"})
        assert json.loads(websocket.recv(timeout=60)) == {"type": "event"}


def test_a_page_that_does_not_keep_up_is_cut_off(live_page: LivePage) -> None:
    with _connect(live_page, _get_cookie(live_page), max_queue=1, close_timeout=0.1) as connection:
        connection.recv(timeout=60)
        text = os.urandom(50_000).hex()
        for number in range(400):
            live_page.add({"number": number, "text": text})
        wait_until(lambda: not live_page._clients, 10)


def test_a_port_that_is_taken_is_one_sentence(live_page: LivePage) -> None:
    port = int(live_page.address.partition("/?")[0].rpartition(":")[2])
    with pytest.raises(ValueError, match=f"cannot listen on port {port}"):
        LivePage(port, HELLO)
