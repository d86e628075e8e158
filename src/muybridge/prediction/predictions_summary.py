"""What a table of predictions holds, in numbers: `muybridge predict -o predictions.parquet` prints them.

Input: the rows of the table. Output: videos by class, failed ones by status, and the range of each number of a regression.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from muybridge.models.heads import Head

_VALUE_KEYS = ("lowest", "mean", "highest", "unit")


@dataclass(frozen=True)
class PredictionsSummary:
    """What a table of predictions holds: videos by class, and failed ones by status, most first.

    The class of a video is the most probable one; for multi_label it counts for each of its labels, for ordinal for its level.
    `examples` has a failed video and its reason for each status. `values` has the lowest number, the mean and the highest of
    each output of a regression, with its unit.
    """

    num_videos: int
    classes: Mapping[str, int]
    failures: Mapping[str, int]
    examples: Mapping[str, tuple[str, str]]
    values: Mapping[str, tuple[float, float, float, str]] = field(default_factory=dict)

    @property
    def num_failed(self) -> int:
        """The number of failed videos."""
        return sum(self.failures.values())

    def to_json(self) -> dict[str, Any]:
        """The counts as JSON values."""
        values = {name: dict(zip(_VALUE_KEYS, row, strict=True)) for name, row in self.values.items()}
        return {
            "num_videos": self.num_videos,
            "num_failed": self.num_failed,
            "classes": dict(self.classes),
            "failures": dict(self.failures),
            **({"values": values} if values else {}),
        }


def summarize_predictions(table: pa.Table, head: Head | None) -> PredictionsSummary:
    """What the rows of a table of predictions hold; `head` is that of a network of another task than single_label."""
    ok = pc.equal(table["status"], "ok")
    predicted = table.filter(ok)
    labels = predicted["predicted"] if head else pc.list_slice(predicted["labels"], 0, 1)
    failed = table.filter(pc.invert(ok)).select(["video", "status", "reason"])
    examples = {
        status: pc.index(failed["status"], status).as_py() for status in pc.unique(failed["status"]).to_pylist()
    }
    return PredictionsSummary(
        num_videos=len(table),
        classes=_count_values(pc.list_flatten(labels)),
        failures=_count_values(failed["status"]),
        examples={
            status: (failed["video"][row].as_py(), failed["reason"][row].as_py()) for status, row in examples.items()
        },
        values=_summarize_values(predicted, head) if head and head.task == "regression" and len(predicted) else {},
    )


def _summarize_values(predicted: pa.Table, head: Head) -> dict[str, tuple[float, float, float, str]]:
    columns = np.array(predicted["values"].to_pylist()).T
    return {
        name: (float(column.min()), float(column.mean()), float(column.max()), head.get_unit(index))
        for index, (name, column) in enumerate(zip(head.outputs, columns, strict=True))
    }


def _count_values(column: pa.ChunkedArray) -> dict[str, int]:
    """How often each value occurs, most first, equal ones in order of name."""
    counts = {item["values"]: item["counts"] for item in pc.value_counts(column).to_pylist()}
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
