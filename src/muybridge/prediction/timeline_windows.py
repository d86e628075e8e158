"""The windows along a video and the segments that they merge into.

Input: a video, and what runs its clips. Output: a `Window` for each clip along the video that could be read, and segments,
which never cover time that was in unreadable windows only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice, pairwise

import numpy as np
from numpy.typing import NDArray

from muybridge.loading.evaluation_clips import group_into_blocks
from muybridge.models.heads import Head
from muybridge.prediction.clip_outputs import ClipOutputs, ClipRunner, ProgressCallback
from muybridge.prediction.head_outputs import compute_probabilities, merge_label_windows
from muybridge.prediction.sliding_window import WindowScorer
from muybridge.prediction.timeline import (
    Segment,
    TimelineOptions,
    Window,
    find_class_segments,
    merge_windows,
    smooth_windows,
)
from muybridge.prediction.video_inputs import VideoInput
from muybridge.records import ClipTimes, Scorer, VideoError
from muybridge.video.sampling import compute_dense_starts, sample_dense_clips


@dataclass(frozen=True)
class ScoredWindows:
    """Windows along a video in runs: between two runs lies time that was in unreadable windows only.

    `reason` says why some windows could not be read; empty if all could. `end_seconds` is where the windows end that were
    planned, `is_interrupted` whether those after the last one here were left out because the caller ended it.
    """

    runs: tuple[tuple[Window, ...], ...]
    reason: str = ""
    end_seconds: float = 0.0
    is_interrupted: bool = False

    @property
    def windows(self) -> tuple[Window, ...]:
        """All windows in order of time."""
        return tuple(chain.from_iterable(self.runs))

    def merge(self, classes: Sequence[str], options: TimelineOptions, head: Head | None = None) -> tuple[Segment, ...]:
        """Segments of one class at a time; they never cover time that was in unreadable windows only.

        With a `head` of multi_label, or `options.classes_overlap`, segments of different classes may overlap; with one of
        ordinal they are of the median level.
        """
        return tuple(chain.from_iterable(_merge_run(run, classes, options, head) for run in self.runs))


def _merge_run(
    windows: Sequence[Window], classes: Sequence[str], options: TimelineOptions, head: Head | None
) -> tuple[Segment, ...]:
    if head and head.task == "multi_label":
        return merge_label_windows(windows, classes, head.resolved_thresholds, options)
    smoothed = smooth_windows(windows, options.smoothing_seconds)
    if options.classes_overlap:
        return find_class_segments(smoothed, classes, options.minimum_probability, options.minimum_seconds)
    return merge_windows(
        smoothed,
        classes,
        minimum_probability=options.minimum_probability,
        minimum_seconds=options.minimum_seconds,
        has_levels=head is not None and head.task == "ordinal",
    )


def compute_timeline(
    video: VideoInput,
    runner: ClipRunner,
    scorer: Scorer,
    options: TimelineOptions,
    head: Head | None = None,
    on_progress: ProgressCallback | None = None,
) -> ScoredWindows:
    """The windows along the video with their probabilities, in the seconds of its file (`VideoInput.compute_offset`).

    `head` is that of another task than single_label. `on_progress` is called with the share of windows that is done; False ends
    the timeline there. Raises VideoError where none can be read.
    """
    step = _choose_step(options, runner)
    clip_times = sample_dense_clips(video.source.read_frame_times(video.name), runner.preprocessing, step)
    if clip_times[0].looped:
        outputs = runner.run_clips(video, clip_times)
    else:
        outputs = score_windows(video, runner, scorer, clip_times, options, on_progress)
    offset = video.compute_offset()
    windows = tuple(
        Window(clip_times[index].start_seconds, clip_times[index].end_seconds, tuple(probabilities)).shift(offset)
        for index, probabilities in zip(
            outputs.clip_indices, compute_probabilities(check_finite(video, outputs.rows), head).tolist(), strict=True
        )
    )
    return ScoredWindows(
        tuple(map(tuple, _split_at_gaps(outputs.clip_indices, windows))),
        outputs.reason,
        clip_times[-1].end_seconds + offset,
        outputs.is_interrupted,
    )


def score_windows(
    video: VideoInput,
    runner: ClipRunner,
    scorer: Scorer,
    clip_times: Sequence[ClipTimes],
    options: TimelineOptions,
    on_progress: ProgressCallback | None = None,
) -> ClipOutputs:
    """Logits of windows along a video; windows near unreadable frames are read and scored as single clips.

    Where `on_progress` returns False, later windows are left out. Raises the first VideoError if no window can be read.
    """
    step = _choose_step(options, runner)
    starts = compute_dense_starts(video.source.read_frame_times(video.name), runner.preprocessing, step)
    window_scorer = WindowScorer(video.source, video.name, runner.preprocessing, runner.device)
    rows: dict[int, NDArray[np.float32]] = {}
    failures: list[VideoError] = []
    num_done, is_interrupted = 0, False
    while num_done < len(clip_times) and not is_interrupted:
        try:
            for window_indices, logits in window_scorer.score_windows(scorer, starts[num_done:], options.mode):
                rows.update(zip((num_done + index for index in window_indices), logits.numpy(), strict=True))
                share = (len(rows) + len(failures)) / len(clip_times)
                is_interrupted = on_progress is not None and on_progress(share) is False and share < 1
                if is_interrupted:
                    break
            break
        except VideoError:
            num_done = next((index for index in range(num_done, len(clip_times)) if index not in rows), len(clip_times))
        for block in islice(group_into_blocks(clip_times[num_done:]), 1):
            outputs = runner.run_readable_clips(video, block)
            rows.update(zip((num_done + index for index in outputs.clip_indices), outputs.rows, strict=True))
            failures += outputs.failures
            num_done += len(block)
    if not rows:
        raise failures[0]
    indices = tuple(sorted(rows))
    return ClipOutputs(indices, np.stack([rows[index] for index in indices]), tuple(failures), is_interrupted)


def check_finite(video: VideoInput, logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """The scores of a video. Raises ValueError if any of them is not finite."""
    if not np.isfinite(logits).all():
        raise ValueError(f"the scores of {video.label} are not finite; check the weights")
    return logits.astype(np.float64)


def _choose_step(options: TimelineOptions, runner: ClipRunner) -> int:
    return options.step_frames or max(1, runner.preprocessing.clip_span // 4)


def _split_at_gaps(indices: Sequence[int], windows: Sequence[Window]) -> list[list[Window]]:
    """Split windows where unreadable ones between them leave time that no window covers."""
    runs = [[windows[0]]]
    for (index, window), (next_index, next_window) in pairwise(zip(indices, windows, strict=True)):
        if next_index > index + 1 and next_window.start_seconds > window.end_seconds:
            runs.append([])
        runs[-1].append(next_window)
    return runs
