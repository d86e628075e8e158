"""Windows along a camera or stream while it runs (`muybridge watch`): the newest window is scored as soon as its
last frame is there.

Input: timesteps, frames at the clip's rate as they arrive. Output: a `LiveWindow` for each window that is scored. One
thread reads and decodes, another scores. Where scoring is slower than the stream, windows are skipped and counted, so that
the delay of a window is at most one stride plus one inference; with `drop` off none is skipped, reading waits, and the
windows of a file are those of `muybridge predict --timeline`.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from muybridge.loading.frame_stream import read_in_order
from muybridge.models.heads import Head
from muybridge.prediction.clip_outputs import ClipRunner
from muybridge.prediction.head_outputs import check_has_classes, compute_probabilities
from muybridge.prediction.live_stretch import Stretch, Timestep
from muybridge.prediction.timeline import Window
from muybridge.prediction.video_inputs import VideoInput
from muybridge.records import ClipTimes, FrameTimes, Preprocessing, VideoError, YuvClip
from muybridge.video.live_source import DamageCount, LiveFrame, read_live_frames
from muybridge.video.sampling import compute_timestep_edges, sample_uniform_clips

_MAX_PAUSE_SECONDS = 1.0  # after a longer one, windows begin anew: none lies across it
_FIRST_WAIT_SECONDS, _LAST_WAIT_SECONDS = 0.5, 30.0  # between attempts to connect; doubled each time
_MAX_QUEUED = 512  # timesteps that wait for the scorer, some 17 MB
_CLOSE_SECONDS = 1.0  # the longest wait for the reader's current frame


@dataclass(frozen=True)
class LiveWindow:
    """A scored window, and the seconds from the arrival of its last frame to its scores."""

    window: Window
    delay_seconds: float


@dataclass
class LiveCounts:
    """What happened so far. `num_dropped_frames`: in no window that was scored, since scoring was behind."""

    num_windows: int = 0
    num_skipped_windows: int = 0
    num_dropped_frames: int = 0
    num_reconnects: int = 0
    damage: DamageCount = field(default_factory=DamageCount)


def iterate_file(
    video: VideoInput, preprocessing: Preprocessing, *, pace: bool, aspect: float | None = None
) -> Iterator[Timestep]:
    """The timesteps of a file or a segment, in the seconds of its file (`VideoInput.compute_offset`).

    With `pace` as if it were live, each when its time has come. Raises VideoError.
    """
    times, offset = video.source.read_frame_times(video.name), video.compute_offset()
    ticks, edges = compute_timestep_edges(times, preprocessing.frames_per_second)
    seconds = [float((edge - int(times.ticks[0])) * times.tick_seconds) for edge in edges]
    frames = read_in_order(video.file_source, video.name, np.unique(ticks), 1)
    start, last_tick, planes = time.monotonic(), None, None
    for index, tick in enumerate(ticks.tolist()):
        if tick != last_tick:
            planes, last_tick = next(frames), tick
        if pace:
            time.sleep(max(0.0, start + seconds[index] - time.monotonic()))
        assert planes is not None
        start_seconds, end_seconds = seconds[index] + offset, seconds[index + 1] + offset
        yield Timestep(planes, start_seconds, end_seconds, time.monotonic(), index == 0, aspect)


def iterate_stream(
    address: str,
    preprocessing: Preprocessing,
    counts: LiveCounts,
    *,
    on_event: Callable[[str], None],
    should_stop: Callable[[], bool],
) -> Iterator[Timestep]:
    """The timesteps of a stream, which is connected to again, with growing waits, whenever it breaks off.

    Seconds count from the first frame; after a break, on by the clock. A pipe that ends is not opened again. `on_event` is
    called with a sentence about each break, and where no picture comes. Raises VideoError where the first connection fails.
    """
    begin: float | None = None
    end_seconds = 0.0
    wait = _FIRST_WAIT_SECONDS
    is_pipe = "://" not in address
    while not should_stop():
        grid: _TimestepGrid | None = None
        try:
            for frame in read_live_frames(
                address,
                scale_height=preprocessing.scale_height,
                scale_width=preprocessing.scale_width,
                damage=counts.damage,
                on_wait=on_event,
            ):
                begin = frame.arrival if begin is None else begin
                grid = grid or _TimestepGrid(preprocessing.frames_per_second, max(end_seconds, frame.arrival - begin))
                wait = _FIRST_WAIT_SECONDS
                for timestep in grid.add(frame):
                    end_seconds = timestep.end_seconds
                    yield timestep
                if should_stop():
                    return
            reason = "the stream ended"
        except VideoError as error:
            if begin is None:
                raise
            reason = error.reason
        if is_pipe:
            return
        on_event(f"{reason}; connecting again in {wait:g} s")
        _sleep(wait, should_stop)
        counts.num_reconnects += 1
        wait = min(2 * wait, _LAST_WAIT_SECONDS)


class LiveScorer:
    """Scores windows of timesteps, `step` timesteps from one to the next.

    `head` is that of another task than single_label. Raises ValueError for a regression.
    """

    def __init__(self, runner: ClipRunner, step: int, counts: LiveCounts, head: Head | None = None) -> None:
        check_has_classes(head, "the timeline of a stream")
        self._runner = runner
        self._head = head
        self._preprocessing = replace(runner.preprocessing, frames_per_second=None)
        self._step = step
        self._counts = counts

    def score(
        self, timesteps: Iterator[Timestep], *, drop: bool, should_stop: Callable[[], bool] = lambda: False
    ) -> Generator[LiveWindow, None, None]:
        """The windows of the timesteps, read by a thread of their own. With `drop` only the newest of those that wait.

        At the end of every stretch the last window is scored too, as `predict --timeline` does, unless windows are dropped.
        Ends soon after `should_stop` returns True, silent as the source may be. Raises what reading raises.
        """
        queue = _TimestepQueue(timesteps, self._counts, drop=drop, should_stop=should_stop)
        try:
            yield from self._score_newest(queue) if drop else self._score_all(queue)
        finally:
            queue.close()

    def _score_all(self, queue: _TimestepQueue) -> Iterator[LiveWindow]:
        stretch = self._begin_stretch()
        while batch := queue.take():
            for timestep in batch:
                if timestep.begins_stretch:
                    yield from map(self._score_window, stretch.take_rest())
                    stretch = self._begin_stretch()
                stretch.add(timestep)
                if stretch.count_complete():
                    yield self._score_window(stretch.take())
        yield from map(self._score_window, stretch.take_rest())

    def _score_newest(self, queue: _TimestepQueue) -> Iterator[LiveWindow]:
        """Of each batch the newest window, which may lie before a break; those before it are counted."""
        stretch = self._begin_stretch()
        while batch := queue.take():
            stretches = [stretch]
            for timestep in batch:
                if timestep.begins_stretch:
                    stretches.append(self._begin_stretch())
                stretches[-1].add(timestep)
            stretch = stretches[-1]
            if complete := [one for one in stretches if one.count_complete()]:
                for late in complete[:-1]:
                    self._skip(late, late.count_complete())
                self._skip(complete[-1], complete[-1].count_complete() - 1)
                yield self._score_window(complete[-1].take())

    def _begin_stretch(self) -> Stretch:
        return Stretch(self._preprocessing.clip_span, self._step)

    def _skip(self, stretch: Stretch, num_windows: int) -> None:
        self._counts.num_skipped_windows += num_windows
        self._counts.num_dropped_frames += stretch.skip(num_windows)

    def _score_window(self, timesteps: list[Timestep]) -> LiveWindow:
        source = _TimestepSource(timesteps)
        clips: list[ClipTimes] = sample_uniform_clips(source.read_frame_times(""), self._preprocessing, 1)
        logits = self._runner.run_clips(VideoInput("<stream>", "", source), clips).rows
        if not np.isfinite(logits).all():
            raise ValueError("the scores of the stream are not finite; check the weights")
        probabilities = compute_probabilities(logits.astype(np.float64), self._head)[0]
        self._counts.num_windows += 1
        window = Window(timesteps[0].start_seconds, timesteps[-1].end_seconds, tuple(probabilities.tolist()))
        return LiveWindow(window, time.monotonic() - timesteps[-1].arrival)


class _TimestepGrid:
    """Frames of one connection to timesteps: at a rate, the frame shown at each time of the grid; else every frame."""

    def __init__(self, frames_per_second: float | None, start_seconds: float) -> None:
        self._step = None if frames_per_second is None else 1 / Fraction(frames_per_second).limit_denominator(1_000_000)
        self._begin_seconds = start_seconds  # of the connection, by the clock
        self._first: LiveFrame | None = None
        self._offset = 0.0
        self._shown: LiveFrame | None = None
        self._index = 0
        self._begins_stretch = True

    def add(self, frame: LiveFrame) -> Iterator[Timestep]:
        """The timesteps that are known once this frame is here: those that show the one before it."""
        before = self._shown
        if before is None or self._first is None:
            self._first = self._shown = frame
            self._offset = self._begin_seconds - frame.seconds
            return
        pause = frame.seconds - before.seconds
        if not 0 < pause <= _MAX_PAUSE_SECONDS:  # a jump of the clock, or nothing came for a while
            elapsed = max(0.0, frame.arrival - before.arrival)
            self._offset += before.seconds + elapsed - frame.seconds
            self._first = self._shown = frame
            self._index, self._begins_stretch = 0, True
            return
        self._shown = frame
        if self._step is None:
            yield self._make(before, before.seconds, frame.seconds)
            return
        while (start := self._first.seconds + float(self._index * self._step)) < frame.seconds:
            yield self._make(before, start, start + float(self._step))
            self._index += 1

    def _make(self, shown: LiveFrame, start_seconds: float, end_seconds: float) -> Timestep:
        begins_stretch, self._begins_stretch = self._begins_stretch, False
        return Timestep(
            shown.planes,
            start_seconds + self._offset,
            end_seconds + self._offset,
            shown.arrival,
            begins_stretch,
            shown.aspect,
        )


class _TimestepQueue:
    """Timesteps read by a thread. With `drop` the oldest give way when too many wait; else reading waits."""

    def __init__(
        self, timesteps: Iterator[Timestep], counts: LiveCounts, *, drop: bool, should_stop: Callable[[], bool]
    ) -> None:
        self._timesteps, self._counts, self._drop, self._should_stop = timesteps, counts, drop, should_stop
        self._waiting: deque[Timestep] = deque()
        self._condition = threading.Condition()
        self._is_done = self._is_closed = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._read, name="live-reader", daemon=True)
        self._thread.start()

    def take(self) -> list[Timestep]:
        """All timesteps that wait, at least one; empty at the end. Raises what reading raised, after the last of them."""
        with self._condition:
            while not (self._waiting or self._is_done or self._should_stop()):
                self._condition.wait(0.2)  # returns to Python, so that a signal is handled
            batch = list(self._waiting)
            self._waiting.clear()
            self._condition.notify_all()
        if not batch and self._error is not None:
            raise self._error
        return batch

    def close(self) -> None:
        """Ends the thread, which may be in the middle of a frame; one that waits for a silent camera is left behind.

        A thread that is inside torch when the interpreter ends would abort the process.
        """
        with self._condition:
            self._is_closed = True
            self._condition.notify_all()
        self._thread.join(_CLOSE_SECONDS)

    def _read(self) -> None:
        try:
            for timestep in self._timesteps:
                with self._condition:
                    while not self._drop and len(self._waiting) >= _MAX_QUEUED and not self._is_closed:
                        self._condition.wait(0.2)
                    if self._is_closed:
                        return
                    if len(self._waiting) >= _MAX_QUEUED:
                        self._waiting.popleft()
                        self._waiting[0] = replace(self._waiting[0], begins_stretch=True)
                        self._counts.num_dropped_frames += 1
                    self._waiting.append(timestep)
                    self._condition.notify_all()
        except Exception as error:  # noqa: BLE001 - handed to the thread that scores
            self._error = error
        finally:
            with self._condition:
                self._is_done = True
                self._condition.notify_all()


@dataclass(frozen=True)
class _TimestepSource:
    """A `FrameSource` of the timesteps of one window: frame n is shown at tick n."""

    timesteps: list[Timestep]

    def read_frame_times(self, video: str) -> FrameTimes:
        """See `FrameSource`."""
        return FrameTimes(np.arange(len(self.timesteps)), Fraction(1), len(self.timesteps))

    def read(self, video: str, ticks: NDArray[np.int64]) -> YuvClip:
        """See `FrameSource`."""
        frames = [self.timesteps[tick].planes for tick in ticks.tolist()]
        return YuvClip(
            np.concatenate([frame.luma_thw for frame in frames]),
            np.concatenate([frame.chroma_cthw for frame in frames], axis=1),
            frames[-1].matrix,
            frames[-1].full_range,
        )


def _sleep(seconds: float, should_stop: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not should_stop():
        time.sleep(min(0.1, max(0.0, end - time.monotonic())))
