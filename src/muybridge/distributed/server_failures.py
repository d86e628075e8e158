"""Preloaded by fork servers: what fails in a server, or in a child before it runs anything, is one line and no traceback.

The parent finds out what it means for the work, and says so.
"""

from __future__ import annotations

import sys
from types import TracebackType

from muybridge.terminal import print_line

_PARENT_HAS_ENDED = (ConnectionError, EOFError, FileNotFoundError)  # its pipes and semaphores are gone


def _print_failure(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, _PARENT_HAS_ENDED):
        print_line(f"a worker process could not be started ({kind.__name__}: {error})", error=True)


sys.excepthook = _print_failure
