"""`muybridge report`: a run, a score file or a study as one page; several runs side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from muybridge.cli.options import verb_parser

if TYPE_CHECKING:
    from muybridge.report.document import Page

EXAMPLES = (
    "muybridge report runs/first -o report.html",
    "muybridge report runs/first runs/second -o comparison.html",
    "muybridge report scores.parquet --data my_videos --figures figures",
)


def run(words: Sequence[str]) -> int:
    """Writes the page, and says where it is."""
    parser = verb_parser(
        "report",
        "RUN|SCORES|STUDY [RUN ...] [-o REPORT.html] [--data DATA] [--figures FOLDER] [--json]",
        "One self-contained page; with several runs, a paired test on the videos that they share.",
        EXAMPLES,
    )
    parser.add_argument("addresses", nargs="+", help="a run folder, a score file or a study; or several runs")
    parser.add_argument("-o", "--output", default="report.html", help="the page to write")
    parser.add_argument("--data", help="where the scored videos are; by default where the run says")
    parser.add_argument("--figures", help="a folder for figures as .svg, .pdf, .png and tables as .md, .tex, .csv")
    parser.add_argument("--json", action="store_true", help="print what the page says as JSON")
    found = parser.parse_args(list(words))
    output = Path(found.output)
    if output.is_dir():
        raise ValueError(f"{output} is a folder; name the page to write with -o, such as {output / 'report.html'}")

    from muybridge.report.page import write_figures, write_page
    from muybridge.text import sanitize_text

    page = build(found.addresses, found.data)
    files = write_figures(page, Path(found.figures)) if found.figures else []
    write_page(page, output)
    if found.json:
        print(json.dumps({"report": str(output), "figures": list(map(str, files)), **page.summary}, indent=2))
    else:
        for text in page.lead:
            print(sanitize_text(text.text))
        if files:
            print(f"figures and tables: {len(files)} files in {found.figures}")
        print(f"report: {output}")
    return 0


def build(addresses: Sequence[str], data: str | None) -> Page:
    """The page about what lies at the addresses."""
    from muybridge.report.comparison_page import build_comparison_page
    from muybridge.report.run_page import build_run_page
    from muybridge.report.sections.mistakes import find_clips
    from muybridge.report.sources import StudyRecord, read_sources
    from muybridge.report.study_page import build_study_page

    found = read_sources(addresses)
    if isinstance(found, StudyRecord):
        return build_study_page(found)
    beside = next((run.data for run in found if run.data), None)
    clips = [find_clips(run, data, fallback_data=beside) for run in found]
    return build_run_page(found[0], clips[0]) if len(found) == 1 else build_comparison_page(found, clips)
