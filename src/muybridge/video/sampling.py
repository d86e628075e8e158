"""Clip sampling: integer arithmetic on time stamps, no I/O, no torch (paper section 4; docs/protocol.md).

Input: when each frame of a video is shown (`FrameTimes`). Output: which frames make up a clip (`ClipTimes`): at random for
training, uniformly spaced for the paper's 10-clip evaluation, centred, or dense for a timeline. With clip length 3 and stride
2, `f` is a frame of the clip and `x` a skipped one:

    0 1 2 3 4 5 6 7
    f x f x f            the first clip; its span is 5 frames
          f x f x f      the last clip that fits

A video shorter than the span is looped. A timestep of a clip is a frame, or for optical flow a flow field, which is made of
the frame at the timestep and the one `flow_gap` later (`Preprocessing.frame_offsets`). The span of L flows is longer by the
gap, and no flow leads from the last frame of a looped video to its first. Seconds are counted from `origin_tick`, by default
the first frame of the given times; a caller that trimmed a video passes its first tick, so that times are those of the file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from muybridge.limits import VIDEO_FRAMES
from muybridge.records import ClipTimes, FrameTimes, Preprocessing, VideoError

_MAX_RATE_DENOMINATOR = 1_000_000  # rates are rounded to fractions up to this: 29.97 and 30000/1001 stay exact


@dataclass(frozen=True)
class _SamplingGrid:
    """The frames that clips choose from. They are computed when asked for, since a target rate repeats still pictures.

    `step`: ticks from one to the next, or None for every frame of `times`. Frame j covers the time from edge j to edge j + 1.
    """

    times: FrameTimes
    num_timesteps: int
    step: Fraction | None

    def __len__(self) -> int:
        return self.num_timesteps

    def compute_ticks(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """The ticks of the frames at `indices`, of any shape."""
        if self.step is None:
            return self.times.ticks[indices]
        shown = np.searchsorted(self.times.ticks, self._compute_starts(indices, self.step), side="right") - 1
        return self.times.ticks[shown]

    def find_index(self, tick: int) -> int:
        """The frame shown at a tick: the first one before the video, the last one after it."""
        if self.step is None:
            index = int(np.searchsorted(self.times.ticks, tick, side="right")) - 1
        else:
            index = int((tick - int(self.times.ticks[0])) // self.step)
        return min(max(0, index), self.num_timesteps - 1)

    def compute_edge(self, index: int) -> Fraction:
        """The time in ticks at which frame `index` begins; that of the number of frames is the end of the video.

        It is not rounded to a tick: where the target rate is above the clock of the file, several frames share one.
        """
        if index == self.num_timesteps:
            return Fraction(self.times.end_tick)
        if self.step is None:
            return Fraction(int(self.times.ticks[index]))
        return int(self.times.ticks[0]) + index * self.step

    def _compute_starts(self, indices: NDArray[np.int64], step: Fraction) -> NDArray[np.int64]:
        # floor(j * step) without overflow: whole ticks and the remaining fraction separately
        whole, rest = divmod(step.numerator, step.denominator)
        starts: NDArray[np.int64] = self.times.ticks[0] + indices * whole + indices * rest // step.denominator
        return starts


def trim_frame_times(times: FrameTimes, start_seconds: float | None, end_seconds: float | None) -> FrameTimes:
    """The frames whose time stamps are in [start, end); None leaves that side open.

    Seconds count from `times.lead_seconds` before the first frame, those of the result from its own first frame.
    A bound computed from a frame's time stamp selects that frame, and so does one half a tick before it.
    Raises VideoError("too_short") if no frame is left.
    """
    start = int(times.ticks[0]) if start_seconds is None else _find_tick(times, start_seconds)
    end = times.end_tick if end_seconds is None else _find_tick(times, end_seconds)
    kept_ticks = times.ticks[(times.ticks >= start) & (times.ticks < end)]
    if len(kept_ticks) == 0:
        requested_range = f"{start_seconds or 0:g} s and {'its end' if end_seconds is None else f'{end_seconds:g} s'}"
        raise VideoError(
            "too_short", f"no frames between {requested_range}: the video lasts {times.duration_seconds:.2f} s"
        )
    return FrameTimes(kept_ticks, times.tick_seconds, min(end, times.end_tick))


def _find_tick(times: FrameTimes, seconds: float) -> int:
    """The tick nearest to a time that counts from `lead_seconds` before the first frame.

    Halves go up, with a thousandth to spare for a time that is no exact number: bounds in frames lie at halves
    (`datasets.frame_rates`).
    """
    first = int(times.ticks[0]) - round(Fraction(times.lead_seconds) / times.tick_seconds)
    return first + math.floor(Fraction(seconds) / times.tick_seconds + Fraction(501, 1000))


def compute_sampling_grid(times: FrameTimes, frames_per_second: float | None) -> NDArray[np.int64]:
    """The frames that clips choose from: ticks, int64 (M,).

    At the native rate (None), every frame. At a target rate, the frame shown at start + j / frames_per_second for every j
    before the end, so frames repeat if the target is faster and are skipped if it is slower. Exact: no time stamp
    becomes a float.
    """
    grid = _build_sampling_grid(times, frames_per_second)
    return grid.compute_ticks(np.arange(len(grid), dtype=np.int64))


def compute_timestep_edges(
    times: FrameTimes, frames_per_second: float | None
) -> tuple[NDArray[np.int64], list[Fraction]]:
    """`compute_sampling_grid`, int64 (M,), and when each of its frames begins and the last one ends: M + 1 times in ticks."""
    grid = _build_sampling_grid(times, frames_per_second)
    edges = [grid.compute_edge(index) for index in range(len(grid) + 1)]
    return grid.compute_ticks(np.arange(len(grid), dtype=np.int64)), edges


def sample_random_clip(
    times: FrameTimes,
    preprocessing: Preprocessing,
    generator: np.random.Generator,
    *,
    origin_tick: int | None = None,
) -> ClipTimes:
    """One clip, with equal probability at every position where it fits (temporal jittering, paper section 4)."""
    grid = _build_sampling_grid(times, preprocessing.frames_per_second)
    last_start = _compute_last_start(grid, preprocessing)
    start = int(generator.integers(last_start + 1))
    return _build_clip_times(times, grid, preprocessing, start, origin_tick)


def sample_uniform_clips(
    times: FrameTimes, preprocessing: Preprocessing, num_clips: int, *, origin_tick: int | None = None
) -> list[ClipTimes]:
    """`num_clips` clips with starts floor(i * (M - span) / (num_clips - 1)), i = 0, 1, ...; a single clip is centred.

    In a short video they overlap or are equal, as in the authors' av_decoder.cc.
    """
    if num_clips < 1:
        raise ValueError(f"num_clips must be at least 1, not {num_clips}")
    grid = _build_sampling_grid(times, preprocessing.frames_per_second)
    last_start = _compute_last_start(grid, preprocessing)
    if num_clips == 1:
        starts = [last_start // 2]
    else:
        starts = [clip_index * last_start // (num_clips - 1) for clip_index in range(num_clips)]
    return [_build_clip_times(times, grid, preprocessing, start, origin_tick) for start in starts]


def sample_center_clip(times: FrameTimes, preprocessing: Preprocessing, *, origin_tick: int | None = None) -> ClipTimes:
    """The clip in the middle of the video."""
    return sample_uniform_clips(times, preprocessing, 1, origin_tick=origin_tick)[0]


def sample_dense_clips(
    times: FrameTimes, preprocessing: Preprocessing, step_frames: int, *, origin_tick: int | None = None
) -> list[ClipTimes]:
    """A clip every `step_frames` frames of the grid, plus the last one that fits, so that the end is covered.

    Clip length 3, stride 1, step 2, six frames:

        fffxxx
        xxfffx
        xxxfff
    """
    grid = _build_sampling_grid(times, preprocessing.frames_per_second)
    starts = _compute_dense_starts(grid, preprocessing, step_frames)
    return [_build_clip_times(times, grid, preprocessing, start, origin_tick) for start in starts]


def sample_clips_over(
    times: FrameTimes, preprocessing: Preprocessing, start_seconds: float, end_seconds: float, max_clips: int
) -> list[ClipTimes]:
    """Clips one after another over a part of a video, centred on it; of more than `max_clips`, evenly spaced ones.

    Clip length 3, stride 1, the part from frame 2 to frame 5 of nine, and a part of frame 4 alone:

        xfffxxxxx
        xxxxfffxx

        xxxfffxxx

    Seconds count from `times.lead_seconds` before the first frame.
    """
    grid = _build_sampling_grid(times, preprocessing.frames_per_second)
    origin, start, end = (_find_tick(times, seconds) for seconds in (0.0, start_seconds, end_seconds))
    first, last = grid.find_index(start), grid.find_index(max(start, end - 1))
    span = preprocessing.clip_span
    num_clips = -(-(last - first + 1) // span)
    before_first = first - (num_clips * span - (last - first + 1)) // 2
    last_start = _compute_last_start(grid, preprocessing)
    indices = np.unique(np.linspace(0, num_clips - 1, min(num_clips, max_clips)).round().astype(np.int64))
    starts = np.unique(np.clip(before_first + indices * span, 0, last_start))
    return [_build_clip_times(times, grid, preprocessing, start, origin) for start in starts.tolist()]


def compute_dense_starts(times: FrameTimes, preprocessing: Preprocessing, step_frames: int) -> NDArray[np.int64]:
    """The starts of `sample_dense_clips`, int64 (W,): increasing indices of timesteps (`compute_timestep_ticks`)."""
    grid = _build_sampling_grid(times, preprocessing.frames_per_second)
    return np.array(_compute_dense_starts(grid, preprocessing, step_frames), np.int64)


def compute_timestep_ticks(times: FrameTimes, preprocessing: Preprocessing) -> NDArray[np.int64]:
    """The timesteps that clips are made of, in order: ticks int64 (M, G) of the G frames of each of M frames or flows.

    A clip that starts at s, and is not looped, is made of the timesteps s, s + stride, s + 2 stride, ...
    """
    ticks = compute_sampling_grid(times, preprocessing.frames_per_second)
    offsets = np.array(preprocessing.frame_offsets)
    frame_indices = np.arange(max(0, len(ticks) - int(offsets[-1])))
    timestep_ticks: NDArray[np.int64] = ticks[frame_indices[:, None] + offsets]
    return timestep_ticks


def _build_sampling_grid(times: FrameTimes, frames_per_second: float | None) -> _SamplingGrid:
    if frames_per_second is None:
        return _SamplingGrid(times, len(times), None)
    rate = Fraction(frames_per_second).limit_denominator(_MAX_RATE_DENOMINATOR)
    if rate <= 0:
        raise ValueError(f"frames_per_second must be at least {1 / _MAX_RATE_DENOMINATOR:g}, not {frames_per_second}")
    step = 1 / (rate * times.tick_seconds)
    num_timesteps = int(-((int(times.ticks[0]) - times.end_tick) // step))  # ceil(duration / step)
    if problem := VIDEO_FRAMES.exceed(num_timesteps):
        raise VideoError(
            "unreadable",
            f"the video lasts {times.duration_seconds:.0f} s, which at {frames_per_second:g} a second are {problem}",
        )
    return _SamplingGrid(times, num_timesteps, step)


def _compute_dense_starts(grid: _SamplingGrid, preprocessing: Preprocessing, step_frames: int) -> list[int]:
    if step_frames < 1:
        raise ValueError(f"dense clips need a step of at least 1 frame, not {step_frames}")
    last_start = _compute_last_start(grid, preprocessing)
    starts = list(range(0, last_start + 1, step_frames))
    if starts[-1] != last_start:
        starts.append(last_start)
    return starts


def _compute_last_start(grid: _SamplingGrid, preprocessing: Preprocessing) -> int:
    return max(0, len(grid) - preprocessing.clip_span)


def _build_clip_times(
    times: FrameTimes, grid: _SamplingGrid, preprocessing: Preprocessing, start: int, origin_tick: int | None
) -> ClipTimes:
    """The clip whose first frame is `start` on the grid. Too few frames are looped: five of three are `01201`.

    Flows are looped as well: three frames have two flows, 01 and 12, and four timesteps of them are 01 12 01 12.
    """
    looped = len(grid) < preprocessing.clip_span
    offsets = np.array(preprocessing.frame_offsets)
    timestep_indices = start + np.arange(preprocessing.clip_length) * preprocessing.frame_stride
    frame_indices = (
        timestep_indices[:, None] % max(1, len(grid) - int(offsets[-1])) if looped else timestep_indices[:, None]
    )
    frame_indices = np.minimum(frame_indices + offsets, len(grid) - 1).reshape(-1)
    last = len(grid) - 1 if looped else int(frame_indices[-1])
    origin = int(times.ticks[0]) if origin_tick is None else origin_tick
    return ClipTimes(
        ticks=grid.compute_ticks(frame_indices),
        start_seconds=float((grid.compute_edge(start) - origin) * times.tick_seconds),
        end_seconds=float((grid.compute_edge(last + 1) - origin) * times.tick_seconds),
        looped=looped,
    )
