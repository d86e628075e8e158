"""Shortages of the system as sentences, whatever library reports them."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys

import pyarrow as pa
import pytest

from muybridge.cli.failures import describe_shortage


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), "too many files are open"),
        (OSError("Caught OSError in DataLoader worker process 0.\n[Errno 24] Too many open files"), "too many files"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "the disk is full"),
        (RuntimeError("[enforce fail at inline_container.cc:664] . No space left on device"), "the disk is full"),
        (
            RuntimeError("unable to allocate shared memory(shm) for file </torch_1_2_0>: No space left on device (28)"),
            "the shared memory in /dev/shm ran out",
        ),
        (MemoryError(), "the memory ran out"),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes"), "the memory ran out"),
        (ImportError("libx.so: failed to map segment from shared object"), "the memory ran out"),
        (SystemError("error return without exception set"), "the memory ran out"),
        (RuntimeError("could not create a primitive"), "the memory ran out"),
        (RuntimeError("can't start new thread"), "the system starts no more processes or threads"),
        (
            pa.ArrowInvalid("Unknown error: Failed to launch worker thread: Resource temporarily unavailable"),
            "the system",
        ),
        (pa.ArrowException("IOError: Error writing bytes to file. No space left on device"), "the disk is full"),
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


def run_limited(limit: int, soft: int, hard: int, *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a program under a limit of the system."""
    done = subprocess.run(
        [sys.executable, *arguments],
        preexec_fn=lambda: resource.setrlimit(limit, (soft, hard)),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("limit", "value", "words"),
    [
        (
            resource.RLIMIT_NOFILE,
            32,
            "open 32 files at a time, expected at least 64; raise the limit with `ulimit -n 4096`",
        ),
        (
            resource.RLIMIT_AS,
            600 << 20,
            "map 600 MiB of memory, expected at least 768; raise the limit with `ulimit -v",
        ),
    ],
    ids=["files", "memory"],
)
def test_limits_below_what_any_verb_needs(limit: int, value: int, words: str) -> None:
    code, shown, errors = run_limited(limit, value, value, "-m", "muybridge", "models")
    assert (code, shown, errors.count("\n")) == (1, "", 1)
    assert f"muybridge: the system lets this process {words}" in errors


def test_the_limit_on_open_files_is_raised_as_far_as_the_system_allows() -> None:
    program = (
        "import resource; from muybridge.cli.failures import *; raise_file_limit(); print(find_limit_problem(), "
        "resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    assert run_limited(resource.RLIMIT_NOFILE, 32, 500, "-c", program) == (0, "None (500, 500)\n", "")
    assert run_limited(resource.RLIMIT_NOFILE, 32, 9000, "-c", program) == (0, "None (4096, 9000)\n", "")
    assert run_limited(resource.RLIMIT_NOFILE, 5000, 9000, "-c", program) == (0, "None (5000, 9000)\n", "")
