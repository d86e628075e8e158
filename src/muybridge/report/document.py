"""What a report is made of, before it is drawn or written: sections of text, tables, charts and pictures.

Enter: nothing; these are records. Run, comparison and study pages are made of them (`run_page`, `comparison_page`,
`study_page`), and `page` turns them into HTML and files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeAlias

from muybridge.report.charts import Chart
from muybridge.report.tables import Table


@dataclass(frozen=True)
class Paragraph:
    """A paragraph; a warning is one that a reader must not miss."""

    kind: ClassVar[str] = "text"
    text: str
    role: Literal["plain", "warning"] = "plain"


@dataclass(frozen=True)
class GalleryItem:
    """A picture with its words. `moving` is an animation of the same size as `still`, both as data URIs; None: it stands.

    A `is_wide` one takes a row of its gallery for itself.
    """

    still: str
    alt: str
    heading: str
    lines: tuple[str, ...] = ()
    animation: str | None = None
    is_wide: bool = False


@dataclass(frozen=True)
class Gallery:
    """Pictures side by side; `pixelated` ones are small and enlarged with hard edges."""

    kind: ClassVar[str] = "gallery"
    title: str
    items: tuple[GalleryItem, ...]
    pixelated: bool = False


Block: TypeAlias = Paragraph | Table | Chart | Gallery


@dataclass(frozen=True)
class Section:
    """A part of a page; `name` is its anchor."""

    name: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Page:
    """A whole report. `facts` is what `--json` tells of it."""

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
