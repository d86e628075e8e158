"""What verbs print in the same way: JSON, progress bars and exit codes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from muybridge.terminal import print_lines

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn


def print_json(value: Any) -> None:
    """Prints a value as indented JSON."""
    print_lines(json.dumps(value, indent=2).splitlines())


def print_notes(notes: Sequence[str]) -> None:
    """Prints sentences for the user on standard error."""
    print_lines(notes, error=True)


def create_progress(*columns: str | ProgressColumn, visible: bool = True) -> Progress:
    """A progress bar on standard error that disappears when it is done; hidden where that is not a terminal."""
    from rich.progress import Progress

    from muybridge.console import PlainConsole

    console = PlainConsole()
    return Progress(*columns, console=console, transient=True, disable=not (visible and console.is_terminal))


def create_count_progress() -> Progress:
    """A progress bar that also shows how many videos of how many are done, and the time that remains."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    return create_progress(TextColumn("videos"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())


def compute_exit_code(num_failed: int, num_total: int) -> int:
    """0 when nothing failed, 1 when everything did, 3 for some recorded failures."""
    if not num_failed:
        return 0
    return 1 if num_failed == num_total else 3
