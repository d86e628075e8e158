"""The page about what is at some addresses: a run or score file, several of them, or a study."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from muybridge.report.comparison_page import build_comparison_page
from muybridge.report.document import Page
from muybridge.report.run_page import build_run_page
from muybridge.report.sections.mistakes import find_clips
from muybridge.report.sources import StudyRecord, read_sources
from muybridge.report.study_page import build_study_page
from muybridge.report.task_comparison_page import build_task_comparison_page
from muybridge.report.task_page import build_task_page


def build_page(
    addresses: Sequence[str], data: str | None = None, on_clip: Callable[[int, int], object] | None = None
) -> Page:
    """Build the page about run folders, score files or one study folder.

    `data` is where the scored videos are, by default where the run says. `on_clip` is called with (clips drawn, clips in total)
    for each gallery of mistakes. Raises ValueError for addresses that hold none of these, for a study among others, and for
    `data` beside what has no clips of mistakes: a study, or another task than single_label.
    """
    sources = read_sources(addresses)
    if isinstance(sources, StudyRecord):
        if data:
            raise ValueError(f"--data {data} is for the clips of runs, but {addresses[0]} is a study; leave it out")
        return build_study_page(sources)
    tasks = [run for run in sources if run.task_evaluations]
    if tasks:
        if data:
            task = tasks[0].task_evaluations[0].metrics.task
            raise ValueError(
                f"--data {data} is for the clips of mistakes, which the task {task} does not have; leave it out"
            )
        return build_task_page(tasks[0]) if len(sources) == 1 else build_task_comparison_page(sources)
    fallback_data = next((run.data for run in sources if run.data), None)
    clips = [replace(find_clips(run, data, fallback_data=fallback_data), on_clip=on_clip) for run in sources]
    return build_run_page(sources[0], clips[0]) if len(sources) == 1 else build_comparison_page(sources, clips)
