"""Sentences about what can end any verb: a stop signal, and a disk, memory or a limit of the system that is used up.

Imports nothing slow: the command asks for its limits first.
"""

from __future__ import annotations

import errno
import resource

from muybridge.distributed.stop import StopRequested

_REMEDIES_AFTER_STOP = {
    "train": "everything is saved, run the same command with --resume to continue",
    **dict.fromkeys(
        ("prepare", "folds", "extract", "study"),
        "what is done is saved, run the same command again to continue",
    ),
    "evaluate": "run the same command again; it continues, with --timeline it starts over",
    "predict": "run the same command again; it continues a table (-o x.parquet or x.csv) of classes, all else it starts over",
}
_WANTED_FILES, _MIN_FILES, _MIN_BYTES = 4096, 64, 768 << 20
_DISK_FULL = "the disk is full; free some space, then run the same command again (a training run with --resume)"
_MEMORY_FULL = (
    "the memory ran out; lower loading.workers, loading.prefetch and the batch size, or close other programs, then run the "
    "same command again (a training run with --resume)"
)
_SHARED_MEMORY_FULL = (
    "the shared memory in /dev/shm ran out; enlarge it (`docker run --shm-size 8g`), or lower loading.workers and "
    "loading.prefetch"
)
_GPU_MEMORY_FULL = "the GPU's memory is too small; lower training.batch_size or evaluation.batch_size"
_TOO_MANY_FILES = (
    "too many files are open; raise the limit with `ulimit -n 4096` or lower loading.workers, then run the same command "
    "again (a training run with --resume)"
)
_TOO_MANY_PROCESSES = (
    "the system starts no more processes or threads; lower loading.workers, or raise the limits with `ulimit -u` and "
    "`ulimit -v`"
)
_SENTENCE_BY_ERRNO = {
    errno.ENOSPC: _DISK_FULL,
    errno.EDQUOT: _DISK_FULL,
    errno.EFBIG: "the file is larger than the system allows; raise the limit with `ulimit -f`, or write to another disk",
    errno.ENOMEM: _MEMORY_FULL,
    errno.EMFILE: _TOO_MANY_FILES,
    errno.ENFILE: _TOO_MANY_FILES,
    errno.EAGAIN: _TOO_MANY_PROCESSES,
}
# Libraries in C++ raise RuntimeErrors with these words.
_SENTENCE_BY_PHRASE = {
    "Too many open files": _TOO_MANY_FILES,
    "</torch_": _SHARED_MEMORY_FULL,  # the name of a file in /dev/shm
    "No space left on device": _DISK_FULL,
    "Cannot allocate memory": _MEMORY_FULL,
    "not enough memory": _MEMORY_FULL,
    "can't allocate memory": _MEMORY_FULL,
    "std::bad_alloc": _MEMORY_FULL,
    "failed to map segment from shared object": _MEMORY_FULL,
    "could not create a primitive\n": _MEMORY_FULL,  # oneDNN, which compiles kernels into memory
    "without exception set": _MEMORY_FULL,  # an extension in C that could not allocate
    "without setting an exception": _MEMORY_FULL,
    "can't start new thread": _TOO_MANY_PROCESSES,
    "Resource temporarily unavailable": _TOO_MANY_PROCESSES,
}


def describe_shortage(error: Exception) -> str | None:
    """A sentence where an error says that a disk, memory or a limit of the system is used up, else None."""
    if type(error).__name__ == "OutOfMemoryError":  # torch's, which this module does not import: it is slow
        return _GPU_MEMORY_FULL
    if isinstance(error, MemoryError):  # pyarrow's too
        return _MEMORY_FULL
    if isinstance(error, OSError) and error.errno:
        return _SENTENCE_BY_ERRNO.get(error.errno)
    # An OSError of a worker comes without its number.
    is_of_library = isinstance(error, ImportError | RuntimeError | OSError | SystemError)
    if is_of_library or type(error).__module__ == "pyarrow.lib":
        return next((sentence for phrase, sentence in _SENTENCE_BY_PHRASE.items() if phrase in f"{error}\n"), None)
    return None


def raise_file_limit() -> None:
    """Lets this process open as many files at a time as the sentence about too many of them asks for, where the system does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED_FILES if hard == resource.RLIM_INFINITY else min(_WANTED_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def find_limit_problem() -> str | None:
    """A sentence where this process may open too few files or map too little memory for PyTorch and its workers, else None.

    Below these limits libraries end the process themselves, or with errors that do not name the cause.
    """
    num_files, num_bytes = (resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_AS))
    if num_files != resource.RLIM_INFINITY and num_files < _MIN_FILES:
        return (
            f"the system lets this process open {num_files} files at a time, expected at least {_MIN_FILES}; raise the limit "
            "with `ulimit -n 4096`"
        )
    if num_bytes != resource.RLIM_INFINITY and num_bytes < _MIN_BYTES:
        return (
            f"the system lets this process map {num_bytes >> 20} MiB of memory, expected at least {_MIN_BYTES >> 20}; raise "
            "the limit with `ulimit -v unlimited`"
        )
    return None


def format_stop(stop: StopRequested, verb: str) -> str:
    """A sentence about a verb that was stopped by a signal."""
    return f"{stop}; {_REMEDIES_AFTER_STOP.get(verb, 'run the same command again')}"
