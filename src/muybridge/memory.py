"""How the C library treats freed memory."""

from __future__ import annotations

import ctypes


def keep_freed_memory(num_bytes: int) -> None:
    """Has glibc reuse freed buffers up to this size instead of giving each back and asking for it again.

    Fresh memory is cleared page by page when it is first touched, which costs what a layer computes or a worker decodes
    (docs/performance.md). Twice as much may stay with the process. Nothing happens with another C library.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # numbers of malloc.h: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
        mallopt(-1, 2 * num_bytes - 1)
        mallopt(-3, num_bytes)
