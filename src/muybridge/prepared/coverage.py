"""Coverage of a source: videos prepared and failed by split and class, with reasons, and duplicate content.

Input: a prepared manifest. Output: a `Coverage`, as text and as coverage.json. Counts include every row of the source, so for
official data sets every line of the official lists.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from muybridge.datasets.manifest import Manifest
from muybridge.text import format_count, join_names

_MAX_LISTED = 10
_MAX_LISTED_IN_GROUP = 4


@dataclass(frozen=True)
class Coverage:
    """Counts of prepared and failed videos by split and by class, the failed videos, and groups of equal videos."""

    splits: dict[str, dict[str, int]]
    classes: dict[str, dict[str, int]]
    failed: tuple[dict[str, str], ...]
    duplicates: tuple[tuple[tuple[str, str], ...], ...]  # groups of (video, split)

    @property
    def leaks(self) -> tuple[tuple[tuple[str, str], ...], ...]:
        """Groups of equal videos in more than one split: a model is then evaluated on videos that it was trained on."""
        return tuple(group for group in self.duplicates if len({split for _, split in group} - {"unused"}) > 1)

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        return {**self.__dict__, "num_duplicates": len(self.duplicates), "num_leaks": len(self.leaks)}

    def format_lines(self) -> list[str]:
        """The report for a terminal, with the warnings last."""
        lines = [f"{'split':<12}{'ok':>9}{'failed':>9}"]
        lines += [f"{split:<12}{counts['ok']:>9}{counts['failed']:>9}" for split, counts in self.splits.items()]
        failed_classes = sorted(
            ((counts["failed"], name) for name, counts in self.classes.items() if counts["failed"]), reverse=True
        )
        if failed_classes:
            shares = [f"{name} {count} of {count + self.classes[name]['ok']}" for count, name in failed_classes]
            lines.append(f"classes with failed videos: {join_names(shares, max_names=_MAX_LISTED)}")
        for status, count in Counter(row["status"] for row in self.failed).most_common():
            first = next(row for row in self.failed if row["status"] == status)
            lines.append(f"{status}: {format_count(count, 'video')}, such as {first['video']} ({first['reason']})")
        if self.duplicates:
            verb = "occurs" if len(self.duplicates) == 1 else "occur"
            lines.append(f"{format_count(len(self.duplicates), 'video')} {verb} more than once with equal content")
        if self.leaks:
            lines.append(
                f"WARNING: {len(self.leaks)} of them {'is' if len(self.leaks) == 1 else 'are'} in MORE THAN ONE SPLIT, so "
                "evaluation results will be too high:"
            )
            lines += [f"  {_format_group(group)}" for group in self.leaks[:_MAX_LISTED]]
            lines += [f"  and {num_more} more"] if (num_more := len(self.leaks) - _MAX_LISTED) > 0 else []
        return lines


def _format_group(group: Sequence[tuple[str, str]]) -> str:
    """Some of a group of equal videos, one of each split first, and how many more there are."""
    of_splits = list({split: (video, split) for video, split in reversed(group)}.values())[::-1]
    ordered = [*of_splits, *(one for one in group if one not in of_splits)]
    shown = " = ".join(f"{video} ({split})" for video, split in ordered[:_MAX_LISTED_IN_GROUP])
    num_more = len(ordered) - _MAX_LISTED_IN_GROUP
    return f"{shown} and {num_more} more" if num_more > 0 else shown


def compute_coverage(manifest: Manifest) -> Coverage:
    """The coverage of a prepared manifest. Videos are equal if their stored files are equal byte for byte."""
    splits: dict[str, dict[str, int]] = {}
    classes = {name: {"ok": 0, "failed": 0} for name in manifest.classes}
    failed: list[dict[str, str]] = []
    videos_by_sha256: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    names = ("video", "split", "labels", "status", "reason", "sha256", "flow_sha256")
    columns = [name for name in names if name in manifest.table.column_names]
    for batch in manifest.table.select(columns).to_batches(max_chunksize=10_000):
        for row in batch.to_pylist():
            outcome = "ok" if row["status"] == "ok" else "failed"
            splits.setdefault(row["split"], {"ok": 0, "failed": 0})[outcome] += 1
            for label in row["labels"] or ():
                classes[manifest.classes[label]][outcome] += 1
            if outcome == "failed":
                failed.append({name: row[name] for name in ("video", "split", "status", "reason")})
            else:
                videos_by_sha256[row["sha256"] or row["flow_sha256"]].append((row["video"], row["split"]))
    groups = tuple(tuple(group) for group in videos_by_sha256.values() if len(group) > 1)
    return Coverage(splits, classes, tuple(failed), groups)
