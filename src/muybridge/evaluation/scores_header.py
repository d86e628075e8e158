"""The columns of a score file and its header (format: docs/protocol.md).

Format 1 is for classes that exclude each other. Format 2 is for the tasks multi_label, regression and ordinal: targets and
outputs, before the link, in place of labels and logits, and a `Head` in the header.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any

import pyarrow as pa
from annotated_types import Interval

from muybridge.bounds import Fold, check_fields
from muybridge.evaluation.protocol import AVERAGES, OPTIONAL_KEYS, EvaluationProtocol, nest_protocol
from muybridge.models.heads import Head
from muybridge.parsing import parse_record
from muybridge.records import SPLITS, Task

FORMAT = 1
TARGETS_FORMAT = 2  # of scores with targets

SCHEMA = pa.schema(
    [
        pa.field("video", pa.string(), nullable=False),
        pa.field("view", pa.int32(), nullable=False),
        pa.field("start_seconds", pa.float64()),  # null: the video could not be opened
        pa.field("labels", pa.list_(pa.int32()), nullable=False),
        pa.field("logits", pa.list_(pa.float32())),  # null: the view failed
        pa.field("status", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ]
)
TARGETS_SCHEMA = pa.schema(
    [
        *(SCHEMA.field(name) for name in ("video", "view", "start_seconds")),
        pa.field("targets", pa.list_(pa.float32()), nullable=False),  # NaN: unknown
        pa.field("outputs", pa.list_(pa.float32())),  # null: the view failed
        *(SCHEMA.field(name) for name in ("status", "reason")),
    ]
)


@dataclass(frozen=True)
class ScoresHeader:
    """Metadata of a score file. `num_videos` counts all videos of the split, readable or not.

    `head` is that of the network, for another task than single_label.
    """

    classes: tuple[str, ...]
    protocol: EvaluationProtocol
    split: str
    fold: Fold | None
    model_sha256: str
    manifest_sha256: str
    num_videos: Annotated[int, Interval(ge=0, le=2**40)]
    format: int = FORMAT
    head: Head | None = None

    def __post_init__(self) -> None:
        _check_format(self.format)
        if (self.format == TARGETS_FORMAT) != (self.head is not None):
            raise ValueError(
                f"the scores have format {self.format}, which {'lacks a' if self.head is None else 'has no'} head"
            )
        check_fields(self)
        if self.protocol.average not in ("logits", AVERAGES[self.task]):
            raise ValueError(
                f"the average of scores of {self.task} is {self.protocol.average}, expected {AVERAGES[self.task]}"
            )
        if self.split not in SPLITS:
            raise ValueError(f"the scores' split is {self.split!r}, expected one of {', '.join(SPLITS)}")
        if not self.classes:
            raise ValueError("the scores name no classes")

    @property
    def task(self) -> Task:
        """The task of the network."""
        return self.head.task if self.head else "single_label"

    @property
    def schema(self) -> pa.Schema:
        """The columns of the file."""
        return SCHEMA if self.head is None else TARGETS_SCHEMA

    @property
    def output_column(self) -> str:
        """The column with the outputs of the network."""
        return "logits" if self.head is None else "outputs"

    @property
    def target_column(self) -> str:
        """The column with what they are compared with."""
        return "labels" if self.head is None else "targets"

    @property
    def num_outputs(self) -> int:
        """Outputs of the network."""
        return len(self.classes) if self.head is None else len(self.head.outputs)

    @property
    def num_targets(self) -> int:
        """Targets of a video, for another task than single_label."""
        return 1 if self.task == "ordinal" else self.num_outputs

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "head"}
        head = {"head": self.head.to_json()} if self.head else {}
        return {**values, "classes": list(self.classes), "protocol": self.protocol.to_json(), **head}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ScoresHeader:
        """Build the record from JSON values. Raises ValueError for another format and for unknown or missing keys."""
        _check_format(values.get("format"))  # first: another format may have other keys
        protocol = values.get("protocol")
        nested = nest_protocol(protocol) if isinstance(protocol, Mapping) else protocol
        return parse_record(
            cls, {**values, "protocol": nested}, "the header of the scores", optional=(*OPTIONAL_KEYS, "head")
        )


def _check_format(number: object) -> None:
    if number not in (FORMAT, TARGETS_FORMAT):
        raise ValueError(
            f"the scores have format {number}, but this version reads format {FORMAT} and {TARGETS_FORMAT}"
        )
