"""The protocol a number was measured by. A number never travels without it.

Enter: evaluation settings and the preprocessing of a network. Leaves: one record that goes into every score file, and one
sentence for people. The default is the paper's (section 4): ten uniformly spaced clips a video, one centre
crop of each, softmax averaged. Protocols differ silently in this field; here two numbers compare only with their records.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from muybridge.bounds import ClipLength, FlowGap, FrameSize, FramesPerSecond, FrameStep, NumClips, check_fields
from muybridge.records import Modality, Preprocessing, list_omitted_keys
from muybridge.settings import EvaluationSettings

ClipPlacement = Literal["uniform"]
CropPosition = Literal["centre"]
Average = Literal["softmax", "logits"]


@dataclass(frozen=True)
class EvaluationProtocol:
    """Which clips of a video are scored, and how their scores become the video's."""

    placement: ClipPlacement
    clips: NumClips
    """Planned views a video; every video has them all, the failed ones recorded as failed."""
    clip_length: ClipLength
    frame_stride: FrameStep
    frames_per_second: FramesPerSecond | None
    scale_height: FrameSize
    scale_width: FrameSize
    crop: CropPosition
    crop_size: FrameSize
    average: Average
    """What is averaged over a video's readable clips: softmax, or logits with one softmax after."""
    modality: Modality
    flow_gap: FlowGap = 1
    flow_chain: bool = False

    def __post_init__(self) -> None:
        check_fields(self)

    @classmethod
    def from_settings(cls, settings: EvaluationSettings, preprocessing: Preprocessing) -> EvaluationProtocol:
        """What `muybridge evaluate` does under these settings."""
        return cls(
            placement="uniform",
            clips=settings.clips,
            clip_length=preprocessing.clip_length,
            frame_stride=preprocessing.frame_stride,
            frames_per_second=preprocessing.frames_per_second,
            scale_height=preprocessing.scale_height,
            scale_width=preprocessing.scale_width,
            crop="centre",
            crop_size=preprocessing.crop,
            average=settings.average,
            modality=preprocessing.modality,
            flow_gap=preprocessing.flow_gap,
            flow_chain=preprocessing.flow_chain,
        )

    def format_sentence(self) -> str:
        """One line for people. Sampling, crop and modality are named where they are not the paper's for RGB."""
        sampling = [f"one frame in {self.frame_stride}"] if self.frame_stride > 1 else []
        if self.frames_per_second is not None:
            sampling.append(f"{self.frames_per_second:g} frames a second")
        noun = "clip" if self.clips == 1 else "clips"
        clips = f"{self.clips} {self.placement} {self.crop}-crop {noun} of {self.clip_length} frames"
        if sampling:
            clips += f" ({', '.join(sampling)})"
        parts = [f"{clips} a video", f"{self.average} averaged"]
        paper = Preprocessing()
        if (self.crop_size, self.scale_height, self.scale_width) != (paper.crop, paper.scale_height, paper.scale_width):
            parts.append(f"{self.crop_size}x{self.crop_size} of {self.scale_height}x{self.scale_width}")
        if self.modality == "flow":
            over = f" over {self.flow_gap} frames{', chained' if self.flow_chain else ''}" if self.flow_gap > 1 else ""
            parts.append(f"optical flow{over}")
        return ", ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values; `flow_` keys are there for flow only."""
        return {name: value for name, value in asdict(self).items() if name not in list_omitted_keys(self.modality)}
