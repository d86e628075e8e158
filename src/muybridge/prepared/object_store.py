"""Reads from object stores with retries and exponential backoff.

A read that fails every attempt ends the run, which can be resumed. It is not recorded as a failed video, since results
would then depend on the state of the network.
"""

from __future__ import annotations

import os
from time import sleep
from typing import Any

_RETRY_DELAYS_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # one minute in total


class ObjectStoreError(RuntimeError):
    """All attempts to read from an object store failed."""


def read_bytes(filesystem: Any, path: str, start: int | None = None, end: int | None = None) -> bytes:
    """Bytes `start` to `end` of the file at `path` in an fsspec file system; fewer at its end, all without bounds.

    Raises FileNotFoundError without retrying, and ObjectStoreError after the last attempt.
    """
    for delay in (*_RETRY_DELAYS_SECONDS, None):
        try:
            return bytes(filesystem.cat_file(path, start=start, end=end))
        except FileNotFoundError:
            raise
        except OSError as error:
            if delay is None:
                cause = str(error).partition("\n")[0] or type(error).__name__
                raise ObjectStoreError(
                    f"{path} could not be read in {len(_RETRY_DELAYS_SECONDS) + 1} attempts ({cause}); check the object store "
                    "and the network, then run the same command again to resume"
                ) from error
        sleep(delay * (1 + os.getpid() % 16 / 16))  # jitter: workers that failed together retry at different times
    raise AssertionError("the last attempt returns or raises")
