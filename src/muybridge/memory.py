"""The C library's memory allocator, and a limit on what a process that reads foreign files may allocate. Imports no torch."""

from __future__ import annotations

import ctypes
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_STATUS = Path("/proc/self/status")
_MAX_ALLOCATION = 1 << 31
_is_reader = False  # of the whole process


def keep_freed_memory(num_bytes: int) -> None:
    """Makes glibc reuse freed buffers of up to `num_bytes` instead of returning each to the operating system.

    Fresh memory is zeroed page by page on first use, which can cost as much time as computing a layer or decoding a clip
    (docs/performance.md). The process may keep up to twice `num_bytes`. No effect with another C library.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # -1 and -3 are M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
        mallopt(-1, 2 * num_bytes - 1)
        mallopt(-3, num_bytes)


def declare_reader_process() -> None:
    """Let `bounded_memory` act in this process, which only reads files: it has no CUDA context and no other work."""
    global _is_reader
    _is_reader = True


def is_reader_process() -> bool:
    """Whether `bounded_memory` acts in this process."""
    return _is_reader


@contextmanager
def bounded_memory(num_bytes: int) -> Iterator[None]:
    """Inside the block a reader process may map `num_bytes` more than it has. Raises MemoryError where it took more.

    FFmpeg goes on without what it could not allocate, and reports success. It allocates 2 GiB at most at a time, so allocations
    fail only that much above the limit, and the highest size of the process tells whether that came to pass.

    No effect in other processes, whose other threads and whose GPU would meet the limit too, nor without Linux's /proc.
    """
    if not _is_reader or not _STATUS.exists():
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    size, peak = _read_mapped_bytes()
    limit = size + num_bytes + _MAX_ALLOCATION
    allowed = [other for other in (soft, hard) if other != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min(limit, *allowed) if allowed else limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        if _read_mapped_bytes()[1] > max(peak, size + num_bytes):
            raise MemoryError


def _read_mapped_bytes() -> tuple[int, int]:
    """The bytes that this process has mapped, and the most it ever had."""
    lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines() if line.startswith("Vm"))
    size, peak = (int(lines[name].split()[0]) << 10 for name in ("VmSize", "VmPeak"))
    return size, peak
