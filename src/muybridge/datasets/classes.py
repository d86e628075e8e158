"""Class names: matched between data and model by name, and checked before training.

Two names are the same if they differ only in case, whitespace, `-`, `_` and Unicode form. Names that are all numbers are in the
order of the numbers, other names in that of their characters.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from muybridge.datasets.rows import VideoRow, choose_noun
from muybridge.datasets.video_files import normalize_unicode
from muybridge.text import join_names


def normalize_class_name(name: str) -> str:
    """A class name without the differences that matching ignores."""
    return re.sub(r"[\s_-]+", "", normalize_unicode(name).casefold())


def match_classes(classes: Sequence[str], target_classes: Sequence[str]) -> list[int]:
    """For each of `classes`, its index in `target_classes`, matched by name.

    Raises ValueError for classes that `target_classes` lacks and for names that are ambiguous.
    """
    target_indices = {normalize_class_name(name): class_index for class_index, name in enumerate(target_classes)}
    problems = [*_describe_ambiguous_names(classes), *_describe_ambiguous_names(target_classes)]
    missing = [name for name in classes if normalize_class_name(name) not in target_indices]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        problems.append(f"{join_names(missing)} {verb} not among {join_names(target_classes)}")
    if problems:
        raise ValueError(f"classes cannot be matched by name: {'; '.join(problems)}")
    return [target_indices[normalize_class_name(name)] for name in classes]


def collect_classes(address: str, rows: Sequence[VideoRow], *, sort_numbers: bool = True) -> list[str]:
    """The sorted labels of all rows; with `sort_numbers`, numbers in their own order: 0 1 2 10.

    Raises ValueError where two of them are the same name.
    """
    classes = sorted({label for row in rows for label in row.labels})
    if sort_numbers and are_numbers(classes):
        classes.sort(key=float)
    ambiguous = _describe_ambiguous_names(classes)
    if ambiguous:
        raise ValueError(
            f"{address} has classes that cannot be told apart by name: {'; '.join(ambiguous)}; rename one of each"
        )
    return classes


def describe_classes(rows: Sequence[VideoRow], classes: Sequence[str]) -> list[str]:
    """A note on labels that are numbers, and one on classes that have a single video."""
    notes = []
    if classes and are_numbers(classes):
        notes.append(
            f"The labels are numbers: each of the {len(classes)}, from {classes[0]} to {classes[-1]}, is taken as the name of "
            "a class, not as a quantity; --training.task regression or ordinal takes them as numbers."
        )
    num_videos = Counter(label for row in rows for label in row.labels)
    single = [name for name in classes if num_videos[name] == 1]
    if single:
        has = "Class {} has" if len(single) == 1 else "Classes {} have"
        notes.append(
            f"{has.format(join_names(single))} one {choose_noun(rows)} only: it is in one split, and absent from the others."
        )
    return notes


def are_numbers(classes: Sequence[str]) -> bool:
    """Whether all names are numbers."""
    return all(map(_is_number, classes))


def _is_number(name: str) -> bool:
    return re.fullmatch(r"[+-]?(\d+(\.\d*)?|\.\d+)", name, re.ASCII) is not None


def check_trainable(
    address: str, labels_of_videos: Iterable[tuple[str | None, Iterable[str]]], *, min_classes: int = 2
) -> None:
    """Raise ValueError if there are fewer classes than `min_classes`, or held-out labels that no training video has.

    `labels_of_videos` are the split and the labels of each video, or of several. Data without training videos passes: it serves
    evaluation alone.
    """
    labels_by_split: dict[str | None, set[str]] = defaultdict(set)
    for split, labels in labels_of_videos:
        labels_by_split[split].update(labels)
    training_labels = labels_by_split["train"]
    if not training_labels:
        return
    held_out_labels = labels_by_split["validation"] | labels_by_split["test"]
    all_labels = set[str]().union(*labels_by_split.values())
    if len(all_labels) < min_classes:
        raise ValueError(f"{address} has only one class, {all_labels.pop()!r}; training needs at least two")
    unknown_labels = sorted(held_out_labels - training_labels)
    if unknown_labels:
        raise ValueError(
            f"{address} has labels for validation or test that no training video has: {join_names(unknown_labels)}; "
            "add training videos with these labels or set the split of the others to unused"
        )


def _describe_ambiguous_names(classes: Sequence[str]) -> list[str]:
    """A clause for each set of names that are the same to the matching."""
    names_by_key: dict[str, list[str]] = {}
    for name in classes:
        names_by_key.setdefault(normalize_class_name(name), []).append(name)
    return [f"{' and '.join(map(repr, names))} are the same name" for names in names_by_key.values() if len(names) > 1]
