"""`muybridge report`: a run, a score file or a study as one page; several runs side by side."""

from __future__ import annotations

from pathlib import Path

from muybridge.cli.output import print_json
from muybridge.files.atomic import check_output_file
from muybridge.terminal import print_line
from muybridge.text import format_count


def report(
    addresses: list[str],
    *,
    output: str = "report.html",
    data: str | None = None,
    figures: str | None = None,
    json: bool = False,
) -> int:
    """Writes one self-contained page; for several runs, with a paired test on the videos they share.

    Args:
        addresses: A run folder, a score file or a study folder; or several runs or score files.
        output: The page to write.
        data: Where the scored videos are, for the clips of mistakes (default: where the run says).
        figures: A folder for figures as .svg, .pdf and .png and tables as .md, .tex and .csv.
        json: Print the content of the page as JSON.

    Examples:
        muybridge report runs/first -o report.html
        muybridge report runs/first runs/second -o comparison.html
        muybridge report scores.parquet --data my_videos --figures figures
    """
    path = Path(output)
    check_output_file(path, (".html", ".htm"))

    from muybridge.console import create_progress
    from muybridge.report.build import build_page
    from muybridge.report.page import write_figures, write_page

    with create_progress() as bar:
        task = bar.add_task("mistakes as pictures", total=None)
        page = build_page(addresses, data, lambda num_done, num: bar.update(task, completed=num_done, total=num))
        bar.update(task, visible=False)
        bar.add_task("charts and tables", total=None)
        files = write_figures(page, Path(figures)) if figures else []
        write_page(page, path)
    if json:
        print_json({"report": str(path), "figures": list(map(str, files)), **page.summary})
    else:
        for text in page.lead:
            print_line(text.text)
        if files:
            print_line(f"figures and tables: {format_count(len(files), 'file')} in {figures}")
        print_line(f"report: {path}")
    return 0
