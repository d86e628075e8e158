"""Lists of videos as rows: CSV, TSV, lines of `path label`, JSON and JSON lines, for every verb (docs/data.md).

path,label,split,group,start_seconds,end_seconds
clips/a.mp4,hug|push,train,seq01,1.5,4

For regression, targets are numbers in `label` or in columns `target_<name>`; an empty cell of these is not measured.

Input: a file. Output: a `VideoList`. A row with a problem is named and left out; the other rows are not affected. Training
refuses a list with problems, prediction reports each as a failed input.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from muybridge.datasets.columns import ColumnMapping
from muybridge.datasets.frame_rates import convert_frame_to_seconds, read_frame_rate
from muybridge.datasets.json_lists import read_json_lines_table, read_json_table
from muybridge.datasets.list_layout import ListTable, read_text_table
from muybridge.datasets.rows import SPLIT_ALIASES, VideoRow
from muybridge.datasets.source_rates import may_lack_rate
from muybridge.datasets.targets import find_target_columns, parse_target
from muybridge.datasets.text_table import TextRow, parse_number
from muybridge.datasets.video_files import VideoFinder
from muybridge.records import Split, Task
from muybridge.text import format_count, join_names

# Of Linux: a longer path ends in an error of the system, not in "no such file".
_MAX_NAME_BYTES, _MAX_PATH_BYTES = 255, 4095
LIST_EXTENSIONS = (".csv", ".tsv", ".txt", ".json", ".jsonl")


@dataclass(frozen=True)
class VideoList:
    """The rows of a list that can be used, and `problems`: of each other row, its line number and what is wrong.

    `columns` is the argument of `--columns` that reads the list in the same way; None where its columns have no names.
    """

    rows: tuple[VideoRow, ...]
    line_numbers: tuple[int, ...]  # of each row
    problems: tuple[tuple[int, str], ...]
    notes: tuple[str, ...]
    columns: str | None = None


@dataclass
class _RowParser:
    mapping: ColumnMapping
    finder: VideoFinder
    is_data_set: bool
    needs_labels: bool
    needs_targets: bool = False
    target_columns: Mapping[str, int] = field(default_factory=dict)
    source_fps: float | None = None
    problems: list[tuple[int, str]] = field(default_factory=list)
    num_file_rates: int = 0  # rows in frames whose rate is read from the file
    num_used_rates: int = 0  # rows whose own rate is that of their segment or of their frames

    def parse(self, row: TextRow) -> VideoRow | None:
        """The row as a video; None if it has a problem."""
        problems = [row.problem] if row.problem else self._find_structural_problems(row)
        if not problems:
            path = posixpath.normpath(self._get(row, "path"))
            path = self.finder.find(path) or path
            labels = self._parse_labels(row, problems)
            targets = self._parse_targets(row, problems)
            split = self._parse_split(row, problems)
            start, end = self._parse_bounds(row, path, problems)
            # Where bounds are in frames, `_find_rate` has read it.
            rate = None if problems else self._parse_number(row, "frames_per_second", "a rate", problems)
            if rate == 0:
                problems.append("has the frames_per_second 0, expected a rate above 0")
            if not problems:
                group = self._get(row, "group") or None
                in_frames = bool(self._get(row, "start_frame") or self._get(row, "end_frame"))
                self.num_used_rates += rate is not None and (in_frames or may_lack_rate(path))
                return VideoRow(path, labels, split, group, start, end, rate, in_frames, targets=targets)
        self.problems += [(row.line_number, problem) for problem in problems]
        return None

    def _get(self, row: TextRow, role: str) -> str:
        return self.mapping.get(row.cells, role)

    def _find_structural_problems(self, row: TextRow) -> list[str]:
        problems = []
        num_columns = len(self.mapping.names)
        if any(row.cells[num_columns:]):
            problems.append(f"has {format_count(len(row.cells), 'column')}, expected {num_columns}")
        path = self._get(row, "path")
        if not path:
            problems.append("has no path")
        too_long = any(_count_bytes(name) > _MAX_NAME_BYTES for name in path.split("/"))
        if too_long or _count_bytes(str(self.finder.root / path)) > _MAX_PATH_BYTES:
            problems.append(f"has a path of {len(path):,} characters, more than a file system takes")
        used = [role for role in self.mapping.indices if "\n" in self._get(row, role) or "\r" in self._get(row, role)]
        problems += [f"has a line break in its {role}" for role in used]
        return problems

    def _parse_labels(self, row: TextRow, problems: list[str]) -> tuple[str, ...]:
        labels = tuple(dict.fromkeys(label.strip() for label in self._get(row, "label").split("|") if label.strip()))
        if not labels and self.needs_labels:
            problems.append("has no label")
        return labels

    def _parse_targets(self, row: TextRow, problems: list[str]) -> tuple[tuple[str, float], ...]:
        cells = {name: "".join(row.cells[index : index + 1]) for name, index in self.target_columns.items()}
        targets = []
        for name, text in cells.items():
            value = parse_target(text)
            if value is None:
                problems.append(f"has the {name} {text!r}, expected a number")
            else:
                targets.append((name, value))
        if self.needs_targets and not any(cells.values()):
            problems.append(f"has no {' and no '.join(cells)}")
        return tuple(targets)

    def _parse_split(self, row: TextRow, problems: list[str]) -> Split | None:
        text = self._get(row, "split")
        split = SPLIT_ALIASES.get(text.lower())
        if text and split is None and self.is_data_set:
            problems.append(f"has the split {text!r}, expected one of {', '.join(SPLIT_ALIASES)}")
        return split

    def _parse_bounds(self, row: TextRow, path: str, problems: list[str]) -> tuple[float | None, float | None]:
        start, end = (self._parse_number(row, name, "seconds", problems) for name in ("start_seconds", "end_seconds"))
        first, last = (self._parse_number(row, name, "a frame", problems) for name in ("start_frame", "end_frame"))
        if problems or (first is None and last is None):
            pass
        elif start is not None or end is not None:
            problems.append("gives its segment in seconds and in frames; keep one of them")
        elif last is not None and last <= (first or 0):
            problems.append(f"ends at frame {last:g}, not after its start")
        else:
            rate = self._find_rate(row, path, problems)
            start, end = (None if one is None else convert_frame_to_seconds(int(one), rate) for one in (first, last))
        if end is not None and not problems and end <= (start or 0.0):
            problems.append(f"ends at {end:g} s, not after its start")
        return start, end

    def _find_rate(self, row: TextRow, path: str, problems: list[str]) -> float:
        rate = self._parse_number(row, "frames_per_second", "a rate", problems)
        if rate is None:
            self.num_file_rates += 1
            return read_frame_rate(str(self.finder.root / path), self.source_fps)
        if rate == 0:
            problems.append("has the frames_per_second 0, expected a rate above 0")
        return rate or 1.0

    def _parse_number(self, row: TextRow, role: str, expected: str, problems: list[str]) -> float | None:
        text = self._get(row, role)
        if not text:
            return None
        value = parse_number(text)
        if value is None or value < 0 or (role.endswith("_frame") and value != int(value)):
            problems.append(f"has the {role} {text!r}, expected {expected}")
        return value


def _count_bytes(name: str) -> int:
    return len(name.encode("utf-8", "surrogatepass"))


def is_video_list(path: Path) -> bool:
    """Whether the extension is that of a list."""
    return path.suffix.lower() in LIST_EXTENSIONS


def read_video_list(
    path: Path,
    *,
    columns: str | None = None,
    root: Path | None = None,
    needs_labels: bool = True,
    task: Task | None = "single_label",
    source_fps: float | None = None,
) -> VideoList:
    """Read a list; its paths are relative to `root`, by default the folder of the list.

    `columns` is `ROLE=COLUMN,...`; roles that it leaves out are guessed. `task` says what is read: labels, which are needed
    except for multi_label, or for regression the targets; None reads both, and needs one of them. `source_fps` is the rate of
    frames that are stored without one, for segments in frames. Raises ValueError for a file that is not a list.
    """
    table = read_table(path, columns, root, needs_labels=needs_labels, task=task)
    text_rows = list(table.rows)
    target_columns = find_target_columns(table.mapping, text_rows, task) if needs_labels else {}
    if needs_labels and task is None and not target_columns:
        _check_columns(path, table, ("label",))
    finder = VideoFinder(path.parent if root is None else root)
    needs_targets = bool(target_columns) and (task == "regression" or "label" not in table.mapping.indices)
    needs_label_cells = needs_labels and task != "multi_label" and not needs_targets
    parser = _RowParser(
        table.mapping, finder, needs_labels, needs_label_cells, needs_targets, target_columns, source_fps
    )
    rows, line_numbers = [], []
    for text_row in text_rows:
        row = parser.parse(text_row)
        if row is not None:
            rows.append(replace(row, labels=()) if task == "regression" else row)
            line_numbers.append(text_row.line_number)
    notes = (*table.notes, *_describe_reading(path, table, parser))
    return VideoList(
        tuple(rows),
        tuple(line_numbers),
        tuple(parser.problems),
        notes,
        str(table.mapping) if table.has_header else None,
    )


def read_table(
    path: Path,
    columns: str | None,
    root: Path | None = None,
    *,
    needs_labels: bool = True,
    task: Task | None = "single_label",
) -> ListTable:
    """The rows of a list as text, with the mapping of its columns. Raises ValueError for a file that is not a list.

    A regression may do without a column of labels, and so may data that is read for any task (None).
    """
    if path.suffix.lower() == ".json":
        table = read_json_table(path, columns, needs_labels=needs_labels)
    elif path.suffix.lower() == ".jsonl":
        table = read_json_lines_table(path, columns, needs_labels=needs_labels)
    else:
        table = read_text_table(path, columns, path.parent if root is None else root, needs_labels=needs_labels)
    has_label_column = needs_labels and task not in (None, "regression")
    _check_columns(path, table, ("path", "label") if has_label_column else ("path",))
    return table


def _check_columns(path: Path, table: ListTable, required: Sequence[str]) -> None:
    """Raise ValueError for the roles without a column."""
    missing = [role for role in required if role not in table.mapping.indices]
    if missing:
        raise ValueError(
            f"{path} lacks the columns {', '.join(missing)}; its first line names "
            f"{', '.join(filter(None, table.mapping.names)) or 'nothing'}{_suggest(missing, table.mapping.names)}"
        )


def _suggest(missing: Sequence[str], names: Sequence[str]) -> str:
    if {"youtube_id", "time_start"} <= set(names):
        return "; for a list of Kinetics use `muybridge prepare FOLDER --format kinetics -o DATA`"
    if not any(names):
        return ""
    return f"; say which they are, such as --columns {','.join(f'{role}=NAME' for role in missing)}"


def _describe_reading(path: Path, table: ListTable, parser: _RowParser) -> list[str]:
    """Sentences on which column is which, on what was not read, and on what was read in a way that the list does not say."""
    notes, mapping = [], table.mapping
    unread = mapping.unread_names
    unused_roles = [] if parser.is_data_set else ["label", "split", "group"]
    if not parser.num_used_rates:
        unused_roles.append("frames_per_second")
    used = {role: index for role, index in mapping.indices.items() if role not in unused_roles}
    unread += [mapping.names[index] for role, index in mapping.indices.items() if role not in used]
    read_mapping = ColumnMapping(mapping.names, used)
    if table.has_header and read_mapping.has_synonyms:
        notes.append(f"Columns of {path}: {read_mapping}.")
    if unread:
        notes.append(f"Columns of {path} that are not read: {join_names(unread, max_names=20)}.")
    if parser.num_file_rates:
        notes.append(
            f"{path} gives segments in frames: they are converted by the rate of each file, "
            "since there is no column frames_per_second."
        )
    searched = parser.finder.searched
    if searched:
        listed, file = next(iter(searched.items()))
        notes.append(f"{format_count(len(searched), 'path')} in {path} looked up by name, such as {listed}: {file}.")
    return notes
