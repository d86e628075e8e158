"""A studio in a process of its own, and Chromium on it; without Playwright or Chromium the tests are skipped."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from videos import write_video

pytest.importorskip("fastapi")
playwright_api = pytest.importorskip("playwright.sync_api")

_TIMEOUT_MILLISECONDS = 60_000


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Debian's Chromium."""
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("chromium is not installed")
    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos whose frames show their numbers; one is in a format that no browser plays."""
    folder = tmp_path_factory.mktemp("page") / "videos"
    folder.mkdir()
    for name in ("a", "b", "c"):
        write_video(folder / f"{name}.mp4", 200, height=96, width=128)
    write_video(folder / "d.avi", 60, codec="mpeg4", height=96, width=128)
    return folder


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """The address that `muybridge studio` prints."""
    with serve(folder) as address:
        yield address


@contextmanager
def serve(folder: Path, port: int = 0, token: str = "") -> Iterator[str]:
    """A server in a process of its own; yields the address that it prints."""
    command = [sys.executable, "-m", "muybridge", "studio", str(folder), "--no-browser", "--port", str(port)]
    environment = {**os.environ, "XDG_STATE_HOME": str(folder.parent / "state"), "HOME": str(folder.parent)}
    if token:
        environment["MUYBRIDGE_STUDIO_TOKEN"] = token
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            line = next(line for line in server.stdout if "http://" in line)
            yield line.strip()
        finally:
            server.terminate()


@pytest.fixture
def page(chromium: Any, address: str) -> Iterator[Any]:
    """The page at desktop width. Afterwards no script may have failed, and no request may have gone elsewhere."""
    context = chromium.new_context(viewport={"width": 1280, "height": 860})
    page = context.new_page()
    page.set_default_timeout(_TIMEOUT_MILLISECONDS)
    problems: list[str] = []
    origin = address.partition("/?")[0]
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: problems.append(request.url) if not _is_local(request.url, origin) else None)
    page.on("dialog", lambda dialog: dialog.accept())
    open_when_ready(page, address)
    yield page
    context.close()
    assert problems == []


@pytest.fixture
def blank(chromium: Any) -> Iterator[Any]:
    """A page without anything, on which no script may fail."""
    page = chromium.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    yield page
    page.close()
    assert problems == []


def _is_local(url: str, origin: str) -> bool:
    return url.startswith((f"{origin}/", "blob:", "data:"))


def open_when_ready(page: Any, address: str) -> None:
    """The address is printed shortly before the server listens."""
    for attempt in range(40):
        try:
            page.goto(address)
            break
        except playwright_api.Error:
            if attempt == 39:
                raise
            page.wait_for_timeout(500)
    page.get_by_text("frame 0").wait_for()
