"""How much a request may send, and how slowly: an ASGI middleware for bodies, and a protocol that closes idle connections.

Too large a body is refused by its announced length, before it is read, or while it comes. Only so many uploads come at a time,
since they are kept on disk until they are complete. What stalls is given up.
"""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from muybridge.studio.access import refuse_request

_MAX_BODY_BYTES = 64 << 20  # of what is no upload
_FORM_BYTES = 1 << 20  # of a form around its files
_MAX_UPLOADS = 8
_STALL_SECONDS = 60.0  # without a byte of a body
_HEAD_SECONDS = 20.0  # in which the head of a request must be there


class BodyLimits:
    """The middleware."""

    def __init__(self, app: ASGIApp, max_upload_bytes: int) -> None:
        self.app = app
        self.max_upload_bytes = max_upload_bytes
        self._num_uploads = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        is_upload = headers.get("content-type", "").partition(";")[0].strip().lower() == "multipart/form-data"
        limit = self.max_upload_bytes + _FORM_BYTES if is_upload else _MAX_BODY_BYTES
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > limit:
            await refuse_request(scope, receive, send, 413, _describe_limit(limit))
        elif is_upload and self._num_uploads >= _MAX_UPLOADS:
            await refuse_request(scope, receive, send, 429, f"{_MAX_UPLOADS} uploads are under way; try again later")
        else:
            self._num_uploads += is_upload
            try:
                await self.app(scope, _limit_body(receive, limit), send)
            finally:
                self._num_uploads -= is_upload


class TimedProtocol(H11Protocol):
    """HTTP by uvicorn; a connection on which no head of a request is complete in time is closed."""

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """A client has connected."""
        super().connection_made(transport)
        self._time_head()

    def data_received(self, data: bytes) -> None:
        """Some bytes have come."""
        super().data_received(data)
        self._time_head()

    def _time_head(self) -> None:
        is_waiting = self.cycle is None or self.cycle.response_complete
        if not is_waiting and self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        elif is_waiting and self._head_timer is None:
            self._head_timer = self.loop.call_later(_HEAD_SECONDS, self._close_if_waiting)

    def _close_if_waiting(self) -> None:
        self._head_timer = None
        is_waiting = self.cycle is None or self.cycle.response_complete
        if is_waiting and self.transport.get_protocol() is self:  # a WebSocket has another one
            self.transport.close()


def _limit_body(receive: Receive, limit: int) -> Receive:
    """`receive` that raises HTTPException for a body that is too large, or does not go on."""
    num_bytes, is_complete = 0, False

    async def receive_with_limits() -> Message:
        nonlocal num_bytes, is_complete
        if is_complete:
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), _STALL_SECONDS)
        except TimeoutError as error:
            raise HTTPException(408, f"nothing of the body came for {_STALL_SECONDS:g} s; send it again") from error
        num_bytes += len(message.get("body", b""))
        if num_bytes > limit:
            raise HTTPException(413, _describe_limit(limit))
        is_complete = not message.get("more_body", False)
        return message

    return receive_with_limits


def _describe_limit(limit: int) -> str:
    hint = "" if limit == _MAX_BODY_BYTES else "; start the server with a larger --max-upload-gib"
    return f"the body has more than {limit:,} bytes{hint}"
