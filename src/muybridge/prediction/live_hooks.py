"""Hooks: what a person wants to be run or called when a class begins or ends along a stream.

    falling:
      command: [/usr/local/bin/alarm, --room, "3"]
      webhook: https://example.org/alarm
    "*":
      webhook: http://127.0.0.1:8000/events

Input: a YAML file, then events. A command is a list of arguments, run without a shell, with the event as JSON on its
standard input; a webhook gets the same JSON by POST. Names of classes never become part of a command line. Hooks run in
threads of their own and never hold up the stream; one that fails or takes too long is reported and counted.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from threading import Lock, Semaphore

from muybridge.parsing import parse_record, read_yaml
from muybridge.prediction.live_events import LiveEvent
from muybridge.text import join_names

EVERY_CLASS = "*"
_TIMEOUT_SECONDS = 30.0
_NUM_THREADS = 4
_MAX_WAITING = 64


@dataclass(frozen=True)
class Hook:
    """What to do at an event of a class: run a command, call a webhook, or both."""

    command: tuple[str, ...] | None = None
    webhook: str | None = None

    def __post_init__(self) -> None:
        if not self.command and not self.webhook:
            raise ValueError("a hook has neither a command nor a webhook")
        if self.command and any("\0" in argument for argument in self.command):
            raise ValueError("command has an argument with a NUL character, expected text")
        if self.command and shutil.which(self.command[0]) is None:
            raise ValueError(f"command is {self.command[0]!r}, expected a program that exists and may be run")
        if self.webhook and not _is_web_address(self.webhook):
            raise ValueError(
                f"webhook is {self.webhook!r}, expected an address such as https://example.org/alarm, without spaces"
            )


def _is_web_address(text: str) -> bool:
    try:
        address = urllib.parse.urlsplit(text)
        is_web = address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
    except ValueError:  # a port that is none, brackets that are no address
        return False
    return is_web and text.isascii() and text.isprintable() and " " not in text


def read_hooks(path: Path, classes: Sequence[str]) -> dict[str, Hook]:
    """The hooks of a YAML file by class; `*` stands for every class. Raises ValueError for a damaged file and unknown
    classes."""
    values = read_yaml(path)
    if not isinstance(values, dict) or not values:
        raise ValueError(f"{path} holds no hooks, expected classes with a command or a webhook each")
    numbers = [name for name in values if not isinstance(name, str)]
    if numbers:
        raise ValueError(
            f"{path} has {numbers[0]!r} for a class, which YAML takes for no text; put it in quotation marks"
        )
    unknown = [name for name in values if name != EVERY_CLASS and name not in classes]
    if unknown:
        raise ValueError(f"{path} names classes that the network does not have: {join_names(unknown)}")
    return {
        name: parse_record(Hook, value, f"the hook of {name!r} in {path}", optional=None)
        for name, value in values.items()
    }


class HookRunner:
    """Runs hooks in threads. `on_problem` is called with a sentence for each that fails. Leaving a `with` block waits for
    those begun."""

    def __init__(self, hooks: Mapping[str, Hook], on_problem: Callable[[str], None]) -> None:
        self._hooks, self._on_problem = hooks, on_problem
        self._pool = ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="live-hook")
        self._free = Semaphore(_MAX_WAITING)
        self._lock = Lock()
        self.num_failed = 0

    def __enter__(self) -> HookRunner:
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.shutdown(wait=True)

    def run(self, event: LiveEvent) -> None:
        """Starts the hooks of the event's class."""
        for name in (event.label, EVERY_CLASS):
            if hook := self._hooks.get(name):
                if self._free.acquire(blocking=False):
                    self._pool.submit(self._run, hook, event)
                else:
                    self._report(f"a hook of {event.label} was left out: {_MAX_WAITING} others are not done")

    def _run(self, hook: Hook, event: LiveEvent) -> None:
        body = json.dumps(event.to_json()).encode()
        try:
            if hook.command:
                subprocess.run(
                    hook.command, input=body, timeout=_TIMEOUT_SECONDS, check=True, stdout=subprocess.DEVNULL
                )
            if hook.webhook:
                request = urllib.request.Request(hook.webhook, body, {"Content-Type": "application/json"})
                with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS):
                    pass
        except (OSError, ValueError, HTTPException, subprocess.SubprocessError) as error:
            self._report(f"the hook of {event.label} failed: {error or type(error).__name__}")
        finally:
            self._free.release()

    def _report(self, problem: str) -> None:
        with self._lock:  # of several threads
            self.num_failed += 1
        self._on_problem(problem)
