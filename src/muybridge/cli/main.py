"""`muybridge VERB ...`: runs a verb, and turns every failure into one sentence and an exit code.

0 done; 1 failed; 2 wrong usage; 3 finished with recorded failures; 75 stopped by SIGTERM, resume with the same command and
--resume; 130 Ctrl-C. A traceback is shown with --debug only.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import threading
import traceback
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path

from muybridge.cli.failures import describe_shortage, format_stop
from muybridge.cli.options import Verb, describe_verb, run_verb
from muybridge.distributed.rank import current_rank
from muybridge.distributed.stop import StopRequested
from muybridge.memory import keep_freed_memory
from muybridge.terminal import print_line, print_lines
from muybridge.text import shorten

VERBS = {
    "demo": "train, test and predict on a generated data set, in minutes",
    "models": "list the networks: parameters, multiply-adds, the paper's accuracies",
    "prepare": "re-encode a data set into shards that are read at random, fast",
    "train": "train a network on a data set, or resume a run",
    "folds": "train and test on every fold, official or of a cross-validation, and average",
    "evaluate": "score a data set by the paper's protocol",
    "studio": "watch, annotate, train and correct in the browser",
    "predict": "name the classes of video files and folders, with probabilities",
    "watch": "name the classes of a camera or stream while it runs",
    "study": "rerun a table or figure of the paper",
    "fuse": "average the scores of several networks, such as RGB and optical flow",
    "extract": "write features of video files and folders",
    "similar": "find windows similar to a query by their features, and propagate labels to them",
    "report": "write a run, a score file or a study as one page; compare runs on the same videos",
    "bench": "measure the speed of this machine, beside other libraries",
    "weights": "import and export weights, show their card, list public ones",
    "doctor": "check what works on this machine, and why the rest does not",
}
MAX_SENTENCE_CHARACTERS = 2000
GROUPS = ("bench", "weights")  # verbs with verbs of their own, in the dict VERBS of their module


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the exit code."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is None and argv[:1] != ["bench"]:  # a benchmark's process is as its peers would find it
        keep_freed_memory(1 << 30)
    debug = "--debug" in argv
    threading.excepthook = _describe_thread_failure
    try:
        code = _run([word for word in argv if word != "--debug"])
        sys.stdout.flush()  # raises here, not at exit, where the reader has closed the pipe
    except BaseException as error:  # noqa: BLE001 - every failure becomes a sentence and a code here
        if debug and not isinstance(error, SystemExit):
            traceback.print_exc()
        return exit_code(error, argv[0] if argv else "")
    return code


def _run(argv: Sequence[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print_lines(format_overview().splitlines())
        return 0
    if argv[0] == "--version":
        print_line(f"muybridge {metadata.version('muybridge')}")
        return 0
    name, *rest = argv
    if name not in VERBS:
        raise ValueError(f"there is no verb {name!r}; {_suggest(name, VERBS)}")
    verb, prog = find_verb(name), f"muybridge {name}"
    if not isinstance(verb, dict):
        return run_verb(verb, prog, rest)
    if not rest or rest[0] in ("-h", "--help"):
        print_lines(format_group(prog, VERBS[name], verb).splitlines())
        return 0 if rest else 2
    if rest[0] not in verb:
        raise ValueError(f"there is no verb '{name} {rest[0]}'; {_suggest(rest[0], verb)}")
    return run_verb(verb[rest[0]], f"{prog} {rest[0]}", rest[1:])


def find_verb(name: str) -> Verb | dict[str, Verb]:
    """The function of a verb, which has the verb's name in the module of that name; of a group, its functions by name."""
    module = importlib.import_module(f"muybridge.cli.{name}")
    verb: Verb | dict[str, Verb] = module.VERBS if name in GROUPS else getattr(module, name)
    return verb


def _suggest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"the verbs are {', '.join(known)}"


def exit_code(error: BaseException, verb: str = "") -> int:
    """Prints one sentence about an error on standard error; returns the exit code for it."""
    if isinstance(error, Exception) and (shortage := describe_shortage(error)):
        return _fail(shortage, 1)
    match error:
        case SystemExit():
            return error.code if isinstance(error.code, int) else 2
        case StopRequested():
            return _fail(format_stop(error, verb), error.exit_code)
        case KeyboardInterrupt():
            return _fail("interrupted", 130)
        case BrokenPipeError():
            # As in `muybridge models | head`. Without this, Python reports the closed pipe once more at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        case ValueError():
            return _fail(str(error), 2)
        case ImportError():
            return _fail(f"{error}; `muybridge doctor` says what is missing and how to get it", 1)
        case OSError():
            return _fail(_describe_os_error(error), 1)
        case FloatingPointError():
            return _fail(str(error), 1)
        case RecursionError():
            return _fail("an input is nested too deeply to be read", 1)
        case Exception():
            sentence = str(error).partition("Exception raised from")[0].strip()  # torch's stack of C++ calls follows
            return _fail(f"{sentence or type(error).__name__} (--debug shows where)", 1)
    raise error


def _describe_os_error(error: OSError) -> str:
    """What the operating system refused. For a temporary file, which no user named, its folder is named."""
    if isinstance(error, ConnectionError) and not error.errno:
        return str(error)  # a sentence about an address
    if not error.filename:
        return f"the system refused to read or write a file: {error.strerror or error}"
    path = Path(os.fsdecode(error.filename))
    return f"cannot use {path.parent if path.suffix == '.partial' else path}: {error.strerror}"


def format_overview() -> str:
    """What `muybridge --help` prints."""
    verbs = "\n".join(f"  {verb:10} {summary}" for verb, summary in VERBS.items())
    return (
        "usage: muybridge VERB [OPTIONS]\n\n"
        "Train, evaluate and use the video networks of Tran et al., CVPR 2018: R2D, f-R2D, R3D, MCx, rMCx, R(2+1)D.\n\n"
        f"{verbs}\n\n"
        "muybridge VERB --help shows the options of a verb, with examples.\n\n"
        "first steps:\n"
        "  muybridge demo                                   see it work\n"
        "  muybridge train --data my_videos --init r2plus1d_18-kinetics400-torchvision -o runs/first\n"
        "                                                   my_videos has one folder of videos for each class\n"
        "  muybridge predict runs/first holiday.mp4"
    )


def format_group(prog: str, summary: str, verbs: dict[str, Verb]) -> str:
    """What `muybridge weights --help` and `muybridge bench --help` print."""
    described = {name: describe_verb(verb) for name, verb in verbs.items()}
    lines = "\n".join(f"  {name:10} {first_line}" for name, (first_line, _) in described.items())
    examples = "\n".join(f"  {line}" for _, examples in described.values() for line in examples)
    usage = f"usage: {prog} {'|'.join(verbs)} ..."
    return f"{usage}\n\n{summary.capitalize()}.\n\n{lines}\n\nexamples:\n{examples}"


def _describe_thread_failure(failure: threading.ExceptHookArgs) -> None:
    """A thread's failure as a sentence; the main thread finds out what it means for the work."""
    if failure.exc_value is not None and not isinstance(failure.exc_value, SystemExit):
        exit_code(failure.exc_value)


def _fail(sentence: str, code: int) -> int:
    rank = current_rank()
    prefix = f"rank {rank.rank} of {rank.world_size}: " if rank.world_size > 1 else ""
    print_line(f"muybridge: {prefix}{shorten(' '.join(sentence.split()), MAX_SENTENCE_CHARACTERS)}", error=True)
    return code
