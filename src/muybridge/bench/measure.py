"""Timing and memory measurement of functions.

Input: functions by name, which run alternately in one process. Output: seconds of each (processor time on a CPU, CUDA events on
a GPU), peak memory, and the GEMM rate of the device as an upper bound.
"""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch

from muybridge.distributed.fork_server import safe_import_path
from muybridge.files.run_folder import get_processor_name

TimedFunction = Callable[[], object]
Result = TypeVar("Result")


def time_interleaved(
    functions: Mapping[str, TimedFunction], repeats: int, device: torch.device
) -> dict[str, list[float]]:
    """Run each function once to warm up, then all of them alternately `repeats` times; the seconds of every repeat."""
    for function in functions.values():
        function()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            seconds[name].append(measure_seconds(function, device))
    return seconds


def measure_seconds(function: TimedFunction, device: torch.device) -> float:
    """Processor seconds of all threads, which other load hardly affects; on a GPU, seconds between two CUDA events."""
    if device.type == "cuda":
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        begin.record()
        function()
        end.record()
        torch.cuda.synchronize(device)
        return float(begin.elapsed_time(end)) / 1000
    started = time.process_time()
    function()
    return time.process_time() - started


def measure_gemm_gflops(device: torch.device, dtype: torch.dtype = torch.float32, *, repeats: int = 9) -> float:
    """Median GFLOP/s of a square matrix product, the upper bound of direct convolutions."""
    size = 1024 if device.type == "cpu" else 8192
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    seconds = time_interleaved({"gemm": lambda: left @ right}, repeats, device)["gemm"]
    return 2 * size**3 / statistics.median(seconds) / 1e9


def measure_peak_bytes(function: TimedFunction, device: torch.device) -> int:
    """Peak memory of `function` beyond what was allocated before it.

    On a CPU that is the growth of the process's high-water mark, so call it in a new process (`run_in_fresh_process`).
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        function()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    before = _read_peak_resident_bytes()
    function()
    return _read_peak_resident_bytes() - before


def run_in_fresh_process(function: Callable[..., Result], *arguments: object) -> Result:
    """Return `function(*arguments)`, computed in a newly started process."""
    with safe_import_path(), multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def _read_peak_resident_bytes() -> int:
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss starts at that of the parent process
        (line,) = (line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    kibibytes_or_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kibibytes_or_bytes if sys.platform == "darwin" else kibibytes_or_bytes * 1024


def describe_machine(device: torch.device) -> dict[str, object]:
    """Device, threads and versions that the measurements depend on."""
    name = get_processor_name() if device.type == "cpu" else torch.cuda.get_device_name(device)
    return {
        "device": device.type,
        "name": name,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cuda": torch.version.cuda,
    }
