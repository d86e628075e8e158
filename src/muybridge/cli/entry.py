"""The entry point of the command: stop signals are handled before anything slow is imported."""

from __future__ import annotations

import os
import signal
import sys

from muybridge.cli.failures import find_limit_problem, format_stop, raise_file_limit
from muybridge.distributed.stop import SIGNAL_NUMBERS, StopRequested, exit_on_signals
from muybridge.terminal import print_line

# Without it the memory of CUDA graphs has gaps: 36.5 GiB and not 30.2 for batches of 128 clips (docs/performance.md).
_ALLOCATOR = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}


def run() -> int:
    """Runs the command of this process and returns its exit code, which a signal no longer changes."""
    if not {"PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"} & os.environ.keys():
        os.environ.update(_ALLOCATOR)  # before torch is imported
    with exit_on_signals(_format_line):
        raise_file_limit()
        if problem := find_limit_problem():
            print_line(f"muybridge: {problem}", error=True)
            return 1
        from muybridge.cli.main import main

        code = main()
        for number in SIGNAL_NUMBERS:
            signal.signal(number, signal.SIG_IGN)
    for number in SIGNAL_NUMBERS:
        signal.signal(number, signal.SIG_IGN)
    return code


def _format_line(stop: StopRequested) -> str:
    return f"muybridge: {format_stop(stop, sys.argv[1] if len(sys.argv) > 1 else '')}"
