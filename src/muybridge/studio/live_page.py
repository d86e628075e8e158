"""`LivePage`: what `muybridge watch --page` shows in a browser of this machine: picture, probabilities, events, delay.

Input: JSON values of windows and events, and frames. Output: a page at 127.0.0.1, and a WebSocket that it reads. The source is
what the command line named; the page can ask for nothing. Who connects needs the token, by the rules of the studio
(`access`). A browser that does not keep up misses pictures first, and is cut off when lines wait, too.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

from muybridge.records import YuvClip
from muybridge.studio.access import AccessControl, AccessRules
from muybridge.studio.body_limits import TimedProtocol
from muybridge.studio.config import create_token
from muybridge.studio.jpeg import encode_jpeg

_PAGE_FOLDER = Path(__file__).with_name("page")
_HOST = "127.0.0.1"
_PICTURE_SECONDS, _PICTURE_HEIGHT = 0.2, 288
_MAX_CLIENTS, _MAX_WAITING, _MAX_WAITING_WITH_PICTURES = 16, 256, 4
_MAX_HISTORY = 200  # lines that a page gets which is opened later
_START_SECONDS, _CLOSE_SECONDS = 20.0, 2.0


class LivePage:
    """A server in a thread of its own. `hello` is what every page gets first: source, model, classes."""

    def __init__(self, port: int, hello: Mapping[str, Any]) -> None:
        self._socket = _listen(port)
        self._rules = AccessRules(create_token(), _HOST, int(self._socket.getsockname()[1]))
        self._hello = json.dumps({"type": "hello", **hello})
        self._history: deque[str] = deque(maxlen=_MAX_HISTORY)
        self._clients: dict[asyncio.Task[None], asyncio.Queue[str | bytes]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._next_picture = 0.0
        config = uvicorn.Config(
            self._create_app(),
            http=TimedProtocol,
            log_level="warning",
            access_log=False,
            server_header=False,
            ws_max_size=1024,
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=2,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="live-page", daemon=True
        )

    @property
    def address(self) -> str:
        """What to open in a browser of this machine."""
        return f"http://{_HOST}:{self._rules.port}/?token={self._rules.token}"

    def __enter__(self) -> Self:
        self._thread.start()
        deadline = time.monotonic() + _START_SECONDS
        while not self._server.started and self._thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.02)
        if not self._server.started:
            raise ValueError("the page of the stream could not be served; try again, or leave --page out")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=5)
        self._socket.close()

    def add(self, values: Mapping[str, Any]) -> None:
        """Send JSON values to every page."""
        self._call(self._add_line, json.dumps(values))

    def add_picture(self, planes: YuvClip, aspect: float | None) -> None:
        """Show a frame, at most five a second, and only while somebody looks. `aspect`: width over height."""
        now = time.monotonic()
        if not self._clients or now < self._next_picture:
            return
        self._next_picture = now + _PICTURE_SECONDS
        height, width = planes.luma_thw.shape[1:]
        size = round(_PICTURE_HEIGHT * min(4.0, max(0.25, aspect or width / height))), _PICTURE_HEIGHT
        self._call(self._add_picture, encode_jpeg(planes, size))

    def _call(self, function: Any, message: str | bytes) -> None:
        """Call a method in the server's thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, message)

    def _add_line(self, line: str) -> None:
        self._history.append(line)
        for task, queue in list(self._clients.items()):
            if queue.full():
                task.cancel()
            else:
                queue.put_nowait(line)

    def _add_picture(self, jpeg: bytes) -> None:
        for queue in self._clients.values():
            if queue.qsize() < _MAX_WAITING_WITH_PICTURES:
                queue.put_nowait(jpeg)

    def _create_app(self) -> Starlette:
        @asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            self._loop = asyncio.get_running_loop()
            yield

        routes = [
            Route("/", _get_page),
            WebSocketRoute("/api/live", self._serve),
            Mount("/", StaticFiles(directory=_PAGE_FOLDER)),
        ]
        return Starlette(routes=routes, middleware=[Middleware(AccessControl, rules=self._rules)], lifespan=lifespan)

    async def _serve(self, websocket: WebSocket) -> None:
        await websocket.accept()
        if len(self._clients) >= _MAX_CLIENTS:
            await websocket.close(1013, f"{_MAX_CLIENTS} pages show this stream already")
            return
        queue: asyncio.Queue[str | bytes] = asyncio.Queue(_MAX_WAITING)
        for line in (self._hello, *self._history):
            queue.put_nowait(line)
        sending = asyncio.create_task(_send(websocket, queue))
        receiving = asyncio.create_task(_wait_for_end(websocket))
        self._clients[sending] = queue
        await asyncio.wait((sending, receiving), return_when=asyncio.FIRST_COMPLETED)
        self._clients.pop(sending, None)
        is_gone = receiving.done()
        for task in (sending, receiving):
            task.cancel()
        await asyncio.gather(sending, receiving, return_exceptions=True)
        if not is_gone:
            with suppress(WebSocketDisconnect, TimeoutError):
                await asyncio.wait_for(websocket.close(1013, "this page does not keep up"), _CLOSE_SECONDS)


def _listen(port: int) -> socket.socket:
    """A socket at a port of this machine. Raises ValueError where it is taken."""
    try:
        return socket.create_server((_HOST, port))
    except OSError as error:
        raise ValueError(
            f"cannot listen on port {port} ({error.strerror}); name another one, or 0 for any that is free"
        ) from error


async def _get_page(request: Request) -> FileResponse:
    return FileResponse(_PAGE_FOLDER / "live.html")


async def _send(websocket: WebSocket, queue: asyncio.Queue[str | bytes]) -> None:
    """Send what is queued, until it is cancelled or the page is gone."""
    while True:
        message = await queue.get()
        if isinstance(message, str):
            await websocket.send_text(message)
        else:
            await websocket.send_bytes(message)


async def _wait_for_end(websocket: WebSocket) -> None:
    """Until the page is gone. Nothing is expected of pages."""
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass
