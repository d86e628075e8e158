"""Runs tests in forks of a process that has imported the libraries: a line of JSON in, a line of JSON out.

In: the tests, a folder for what they write, the processor seconds that they may take, and where to write what is measured,
or null. Whole test modules are measured; else the tests run in their order until one fails.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import resource
import signal
import sys
import time
import traceback
from pathlib import Path

WAIT_FACTOR = 5
# What the tests import of others, and pytest's plugins: a second or three that no fork needs to spend.
LIBRARIES = (
    *("anyio.pytest_plugin", "hypothesis.extra.numpy", "pytest", "pytest_timeout", "xdist.plugin"),
    *("av", "coverage", "cv2", "fsspec", "jsonargparse", "matplotlib.pyplot", "numpy", "PIL.Image", "pyarrow.compute"),
    *("pyarrow.parquet", "pydantic", "rich.progress", "safetensors.torch", "scipy.stats", "torch"),
    *("torch.distributed", "torch.utils.tensorboard"),
)


def run_forked(
    tests: list[str], folder: str, limit_seconds: float, limit_of_test: float, measured: str | None
) -> tuple[str, float]:
    """`passed`, `failed`, `timed out` or `empty`, and processor seconds. What the tests started ends with them.

    What loops ends by its processor time, which other programs do not use up; a test that only waits fails after a multiple
    of its limit, and all of them end after a multiple of theirs.
    """
    before = sum(os.times()[2:4])
    crowd = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    stop_at = time.monotonic() + WAIT_FACTOR * crowd * limit_seconds
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(limit_seconds), math.ceil(limit_seconds)))
        _run_tests(tests, folder, WAIT_FACTOR * crowd * limit_of_test, measured)
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended or time.monotonic() > stop_at:
            break
        time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    if not ended:
        _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL):
        return "timed out", sum(os.times()[2:4]) - before
    outcome = {0: "passed", 5: "empty"}.get(os.waitstatus_to_exitcode(status), "failed")  # 5: no test was found
    return outcome, sum(os.times()[2:4]) - before


def _run_tests(tests: list[str], folder: str, wait_seconds: float, measured: str | None) -> None:
    os.setsid()
    output = os.open(Path(folder, "output.txt"), os.O_WRONLY | os.O_CREAT)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    import pytest
    from measurement import Choice, Measurement

    options = ["-q", "-m", "not long", "-p", "no:cacheprovider", "--basetemp", str(Path(folder, "base"))]
    options += ["--timeout", str(math.ceil(wait_seconds))]
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # plugins are imported already
    code = 1
    try:
        if measured is None:
            modules = list(dict.fromkeys(test.partition("::")[0] for test in tests))
            code = pytest.main(["-x", *options, *modules], plugins=[Choice(tests)])
        else:
            measurement = Measurement(Path.cwd() / "src" / "muybridge", Path(measured))
            measurement.start()
            pytest.main([*options, *tests], plugins=[measurement])
            measurement.finish()
            code = 0
    finally:
        if sys.exc_info()[0]:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(code))


def main() -> None:
    """Serve until standard input ends."""
    for name in LIBRARIES:
        importlib.import_module(name)
    for line in sys.stdin:
        print(json.dumps(run_forked(*json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
