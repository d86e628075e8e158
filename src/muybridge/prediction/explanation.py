"""Explanations of predictions: where and when the network sees a class (`muybridge predict --explain`, the studio's Why).

Input: a video and a recognizer. Output: an MP4 of the frames that the network saw, cropped and spaced as it saw them, with the
evidence for one class in colour (`inference.explain`); or the evidence in a part of the video, as numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from muybridge.files.atomic import atomic_write
from muybridge.inference.explain import compute_evidence, draw_evidence, normalize_evidence
from muybridge.prediction.recognizer import Recognizer
from muybridge.prediction.video_inputs import AnyVideo, VideoInput, resolve_input
from muybridge.prepared.shards import ShardFrameSource
from muybridge.records import ClipTimes, VideoError
from muybridge.text import join_names, sanitize_text
from muybridge.video.display import read_display_frames
from muybridge.video.sampling import sample_clips_over, sample_dense_clips
from muybridge.video.views import collate_views, compute_center_corner, prepare_network_input

_MIN_SIDE = 336  # pixels of a shown frame; smaller crops are enlarged
_CAPTION_HEIGHT = 24
_MILLISECONDS = Fraction(1, 1000)
_MAX_CLIPS = 32  # of a part of a video
ProgressFunction = Callable[[int, int], object]
"""Called with (clips done, clips in total)."""


@dataclass(frozen=True, eq=False)
class PartEvidence:
    """Where and when a network sees the class `label` in a part of a video.

    `clips` are those it saw, one after another, with the probability of the class in each. `seconds` float64 (F,) are the times
    of their frames in order, `evidence` float32 (F, crop, crop) is relative to the largest of the part. The crop is the part
    `box` (left, top, width, height) of the picture, as shares of its sides.
    """

    label: str
    clips: tuple[ClipTimes, ...]
    probabilities: tuple[float, ...]
    seconds: NDArray[np.float64]
    evidence: NDArray[np.float32]
    box: tuple[float, float, float, float]


def explain_video(
    recognizer: Recognizer,
    video: AnyVideo,
    path: Path,
    label: str,
    *,
    source_fps: float | None = None,
    on_progress: ProgressFunction | None = None,
) -> None:
    """Write an MP4 that shows, clip after clip along a video, where and when the network sees the class `label`.

    Frames keep their times. Raises ValueError for an unknown class and for an .onnx file, which has no gradients, VideoError
    where the video cannot be read.
    """
    _check_explainable(recognizer, label)
    preprocessing = recognizer.card.preprocessing
    resolved = resolve_input(video, preprocessing, recognizer.source, source_fps)
    if resolved.error:
        raise resolved.error
    if isinstance(resolved.file_source, ShardFrameSource) and resolved.file_source.holds_flow:
        raise VideoError(
            "no_video", "its flow is stored in prepared data without the frames to show; name the file it was made from"
        )
    times = resolved.source.read_frame_times(resolved.name)
    clips = sample_dense_clips(times, preprocessing, preprocessing.clip_span)
    frames = _iterate_frames(recognizer, resolved, clips, recognizer.classes.index(label), on_progress)
    first_tick, tick_seconds = int(times.ticks[0]), times.tick_seconds
    with atomic_write(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream("libx264", options={"crf": "20"})
        stream.pix_fmt, stream.time_base, stream.codec_context.time_base = "yuv420p", _MILLISECONDS, _MILLISECONDS
        last_milliseconds = -1
        for tick, pixels in frames:
            if last_milliseconds < 0:
                stream.height, stream.width = pixels.shape[:2]
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            milliseconds = round((tick - first_tick) * tick_seconds * 1000)
            # The last clip of a video begins before the end of the one before it, and a short video repeats.
            frame.pts = last_milliseconds = max(milliseconds, last_milliseconds + 1)
            frame.time_base = _MILLISECONDS
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def explain_part(
    recognizer: Recognizer,
    video: AnyVideo,
    bounds: tuple[float, float],
    label: str | None = None,
    *,
    on_progress: ProgressFunction | None = None,
) -> PartEvidence:
    """The evidence for a class from `bounds` start to end in seconds; equal ones mean the clip around that time.

    `label` None: the most probable class there. Clips follow each other; of more than 32, evenly spaced ones are taken.
    Raises as `explain_video`.
    """
    _check_explainable(recognizer, label)
    preprocessing = recognizer.card.preprocessing
    resolved = resolve_input(video, preprocessing, recognizer.source)
    if resolved.error:
        raise resolved.error
    times = resolved.source.read_frame_times(resolved.name)
    clips = sample_clips_over(times, preprocessing, *bounds, _MAX_CLIPS)
    index = _predict_label(recognizer, resolved, clips) if label is None else recognizer.classes.index(label)
    explained = list(_iterate_evidence(recognizer, resolved, clips, index, on_progress))
    # Clips at the end of a video overlap, and a short video repeats.
    ticks, order = np.unique(np.concatenate([one.frame_ticks for one in explained]), return_index=True)
    evidence = normalize_evidence(torch.cat([one.evidence_nthw for one in explained], dim=1))[0].numpy()
    size = preprocessing.scale_height, preprocessing.scale_width
    corner = compute_center_corner(size, preprocessing.crop)
    return PartEvidence(
        recognizer.classes[index],
        tuple(one.clip for one in explained),
        tuple(one.probability for one in explained),
        np.array([times.to_seconds(tick) + times.lead_seconds for tick in ticks.tolist()]),
        evidence[order],
        (corner[1] / size[1], corner[0] / size[0], preprocessing.crop / size[1], preprocessing.crop / size[0]),
    )


def _check_explainable(recognizer: Recognizer, label: str | None) -> None:
    if recognizer.model is None:
        raise ValueError("an .onnx file has no gradients to explain; use the weights it was exported from")
    recognizer.card.check_single_label("an explanation")
    if label is not None and label not in recognizer.classes:
        raise ValueError(f"the network has no class {label!r}; it has {join_names(recognizer.classes)}")


@dataclass(frozen=True, eq=False)
class _ClipEvidence:
    """A clip, the ticks (T,) of what it is made of, the probability of the class and the evidence (1, T, crop, crop)."""

    clip: ClipTimes
    frame_ticks: NDArray[np.int64]
    probability: float
    evidence_nthw: torch.Tensor


def _iterate_inputs(
    recognizer: Recognizer, video: VideoInput, clips: Sequence[ClipTimes]
) -> Iterator[tuple[ClipTimes, torch.Tensor | None]]:
    """Each clip with its network input, None where it cannot be read. Raises the first VideoError if none can be read."""
    preprocessing = recognizer.card.preprocessing
    reader = video.create_reader(preprocessing)
    failures: list[VideoError] = []
    for clip, view in zip(clips, reader.read_evaluation_views(video.name, clips), strict=True):
        if isinstance(view, VideoError):
            failures.append(view)
            yield clip, None
        else:
            yield clip, prepare_network_input(collate_views([view]), preprocessing, recognizer.device)
    if len(failures) == len(clips):
        raise failures[0]


def _iterate_evidence(
    recognizer: Recognizer,
    video: VideoInput,
    clips: Sequence[ClipTimes],
    label: int,
    on_progress: ProgressFunction | None,
) -> Iterator[_ClipEvidence]:
    """The evidence for a class in each clip that can be read."""
    assert recognizer.model is not None
    length = recognizer.card.preprocessing.clip_length
    for number, (clip, inputs) in enumerate(_iterate_inputs(recognizer, video, clips), start=1):
        if inputs is not None:
            evidence_nthw, logits = compute_evidence(recognizer.model, inputs, torch.tensor([label]))
            probability = float(logits.softmax(1)[0, label])
            yield _ClipEvidence(clip, clip.ticks.reshape(length, -1)[:, 0], probability, evidence_nthw.cpu())
        if on_progress:
            on_progress(number, len(clips))


def _predict_label(recognizer: Recognizer, video: VideoInput, clips: Sequence[ClipTimes]) -> int:
    """The class with the highest mean probability in the clips."""
    assert recognizer.model is not None
    with torch.no_grad():
        rows = [
            recognizer.model(inputs).softmax(1)[0]
            for _, inputs in _iterate_inputs(recognizer, video, clips)
            if inputs is not None
        ]
    return int(torch.stack(rows).mean(0).argmax())


def _iterate_frames(
    recognizer: Recognizer,
    video: VideoInput,
    clips: list[ClipTimes],
    label: int,
    on_progress: ProgressFunction | None,
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """The tick of each frame and what is shown of it, clip by clip."""
    preprocessing = recognizer.card.preprocessing
    for one in _iterate_evidence(recognizer, video, clips, label, on_progress):
        frames_thwc = read_display_frames(video.source, video.name, one.clip.ticks, preprocessing)
        caption = f"{recognizer.classes[label]}  {100 * one.probability:.0f} %"
        shown = draw_evidence(frames_thwc, normalize_evidence(one.evidence_nthw)[0].numpy())
        for tick, pixels in zip(one.frame_ticks.tolist(), shown, strict=True):
            yield tick, _add_caption(pixels, caption)


def _add_caption(pixels_hwc: NDArray[np.uint8], caption: str) -> NDArray[np.uint8]:
    """The frame, enlarged to an even size, above a line of text."""
    factor = -(-_MIN_SIDE // min(pixels_hwc.shape[:2]))
    height, width = (max(1, factor) * side // 2 * 2 for side in pixels_hwc.shape[:2])
    canvas = Image.new("RGB", (width, height + _CAPTION_HEIGHT))
    canvas.paste(Image.fromarray(pixels_hwc).resize((width, height), Image.Resampling.BILINEAR), (0, 0))
    ImageDraw.Draw(canvas).text((6, height + 5), sanitize_text(caption), fill="white")
    return np.asarray(canvas)
