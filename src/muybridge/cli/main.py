"""`muybridge VERB ...`: finds the verb, runs it, and turns what goes wrong into one sentence and an exit code.

0 done; 1 failed; 2 misuse; 3 finished with recorded failures; 75 stopped on request, run the same line with --resume;
130 Ctrl-C. A traceback is shown with --debug only.
"""

from __future__ import annotations

import difflib
import errno
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from muybridge.distributed.rank import current_rank
from muybridge.distributed.stop import StopRequested
from muybridge.memory import keep_freed_memory

VERBS = {
    "demo": "the whole road on a generated data set, in minutes",
    "models": "the family: parameters, multiply-adds, the paper's accuracies",
    "prepare": "a data set into shards that are read at random, fast",
    "train": "train a network on a data set, or go on with a run",
    "folds": "train and test on every official fold, and the mean over them",
    "evaluate": "score a data set by the paper's protocol",
    "predict": "classes of video files and folders, with probabilities",
    "study": "a table or figure of the paper, rerun",
    "fuse": "one answer from the scores of several networks: RGB and optical flow",
    "extract": "features of video files and folders",
    "report": "a run, a score file or a study as one page; runs compared on the same videos",
    "bench": "how fast this machine is, beside other libraries",
    "weights": "import and export weights, show their card, list public ones",
    "doctor": "what works on this machine, and why the rest does not",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is None and words[:1] != ["bench"]:  # the process is ours; a benchmark's is as its peers would find it
        keep_freed_memory(1 << 30)
    debug = "--debug" in words
    try:
        code = _run([word for word in words if word != "--debug"])
        sys.stdout.flush()  # a reader that has gone is noticed here, not at exit
    except BaseException as error:  # noqa: BLE001 - the one door out: every failure becomes a sentence and a code here
        if debug and not isinstance(error, SystemExit):
            traceback.print_exc()
        return exit_code(error)
    return code


def _run(words: Sequence[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    if words[0] == "--version":
        print(f"muybridge {metadata.version('muybridge')}")
        return 0
    verb = words[0]
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"the verbs are {', '.join(VERBS)}"
        raise ValueError(f"there is no verb {verb!r}; {hint}")
    code: int = importlib.import_module(f"muybridge.cli.{verb}").run(words[1:])
    return code


def exit_code(error: BaseException) -> int:
    """Says what went wrong in one sentence on standard error; the exit code that belongs to it."""
    match error:
        case SystemExit():
            return error.code if isinstance(error.code, int) else 2
        case StopRequested():
            return _fail(f"{error}; everything is saved, run the same line with --resume to go on", error.exit_code)
        case KeyboardInterrupt():
            return _fail("interrupted", 130)
        case BrokenPipeError():
            # The reader of our output has gone (`muybridge models | head`); Python would complain once more at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        case ValueError():
            return _fail(str(error), 2)
        case ImportError():
            return _fail(f"{error}; `muybridge doctor` says what is missing and how to get it", 1)
        case OSError():
            return _fail(_about_the_system(error), 1)
        case FloatingPointError():
            return _fail(str(error), 1)
        case Exception() if type(error).__name__ == "OutOfMemoryError":  # torch's; this module does not wait for torch
            return _fail("the GPU's memory is too small; lower training.batch_size or evaluation.batch_size", 1)
        case Exception():
            return _fail(f"{str(error) or type(error).__name__} (--debug shows where)", 1)
    raise error


def _about_the_system(error: OSError) -> str:
    """What the operating system refused. A file that was being written under another name stands for its folder."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; make room, then run the same line again (a training run with --resume)"
    if not error.filename:
        return f"the system refused to read or write a file: {error.strerror or error}"
    path = Path(os.fsdecode(error.filename))
    return f"cannot use {path.parent if path.suffix == '.partial' else path}: {error.strerror}"


def overview() -> str:
    """What `muybridge --help` prints."""
    verbs = "\n".join(f"  {verb:10} {what}" for verb, what in VERBS.items())
    return (
        "usage: muybridge VERB [OPTIONS]\n\n"
        "Train, evaluate and use the video networks of Tran et al., CVPR 2018: R2D, f-R2D, R3D, MCx, rMCx, R(2+1)D.\n\n"
        f"{verbs}\n\n"
        "muybridge VERB --help shows a verb's options with examples.\n\n"
        "first steps:\n"
        "  muybridge demo                                   see it work\n"
        "  muybridge train --data my_videos -o runs/first   my_videos holds a folder of videos for every class\n"
        "  muybridge predict runs/first holiday.mp4"
    )


def _fail(sentence: str, code: int) -> int:
    here = current_rank()
    who = f"rank {here.rank} of {here.world_size}: " if here.world_size > 1 else ""
    print(f"muybridge: {who}{' '.join(sentence.split())}", file=sys.stderr)
    return code
