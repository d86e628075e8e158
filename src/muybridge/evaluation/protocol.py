"""The protocol that a number was measured by.

Input: evaluation settings and the preprocessing of a network. Output: a record that is written into every score file, and a
sentence for people. The default is the paper's (section 4): ten uniformly spaced clips a video, one centre crop of each,
softmax averaged. Two numbers compare only if their protocols are equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from muybridge.bounds import NumClips, check_fields
from muybridge.parsing import parse_record
from muybridge.records import FLOW_FIELDS, Preprocessing, Task, TimeOrigin
from muybridge.settings import EvaluationSettings

ClipPlacement = Literal["uniform"]
CropPosition = Literal["centre", "three"]
Average = Literal["softmax", "logits", "sigmoid", "values"]
# What replaces softmax for the tasks whose outputs are no logits of classes that exclude each other (`models.heads`).
AVERAGES: dict[Task, Average] = {
    "single_label": "softmax",
    "multi_label": "sigmoid",
    "regression": "values",
    "ordinal": "sigmoid",
}

# Fields of Preprocessing that a protocol does not record. It has the defaults of the modality for them.
UNRECORDED = ("interpolation", "mean", "std")
# What may be absent from a file.
OPTIONAL_KEYS = (*UNRECORDED, *FLOW_FIELDS, "time_origin")
# Fields of Preprocessing that have another name in a file, where `crop` is the position of the crop.
FILE_NAMES = {"crop": "crop_size"}
# The order of keys in a file; later fields of Preprocessing follow in theirs.
FIRST_KEYS = (
    *("placement", "clips", "clip_length", "frame_stride", "frames_per_second", "scale_height", "scale_width"),
    *("crop", "crop_size", "average", "modality"),
)


@dataclass(frozen=True)
class EvaluationProtocol:
    """Which clips of a video are scored, and how their scores are combined into the video's."""

    preprocessing: Preprocessing
    """How clips are sampled, scaled and cropped."""
    clips: NumClips
    """Planned clips a video. Every video has all of them in the score file, failed ones marked as failed."""
    average: Average
    """What is averaged over a video's readable clips: softmax (for other tasks sigmoid or values), or logits before it."""
    placement: ClipPlacement = "uniform"
    crop: CropPosition = "centre"
    time_origin: TimeOrigin = "picture"
    """Where the bounds of the data's segments count from. A file has it only where it is not the default."""

    def __post_init__(self) -> None:
        check_fields(self)
        defaults = Preprocessing(modality=self.preprocessing.modality)
        recorded = replace(self.preprocessing, **{name: getattr(defaults, name) for name in UNRECORDED})
        object.__setattr__(self, "preprocessing", recorded)

    @classmethod
    def from_settings(
        cls,
        settings: EvaluationSettings,
        preprocessing: Preprocessing,
        time_origin: TimeOrigin = "picture",
        task: Task = "single_label",
    ) -> EvaluationProtocol:
        """The protocol of `muybridge evaluate` with these settings, on data whose segments count from `time_origin`."""
        average: Average = AVERAGES[task] if settings.average == "softmax" else settings.average
        crop: CropPosition = "three" if settings.crops == 3 else "centre"
        return cls(
            settings.adapt_preprocessing(preprocessing), settings.clips, average, crop=crop, time_origin=time_origin
        )

    @property
    def num_crops(self) -> int:
        """Crops of a clip."""
        return 3 if self.crop == "three" else 1

    @property
    def num_views(self) -> int:
        """Rows of a video in a score file with a row a view: crop c of clip n is view n * num_crops + c."""
        return self.clips * self.num_crops

    def find_crop_problem(self) -> str | None:
        """A clause on why three crops are as good as one; None where they differ, and of one crop."""
        record = self.preprocessing
        if self.num_crops == 1 or max(record.scale_height, record.scale_width) > record.crop:
            return None
        size = f"{record.scale_height}x{record.scale_width}"
        return f"evaluation.crops 3, since crops of {record.crop} pixels are equal in frames of {size}"

    def format_sentence(self) -> str:
        """One line for people. Sampling, crop and modality are named if they are not the paper's for RGB."""
        preprocessing, paper = self.preprocessing, Preprocessing()
        sampling = [f"one frame in {preprocessing.frame_stride}"] if preprocessing.frame_stride > 1 else []
        if preprocessing.frames_per_second is not None:
            sampling.append(f"{preprocessing.frames_per_second:g} frames a second")
        noun = "clip" if self.clips == 1 else "clips"
        crop = "centre-crop" if self.crop == "centre" else "three-crop"
        clips = f"{self.clips} {self.placement} {crop} {noun} of {preprocessing.clip_length} frames"
        if sampling:
            clips += f" ({', '.join(sampling)})"
        parts = [f"{clips} a video", f"{self.average} averaged"]
        sizes, paper_sizes = (
            f"{record.crop}x{record.crop} of {record.scale_height}x{record.scale_width}"
            for record in (preprocessing, paper)
        )
        if sizes != paper_sizes:
            parts.append(sizes)
        if preprocessing.modality == "flow":
            gap, chained = preprocessing.flow_gap, ", chained" if preprocessing.flow_chain else ""
            parts.append(f"optical flow over {gap} frames{chained}" if gap > 1 else "optical flow")
        if self.time_origin == "container":
            parts.append("segments by the clock of a player")
        return ", ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values, one flat object."""
        recorded = self.preprocessing.to_json()
        values = {FILE_NAMES.get(name, name): value for name, value in recorded.items() if name not in UNRECORDED}
        values |= {"placement": self.placement, "clips": self.clips, "crop": self.crop, "average": self.average}
        if self.time_origin != "picture":
            values["time_origin"] = self.time_origin
        return {name: values[name] for name in (*FIRST_KEYS, *values)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> EvaluationProtocol:
        """The record from JSON values. Raises ValueError for unknown and missing keys and for values that do not fit."""
        return parse_record(cls, nest_protocol(values), "the protocol", optional=OPTIONAL_KEYS)


def nest_protocol(values: Mapping[str, Any]) -> dict[str, Any]:
    """The flat JSON of a protocol as the fields of `EvaluationProtocol`."""
    own_names = [field.name for field in fields(EvaluationProtocol) if field.name != "preprocessing"]
    names = {stored: name for name, stored in FILE_NAMES.items()}
    inner = {names.get(name, name): value for name, value in values.items() if name not in own_names}
    return {**{name: values[name] for name in own_names if name in values}, "preprocessing": inner}
