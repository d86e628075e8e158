"""Annotation files of ELAN (.eaf, XML), each of one video.

A tier holds annotations that do not overlap, so each class of each annotator has a tier, and more where its segments overlap.
Times are whole milliseconds. ELAN has no points in time: events are annotations of one millisecond in tiers of type `event`.
Annotations without times of their own refer to one of the tier's parent: they have its time, and several share it equally.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import chain, pairwise
from pathlib import PurePosixPath
from urllib.parse import quote, unquote
from xml.etree.ElementTree import Element, ParseError, SubElement, indent, tostring

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from muybridge.limits import TEXT_BYTES
from muybridge.studio.annotation_records import VideoMarks
from muybridge.studio.errors import StudioError
from muybridge.studio.exchange.marks import ImportedMarks, ProjectMarks, split_into_lanes
from muybridge.text import format_count

_EVENT_TYPE, _SEGMENT_TYPE = "event", "segment"
_UNITS = "milliseconds"  # the schema's default; its others are frames of PAL and NTSC
_SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
_Row = tuple[int, int, str, str]  # start and end in milliseconds, label, annotator
_Bounds = dict[Element, tuple[float, float]]  # start and end of annotations in milliseconds


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
    header = SubElement(document, "HEADER", {"MEDIA_FILE": "", "TIME_UNITS": _UNITS})
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
    """Take over the annotations of an ELAN file; an empty one has the name of its tier as its class."""
    if problem := TEXT_BYTES.exceed(len(content)):
        raise StudioError(413, f"the file has {problem}")
    try:
        document = fromstring(content, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise StudioError(400, f"the file is no XML that can be read ({type(error).__name__})") from error
    name, origin = _find_media(document, marks)
    if document.tag != "ANNOTATION_DOCUMENT" or (not name and marks.only_path is None):
        raise StudioError(400, "the file is no ELAN annotation of a video; name the video by path")
    units = document.find("HEADER[@TIME_UNITS]")
    if units is not None and units.get("TIME_UNITS") != _UNITS:
        raise StudioError(400, f"the file's times are not in {_UNITS} (its TIME_UNITS); save it again from ELAN")
    bounds = _read_bounds(document)
    for tier in document.iterfind("TIER"):
        tier_name = str(tier.get("TIER_ID"))
        annotations = tier.findall("ANNOTATION/*")
        if num_untimed := sum(one not in bounds for one in annotations):
            marks.skip(tier_name, f"{format_count(num_untimed, 'annotation')} without a time")
        for one in annotations:
            if one in bounds:
                start, end = (time + origin for time in bounds[one])
                is_event = tier.get("LINGUISTIC_TYPE_REF") == _EVENT_TYPE and end - start <= 1
                label = (one.findtext("ANNOTATION_VALUE") or "").strip() or tier_name
                end = start if is_event else end
                marks.add(name, label, start / 1000, end / 1000, tier.get("ANNOTATOR") or None)


def _find_media(document: Element, marks: ImportedMarks) -> tuple[str, int]:
    """The name of the medium that is a video of the project, else of the first one, and its time origin.

    The origin is where in the medium time 0 of the annotations is, in milliseconds: several media are aligned so. A sound often
    has the name of its video but for the extension.
    """
    paths = marks.facts if marks.only_path is None else (marks.only_path,)
    file_names = {PurePosixPath(path).name for path in paths}
    media = []
    for one in document.iterfind("HEADER/MEDIA_DESCRIPTOR"):
        origin = one.get("TIME_ORIGIN", "")
        name = one.get("RELATIVE_MEDIA_URL") or one.get("MEDIA_URL") or ""
        media.append((name, int(origin) if origin.removeprefix("-").isdecimal() else 0))
    exact = [pair for pair in media if PurePosixPath(unquote(pair[0].replace("\\", "/"))).name in file_names]
    return next(chain(exact, (pair for pair in media if marks.find(pair[0])), media), ("", 0))


def _read_bounds(document: Element) -> _Bounds:
    """The bounds of all annotations that have any: times of their own, or of one of the tier's parent."""
    milliseconds = {
        slot.get("TIME_SLOT_ID"): int(value)
        for slot in document.iterfind("TIME_ORDER/TIME_SLOT")
        for value in (slot.get("TIME_VALUE") or "",)
        if value.isdecimal()
    }
    bounds: _Bounds = {}
    for aligned in document.iterfind("TIER/ANNOTATION/ALIGNABLE_ANNOTATION"):
        start, end = (milliseconds.get(aligned.get(f"TIME_SLOT_REF{number}")) for number in (1, 2))
        if start is not None and end is not None:
            bounds[aligned] = start, end
    by_id = {one.get("ANNOTATION_ID"): one for one in document.iterfind("TIER/ANNOTATION/*")}
    for tier in _sort_by_parent(document.findall("TIER")):
        parts: defaultdict[str | None, list[Element]] = defaultdict(list)
        for reference in tier.iterfind("ANNOTATION/REF_ANNOTATION"):
            parts[reference.get("ANNOTATION_REF")].append(reference)
        for parent, references in parts.items():
            if parent in by_id and by_id[parent] in bounds:
                bounds |= _divide(*bounds[by_id[parent]], references)
    return bounds


def _sort_by_parent(tiers: Sequence[Element]) -> list[Element]:
    """Tiers, each after its parent; without those that are below themselves or below none of the file."""
    children: defaultdict[str | None, list[Element]] = defaultdict(list)
    for tier in tiers:
        children[tier.get("PARENT_REF")].append(tier)
    ordered = children.pop(None, [])
    for tier in ordered:  # which grows
        ordered += children.pop(tier.get("TIER_ID"), [])
    return ordered


def _divide(start: float, end: float, references: Sequence[Element]) -> _Bounds:
    """Equal parts of a time, in the order in which the annotations follow each other, else in that of the file."""
    followers = {one.get("PREVIOUS_ANNOTATION"): one for one in references}
    ordered: list[Element] = []
    while (follower := followers.pop(ordered[-1].get("ANNOTATION_ID") if ordered else None, None)) is not None:
        ordered.append(follower)
    ordered = ordered if len(ordered) == len(references) else list(references)
    borders = [start + (end - start) * number / len(ordered) for number in range(len(ordered) + 1)]
    return dict(zip(ordered, pairwise(borders), strict=True))
