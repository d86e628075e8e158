"""One process at a time, and a lock that ends with it."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from muybridge.files.lock import lock_folder

HOLDER = (
    "import sys, time\nfrom pathlib import Path\nfrom muybridge.files.lock import lock_folder\n"
    "with lock_folder(Path(sys.argv[1])):\n    print('locked', flush=True)\n    time.sleep(600)"
)


def test_another_process_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with (
            pytest.raises(ValueError, match=rf"run is being written by process {holder.pid} on .*; wait"),
            lock_folder(folder),
        ):
            pass
        holder.kill()
    assert [path.name for path in folder.iterdir()] == [".lock"]
    with lock_folder(folder):
        pass
    assert list(folder.iterdir()) == []


def test_a_link_is_not_locked(tmp_path: Path) -> None:
    """The file that it leads to would be emptied, and hold the name of this process."""
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").symlink_to(tmp_path / "notes.txt")
    with pytest.raises(ValueError, match="lock is a link"), lock_folder(tmp_path / "run"):
        pass
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_new_folder_that_stays_empty_is_removed(tmp_path: Path) -> None:
    with lock_folder(tmp_path / "new"):
        assert (tmp_path / "new" / ".lock").exists()
    assert list(tmp_path.iterdir()) == []
    with lock_folder(tmp_path / "deep" / "er" / "new"):
        pass
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "old").mkdir()
    with lock_folder(tmp_path / "old"):
        pass
    assert list(tmp_path.iterdir()) == [tmp_path / "old"]


def test_a_folder_that_its_last_owner_removes_meanwhile_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, opened = tmp_path / "deep" / "new", os.open

    def open_too_late(path: Path, *arguments: int) -> int:
        monkeypatch.undo()
        folder.rmdir()
        folder.parent.rmdir()
        return opened(path, *arguments)

    monkeypatch.setattr(os, "open", open_too_late)
    with lock_folder(folder):
        assert (folder / ".lock").exists()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_can_never_be_created_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> int:
        raise FileNotFoundError

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(FileNotFoundError), lock_folder(tmp_path):
        pass


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file is a file; name a folder"), lock_folder(tmp_path / "file"):
        pass


def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    program = (
        "import os, sys, time\nfrom pathlib import Path\nfrom muybridge.files.lock import lock_folder\n"
        "with lock_folder(Path(sys.argv[1])):\n"
        "    child = os.fork()\n"
        "    if child == 0:\n        os.close(1); time.sleep(600)\n"
        "    time.sleep(0.3)\n"
        "    print(child, flush=True)\n"
        "    os._exit(9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, check=False, text=True
    )
    child = int(done.stdout)
    try:
        os.kill(child, 0)
        with lock_folder(tmp_path):
            pass
    finally:
        os.kill(child, 9)


def test_a_started_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    with lock_folder(tmp_path):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], close_fds=False)
        time.sleep(0.05)
    with child:
        with lock_folder(tmp_path):
            pass
        child.kill()


def test_a_file_system_without_locks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with lock_folder(tmp_path):
        pass
    assert capsys.readouterr().err == (
        f"muybridge: {tmp_path} is not locked, since its file system has no locks (No locks available); let only one process "
        "write there\n"
    )


def test_a_link_to_nowhere_is_named_with_its_target(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("gone")
    with (
        pytest.raises(ValueError, match="link is a link to gone, which does not exist"),
        lock_folder(tmp_path / "link"),
    ):
        pass
    (tmp_path / "gone").mkdir()
    with lock_folder(tmp_path / "link"):
        assert (tmp_path / "gone" / ".lock").exists()
