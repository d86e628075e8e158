"""Rendering of a `Page` as one self-contained HTML file, and of its charts and tables as files for papers.

Input: a `Page`. Output: text, or files written atomically. The template escapes all text from outside, and the page's
Content-Security-Policy allows no request and no script except the one that sorts tables.
"""

from __future__ import annotations

import base64
import hashlib
from importlib import metadata, resources
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from muybridge.files.atomic import atomic_write, check_output_file, write_text
from muybridge.report.document import Page
from muybridge.report.drawing import render_files, render_inline_svg
from muybridge.report.tables import format_csv, format_latex, format_markdown
from muybridge.text import sanitize_text


def render_html(page: Page) -> str:
    """Render a page as HTML."""
    script = _read_template("sort.js")
    environment = Environment(
        loader=PackageLoader("muybridge.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("page.html").render(
        page=page,
        render_chart=render_inline_svg,
        policy=_build_content_security_policy(script),
        script=Markup(script),
        style=Markup(_read_template("page.css")),
        version=metadata.version("muybridge"),
    )


def write_page(page: Page, path: Path) -> None:
    """Write a page as HTML, atomically."""
    write_text(path, render_html(page))


def write_figures(page: Page, folder: Path) -> list[Path]:
    """Write every chart as .svg, .pdf and .png and every table as .md, .tex and .csv; returns the paths in order.

    Raises ValueError, and writes none, where one of them is a folder.
    """
    files: dict[Path, bytes] = {}
    for chart in page.charts:
        files |= {folder / f"{chart.name}.{kind}": content for kind, content in render_files(chart).items()}
    for table in page.tables:
        texts = {"md": format_markdown(table), "tex": format_latex(table), "csv": format_csv(table)}
        files |= {folder / f"{table.name}-table.{kind}": text.encode() for kind, text in texts.items()}
    for path in files:
        check_output_file(path)
    for path, content in files.items():
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
    return list(files)


def _finalize(value: object) -> object:
    """Sanitize whatever the template prints; Jinja's autoescape then escapes it."""
    return sanitize_text(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _build_content_security_policy(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _read_template(name: str) -> str:
    return (resources.files("muybridge.report") / "templates" / name).read_text(encoding="utf-8")
