"""A headless Chromium to look at pages with: driven over its debugging pipe, so nothing has to be installed but itself.

Every wait is for an event or an answer of the browser, none is for time.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

NAMES = ("chromium", "chromium-headless-shell", "chromium-browser", "google-chrome")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-extensions",
)


class Seen(NamedTuple):
    """What a page did: addresses it asked for, messages of the browser about it, and how it looks as PNG."""

    requests: list[str]
    complaints: list[str]
    screenshot: bytes


class Browser:
    """One page of a running Chromium."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands = os.fdopen(commands, "wb", buffering=0)
        self._answers = os.fdopen(answers, "rb")
        self._number = 0
        self._session: str | None = None
        self._events: list[dict[str, Any]] = []
        self._pending = b""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer to one command of the DevTools protocol; events on the way are kept."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters}
        self._commands.write(
            json.dumps(command | ({"sessionId": self._session} if self._session else {})).encode() + b"\0"
        )
        while True:
            message = self._message()
            if message.get("id") == self._number:
                assert "error" not in message, f"{method}: {message}"
                return message["result"]
            self._events.append(message)

    def open(self, page: Path, *, width: int, dark: bool = False) -> Seen:
        """Shows a page at a width, in light or dark, until it and all that it asks for is loaded."""
        scheme = "dark" if dark else "light"
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
        self.call(
            "Emulation.setEmulatedMedia", media="screen", features=[{"name": "prefers-color-scheme", "value": scheme}]
        )
        self._events.clear()
        self.call("Page.navigate", url=page.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self._events):
            self._events.append(self._message())
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        requests = [event["params"]["request"]["url"] for event in self._of("Network.requestWillBeSent")]
        complaints = [event["params"]["entry"]["text"] for event in self._of("Log.entryAdded")]
        complaints += [
            event["method"] for event in self._events if event.get("method") == "Page.javascriptDialogOpening"
        ]
        return Seen(requests, complaints, base64.b64decode(shot["data"]))

    def value(self, expression: str) -> Any:
        """What a JavaScript expression gives in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def _of(self, method: str) -> list[dict[str, Any]]:
        return [event for event in self._events if event.get("method") == method]

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._pending:
            part = os.read(self._answers.fileno(), 1 << 16)
            assert part, "Chromium has ended"
            self._pending += part
        text, _, self._pending = self._pending.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """A browser with a profile of its own; skips the test where there is none."""
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("no Chromium here; Debian's package is called chromium")
    commands_in, commands_out = os.pipe()
    answers_in, answers_out = os.pipe()
    # Chromium reads commands from descriptor 3 and answers on 4; a shell puts the pipes there.
    line = f'exec "$0" "$@" 3<&{commands_in} 4>&{answers_out}'
    process = subprocess.Popen(
        ["bash", "-c", line, program, *OPTIONS, "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"],
        pass_fds=(commands_in, answers_out),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(commands_in)
    os.close(answers_out)
    browser = Browser(commands_out, answers_in)
    try:
        yield browser
    finally:
        browser._session = None
        browser.call("Browser.close")
        process.wait(timeout=60)
        browser._commands.close()
        browser._answers.close()
