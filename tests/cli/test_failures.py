"""Shortages of the system as sentences, whatever library reports them."""

from __future__ import annotations

import errno
import os

import pytest

from muybridge.cli.failures import describe_shortage


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), "too many files are open"),
        (OSError("Caught OSError in DataLoader worker process 0.\n[Errno 24] Too many open files"), "too many files"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "the disk is full"),
        (RuntimeError("[enforce fail at inline_container.cc:664] . No space left on device"), "the disk is full"),
        (MemoryError(), "the memory ran out"),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes"), "the memory ran out"),
        (ImportError("libx.so: failed to map segment from shared object"), "the memory ran out"),
        (SystemError("error return without exception set"), "the memory ran out"),
        (RuntimeError("could not create a primitive"), "the memory ran out"),
        (RuntimeError("can't start new thread"), "the system starts no more processes or threads"),
        (OSError(errno.EFBIG, os.strerror(errno.EFBIG)), "the file is larger than the system allows"),
    ],
)
def test_shortages(error: Exception, words: str) -> None:
    sentence = describe_shortage(error)
    assert sentence is not None
    assert sentence.startswith(words)


@pytest.mark.parametrize("error", [OSError(errno.ENOENT, "No such file"), ValueError("x"), OSError("something else")])
def test_other_errors_are_none(error: Exception) -> None:
    assert describe_shortage(error) is None
