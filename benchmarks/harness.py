"""Options and output that the scripts of this folder share."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from muybridge.files.atomic import write_json
from muybridge.files.run_folder import collect_environment


def parse_options(argv: Sequence[str]) -> argparse.Namespace:
    """Parse device, repeats, threads, compile and output, and set torch's number of threads."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("-o", "--output")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    return args


def parse_count(text: str) -> int:
    """A number from 1, for argparse."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1")
    return int(text)


def describe_environment() -> dict[str, Any]:
    """Machine and versions, without the command line, which contains paths."""
    return {name: value for name, value in collect_environment().items() if name != "command"}


def report_results(results: Mapping[str, Any], output: str | None) -> None:
    """Print results as JSON and, with `output`, write them to that file together with the environment."""
    print(json.dumps(results, indent=2), flush=True)
    if output:
        write_json(Path(output), {"environment": describe_environment(), "results": results})
