"""The entry point: verbs are found, help is quick, and every failure is a sentence and an exit code."""

from __future__ import annotations

import errno
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from typing import Any

import pytest
import torch

from muybridge.cli import doctor
from muybridge.cli.main import GROUPS, VERBS, exit_code, find_verb, main
from muybridge.distributed.stop import StopRequested

EVERY_HELP = [[], *([verb] for verb in VERBS), *([group, verb] for group in GROUPS for verb in find_verb(group))]
SLOW = ("torch", "numpy", "pyarrow", "av", "rich", "safetensors", "tensorboard", "matplotlib")


def test_no_help_waits_for_what_is_slow_to_import() -> None:
    """In a process of its own: which modules are there after every help text."""
    program = (
        "import json, sys\n"
        "from muybridge.cli.main import main\n"
        f"codes = [main([*words, '--help']) for words in {EVERY_HELP}]\n"
        f"print(json.dumps([codes, [name for name in {SLOW} if name in sys.modules]]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    codes, slow = json.loads(done.stdout.splitlines()[-1])
    assert codes == [0] * len(EVERY_HELP)
    assert slow == []


@pytest.mark.parametrize("words", EVERY_HELP[1:], ids=" ".join)
def test_every_help_shows_examples_of_its_verb(words: list[str], cli: Callable[..., Any]) -> None:
    told = cli(*words, "--help")
    assert (told.code, told.err) == (0, "")
    assert told.out.startswith(f"usage: muybridge {' '.join(words)}")
    examples = told.out.partition("examples:\n")[2].splitlines()
    assert examples
    assert all(line.startswith(f"  muybridge {words[0]}") for line in examples)


@pytest.mark.parametrize("words", EVERY_HELP[1:], ids=" ".join)
def test_usage_and_options_are_short_and_hyphenated(words: list[str], cli: Callable[..., Any]) -> None:
    printed = cli(*words, "--help").out
    assert len(printed.splitlines()[0]) <= 100
    assert not re.findall(r"^ *--[a-z.-]*_[a-z_.]*", printed, re.MULTILINE)


def test_help_of_train_begins_with_ten_options(cli: Callable[..., Any]) -> None:
    first = cli("train", "--help").out.partition("the options that matter most:\n")[2].partition("\n\n")[0]
    options = re.findall(r"^  (?:-o, )?(--[a-z.-]+)", first, re.MULTILINE)
    assert options[:3] == ["--data", "--model", "--output"]
    assert len(options) == 10


def test_the_overview_names_every_verb(cli: Callable[..., Any]) -> None:
    for words in ([], ["--help"], ["-h"], ["help"]):
        told = cli(*words)
        assert (told.code, told.err) == (0, "")
        for verb, what in VERBS.items():
            assert f"{verb:10} {what}" in told.out


def test_the_version(cli: Callable[..., Any]) -> None:
    assert cli("--version") == (0, f"muybridge {metadata.version('muybridge')}\n", "")


def test_an_unknown_verb_brings_the_nearest(cli: Callable[..., Any]) -> None:
    assert cli("trian") == (2, "", "muybridge: there is no verb 'trian'; did you mean train?\n")
    assert "the verbs are demo, models, prepare, train" in cli("xyzzy").err


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (ValueError("a is b;\n  do c"), 2, "muybridge: a is b; do c\n"),
        (RuntimeError("odd"), 1, "muybridge: odd (--debug shows where)\n"),
        (ZeroDivisionError(), 1, "muybridge: ZeroDivisionError (--debug shows where)\n"),
        (FloatingPointError("the loss is nan"), 1, "muybridge: the loss is nan\n"),
        (KeyboardInterrupt(), 130, "muybridge: interrupted\n"),
        (
            StopRequested(signal.SIGTERM),
            75,
            "muybridge: stopped by SIGTERM; everything is saved, run the same command with --resume to continue\n",
        ),
        (StopRequested(signal.SIGINT), 130, "muybridge: stopped by SIGINT; everything is saved"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "muybridge: the disk is full; free some space"),
        (PermissionError(13, "Permission denied", "/r/x"), 1, "muybridge: cannot use /r/x: Permission denied\n"),
        (
            PermissionError(13, "Permission denied", "/r/.x.0123abcd.muybridge.partial"),
            1,
            "muybridge: cannot use /r: Permission denied\n",
        ),
        (
            OSError(errno.EMFILE, "Too many open files", "/r/x"),
            1,
            "muybridge: too many files are open; raise the limit",
        ),
        (RuntimeError("unable to mmap: Too many open files (24)"), 1, "muybridge: too many files are open; raise the"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), 1, "muybridge: the memory ran out; lower loading.workers"),
        (MemoryError(), 1, "muybridge: the memory ran out; lower loading.workers"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 1, "muybridge: the memory ran out; lower"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), 1, "muybridge: the system starts no more"),
        (ConnectionError("http://a could not be downloaded"), 1, "muybridge: http://a could not be downloaded\n"),
        (OSError("strange"), 1, "muybridge: the system refused to read or write a file: strange\n"),
        (ImportError("No module named 'cv2'"), 1, "muybridge: No module named 'cv2'; `muybridge doctor` says"),
        (torch.OutOfMemoryError("CUDA out of memory.\nTried"), 1, "muybridge: the GPU's memory is too small; lower"),
        (SystemExit(3), 3, ""),
        (SystemExit("text"), 2, ""),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_every_failure_is_a_sentence_and_a_code(
    error: BaseException, code: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(error, "train") == code
    told = capsys.readouterr().err
    assert told.startswith(sentence)
    assert told.count("\n") == (1 if sentence else 0)


def test_a_traceback_is_shown_on_request_only(cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*, json: bool = False) -> int:
        """Fails.

        Args:
            json: Print JSON.
        """
        assert json
        raise RuntimeError("odd")

    monkeypatch.setattr(doctor, "doctor", fails)
    assert cli("doctor", "--json") == (1, "", "muybridge: odd (--debug shows where)\n")
    told = cli("doctor", "--debug", "--json")
    assert told.code == 1
    assert "Traceback" in told.err
    assert told.err.endswith("muybridge: odd (--debug shows where)\n")


def test_what_is_no_error_of_ours_goes_on() -> None:
    with pytest.raises(GeneratorExit):
        exit_code(GeneratorExit())


def test_a_reader_that_has_gone_is_no_drama() -> None:
    """As in `muybridge models | head -1`."""
    command = [sys.executable, "-m", "muybridge", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""


def test_the_words_are_those_of_the_process_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["muybridge", "--version"])
    assert main() == 0
