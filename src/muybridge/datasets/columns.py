"""Which column of a list is which: given by `--columns`, or guessed from a fixed table of synonyms.

Input: the names in a header. Output: a `ColumnMapping`. Nothing is guessed where two columns may be meant.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

# Reads a data set as version 0.1 did, for runs that it began: no synonyms, no links, names as they are spelled, all classes in
# the order of their characters.
AS_VERSION_0_1 = "as-version-0.1"

# Names are compared in lower case, with `_` for white space and `-`. The key itself takes precedence over its synonyms.
# fmt: off
TARGET_PREFIX = "target_"  # of the columns with the targets of a regression, float64 in a manifest; NaN: not measured
SYNONYMS: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "path": (
        "filename", "file", "file_name", "filepath", "file_path", "video", "video_path", "video_name", "video_file",
        "videoname", "clip", "clip_path", "clip_name",
    ),
    "label": (
        "labels", "class", "classes", "class_name", "classname", "category", "action", "activity", "tag", "target",
    ),
    "split": ("subset", "set", "partition", "phase", "usage"),
    "group": (
        "subject", "subject_id", "person", "person_id", "patient", "patient_id", "performer", "actor", "participant",
        "participant_id", "group_id",
    ),
    "start_seconds": ("start", "start_time", "start_sec", "time_start", "begin", "t_start"),
    "end_seconds": ("end", "end_time", "end_sec", "time_end", "stop", "t_end"),
    "start_frame": ("frame_start", "first_frame", "begin_frame"),
    "end_frame": ("frame_end", "stop_frame"),
    "frames_per_second": ("fps", "frame_rate", "framerate", "source_fps"),
})
# Names that mean a role only where no column has one of the names above: beside `filename`, `id` is something else.
_WEAK_SYNONYMS: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "path": ("video_id", "videoid", "id", "name", "folder", "frames", "frames_path", "frames_folder", "image_path"),
    "label": (
        "label_name", "category_name", "action_name", "activity_name", "class_label", "gesture", "label_id", "class_id",
    ),
})
# fmt: on
_ROLES_OF_TRAINING = ("label", "split", "group")
_ROLES_OF_VERSION_0_1 = ("path", "label", "split", "group", "start_seconds", "end_seconds")


@dataclass(frozen=True)
class ColumnMapping:
    """The index of the column of each role, and the names of all columns, as the header spells them."""

    names: tuple[str, ...]
    indices: Mapping[str, int]

    def __post_init__(self) -> None:
        roles = {role for role in self.indices if not role.startswith(TARGET_PREFIX)}
        assert roles <= set(SYNONYMS), "roles are those of SYNONYMS, or targets"
        object.__setattr__(self, "indices", MappingProxyType(dict(self.indices)))

    def __str__(self) -> str:
        """`path=filename,label=class`, the argument of `--columns` that gives this mapping."""
        roles = [
            *(role for role in SYNONYMS if role in self.indices),
            *(role for role in self.indices if role not in SYNONYMS),
        ]
        return ",".join(f"{role}={self.names[self.indices[role]]}" for role in roles)

    @property
    def has_synonyms(self) -> bool:
        """Whether a column has another name than its role."""
        return any(_normalize_column_name(self.names[index]) != role for role, index in self.indices.items())

    @property
    def unread_names(self) -> list[str]:
        """The columns without a role."""
        used = set(self.indices.values())
        return [name for index, name in enumerate(self.names) if name and index not in used]

    def get(self, cells: Sequence[str], role: str) -> str:
        """The cell of a role; empty where there is no such column or the row is too short."""
        index = self.indices.get(role)
        return cells[index] if index is not None and index < len(cells) else ""


def _normalize_column_name(name: str) -> str:
    """A column's name in lower case, with `_` for white space and `-`."""
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def _parse_columns(text: str) -> dict[str, str]:
    """`path=filename,label=class` as {role: column}. Raises ValueError for an unknown role and for one given twice."""
    given: dict[str, str] = {}
    for part in text.split(","):
        role, equals, name = (piece.strip() for piece in part.partition("="))
        is_target = role.startswith(TARGET_PREFIX) and role != TARGET_PREFIX
        if not equals or not name or not (role in SYNONYMS or is_target):
            raise ValueError(
                f"--columns has {part.strip()!r}, expected ROLE=COLUMN with a role among {', '.join(SYNONYMS)}, target_<name>"
            )
        if role in given:
            raise ValueError(f"--columns gives the column of {role} twice; give it once")
        given[role] = name
    return given


def is_header(cells: Sequence[str], columns: str | None) -> bool:
    """Whether the cells of a first line name columns: one of them is called like a path, or as `columns` says."""
    names = {_normalize_column_name(cell) for cell in cells}
    if columns and columns != AS_VERSION_0_1:
        return any(_normalize_column_name(name) in names for name in _parse_columns(columns).values())
    return bool(names & {"path", *((*SYNONYMS["path"], *_WEAK_SYNONYMS["path"]) if columns is None else ())})


def map_columns(names: Sequence[str], columns: str | None, *, needs_labels: bool = True) -> ColumnMapping:
    """The mapping of a header; `columns` is the argument of `--columns`, AS_VERSION_0_1, or None to guess.

    Roles that `columns` leaves out are guessed too. Raises ValueError where it names a column that is not there, and where
    two columns may be meant, unless that is by a role that matters to training only and `needs_labels` is off.
    """
    normalized = [_normalize_column_name(name) for name in names]
    given = {} if columns in (None, AS_VERSION_0_1) else _parse_columns(str(columns))
    indices: dict[str, int] = {}
    problems: list[str] = []
    for role, name in given.items():
        if _normalize_column_name(name) not in normalized:
            problems.append(f"--columns says {role}={name}, but the columns are {', '.join(names)}")
        else:
            indices[role] = normalized.index(_normalize_column_name(name))
    taken = set(indices.values())
    for role, synonyms in SYNONYMS.items():
        if role in given or (columns == AS_VERSION_0_1 and role not in _ROLES_OF_VERSION_0_1):
            continue
        exact = [index for index, name in enumerate(normalized) if name == role and index not in taken]
        tiers = (synonyms, _WEAK_SYNONYMS.get(role, ())) if columns != AS_VERSION_0_1 else ()
        guesses = ([i for i, name in enumerate(normalized) if name in tier and i not in taken] for tier in tiers)
        candidates = exact or next(filter(None, guesses), [])
        if len(candidates) > 1 and not needs_labels and role in _ROLES_OF_TRAINING:
            continue
        if len({normalized[index] for index in candidates}) < len(candidates):
            problems.append(f"{len(candidates)} columns are called {names[candidates[0]]}; rename them")
        elif len(candidates) > 1:
            choices = " or ".join(f"--columns {role}={names[index]}" for index in candidates)
            problems.append(
                f"{' and '.join(names[index] for index in candidates)} may both be the {role}; say {choices}"
            )
        elif candidates:
            indices[role] = candidates[0]
    if problems:
        raise ValueError("; ".join(problems))
    return ColumnMapping(tuple(names), indices)
