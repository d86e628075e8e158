"""The formats by name: how each is read and written, and how its files are called."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from muybridge.studio.annotation_files import COLUMNS, UNKNOWN_ANNOTATOR, format_annotation_files, parse_segment_rows
from muybridge.studio.errors import StudioError
from muybridge.studio.exchange.activity_net import read_activity_net, write_activity_net
from muybridge.studio.exchange.boris import read_boris, write_boris
from muybridge.studio.exchange.create_ml import read_create_ml, write_create_ml
from muybridge.studio.exchange.elan import read_elan, write_elan
from muybridge.studio.exchange.label_studio import read_label_studio, write_label_studio
from muybridge.studio.exchange.marks import ImportedMarks, ProjectMarks
from muybridge.studio.exchange.via import read_via, write_via
from muybridge.text import join_names

FormatName = Literal["csv", "boris", "elan", "label_studio", "createml", "via", "activitynet"]


@dataclass(frozen=True)
class ExchangeFormat:
    """How a format is read and written."""

    read: Callable[[bytes, ImportedMarks], None]
    write: Callable[[ProjectMarks], str]
    extension: str
    media_type: str = "application/json"


def _write_csv(project: ProjectMarks) -> str:
    return format_annotation_files(project.marks_by_path)["annotations.csv"]


def _read_csv(content: bytes, marks: ImportedMarks) -> None:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise StudioError(400, "the file is not UTF-8 text; save it as CSV in UTF-8") from error
    segments_by_path = parse_segment_rows(text, "the CSV file")
    header = next(csv.reader(io.StringIO(text, newline="")), ())
    unknown = [column for column in header if column and column not in COLUMNS["annotations.csv"]]
    if unknown:
        marks.skip("the file", f"the columns {join_names(unknown)} are not read")
    for path, segments in segments_by_path.items():
        target = marks.find(path)
        if target != path and target in segments_by_path:
            marks.skip(path, f"there is no video of this path, and the file has marks of {target}, too")
            continue
        for segment in segments:
            annotator = None if segment.annotator == UNKNOWN_ANNOTATOR else segment.annotator
            marks.add(path, segment.label, *segment.bounds, annotator, split=segment.split, group=segment.group)


FORMATS: dict[FormatName, ExchangeFormat] = {
    "csv": ExchangeFormat(_read_csv, _write_csv, ".csv", "text/csv"),
    "boris": ExchangeFormat(read_boris, write_boris, ".boris"),
    "elan": ExchangeFormat(read_elan, write_elan, ".eaf", "application/xml"),
    "label_studio": ExchangeFormat(read_label_studio, write_label_studio, ".json"),
    "createml": ExchangeFormat(read_create_ml, write_create_ml, ".json"),
    "via": ExchangeFormat(read_via, write_via, ".json"),
    "activitynet": ExchangeFormat(read_activity_net, write_activity_net, ".json"),
}


def read_annotations(file_format: FormatName, content: bytes, marks: ImportedMarks) -> None:
    """Add the annotations in a file of another tool to `marks`. A byte-order mark, as of Windows, is no part of the file."""
    FORMATS[file_format].read(content.removeprefix(codecs.BOM_UTF8), marks)
