from __future__ import annotations

import json
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from muybridge.prediction.live_events import LiveEvent
from muybridge.prediction.live_hooks import Hook, HookRunner, read_hooks

HOSTILE = "$(touch x); `id` \"'\n--help"
EVENT = LiveEvent("start", HOSTILE, 1.5, 0.75)


def test_a_command_gets_the_event_on_its_input_and_no_shell(tmp_path: Path) -> None:
    script = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_bytes(sys.stdin.buffer.read())"
    hook = Hook(command=(sys.executable, "-c", script, str(tmp_path / "got.json")))
    problems: list[str] = []
    with HookRunner({"*": hook}, problems.append) as runner:
        runner.run(EVENT)
    assert json.loads((tmp_path / "got.json").read_text()) == EVENT.to_json()
    assert not (tmp_path / "x").exists()
    assert not problems


def test_a_webhook_gets_the_event_by_post() -> None:
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with HookRunner({HOSTILE: Hook(webhook=f"http://127.0.0.1:{server.server_port}/")}, lambda _: None) as runner:
        runner.run(EVENT)
    server.shutdown()
    server.server_close()
    assert [json.loads(body) for body in bodies] == [EVENT.to_json()]


def test_a_hook_that_fails_is_reported_and_the_others_run(tmp_path: Path) -> None:
    problems: list[str] = []
    hooks = {
        "a": Hook(command=(sys.executable, "-c", "raise SystemExit(1)")),
        "*": Hook(command=(sys.executable, "-c", f"open({str(tmp_path / 'ran')!r}, 'w')")),
    }
    with HookRunner(hooks, problems.append) as runner:
        runner.run(LiveEvent("end", "a", 1.0, 0.1))
    assert runner.num_failed == 1
    assert "the hook of a failed" in problems[0]
    assert (tmp_path / "ran").exists()


def test_a_webhook_that_answers_nonsense_is_reported() -> None:
    server, problems = socket.create_server(("127.0.0.1", 0)), []

    def answer() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"nonsense\r\n\r\n")

    thread = threading.Thread(target=answer)
    thread.start()
    with HookRunner({"*": Hook(webhook=f"http://127.0.0.1:{server.getsockname()[1]}/")}, problems.append) as runner:
        runner.run(LiveEvent("start", "fall", 1.0, 0.9))
    thread.join()
    server.close()
    assert problems == ["the hook of fall failed: nonsense\r\n"]


def test_hooks_are_read_from_yaml(tmp_path: Path) -> None:
    path = tmp_path / "hooks.yaml"
    path.write_text("fall:\n  command: [/bin/echo, '1']\n'*':\n  webhook: http://127.0.0.1:1/\n")
    assert read_hooks(path, ("fall", "rest")) == {
        "fall": Hook(command=("/bin/echo", "1")),
        "*": Hook(webhook="http://127.0.0.1:1/"),
    }


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("jump:\n  command: [a]\n", "classes that the network does not have: jump"),
        ("fall:\n  command: echo a\n", "command is 'echo a'"),
        ("fall: {}\n", "neither a command nor a webhook"),
        ("fall:\n  command: [/nowhere/absent]\n", "command is '/nowhere/absent', expected a program that exists"),
        ("fall:\n  command: ['']\n", "command is '', expected a program"),
        ('fall:\n  command: [/bin/echo, "a\\0"]\n', "command has an argument with a NUL character"),
        *(
            (f"fall:\n  webhook: {address!r}\n", "expected an address such as https://example.org/alarm")
            for address in (
                "file:///etc/passwd",
                "http://",
                "http://a b/",
                "http://a:70000/",
                "http://[::1/",
                "http://é/",
            )
        ),
        ("1:\n  command: [/bin/echo]\n", "has 1 for a class, .* put it in quotation marks"),
        ("- fall\n", "holds no hooks"),
    ],
)
def test_damaged_hooks_are_refused(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "hooks.yaml").write_text(text)
    with pytest.raises(ValueError, match=problem):
        read_hooks(tmp_path / "hooks.yaml", ("fall", "rest"))
