"""Try a foreign file in a child process whose memory is limited, where a library allocates by itself. Linux; no torch.

Input: a function of a module that takes a path, and a limit. The child starts from nothing (no CUDA, no lock, no thread of the
parent) and ends with its parent. It takes 0.2 to 0.5 s with the imports of the function's module, so callers use it for files
that look suspicious, and for kinds of files that are read once.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable

from muybridge.limits import Limit
from muybridge.memory import bounded_memory, declare_reader_process

_PROGRAM = (
    "import json, sys; sys.path[:], *rest = json.loads(sys.argv[1]); "
    "from muybridge.files.limited_child import _run_check; _run_check(*rest)"
)
_PASSED, _OUT_OF_MEMORY, _REFUSED = "passed", "out of memory", "refused "


def check_in_child(check: Callable[[str], object], path: str, limit: Limit) -> None:
    """Run `check(path)` in a child process that may take as much memory as `limit` allows.

    Raises ValueError with the sentence of an exception of `check`, and where the memory does not suffice or the child dies.
    """
    arguments = json.dumps([sys.path, check.__module__, check.__qualname__, path, limit.value])
    with subprocess.Popen(
        [sys.executable, "-P", "-c", _PROGRAM, arguments],
        stdin=subprocess.PIPE,  # closed by the end of this process, however it ends
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        process_group=0,  # Ctrl-C is for the parent
    ) as child:
        assert child.stdout is not None, "it is a pipe"
        verdict = child.stdout.read().decode()
    if verdict.startswith(_REFUSED):
        raise ValueError(verdict.removeprefix(_REFUSED))
    if verdict != _PASSED:
        raise ValueError(f"reading it takes {limit.describe_excess()}")


def _run_check(module: str, name: str, path: str, num_bytes: int) -> None:
    """The main function of the child: prints a verdict and ends the process."""
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    declare_reader_process()
    check = getattr(importlib.import_module(module), name)
    verdict = _PASSED
    try:
        with bounded_memory(num_bytes):
            check(path)
    except MemoryError:
        verdict = _OUT_OF_MEMORY
    except Exception as error:  # noqa: BLE001 - a sentence for the parent, whatever it is
        verdict = f"{_REFUSED}{error or type(error).__name__}"
    sys.stdout.write(verdict)
    sys.stdout.flush()
    os._exit(0)  # destructors could fail


def _exit_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)
