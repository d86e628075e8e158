"""Annotation files of ELAN (.eaf, XML), each of one video.

A tier holds annotations that do not overlap, so each class of each annotator has a tier, and more where its segments overlap.
Times are whole milliseconds. ELAN has no points in time: events are annotations of one millisecond in tiers of type `event`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from urllib.parse import quote
from xml.etree.ElementTree import Element, ParseError, SubElement, indent, tostring

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from muybridge.limits import TEXT_BYTES
from muybridge.studio.annotation_records import VideoMarks
from muybridge.studio.errors import StudioError
from muybridge.studio.exchange.marks import ImportedMarks, ProjectMarks, split_into_lanes

_EVENT_TYPE, _SEGMENT_TYPE = "event", "segment"
_SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
_Row = tuple[int, int, str, str]  # start and end in milliseconds, label, annotator


def write_elan(project: ProjectMarks) -> str:
    """The marks of one video. Raises StudioError(400) where several have marks."""
    paths = list(project.marks_by_path)
    if len(paths) != 1:
        raise StudioError(400, f"an ELAN file is of one video, and {len(paths)} were to be exported; name one by path")
    marks = project.marks_by_path[paths[0]]
    document = Element(
        "ANNOTATION_DOCUMENT", {"AUTHOR": "", "FORMAT": "3.0", "VERSION": "3.0", "DATE": "1970-01-01T00:00:00Z"}
    )
    document.set("xmlns:xsi", "http://www.w3.org/2001/XMLSchema-instance")
    document.set("xsi:noNamespaceSchemaLocation", _SCHEMA)
    header = SubElement(document, "HEADER", {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"})
    name = PurePosixPath(paths[0]).name
    location = {"MEDIA_URL": f"file:///{quote(paths[0])}", "RELATIVE_MEDIA_URL": f"./{quote(name)}"}
    SubElement(header, "MEDIA_DESCRIPTOR", {**location, "MIME_TYPE": "video/mp4"})
    tiers = _make_tiers(marks)
    times = SubElement(document, "TIME_ORDER")
    _write_tiers(document, times, tiers)
    for kind in (_SEGMENT_TYPE, _EVENT_TYPE):
        SubElement(
            document,
            "LINGUISTIC_TYPE",
            {"LINGUISTIC_TYPE_ID": kind, "TIME_ALIGNABLE": "true", "GRAPHIC_REFERENCES": "false"},
        )
    indent(document)
    return tostring(document, encoding="unicode", xml_declaration=True)


def _make_tiers(marks: VideoMarks) -> list[tuple[str, str, list[_Row]]]:
    """Name, type and rows of each tier."""
    segments = [(*_to_milliseconds(one.bounds), one.label, one.annotator) for one in marks.segments]
    events = [
        (*_to_milliseconds((one.time_seconds, one.time_seconds)), one.label, one.annotator) for one in marks.events
    ]
    tiers: list[tuple[str, str, list[_Row]]] = []
    for kind, rows in ((_SEGMENT_TYPE, segments), (_EVENT_TYPE, events)):
        for label, annotator in sorted({(row[2], row[3]) for row in rows}):
            lanes = split_into_lanes(row for row in rows if row[2:] == (label, annotator))
            for number, lane in enumerate(lanes, start=1):
                parts = [
                    label,
                    annotator,
                    *(["event"] if kind == _EVENT_TYPE else []),
                    *([str(number)] if number > 1 else []),
                ]
                tiers.append((" - ".join(parts), kind, lane))
    return tiers


def _to_milliseconds(bounds: tuple[float, float]) -> tuple[int, int]:
    start = round(1000 * bounds[0])
    return start, max(start + 1, round(1000 * bounds[1]))


def _write_tiers(document: Element, times: Element, tiers: Sequence[tuple[str, str, list[_Row]]]) -> None:
    stamps = sorted({stamp for _, _, rows in tiers for row in rows for stamp in row[:2]})
    slots = {stamp: f"ts{number}" for number, stamp in enumerate(stamps, start=1)}
    for stamp, slot in slots.items():
        SubElement(times, "TIME_SLOT", {"TIME_SLOT_ID": slot, "TIME_VALUE": str(stamp)})
    number = 0
    for name, kind, rows in tiers:
        tier = SubElement(document, "TIER", {"TIER_ID": name, "LINGUISTIC_TYPE_REF": kind, "ANNOTATOR": rows[0][3]})
        for start, end, label, _ in rows:
            number += 1
            annotation = SubElement(tier, "ANNOTATION")
            references = {"TIME_SLOT_REF1": slots[start], "TIME_SLOT_REF2": slots[end]}
            aligned = SubElement(annotation, "ALIGNABLE_ANNOTATION", {"ANNOTATION_ID": f"a{number}", **references})
            SubElement(aligned, "ANNOTATION_VALUE").text = label


def read_elan(content: bytes, marks: ImportedMarks) -> None:
    """Take over the time-aligned annotations of an ELAN file; an empty one has the name of its tier as its class."""
    if problem := TEXT_BYTES.exceed(len(content)):
        raise StudioError(413, f"the file has {problem}")
    try:
        document = fromstring(content, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise StudioError(400, f"the file is no XML that can be read ({type(error).__name__})") from error
    media = document.find("HEADER/MEDIA_DESCRIPTOR")
    name = "" if media is None else media.get("RELATIVE_MEDIA_URL") or media.get("MEDIA_URL") or ""
    if document.tag != "ANNOTATION_DOCUMENT" or (not name and marks.only_path is None):
        raise StudioError(400, "the file is no ELAN annotation of a video; name the video by path")
    milliseconds = {
        slot.get("TIME_SLOT_ID"): slot.get("TIME_VALUE") for slot in document.iterfind("TIME_ORDER/TIME_SLOT")
    }
    for tier in document.iterfind("TIER"):
        for aligned in tier.iterfind("ANNOTATION/ALIGNABLE_ANNOTATION"):
            start, end = (milliseconds.get(aligned.get(f"TIME_SLOT_REF{number}")) for number in (1, 2))
            if start is None or end is None or not (start.isdecimal() and end.isdecimal()):
                marks.skip(str(tier.get("TIER_ID")), "an annotation has no time")
                continue
            seconds = int(start) / 1000, int(end) / 1000
            is_event = tier.get("LINGUISTIC_TYPE_REF") == _EVENT_TYPE and int(end) - int(start) <= 1
            label = (aligned.findtext("ANNOTATION_VALUE") or "").strip() or str(tier.get("TIER_ID"))
            marks.add(name, label, seconds[0], seconds[0] if is_event else seconds[1], tier.get("ANNOTATOR") or None)
