"""Settings of the C library's memory allocator. Imports no torch."""

from __future__ import annotations

import ctypes


def keep_freed_memory(num_bytes: int) -> None:
    """Makes glibc reuse freed buffers of up to `num_bytes` instead of returning each to the operating system.

    Fresh memory is zeroed page by page on first use, which can cost as much time as computing a layer or decoding a clip
    (docs/performance.md). The process may keep up to twice `num_bytes`. No effect with another C library.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # -1 and -3 are M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
        mallopt(-1, 2 * num_bytes - 1)
        mallopt(-3, num_bytes)
