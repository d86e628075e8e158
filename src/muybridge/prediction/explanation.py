"""Explanations of predictions: where and when the network sees a class (`muybridge predict --explain`).

Input: a video and a recognizer. Output: an MP4 of the frames that the network saw, cropped and spaced as it saw them, with the
evidence for one class in colour (`inference.explain`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from muybridge.files.atomic import atomic_write
from muybridge.inference.explain import compute_grad_cam, draw_evidence
from muybridge.loading.clip_reader import create_clip_reader
from muybridge.prediction.recognizer import Recognizer
from muybridge.prediction.video_inputs import AnyVideo, VideoInput, resolve_input
from muybridge.records import ClipTimes, VideoError
from muybridge.text import sanitize_text
from muybridge.video.display import read_display_frames
from muybridge.video.sampling import sample_dense_clips
from muybridge.video.views import collate_views, prepare_network_input

_MIN_SIDE = 336  # pixels of a shown frame; smaller crops are enlarged
_CAPTION_HEIGHT = 24
_MILLISECONDS = Fraction(1, 1000)


def explain_video(
    recognizer: Recognizer,
    video: AnyVideo,
    path: Path,
    label: str,
    *,
    source_fps: float | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write an MP4 that shows, clip after clip along a video, where and when the network sees the class `label`.

    Frames keep their times. `on_progress` is called with (clips done, clips in total). Raises ValueError for an unknown
    class and for an .onnx file, which has no gradients, VideoError where the video cannot be read.
    """
    if recognizer.model is None:
        raise ValueError("an .onnx file has no gradients to explain; use the weights it was exported from")
    recognizer.card.check_single_label("an explanation")
    if label not in recognizer.classes:
        raise ValueError(f"the network has no class {label!r}")
    preprocessing = recognizer.card.preprocessing
    resolved = resolve_input(video, preprocessing, recognizer.source, source_fps)
    if resolved.error:
        raise resolved.error
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


def _iterate_frames(
    recognizer: Recognizer,
    video: VideoInput,
    clips: list[ClipTimes],
    label: int,
    on_progress: Callable[[int, int], None] | None,
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """The tick of each frame and what is shown of it, clip by clip. Raises the first VideoError if no clip can be read."""
    assert recognizer.model is not None
    preprocessing = recognizer.card.preprocessing
    reader = create_clip_reader(video.source, preprocessing)
    failures: list[VideoError] = []
    for index, (clip, view) in enumerate(
        zip(clips, reader.read_evaluation_views(video.name, clips), strict=True), start=1
    ):
        if isinstance(view, VideoError):
            failures.append(view)
        else:
            inputs = prepare_network_input(collate_views([view]), preprocessing, recognizer.device)
            (evidence_thw,) = compute_grad_cam(recognizer.model, inputs, torch.tensor([label])).cpu().numpy()
            with torch.no_grad():
                probability = float(recognizer.model(inputs).softmax(1)[0, label])
            frames_thwc = read_display_frames(video.source, video.name, clip.ticks, preprocessing)
            ticks = clip.ticks.reshape(preprocessing.clip_length, -1)[:, 0]
            caption = f"{recognizer.classes[label]}  {100 * probability:.0f} %"
            for tick, pixels in zip(ticks.tolist(), draw_evidence(frames_thwc, evidence_thw), strict=True):
                yield tick, _add_caption(pixels, caption)
        if on_progress:
            on_progress(index, len(clips))
    if len(failures) == len(clips):
        raise failures[0]


def _add_caption(pixels_hwc: NDArray[np.uint8], caption: str) -> NDArray[np.uint8]:
    """The frame, enlarged to an even size, above a line of text."""
    factor = -(-_MIN_SIDE // min(pixels_hwc.shape[:2]))
    height, width = (max(1, factor) * side // 2 * 2 for side in pixels_hwc.shape[:2])
    canvas = Image.new("RGB", (width, height + _CAPTION_HEIGHT))
    canvas.paste(Image.fromarray(pixels_hwc).resize((width, height), Image.Resampling.BILINEAR), (0, 0))
    ImageDraw.Draw(canvas).text((6, height + 5), sanitize_text(caption), fill="white")
    return np.asarray(canvas)
