"""What became of a source's videos: counts by split and class, reasons, and the same content under several names.

What enters is a prepared manifest, what leaves is a `Coverage` for people and for coverage.json. Counts are against the
source's own list, so for official data sets against the official lists.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

from muybridge.datasets.manifest import Manifest

_MAX_LISTED = 10


@dataclass(frozen=True)
class Coverage:
    """Videos ok and failed by split and by class, failed videos with their reason, and groups of equal videos."""

    splits: dict[str, dict[str, int]]
    classes: dict[str, dict[str, int]]
    failed: tuple[dict[str, str], ...]
    duplicates: tuple[tuple[tuple[str, str], ...], ...]  # groups of (video, split)

    @property
    def leaks(self) -> tuple[tuple[tuple[str, str], ...], ...]:
        """Groups of equal videos on both sides of a split: what was trained on is evaluated on."""
        return tuple(group for group in self.duplicates if len({split for _, split in group} - {"unused"}) > 1)

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        return {**self.__dict__, "num_duplicates": len(self.duplicates), "num_leaks": len(self.leaks)}

    def format_lines(self) -> list[str]:
        """The report for people, worst news last."""
        lines = [f"{'split':<12}{'ok':>9}{'failed':>9}"]
        lines += [f"{split:<12}{counts['ok']:>9}{counts['failed']:>9}" for split, counts in self.splits.items()]
        failed_classes = sorted(
            ((counts["failed"], name) for name, counts in self.classes.items() if counts["failed"]), reverse=True
        )
        if failed_classes:
            listed = ", ".join(
                f"{name} {number} of {number + self.classes[name]['ok']}"
                for number, name in failed_classes[:_MAX_LISTED]
            )
            lines.append(f"classes with failed videos: {listed}{' ...' if len(failed_classes) > _MAX_LISTED else ''}")
        for status, number in Counter(row["status"] for row in self.failed).most_common():
            first = next(row for row in self.failed if row["status"] == status)
            lines.append(f"{status}: {number} videos, such as {first['video']} ({first['reason']})")
        if self.duplicates:
            lines.append(f"{len(self.duplicates)} videos are there more than once with the same content")
        if self.leaks:
            lines.append(
                f"WARNING: {len(self.leaks)} of them stand on BOTH SIDES OF A SPLIT, so results will look too good:"
            )
            lines += [
                "  " + " = ".join(f"{video} ({split})" for video, split in group) for group in self.leaks[:_MAX_LISTED]
            ]
        return lines


def compute_coverage(manifest: Manifest) -> Coverage:
    """Counts a prepared manifest; content is the same where the stored videos are, byte for byte."""
    splits: dict[str, dict[str, int]] = {}
    classes = {name: {"ok": 0, "failed": 0} for name in manifest.classes}
    failed: list[dict[str, str]] = []
    by_content: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    columns = ("video", "split", "labels", "status", "reason", "sha256")
    for batch in manifest.table.select(columns).to_batches(max_chunksize=10_000):
        for row in batch.to_pylist():
            outcome = "ok" if row["status"] == "ok" else "failed"
            splits.setdefault(row["split"], {"ok": 0, "failed": 0})[outcome] += 1
            for label in row["labels"] or ():
                classes[manifest.classes[label]][outcome] += 1
            if outcome == "failed":
                failed.append({name: row[name] for name in ("video", "split", "status", "reason")})
            else:
                by_content[row["sha256"]].append((row["video"], row["split"]))
    groups = tuple(tuple(group) for group in by_content.values() if len(group) > 1)
    return Coverage(splits, classes, tuple(failed), groups)
