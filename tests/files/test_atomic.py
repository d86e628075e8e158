"""Where a file is written, and what a killed process leaves behind."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from muybridge.files.atomic import (
    atomic_write,
    check_not_input,
    check_output_file,
    is_partial,
    remove_partial_files,
    write_text,
)


def test_a_pipe_is_written_and_stays(tmp_path: Path) -> None:
    pipe, received = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: received.append(pipe.read_text()))
    reader.start()
    write_text(pipe, "text")
    reader.join()
    assert received == ["text"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert list(tmp_path.iterdir()) == [pipe]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no /dev/full")
def test_a_device_is_written_and_stays() -> None:
    write_text(Path("/dev/null"), "text")
    with pytest.raises(OSError, match="No space left on device"):
        write_text(Path("/dev/full"), "text")
    for device in ("/dev/null", "/dev/full"):
        assert stat.S_ISCHR(Path(device).stat().st_mode)


def test_standard_output_is_written_where_it_goes(tmp_path: Path) -> None:
    program = "from pathlib import Path; from muybridge.files.atomic import write_text; write_text(Path('/dev/stdout'), 'text')"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout == b"text"
    with (tmp_path / "file").open("wb") as file:
        subprocess.run([sys.executable, "-c", program], stdout=file, check=True)
        inode = os.fstat(file.fileno()).st_ino
    assert (tmp_path / "file").read_text() == "text"
    assert (tmp_path / "file").stat().st_ino == inode


def test_the_target_of_a_link_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    target, link = tmp_path / "folder" / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    write_text(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert not target.is_symlink()


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is a folder; name a file to write in it"):
        write_text(tmp_path, "text")
    with pytest.raises(ValueError, match=r"is a folder"):
        check_output_file(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_standard_output_has_a_name() -> None:
    with pytest.raises(ValueError, match="- is not the name of a file; write /dev/stdout"):
        check_output_file(Path("-"))


def test_an_output_is_no_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.mp4").write_bytes(b"frames")
    (tmp_path / "link.mp4").symlink_to("a.mp4")
    for output, name in (
        ("a.mp4", "./a.mp4"),
        ("link.mp4", "a.mp4"),
        ("a.mp4", "a.mp4#10-20"),
        ("a.mp4", tmp_path / "a.mp4"),
    ):
        with pytest.raises(ValueError, match="is also an input, and would replace it; give it another name"):
            check_not_input(Path(output), ["b.mp4", None, name])
    check_not_input(Path("new.mp4"), ["a.mp4", "b.mp4"])
    check_not_input(Path("/dev/null"), ["a.mp4", "/dev/null"])


def test_the_umask_is_respected_and_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patch:
            patch.delattr(os, "umask")
            write_text(tmp_path / "a", "text")
        assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
    finally:
        os.umask(before)


def test_the_old_file_is_whole_until_the_new_one_is(tmp_path: Path) -> None:
    """A rename, not a copy: whoever has the old file open reads all of it."""
    path = tmp_path / "file"
    path.write_text("old")
    with path.open() as reader:
        write_text(path, "new")
        assert reader.read() == "old"
    assert path.read_text() == "new"


def test_what_is_written_is_synced_before_its_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events, fsync, replace = [], os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda number: (events.append(("fsync", os.fstat(number).st_size)), fsync(number)))
    monkeypatch.setattr(Path, "replace", lambda self, target: (events.append(("replace", 0)), replace(self, target)))
    write_text(tmp_path / "file", "text")
    assert events == [("fsync", 4), ("replace", 0)]


def test_a_leftover_is_removed_by_the_next_write(tmp_path: Path) -> None:
    program = (
        "import os\nfrom pathlib import Path\nfrom muybridge.files.atomic import atomic_write\n"
        f"with atomic_write(Path({str(tmp_path / 'file')!r})) as temporary:\n    temporary.write_text('half')\n    os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 9
    (leftover,) = tmp_path.iterdir()
    assert is_partial(leftover)
    others = [
        tmp_path / name for name in (".file.partial", ".file.mine.partial", ".other.0123abcd.partial", "x.partial")
    ]
    for other in others:
        other.write_text("not ours")
    write_text(tmp_path / "file", "whole")
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "file", *others])


def test_a_file_that_is_being_written_is_no_leftover(tmp_path: Path) -> None:
    (tmp_path / ".file.0123abcd.partial").write_text("of an older version")
    with atomic_write(tmp_path / "file") as temporary:
        temporary.write_text("first")
        remove_partial_files(tmp_path)
        write_text(tmp_path / "file", "second")
        assert temporary.exists()
    assert (tmp_path / "file").read_text() == "first"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_standard_output_that_is_a_file_keeps_what_is_in_it(tmp_path: Path) -> None:
    program = (
        "from pathlib import Path; from muybridge.files.atomic import write_text; print('before'); "
        "write_text(Path('/dev/stdout'), 'text\\n'); print('after')"
    )
    path = tmp_path / "log.txt"
    path.write_text("older\n")
    for mode, start in (("a", "older\n"), ("w", "")):
        with path.open(mode) as file:
            for _ in range(2):
                subprocess.run([sys.executable, "-c", program], stdout=file, check=True)
        assert path.read_text() == start + "before\ntext\nafter\n" * 2
