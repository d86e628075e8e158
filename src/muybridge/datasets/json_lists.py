"""Lists of videos in JSON: arrays of objects, lines of objects, Something-Something V2, and ActivityNet.

Input: a file. Output: a `ListTable` whose rows are numbered as the entries (in .jsonl the lines) of the file, from 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from muybridge.datasets.columns import ColumnMapping
from muybridge.datasets.list_layout import ListTable, map_named_columns
from muybridge.datasets.text_table import TextRow, read_text_lines
from muybridge.datasets.video_files import path_exists
from muybridge.parsing import RepeatedKeyError, parse_json
from muybridge.text import format_count

_ACTIVITYNET_COLUMNS = ("path", "label", "split", "group", "start_seconds", "end_seconds")
_SOMETHING_COLUMNS = ("path", "label")
_NUM_SHOWN_CHARACTERS = 40  # of an entry that is no object


def read_json_table(path: Path, columns: str | None, *, needs_labels: bool = True) -> ListTable:
    """The rows of a JSON list. Raises ValueError for JSON that is none of the three layouts."""
    content = parse_json("".join(read_text_lines(path)), str(path))
    if isinstance(content, dict) and isinstance(content.get("database"), dict):
        return _read_activitynet(path, content["database"])
    objects = [entry for entry in content if isinstance(entry, dict)] if isinstance(content, list) else []
    if not objects:
        raise ValueError(
            f"{path} is not a list of videos: expected an array of objects with a path each, such as "
            '[{"path": "a.mp4", "label": "hug"}], a list of Something-Something V2, or one of ActivityNet'
        )
    if columns is None and {"id", "template"} <= objects[0].keys():
        return ListTable(_map_as_named(_SOMETHING_COLUMNS), _make_something_rows(content), False)
    return _make_object_table(path, dict(enumerate(content, start=1)), columns, needs_labels)


def read_json_lines_table(path: Path, columns: str | None, *, needs_labels: bool = True) -> ListTable:
    """The rows of a list with a JSON object on each line. Raises ValueError where no line holds one."""
    entries: dict[int, Any] = {}
    for number, line in enumerate(read_text_lines(path), start=1):
        if not line.strip():
            continue
        try:
            entries[number] = parse_json(line, "line")
        except RepeatedKeyError as error:  # a problem of this line alone
            entries[number] = error
        except ValueError:
            entries[number] = line.strip()
    if not any(isinstance(entry, dict) for entry in entries.values()):
        raise ValueError(
            f"{path} is not a list of videos: expected a JSON object with a path on each line, such as "
            '{"path": "a.mp4", "label": "hug"}'
        )
    return _make_object_table(path, entries, columns, needs_labels)


def _make_object_table(path: Path, entries: Mapping[int, Any], columns: str | None, needs_labels: bool) -> ListTable:
    """A row for each entry by its number; entries that are no objects, or the error of their line, are named."""
    names = tuple(dict.fromkeys(str(name) for entry in entries.values() if isinstance(entry, dict) for name in entry))
    mapping = map_named_columns(path, names, columns, needs_labels=needs_labels)
    rows = [
        TextRow(number, tuple(_format_value(entry.get(name)) for name in names))
        if isinstance(entry, dict)
        else TextRow(number, (), _describe_entry(entry))
        for number, entry in entries.items()
    ]
    return ListTable(mapping, rows, True)


def _describe_entry(entry: Any) -> str:
    """What is wrong with an entry that is no object."""
    if isinstance(entry, RepeatedKeyError):
        return str(entry).removeprefix("line ")
    return f"is {str(entry)[:_NUM_SHOWN_CHARACTERS]!r}, expected an object with a path"


def _map_as_named(roles: Sequence[str]) -> ColumnMapping:
    return ColumnMapping(tuple(roles), {role: index for index, role in enumerate(roles)})


def _format_value(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return "|".join(map(_format_value, value))
    return str(value).strip()


def _make_something_rows(entries: Sequence[Any]) -> Iterator[TextRow]:
    """A row for each entry; the class is the template without the brackets around its placeholders."""
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict) or not {"id", "template"} <= entry.keys():
            yield TextRow(number, (), "is no entry of Something-Something V2: it lacks id or template")
            continue
        label = str(entry["template"]).replace("[", "").replace("]", "")
        yield TextRow(number, (str(entry["id"]).strip(), label.strip()))


def _read_activitynet(path: Path, database: Mapping[str, Any]) -> ListTable:
    """A row for each annotated segment. Videos without annotations, as in the testing subset, are left out with a note.

    The file of a video is that of its name, as the studio writes it, or `v_NAME`, as ActivityNet's files are called.
    """
    rows: list[TextRow] = []
    num_without = 0
    for number, (name, entry) in enumerate(database.items(), start=1):
        try:
            split, annotations = str(entry.get("subset", "")), entry.get("annotations") or []
            segments = [
                (str(one["label"]), *(f"{float(bound):.12g}" for bound in one["segment"])) for one in annotations
            ]
            if any(len(segment) != 3 for segment in segments):
                raise ValueError("a segment has two bounds")
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
            rows.append(TextRow(number, (), f"({name}) is no entry of ActivityNet: it lacks subset, label or segment"))
            continue
        file = name if path_exists(path.parent / name) else f"v_{name}"
        rows += [TextRow(number, (file, label, split, name, *bounds)) for label, *bounds in segments]
        num_without += not segments
    notes = (f"{format_count(num_without, 'video')} of {path} without annotations, left out.",) if num_without else ()
    return ListTable(_map_as_named(_ACTIVITYNET_COLUMNS), rows, False, notes)
