"""A fork server, or a child of one, that fails before it runs anything: one line, no traceback, and the parent goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_a_child_that_cannot_start_says_so_in_one_line() -> None:
    program = (
        "from muybridge.distributed.fork_server import create_fork_server_context\n"
        "class Broken:\n"
        "    def __call__(self): pass\n"
        "    def __reduce__(self): return int, ('no number',)\n"
        "context = create_fork_server_context('json')\n"
        "for target in (Broken(), print):\n"
        "    process = context.Process(target=target)\n"
        "    process.start()\n"
        "    process.join()\n"
        "    print(process.exitcode, flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "0"]
    assert done.stderr == (
        "a worker process could not be started (ValueError: invalid literal for int() with base 10: 'no number')\n"
    )


def test_a_script_without_a_guard_runs_once(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from muybridge.distributed.fork_server import create_fork_server_context\n"
        "print('ran', flush=True)\n"
        "process = create_fork_server_context('json').Process(target=print, args=('worked',))\n"
        "process.start()\n"
        "process.join()\n"
        "import multiprocessing.spawn as spawn\n"
        "print(process.exitcode, 'init_main_from_path' in spawn.get_preparation_data('x'))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["ran", "worked", "0", "True"]  # and processes of others are started as ever
    assert not done.stderr


def test_a_worker_of_a_server_that_others_started_has_no_ctrl_c() -> None:
    program = (
        "import multiprocessing\n"
        "from multiprocessing import forkserver\n"
        "from muybridge.distributed.fork_server import create_fork_server_context\n"
        "forkserver.ensure_running()\n"  # as the caller's own data loader may
        "code = 'from muybridge.distributed.fork_server import begin_worker; import signal; begin_worker(); '\n"
        "code += 'print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()), flush=True)'\n"
        "process = create_fork_server_context('json').Process(target=exec, args=(code,))\n"
        "process.start()\n"
        "process.join()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"]


def test_no_process_imports_from_the_working_folder(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").touch()
    for name in ("json", "multiprocessing", "pickle", "socket", "torch"):
        (tmp_path / f"{name}.py").write_text("open('imported', 'w').close()\n")
    script = tmp_path / "other" / "script.py"
    script.parent.mkdir()
    script.write_text(
        "import os\n"
        "from muybridge.distributed.fork_server import create_fork_server_context\n"
        "from muybridge.files.limited_child import check_in_child\n"
        "from muybridge.limits import VIDEO_BYTES\n"
        "process = create_fork_server_context('json').Process(target=print, args=('worked',))\n"
        "process.start()\n"
        "process.join()\n"
        "check_in_child(os.path.basename, 'x.mp4', VIDEO_BYTES)\n"
        "print('PYTHONSAFEPATH' in os.environ)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.split() == ["worked", "False"]
    assert not done.stderr
    assert not (tmp_path / "imported").exists()
