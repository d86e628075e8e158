"""Reading from object stores, which fail now and then: what failed is asked for again, after longer and longer pauses.

A read that fails for good is no broken video: were it recorded as one, a run would depend on the weather of a network. It ends
the run, which is saved and goes on from there. Pauses are `time.sleep`, which follows the monotonic clock.
"""

from __future__ import annotations

import os
import time
from typing import Any

RETRY_DELAYS_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # a minute in all


class ObjectStoreError(RuntimeError):
    """An object store that did not answer, however often it was asked."""


def read_bytes(filesystem: Any, path: str, start: int | None = None, end: int | None = None) -> bytes:
    """Bytes `start` to `end` of the file at `path` in an fsspec file system, fewer at its end; all of it without bounds.

    Raises FileNotFoundError at once; UnreachableStore after all pauses.
    """
    for pause in (*RETRY_DELAYS_SECONDS, None):
        try:
            return bytes(filesystem.cat_file(path, start=start, end=end))
        except FileNotFoundError:
            raise
        except OSError as error:
            if pause is None:
                cause = str(error).partition("\n")[0] or type(error).__name__
                raise ObjectStoreError(
                    f"{path} could not be read in {len(RETRY_DELAYS_SECONDS) + 1} attempts ({cause}); look at the object store "
                    "and the network, then run the same line again"
                ) from error
        time.sleep(
            pause * (1 + os.getpid() % 16 / 16)
        )  # many workers fail at once, and should not all come back at once
    raise AssertionError("the last attempt returns or raises")
