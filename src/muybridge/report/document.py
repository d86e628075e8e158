"""Records that make up a report: a page of sections of paragraphs, tables, charts and galleries.

`run_page`, `comparison_page` and `study_page` build a `Page`; `page` renders it as HTML and files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeAlias

from muybridge.report.charts import Chart
from muybridge.report.tables import Table


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of plain text; a warning is highlighted."""

    kind: ClassVar[str] = "text"
    text: str
    role: Literal["plain", "warning"] = "plain"


@dataclass(frozen=True)
class GalleryItem:
    """A picture with its caption.

    `still` and `animation` are data URIs of pictures of the same size; `animation` is None for a picture that does not move.
    A wide item fills a row of its gallery.
    """

    still: str
    alt: str
    heading: str
    lines: tuple[str, ...] = ()
    animation: str | None = None
    is_wide: bool = False


@dataclass(frozen=True)
class Gallery:
    """Pictures side by side; `pixelated` enlarges small ones without smoothing."""

    kind: ClassVar[str] = "gallery"
    title: str
    items: tuple[GalleryItem, ...]
    pixelated: bool = False


Block: TypeAlias = Paragraph | Table | Chart | Gallery


@dataclass(frozen=True)
class Section:
    """A part of a page; `name` is its HTML anchor."""

    name: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Page:
    """A whole report. `summary` is printed by `--json`."""

    title: str
    lead: tuple[Paragraph, ...]
    sections: tuple[Section, ...]
    summary: dict[str, object] = field(default_factory=dict)

    @property
    def tables(self) -> tuple[Table, ...]:
        """Every table, in order."""
        return tuple(block for section in self.sections for block in section.blocks if isinstance(block, Table))

    @property
    def charts(self) -> tuple[Chart, ...]:
        """Every chart, in order."""
        return tuple(block for section in self.sections for block in section.blocks if isinstance(block, Chart))
