"""Progress lines: what fits into the width of a terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from muybridge.console import create_progress, lay_out_line

FIGURES = ("loss 2.000", "clip@1 25.0 %", "4.0 clips/s", "waiting for data 25 %")


@pytest.mark.parametrize("width", [20, 30, 40, 60, 80, 120, 200])
def test_the_time_left_is_always_there_and_the_line_fits(width: int) -> None:
    description, bar_width, others = lay_out_line("epoch 12.3/45", "14.9 hours left", FIGURES, width)
    assert others[0] == "14.9 hours left"
    assert others[1:] == FIGURES[: len(others) - 1]
    parts = [*([description] if description else []), *(["-" * bar_width] if bar_width else []), *others]
    assert len("  ".join(parts)) <= width
    assert (description == "epoch 12.3/45") == (width >= 30)
    assert (bar_width >= 6) == (width >= 38)
    assert len(others) == {20: 1, 30: 1, 40: 1, 60: 2, 80: 4, 120: 5, 200: 5}[width]


@pytest.mark.parametrize("width", [40, 80])
def test_what_a_terminal_shows(width: int) -> None:
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=True, color_system=None)
    progress = create_progress(console)
    task = progress.add_task("epoch 1.2/3", total=30, completed=12, time_left="6 minutes left", figures=FIGURES)
    console.print(progress.get_renderable())
    (line,) = file.getvalue().splitlines()
    assert line.startswith("epoch 1.2/3")
    assert "6 minutes left" in line
    assert "━" in line
    assert len(line.rstrip()) <= width
    progress.update(task, completed=30)


def test_counts_are_shown_without_figures() -> None:
    file = io.StringIO()
    console = Console(file=file, width=40, force_terminal=True, color_system=None)
    progress = create_progress(console)
    progress.add_task("videos", total=100_000, completed=50)
    console.print(progress.get_renderable())
    assert "50/100000" in file.getvalue()


def test_nothing_is_drawn_where_standard_error_is_no_terminal() -> None:
    file = io.StringIO()
    with create_progress(Console(file=file)) as progress:
        progress.advance(progress.add_task("videos", total=2))
    assert file.getvalue() == ""
