"""`ClassStore`: the classes of a project with their colours and keys, in `.muybridge/classes.json`.

A class exists where it is in that file or has annotations. Renaming, merging and deleting change all annotations at once.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence

from pydantic import Field, TypeAdapter, ValidationError

from muybridge.datasets.classes import normalize_class_name
from muybridge.files.atomic import write_json
from muybridge.parsing import read_json_object
from muybridge.studio.annotation_records import DEFAULT_COLORS, ClassStyle, StudioRecord, VideoMarks
from muybridge.studio.annotation_store import (
    STUDIO_FOLDER,
    AnnotationStore,
    list_labels,
    relabel,
    wait_for_lock,
)
from muybridge.studio.errors import StudioError

MAX_CLASSES = 1000
_FORMAT = 1
_LOCK_NAME = "classes.lock"
_DEFAULT_KEYS = "1234567890"
_STYLES = TypeAdapter(tuple[ClassStyle, ...])


class ClassSummary(ClassStyle):
    """A class with how much of it is marked."""

    num_segments: int
    num_events: int
    seconds: float


class ClassList(StudioRecord):
    """The classes in order, and the name of this state of them."""

    classes: tuple[ClassSummary, ...]
    revision: str


class ClassUpdate(StudioRecord):
    """The classes as they shall be."""

    classes: tuple[ClassStyle, ...] = Field(max_length=MAX_CLASSES)
    revision: str | None = None


class ClassStore:
    """The classes of a project."""

    def __init__(self, annotations: AnnotationStore) -> None:
        self.annotations = annotations
        self.folder = annotations.folder

    def read(self) -> ClassList:
        """The classes with their counts."""
        styles = self._read_styles()
        marks_by_path = self.annotations.read_all()
        num_segments: Counter[str] = Counter()
        num_events: Counter[str] = Counter()
        seconds: Counter[str] = Counter()
        for marks in marks_by_path.values():
            for segment in marks.segments:
                num_segments[segment.label] += 1
                seconds[segment.label] += segment.end_seconds - segment.start_seconds  # type: ignore[assignment]
            num_events.update(event.label for event in marks.events)
        summaries = tuple(
            ClassSummary(
                **dict(style),
                num_segments=num_segments[style.name],
                num_events=num_events[style.name],
                seconds=round(seconds[style.name], 3),
            )
            for style in styles
        )
        return ClassList(classes=summaries, revision=_compute_revision(styles))

    def read_revision(self) -> str:
        """The name of the present state of the list."""
        return _compute_revision(self._read_styles())

    def update(self, update: ClassUpdate) -> ClassList:
        """Replace the list. Raises StudioError(409) where it leaves out a class that has annotations."""
        _check_distinct(update.classes)
        with wait_for_lock(self.folder / STUDIO_FOLDER, _LOCK_NAME):
            self._check_revision(update.revision)
            kept = {style.name for style in update.classes}
            lost = [label for label in list_labels(self.annotations.read_all()) if label not in kept]
            if lost:
                raise StudioError(409, f"the class {lost[0]!r} has annotations; delete or merge it instead")
            self._write(update.classes)
        return self.read()

    def rename(self, name: str, new_name: str) -> ClassList:
        """Rename a class everywhere. Raises StudioError(404) for no such class, StudioError(409) where the new one exists."""
        others = [style.name for style in self._read_styles() if style.name != name]
        if any(normalize_class_name(other) == normalize_class_name(new_name) for other in others):
            raise StudioError(409, f"there is a class {new_name!r} already; merge the two instead")
        return self._relabel({name: new_name}, new_name)

    def merge(self, names: Sequence[str], into: str) -> ClassList:
        """Turn annotations of several classes into those of one of them or of another."""
        return self._relabel({name: into for name in names if name != into}, into)

    def delete(self, name: str) -> ClassList:
        """Remove a class and all its annotations."""
        return self._relabel({name: None}, None)

    def _relabel(self, names: Mapping[str, str | None], survivor: str | None) -> ClassList:
        with wait_for_lock(self.folder / STUDIO_FOLDER, _LOCK_NAME):
            styles = self._read_styles()
            unknown = [name for name in names if name not in {style.name for style in styles}]
            if unknown:
                raise StudioError(404, f"there is no class {unknown[0]!r}")

            def change(current: dict[str, VideoMarks]) -> None:
                current.update({path: relabel(marks, names) for path, marks in current.items()})

            self.annotations.change(change)
            renamed: dict[str, ClassStyle] = {}
            for style in styles:
                new_name = names.get(style.name, style.name)
                if new_name is not None and (new_name not in renamed or style.name == survivor):
                    renamed[new_name] = style.model_copy(update={"name": new_name})
            self._write(tuple(renamed.values()))
        return self.read()

    def _read_styles(self) -> tuple[ClassStyle, ...]:
        """The styles of the file, then those of classes that only annotations have."""
        path = self.folder / STUDIO_FOLDER / "classes.json"
        styles: tuple[ClassStyle, ...] = ()
        if path.exists():
            values = read_json_object(path)
            if values.get("format") != _FORMAT:
                raise ValueError(f"{path} has the format {values.get('format')!r}, expected {_FORMAT}; remove it")
            try:
                styles = _STYLES.validate_python(values.get("classes"))
            except ValidationError as error:
                raise ValueError(f"{path} is damaged; remove it, colours and keys are chosen anew") from error
        listed = {style.name for style in styles}
        added = [label for label in list_labels(self.annotations.read_all()) if label not in listed]
        return _complete_styles(styles, added)

    def _check_revision(self, revision: str | None) -> None:
        if revision is not None and revision != self.read_revision():
            raise StudioError(409, "the classes changed meanwhile; load them again")

    def _write(self, styles: Sequence[ClassStyle]) -> None:
        values = {"format": _FORMAT, "classes": [style.model_dump() for style in styles]}
        write_json(self.folder / STUDIO_FOLDER / "classes.json", values)


def _complete_styles(styles: Sequence[ClassStyle], names: Sequence[str]) -> tuple[ClassStyle, ...]:
    """`styles` and a style for each of `names`, with the colour used least and a key that is free."""
    completed = list(styles)
    for name in names:
        num_uses = Counter(style.color for style in completed)
        color = min(DEFAULT_COLORS, key=lambda color: (num_uses[color], DEFAULT_COLORS.index(color)))
        used_keys = {style.key for style in completed}
        key = next((key for key in _DEFAULT_KEYS if key not in used_keys), None)
        completed.append(ClassStyle(name=name, color=color, key=key))
    return tuple(completed)


def _compute_revision(styles: Sequence[ClassStyle]) -> str:
    return hashlib.sha256(json.dumps([style.model_dump() for style in styles]).encode()).hexdigest()[:16]


def _check_distinct(styles: Sequence[ClassStyle]) -> None:
    names = Counter(normalize_class_name(style.name) for style in styles)
    keys = Counter(style.key for style in styles if style.key is not None)
    for style in styles:
        if names[normalize_class_name(style.name)] > 1:
            raise StudioError(
                400,
                f"the class {style.name!r} is there twice (case, blanks, - and _ do not count); choose another name",
            )
        if style.key is not None and keys[style.key] > 1:
            raise StudioError(400, f"the key {style.key!r} stands for several classes; choose another key")
