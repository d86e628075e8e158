"""The rich console of training, downloads and progress bars; it prints text as it is and lets no character act."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress import Progress, ProgressColumn, Task
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from muybridge.text import format_duration, sanitize_text

SPEED_ESTIMATE_SECONDS = 600.0  # window of the estimate of the time left: one item may take a minute
_MIN_BAR_WIDTH, _MAX_BAR_WIDTH, _GAP = 6, 40, 2


class PlainConsole(Console):
    """A console on standard error without markup: `[red]` in a name of a class is text, and so is an escape sequence."""

    def __init__(self, *, quiet: bool = False) -> None:
        super().__init__(file=sys.stderr, soft_wrap=True, markup=False, highlight=False, quiet=quiet)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as rich does, with strings sanitized."""
        super().print(*(sanitize_text(item) if isinstance(item, str) else item for item in objects), **options)


def create_progress(console: Console | None = None, *, visible: bool = True, transient: bool = True) -> Progress:
    """A progress bar on standard error, hidden where that is not a terminal.

    A task's description stands before the bar and the time left after it. Two optional fields of a task replace what the bar
    finds itself: `time_left`, and `figures`, strings in order of importance (default: how many of how many are done), of which
    as many are shown as there is room for.
    """
    console = console or PlainConsole()
    column = _LineColumn(table_column=Column(no_wrap=True, ratio=1))
    return Progress(
        column,
        console=console,
        transient=transient,
        expand=True,
        disable=not (visible and console.is_terminal),
        redirect_stdout=sys.stdout.isatty(),  # a file or pipe gets its lines, not the terminal
        speed_estimate_period=SPEED_ESTIMATE_SECONDS,
    )


class _LineColumn(ProgressColumn):
    def render(self, task: Task) -> _Line:
        figures = task.fields.get("figures")
        if figures is None:
            figures = [] if task.total is None else [f"{task.completed:.0f}/{task.total:.0f}"]
        time_left = task.fields.get("time_left")
        if time_left is None and not task.finished and task.time_remaining is not None:
            time_left = f"{format_duration(task.time_remaining)} left"
        return _Line(task, task.description, time_left or "", figures)


class _Line:
    """One line of text and a bar, laid out for the width of the terminal."""

    def __init__(self, task: Task, description: str, time_left: str, figures: Sequence[str]) -> None:
        self._task, self._description, self._time_left, self._figures = task, description, time_left, figures

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        description, bar_width, others = lay_out_line(
            self._description, self._time_left, self._figures, options.max_width
        )
        cells: list[Text | ProgressBar] = [Text(sanitize_text(description))] if description else []
        if bar_width:
            total, completed = self._task.total, self._task.completed
            cells.append(ProgressBar(total, completed, width=bar_width, pulse=total is None))
        cells += [Text(sanitize_text(text)) for text in others]
        grid = Table.grid(padding=(0, _GAP, 0, 0), pad_edge=False)
        grid.add_row(*cells)
        yield grid


def lay_out_line(
    description: str, time_left: str, figures: Sequence[str], width: int
) -> tuple[str, int, tuple[str, ...]]:
    """What of a progress line fits into `width` columns: the description, the width of the bar (0: none), and the rest.

    The time left comes first, then the description, a short bar, and the figures in their order. A longer bar fills up what
    is free.
    """
    free = width - len(time_left) - (_GAP if time_left else 0)
    if description and len(description) > free:
        description = description[: free - 1] + "…" if free > 1 else ""
    free -= len(description) + (_GAP if description else 0)
    bar_width = min(_MIN_BAR_WIDTH, max(0, free))
    bar_width = bar_width if bar_width == _MIN_BAR_WIDTH else 0
    free -= bar_width + (_GAP if bar_width else 0)
    shown = []
    for figure in figures:
        if len(figure) > free:
            break
        shown.append(figure)
        free -= len(figure) + _GAP
    if bar_width:
        bar_width = min(_MAX_BAR_WIDTH, bar_width + max(0, free))
    return description, bar_width, (*((time_left,) if time_left else ()), *shown)
