"""Where the windows and events of a stream go: JSON lines, CSV, SRT, or a WebSocket. Everything is written as it happens.

Input: windows and events. Output: lines. JSON lines hold all; CSV and SRT hold the events that have ended. The WebSocket
listens on this machine alone and sends the JSON lines to whoever names its token.
"""

from __future__ import annotations

import csv
import io
import json
import secrets
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TextIO

from muybridge.files.atomic import is_stream
from muybridge.files.lock import lock_folder
from muybridge.prediction.live_events import LiveEvent
from muybridge.prediction.timeline import Segment, format_srt_time
from muybridge.text import sanitize_text

LiveFormat = Literal["jsonl", "csv", "srt"]
FORMATS: Mapping[str, LiveFormat] = {".jsonl": "jsonl", ".csv": "csv", ".srt": "srt"}
_HEADER = ["label", "start_seconds", "end_seconds", "mean_probability"]


class LiveFile:
    """A file in the format of its extension, flushed after every line. Until the first one comes, it stays as it was.

    One process writes: ValueError where another one is writing the same file.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._format = path, FORMATS[path.suffix.lower()]
        with ExitStack() as resources:
            if not is_stream(path):
                resources.enter_context(lock_folder(path.parent, name=f".{path.name}.lock", subject=path))
            self._resources = resources.pop_all()
        self._file: TextIO | None = None
        self._num_events = 0

    def __enter__(self) -> LiveFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()

    def add(self, values: Mapping[str, Any]) -> None:
        """A window, an event or a connection as JSON values."""
        file = self._open()  # also where the format takes events alone: the source has begun
        if self._format == "jsonl":
            _write(file, json.dumps(values) + "\n")

    def add_event(self, event: LiveEvent) -> None:
        """An event; CSV and SRT take its end."""
        if event.segment is None or self._format == "jsonl":
            return
        self._num_events += 1
        format_segment = _format_srt_entry if self._format == "srt" else _format_csv_segment
        _write(self._open(), format_segment(event.segment, self._num_events))

    def _open(self) -> TextIO:
        if self._file is None:
            self._file = self._resources.enter_context(self._path.open("w", encoding="utf-8", newline=""))
            if self._format == "csv":
                _write(self._file, _format_csv_row(_HEADER))
        return self._file


class LiveSocket:
    """A WebSocket at ws://127.0.0.1:PORT/TOKEN that sends every line to all clients; slow ones are cut off."""

    def __init__(self, port: int) -> None:
        try:
            from websockets.sync.server import serve  # noqa: PLC0415 - an optional dependency
        except ImportError as error:
            raise ValueError("--websocket needs the package websockets; install muybridge[studio]") from error
        self._token = secrets.token_urlsafe(16)
        self._clients: set[Any] = set()
        self._lock = threading.Lock()
        try:
            self._server = serve(self._handle, "127.0.0.1", port)
        except OSError as error:
            raise ValueError(f"--websocket {port} cannot be used: {error.strerror}; name another port, or 0") from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="live-socket", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """Where to connect."""
        return f"ws://127.0.0.1:{self._server.socket.getsockname()[1]}/{self._token}"

    def __enter__(self) -> LiveSocket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        with self._lock:
            clients = list(self._clients)
        for client in clients:
            client.close()

    def add(self, values: Mapping[str, Any]) -> None:
        """Sends JSON values to every client."""
        with self._lock:
            clients = list(self._clients)
        for client in clients:
            try:
                client.send(json.dumps(values))
            except Exception:  # noqa: BLE001 - whatever is wrong with a client, the stream goes on
                self._forget(client)

    def _handle(self, client: Any) -> None:
        if not secrets.compare_digest(client.request.path, f"/{self._token}"):
            client.close(1008, "the token is wrong")
            return
        with self._lock:
            self._clients.add(client)
        try:
            for _ in client:  # nothing is expected of clients
                pass
        finally:
            self._forget(client)

    def _forget(self, client: Any) -> None:
        with self._lock:
            self._clients.discard(client)


def _write(file: TextIO, text: str) -> None:
    file.write(text)
    file.flush()


def _format_csv_row(row: list[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(row)
    return text.getvalue()


def _format_csv_segment(segment: Segment, _: int) -> str:
    numbers = (segment.start_seconds, segment.end_seconds, segment.mean_probability)
    return _format_csv_row([segment.label, *(f"{number:.6f}" for number in numbers)])


def _format_srt_entry(segment: Segment, position: int) -> str:
    times = f"{format_srt_time(segment.start_seconds)} --> {format_srt_time(segment.end_seconds)}"
    label = sanitize_text(" ".join(segment.label.split()))
    return f"{position}\n{times}\n{label} ({100 * segment.mean_probability:.0f} %)\n\n"
