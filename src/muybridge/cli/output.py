"""What verbs print in the same way: JSON, notes and exit codes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from muybridge.terminal import print_lines

_STANDARD_OUTPUT = Path("/dev/stdout")


def resolve_output(name: str, *, prints_json: bool = False) -> Path:
    """The file of -o, where `-` is standard output. ValueError where JSON is to be printed there as well."""
    if name != "-":
        return Path(name)
    if prints_json:
        raise ValueError("-o - and --json both write to standard output; leave one of them out")
    return _STANDARD_OUTPUT


def print_json(value: Any) -> None:
    """Prints a value as indented JSON."""
    print_lines(json.dumps(value, indent=2).splitlines())


def print_notes(notes: Sequence[str]) -> None:
    """Prints sentences for the user on standard error."""
    print_lines(notes, error=True)


def compute_exit_code(num_failed: int, num_total: int) -> int:
    """0 when nothing failed, 1 when everything did, 3 for some recorded failures."""
    if not num_failed:
        return 0
    return 1 if num_failed == num_total else 3
