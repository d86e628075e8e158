"""A `Page` as one self-contained HTML file, its charts and tables as files for papers.

Enter: records. Leave: text, or files written whole. Whatever came from outside is escaped by the template, and the page's
Content-Security-Policy forbids everything but what is in the file: no request, no script but the one that sorts tables.
"""

from __future__ import annotations

import base64
import hashlib
from importlib import metadata, resources
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from muybridge.files.atomic import atomic_write, write_text
from muybridge.report.charts import for_papers, inline_svg
from muybridge.report.document import Page
from muybridge.report.tables import comma_separated, latex, markdown
from muybridge.text import printable


def html(page: Page) -> str:
    """The whole page as text."""
    script = _template("sort.js")
    environment = Environment(
        loader=PackageLoader("muybridge.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalized,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("page.html").render(
        page=page,
        drawn=inline_svg,
        policy=_policy(script),
        script=Markup(script),
        style=Markup(_template("page.css")),
        version=metadata.version("muybridge"),
    )


def write_page(page: Page, path: Path) -> None:
    """Writes the page whole or not at all."""
    write_text(path, html(page))


def write_figures(page: Page, folder: Path) -> list[Path]:
    """Every chart as .svg, .pdf and .png and every table as .md, .tex and .csv; the paths, in order."""
    files: dict[Path, bytes] = {}
    for chart in page.charts:
        files |= {folder / f"{chart.name}.{kind}": content for kind, content in for_papers(chart).items()}
    for table in page.tables:
        texts = {"md": markdown(table), "tex": latex(table), "csv": comma_separated(table)}
        files |= {folder / f"{table.name}-table.{kind}": text.encode() for kind, text in texts.items()}
    for path, content in files.items():
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
    return list(files)


def _finalized(value: object) -> object:
    """What the template prints: text from outside on one line and without signs that no file can hold."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _policy(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _template(name: str) -> str:
    return (resources.files("muybridge.report") / "templates" / name).read_text(encoding="utf-8")
