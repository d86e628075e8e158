"""Generated motions as video files: a data set in class folders, and an untrimmed video of several motions.

Input: `MotionSettings`. Output: H.264 in MP4. Every frame is a key frame with a constant quantiser, so that the decoded
frames of a reversed video are exactly the reversed decoded frames; prediction from earlier frames would leak the arrow of
time. One encoder thread and no dates in the files: equal seeds give equal bytes (for one version of the encoder).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from numpy.typing import NDArray

from muybridge.files.lock import lock_folder
from muybridge.randomness import make_generator
from muybridge.synthetic.motions import MotionSettings, MotionSplit, create_video_generator
from muybridge.synthetic.scenes import render_frames, sample_scene

_QUANTIZER = 24  # about 25 kB for 24 frames of 80x80; low enough that the default noise survives


class MotionSegment(NamedTuple):
    """The motion from start_seconds to end_seconds of an untrimmed video."""

    label: str
    start_seconds: float
    end_seconds: float


def write_motion_dataset(
    folder: Path, settings: MotionSettings, *, progress: Callable[[int, int], None] | None = None
) -> None:
    """Write folder/<split>/<class>/<number>.mp4 for train, validation and test.

    `progress` is called with (videos written, videos in total). The folder is written as NAME.partial, replacing the rest of
    an interrupted call, and renamed when it is complete. Raises ValueError if the folder exists and is not empty, or if
    another process is writing it.
    """
    with lock_folder(folder.parent, name=f".{folder.name}.lock", subject=folder):
        _write_motion_dataset(folder, settings, progress)


def _write_motion_dataset(folder: Path, settings: MotionSettings, progress: Callable[[int, int], None] | None) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} already exists and is not an empty folder; delete it or choose another one")
    videos_per_class: dict[MotionSplit, int] = {
        "train": settings.train_videos_per_class,
        "validation": settings.validation_videos_per_class,
        "test": settings.test_videos_per_class,
    }
    planned_videos = [
        (split, label, video_index)
        for split, count in videos_per_class.items()
        for label in settings.class_names
        for video_index in range(count)
    ]
    partial = folder.with_name(folder.name + ".partial")
    if partial.exists():
        shutil.rmtree(partial)
    for num_done, (split, label, video_index) in enumerate(planned_videos, start=1):
        scene = sample_scene(label, create_video_generator(settings, split, label, video_index), settings=settings)
        path = partial / split / label / f"{video_index:05d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_intra_video(path, render_frames(scene), frames_per_second=settings.frames_per_second)
        if progress is not None:
            progress(num_done, len(planned_videos))
    if folder.exists():
        folder.rmdir()
    partial.replace(folder)


def write_untrimmed_video(
    path: Path, settings: MotionSettings, *, labels: Sequence[str], number: int = 0
) -> list[MotionSegment]:
    """Write one video that shows `labels` one after another, and return its segments.

    A segment is one scene of `settings.num_frames` frames; the picture cuts where the next one begins. Scenes share no draw
    with the data set of the same settings, nor with untrimmed videos of another `number`.
    """
    if not labels:
        raise ValueError("an untrimmed video needs at least one label")
    videos_thwc = []
    for video_index, label in enumerate(labels):
        rng = make_generator(settings.seed, f"motion/untrimmed/{number}" if number else "motion/untrimmed", video_index)
        videos_thwc.append(render_frames(sample_scene(label, rng, settings=settings)))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_intra_video(path, np.concatenate(videos_thwc), frames_per_second=settings.frames_per_second)
    seconds = settings.num_frames / settings.frames_per_second
    return [MotionSegment(label, index * seconds, (index + 1) * seconds) for index, label in enumerate(labels)]


def write_intra_video(path: Path, frames_thwc: NDArray[np.uint8], *, frames_per_second: int) -> None:
    """Write RGB frames uint8 (T, H, W, 3), H and W even, as H.264 in MP4: key frames only, constant quantiser."""
    reformatter = VideoReformatter()
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        options = {"g": "1", "qp": str(_QUANTIZER), "preset": "ultrafast"}
        stream = container.add_stream("libx264", rate=frames_per_second, options=options)
        stream.height, stream.width, stream.pix_fmt = frames_thwc.shape[1], frames_thwc.shape[2], "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.colorspace = Colorspace.SMPTE170M
        stream.codec_context.color_range = ColorRange.MPEG
        for frame_hwc in frames_thwc:
            rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame_hwc), format="rgb24")
            container.mux(
                stream.encode(reformatter.reformat(rgb, format="yuv420p", dst_colorspace=Colorspace.SMPTE170M))
            )
        container.mux(stream.encode(None))
