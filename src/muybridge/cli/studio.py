"""`muybridge studio`: watch, annotate, train and correct in the browser."""

from __future__ import annotations

import os
import socket
import sys
import threading
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Interval

from muybridge.distributed.fork_server import safe_import_path
from muybridge.terminal import print_line


@dataclass(frozen=True)
class ServerArguments:
    """server"""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 lets other machines in, with the token."""
    port: Annotated[int, Interval(ge=0, le=65_535)] = 8420
    """Port to listen on; 0: any that is free."""
    workers: Annotated[int, Interval(ge=1, le=64)] = 1
    """Server processes, for many users or programs at a time."""
    token: str | None = None
    """The token that requests need, at least 16 characters (default: $MUYBRIDGE_STUDIO_TOKEN, else a new random one)."""
    allow: list[str] | None = None
    """More folders whose files may be opened."""
    allowed_hosts: list[str] | None = None
    """Names of this server behind a reverse proxy."""
    max_upload_gib: Annotated[float, Interval(gt=0, le=64)] = 4.0
    """Size of an upload."""
    no_browser: bool = False
    """Print the address only, and open no browser."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of predictions; auto is bf16 on a GPU that computes it in hardware, else fp32."""


def studio(folder: str = ".", *, server: ServerArguments, model: str | None = None) -> int:
    """Serves a page on which to watch videos, annotate them, train, and correct what the network says.

    Args:
        folder: A folder of videos; annotations and runs are written into it.
        model: The network of POST /api/predict where a request names none: a run folder, a file or a catalogue name.

    Examples:
        muybridge studio my_videos
        muybridge studio my_videos --port 9000 --no-browser
        muybridge studio /srv/videos --host 0.0.0.0 --workers 4 --allow /srv/models
    """
    try:
        import uvicorn

        from muybridge.kernels.precision import PRECISION_VARIABLE
        from muybridge.studio.body_limits import TimedProtocol
        from muybridge.studio.config import StudioConfig, create_token
        from muybridge.studio.server_metrics import prepare_for_workers
    except ImportError as error:
        raise ImportError(f"the studio needs more packages ({error}); pip install 'muybridge[studio]'") from error
    folders = [_resolve_folder(path) for path in (folder, *(server.allow or ()))]
    port = _reserve_port(server.host, server.port)
    config = StudioConfig(
        folders=tuple(folders),
        token=server.token or os.environ.get("MUYBRIDGE_STUDIO_TOKEN") or create_token(),
        host=server.host,
        port=port,
        allowed_hosts=tuple(server.allowed_hosts or ()),
        model=model,
        max_upload_bytes=round(server.max_upload_gib * 2**30),
    )
    if server.workers > 1:
        prepare_for_workers(config.state_path / "metrics")
    config.export()
    if server.precision != "auto":
        os.environ[PRECISION_VARIABLE] = server.precision  # of workers and jobs
    address = f"http://{_format_host(server.host)}:{port}/?token={config.token}"
    print_line(f"Muybridge Studio serves {folders[0]} at")
    print_line(f"  {address}")
    print_line("Ctrl-C ends the server; trainings go on.")
    if not server.no_browser:
        _open_browser_soon(address)
    with safe_import_path():  # of the server's processes, and theirs
        uvicorn.run(
            "muybridge.studio.app:create_app_from_environment",
            factory=True,
            host=server.host,
            port=port,
            workers=server.workers,
            http=TimedProtocol,
            log_level="warning",
            access_log=False,  # it would hold the token
            server_header=False,
            timeout_graceful_shutdown=3,
        )
    return 0


def _resolve_folder(text: str) -> str:
    path = Path(text)
    if not path.is_dir():
        raise ValueError(f"{text} is no folder; name a folder of videos")
    return str(path.resolve())


def _reserve_port(host: str, port: int) -> int:
    """The port, or a free one for 0. Raises ValueError where it cannot be listened on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ValueError(
                f"cannot listen on {host}, port {port} ({error.strerror}); name another with --port, or 0 for any that is free"
            ) from error
        return int(probe.getsockname()[1])


def _format_host(host: str) -> str:
    """The host of an address that opens on this machine."""
    if host in ("0.0.0.0", "::", ""):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _open_browser_soon(address: str) -> None:
    """Open a browser once the server listens. Without a display there is none, or one that would take this terminal."""
    has_display = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if has_display:
        timer = threading.Timer(1.5, webbrowser.open, (address,))
        timer.daemon = True
        timer.start()
