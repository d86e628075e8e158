"""Every verb with a class name and a file name that try to act: nothing they hold reaches the terminal as it is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from muybridge.console import PlainConsole
from muybridge.report.tables import Table, format_csv, format_latex, format_markdown, make_columns
from muybridge.terminal import print_document
from muybridge.training.fit import fit
from muybridge.training.job import prepare_job
from runs import tiny_run

ESCAPE, BIDI = "\x1b]0;owned\x07\x1b[31m", "\u202e"
CLASS = f"=wave{ESCAPE}[red]{BIDI}\nmuybridge: all is well"
FILE = f"-v{ESCAPE}{BIDI}\nstatus ok.mp4"
ACTING = set(map(chr, [*range(10), *range(11, 32), 127, *range(128, 160)])) | set(
    "\u202a\u202b\u202d\u202e\u2066\u2067\u2028"
)


@pytest.fixture(scope="module")
def hostile(motions: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A data set with a hostile class, a hostile file and a broken one, and a run that was trained on it."""
    root = tmp_path_factory.mktemp("hostile")
    data = root / "data"
    for split in ("train", "validation", "test"):
        shutil.copytree(motions / split / "left", data / split / CLASS)
        shutil.copytree(motions / split / "right", data / split / "right")
    (data / "test" / CLASS / FILE).write_bytes((motions / "test" / "left" / "00000.mp4").read_bytes())
    (data / "test" / CLASS / f"broken {FILE}").write_bytes(b"no video")
    (data / "train" / CLASS / f"broken {FILE}").write_bytes(b"no video")
    fit(prepare_job(tiny_run(data, root / "run", {"loading.max_failed_share": 1.0})), PlainConsole(quiet=True))
    return data, root / "run"


def assert_harmless(text: str) -> None:
    assert not set(text) & ACTING, ascii(text)
    # A line that a name began would look like one of ours.
    assert not [line for line in text.splitlines() if line.startswith(("muybridge: all is well", "status ok"))]


def test_every_verb_that_prints_names(hostile: tuple[Path, Path], tmp_path: Path, cli: Callable[..., Any]) -> None:
    data, run = hostile
    videos = [data / "test" / CLASS / name for name in (FILE, f"broken {FILE}", f"absent {FILE}")]
    small = ("--loading.workers=0", "--evaluation.clips=2")
    scores = tmp_path / f"scores{ESCAPE}.parquet"
    lines: list[tuple[object, ...]] = [
        ("evaluate", run, "--data", data, *small, "-o", scores),
        ("evaluate", run, "--data", data, *small, "--json"),
        ("predict", run, videos[0], "--clips", 2, "--timeline"),
        ("predict", run, videos[0], "--clips", 2, "--timeline", "json"),
        ("predict", run, videos[0], "--clips", 2, "--timeline", "srt"),
        ("predict", run, videos[0], videos[1], "--clips", 2),
        ("predict", run, videos[1], "--json"),
        ("predict", run, videos[2]),
        ("extract", run, videos[0], videos[1], "--clips", 2, "-o", tmp_path / "f.parquet"),
        ("fuse", scores, scores),
        ("fuse", scores, tmp_path / f"absent{ESCAPE}.parquet"),
        ("report", run, "-o", tmp_path / "r.html"),
        ("report", run, "-o", tmp_path / "r.html", "--json"),
        ("weights", "show", run),
        ("prepare", data, "-o", tmp_path / f"prepared{BIDI}", "--scale", 32, 32, "--workers", 1),
        ("prepare", "--check", tmp_path / f"prepared{BIDI}"),
        ("train", "--data", f"{data}{ESCAPE}", "-o", tmp_path / "new"),
        ("train", "--data", data, "-o", run),
        ("train", "--data", data, f"--{ESCAPE}"),
        (f"{ESCAPE}{BIDI}",),
        ("study", f"{CLASS}", "-o", tmp_path / "s"),
        ("evaluate", f"{run}{ESCAPE}", "--data", data),
        ("bench", "decode", videos[1]),
        ("watch", videos[0], "--model", run, "--drop", "none"),
        ("watch", videos[0], "--model", run, "--drop", "none", "--json", "-o", tmp_path / f"w{ESCAPE}.csv"),
        ("watch", videos[1], "--model", run, "--drop", "none"),
        ("watch", f"rtsp://{ESCAPE}", "--model", f"{run}{BIDI}"),
        ("extract", run, videos[0], data / "test" / "right", "--step", 2, "-o", tmp_path / "windows.parquet"),
        ("similar", tmp_path / "windows.parquet", videos[0]),
        ("similar", tmp_path / "windows.parquet", videos[0], "--json"),
        ("similar", tmp_path / "windows.parquet", videos[2]),
        ("folds", "--data", data, "--num-folds", 2, "-o", tmp_path / f"folds{ESCAPE}", "--model", f"x{ESCAPE}"),
        ("evaluate", run, "--data", data, "--timeline", *small, "-o", tmp_path / f"t{ESCAPE}.parquet"),
        ("predict", run, videos[0], "--with", f"{run}{ESCAPE}"),
        ("weights", "import", f"{videos[1]}.pth", "-o", tmp_path / f"i{ESCAPE}.safetensors"),
        ("weights", "export", run, "--to", "state-dict", "-o", tmp_path / f"e{ESCAPE}.pth"),
        ("weights", "show", f"{CLASS}"),
        ("models", f"{CLASS}"),
        ("report", run, scores, "-o", tmp_path / f"c{BIDI}.html"),
        ("report", scores, f"{CLASS}.parquet", "-o", tmp_path / "c.html"),
        ("demo", "-o", videos[0]),
        ("doctor", f"{CLASS}"),
        ("studio", f"{data}{ESCAPE}"),
    ]
    for words in lines:
        told = cli(*words)
        assert_harmless(told.out)
        assert_harmless(told.err)
        assert told.out or told.err, words
        if "--json" in words:
            for line in told.out.splitlines() if words[0] == "watch" else [told.out]:
                json.loads(line)


def test_a_console_takes_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    PlainConsole().print(CLASS)
    shown = capsys.readouterr().err
    assert_harmless(shown)
    assert "[red]" in shown


def test_tables_for_people() -> None:
    table = Table("t", CLASS, make_columns("name", "value"), ((CLASS, -1.5), ("-2", 3.0)), note=FILE)
    for text in (format_markdown(table), format_latex(table), format_csv(table)):
        assert_harmless(text)
    rows = format_csv(table).splitlines()
    assert rows[1].startswith("'=wave")
    assert rows[1].endswith(",-1.5")
    assert rows[2] == "-2,3.0"


def test_documents_are_exact_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    print_document(f"label\n{CLASS}\n")
    assert capsys.readouterr().out == f"label\n{CLASS}\n"
