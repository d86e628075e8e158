"""The answer that streams a conversion, and ends it with the connection."""

from __future__ import annotations

from anyio import CancelScope
from anyio.to_thread import run_sync
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from muybridge.studio.media import VideoStream


class ConversionResponse(StreamingResponse):
    """MP4 while it is being made. The conversion is closed however the answer ends, also before its first byte."""

    def __init__(self, stream: VideoStream) -> None:
        super().__init__(stream, media_type="video/mp4")
        self.stream = stream

    async def listen_for_disconnect(self, receive: Receive) -> None:
        """Close the conversion when the player leaves, so that nobody waits for its next bytes."""
        await super().listen_for_disconnect(receive)
        await run_sync(self.stream.close)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            with CancelScope(shield=True):
                await run_sync(self.stream.close)
