"""Weights put to use on video files: classes, timeline, features.

Enter: weights with their card, and the path of a video. Leave: the classes with their probabilities by the same protocol
as evaluation (uniform centre-crop clips, softmax averaged; paper section 4), what happens when, or what enters the
classifier, a row a clip. A video that cannot be read is a `Prediction` that says so, never an exception.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from muybridge.evaluation.aggregate import mean_scores, softmax
from muybridge.inference.scorer import evaluating, load_scorer, resolve_device
from muybridge.loading.evaluation_clips import blocks, read_views
from muybridge.loading.loader import frame_source
from muybridge.models.network import VideoResNet
from muybridge.prediction.prepared_videos import stored_video
from muybridge.prediction.sliding_window import BATCH_CLIPS, WindowReader, check_mode
from muybridge.prediction.timeline import Segment, TimelineMode, TimelineOptions, Window, merge_windows
from muybridge.records import ClipTimes, FrameSource, Preprocessing, Scorer, Status, VideoError
from muybridge.video.sampling import dense_clips, dense_starts, uniform_clips
from muybridge.video.views import AnyView, batched, network_input
from muybridge.weights.card import Card


@dataclass(frozen=True)
class Prediction:
    """What is in a video. `classes` are the most probable ones, best first; none where the status is not ok.

    A `reason` beside the status ok says which clips were left out because they could not be read.
    """

    video: str
    status: Status
    reason: str = ""
    classes: tuple[tuple[str, float], ...] = ()
    windows: tuple[Window, ...] = ()
    segments: tuple[Segment, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """{video, status, reason, classes: [{label, probability}, ...]}; `timeline.to_json` tells the rest."""
        return {
            "video": self.video,
            "status": self.status,
            "reason": self.reason,
            "classes": [{"label": label, "probability": probability} for label, probability in self.classes],
        }


@dataclass(frozen=True)
class Features:
    """What enters the classifier for K clips of a video.

    views int32 (K,): the numbers of the clips, with holes where some could not be read, which `reason` then says;
    start_seconds float64 (K,); features float32 (K, D), D = 512 for basic blocks at width 64.
    """

    video: str
    views: NDArray[np.int32]
    start_seconds: NDArray[np.float64]
    features: NDArray[np.float32]
    reason: str = ""


@dataclass(frozen=True)
class _Outputs:
    """What a network gave for those of some clips that could be read, `rows` float32 (R, X), and why not for the others."""

    readable: tuple[int, ...]
    rows: NDArray[np.float32]
    failures: tuple[VideoError, ...]

    @property
    def reason(self) -> str:
        if not self.failures:
            return ""
        total = len(self.readable) + len(self.failures)
        return f"{len(self.failures)} of {total} clips could not be read: {self.failures[0].reason}"


@dataclass(frozen=True)
class Recognizer:
    """A network with its papers, ready for video files. `load` makes one.

    `model` is the plain float32 network, None for an .onnx file; `scorer` is what runs for predictions.
    """

    model: VideoResNet | None
    card: Card
    scorer: Scorer
    device: torch.device
    source: FrameSource = field(repr=False)

    def predict(
        self, video: str | Path, *, clips: int = 10, top: int = 5, timeline: TimelineOptions | None = None
    ) -> Prediction:
        """The `top` classes of a video by `clips` uniform clips, and with `timeline` its windows and segments.

        ValueError: fewer than one clip or class asked for, scores that are not finite, or a network that cannot run in the
        mode of the timeline.
        """
        if top < 1:
            raise ValueError(f"a prediction names at least 1 class, not {top}")
        if timeline:
            check_mode(self.scorer, timeline.mode)
        video = str(video)
        try:
            if stored := stored_video(video, self._preprocessing):
                there = replace(self, source=stored[0]).predict(stored[1], clips=clips, top=top, timeline=timeline)
                return replace(there, video=video)
            places = uniform_clips(self.source.frame_times(video), self._preprocessing, clips)
            found = self._outputs(video, places, self.scorer)
            windows, segments, hole = self._timeline(video, timeline) if timeline else ((), (), "")
        except VideoError as error:
            return Prediction(video, error.status, error.reason)
        logits = self._finite(video, found.rows)
        _, means = mean_scores(logits, np.zeros(len(logits), np.int64), average="softmax")
        best = np.argsort(-means[0], kind="stable")[:top]
        classes = tuple((self.card.classes[index], float(means[0, index])) for index in best)
        reason = "; ".join(said for said in (found.reason, hole and f"along the timeline {hole}") if said)
        return Prediction(video, "ok", reason, classes, windows, segments)

    def features(self, video: str | Path, *, clips: int = 10, step_frames: int | None = None) -> Features:
        """What enters the classifier: for `clips` uniform clips, or with `step_frames` for one every so many frames.

        Raises VideoError where the video, or all of its clips, cannot be read; ValueError for an .onnx file, which gives logits
        alone.
        """
        video = str(video)
        if stored := stored_video(video, self._preprocessing):
            there = replace(self, source=stored[0]).features(stored[1], clips=clips, step_frames=step_frames)
            return replace(there, video=video)
        times = self.source.frame_times(video)
        if step_frames is None:
            places = uniform_clips(times, self._preprocessing, clips)
        else:
            places = dense_clips(times, self._preprocessing, step_frames)
        found = self._outputs(video, places, self._vectors)
        starts = np.array([places[number].start_seconds for number in found.readable])
        return Features(video, np.array(found.readable, np.int32), starts, found.rows, found.reason)

    def _timeline(self, video: str, options: TimelineOptions) -> tuple[tuple[Window, ...], tuple[Segment, ...], str]:
        """Windows along the video, the segments they merge into, and what could not be read; a hole there stays one."""
        step = options.step_frames or max(1, self._preprocessing.clip_span // 4)
        places = dense_clips(self.source.frame_times(video), self._preprocessing, step)
        if places[0].looped:
            found = self._outputs(video, places, self.scorer)
        else:
            found = self._along(video, places, step, options.mode)
        windows = tuple(
            Window(places[number].start_seconds, places[number].end_seconds, tuple(probabilities))
            for number, probabilities in zip(
                found.readable, softmax(self._finite(video, found.rows)).tolist(), strict=True
            )
        )
        segments: list[Segment] = []
        for stretch in _stretches(found.readable, windows):
            segments += merge_windows(
                stretch,
                self.card.classes,
                minimum_probability=options.minimum_probability,
                minimum_seconds=options.minimum_seconds,
            )
        return windows, tuple(segments), found.reason

    def _along(self, video: str, clips: Sequence[ClipTimes], step: int, mode: TimelineMode) -> _Outputs:
        """The logits of windows along a video. Around frames that cannot be read each window is a clip by itself.

        Raises the first VideoError where no window can be read.
        """
        starts = dense_starts(self.source.frame_times(video), self._preprocessing, step)
        reader = WindowReader(self.source, video, self._preprocessing, self.device)
        rows: dict[int, NDArray[np.float32]] = {}
        failures: list[VideoError] = []
        done = 0
        while done < len(clips):
            try:
                for numbers, logits in reader.scores(self.scorer, starts[done:], mode):
                    rows.update(zip((done + number for number in numbers), logits.numpy(), strict=True))
                break
            except VideoError:
                done = next((number for number in range(done, len(clips)) if number not in rows), len(clips))
            for block in islice(blocks(clips[done:]), 1):
                found = self._clip_by_clip(video, block, self.scorer)
                rows.update(zip((done + number for number in found.readable), found.rows, strict=True))
                failures += found.failures
                done += len(block)
        if not rows:
            raise failures[0]
        return _Outputs(tuple(sorted(rows)), np.stack([rows[number] for number in sorted(rows)]), tuple(failures))

    @property
    def _preprocessing(self) -> Preprocessing:
        return self.card.preprocessing

    def _vectors(self, clips_ncthw: Tensor) -> Tensor:
        if self.model is None:
            raise ValueError("an .onnx file gives logits alone; extract features with the weights it was exported from")
        with evaluating(self.model):
            return self.model.features(clips_ncthw)

    def _outputs(self, video: str, clips: Sequence[ClipTimes], network: Callable[[Tensor], Tensor]) -> _Outputs:
        """`network` over the clips of a video. Raises the first VideoError where no clip can be read."""
        found = self._clip_by_clip(video, clips, network)
        if not found.readable:
            raise found.failures[0]
        return found

    def _clip_by_clip(self, video: str, clips: Sequence[ClipTimes], network: Callable[[Tensor], Tensor]) -> _Outputs:
        """Every clip by itself, a batch at a time; perhaps none can be read."""
        readable: list[int] = []
        rows: list[NDArray[np.float32]] = []
        failures: list[VideoError] = []

        def views() -> Iterator[AnyView]:
            for number, view in enumerate(read_views(self.source, video, clips, self._preprocessing)):
                if isinstance(view, VideoError):
                    failures.append(view)
                else:
                    readable.append(number)
                    yield view

        waiting = views()
        while batch := list(islice(waiting, BATCH_CLIPS)):
            outputs = network(network_input(batched(batch), self._preprocessing, self.device))
            rows.append(outputs.float().cpu().numpy())
        return _Outputs(tuple(readable), np.concatenate(rows or [np.empty((0, 0), np.float32)]), tuple(failures))

    def _finite(self, video: str, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        if not np.isfinite(logits).all():
            raise ValueError(f"the network gave scores that are not finite for {video}; its weights are damaged")
        return logits.astype(np.float64)


def _stretches(numbers: Sequence[int], windows: Sequence[Window]) -> list[list[Window]]:
    """The windows in runs between holes: places where windows that could not be read leave time that no window saw."""
    stretches = [[windows[0]]]
    for (number, window), (next_number, following) in pairwise(zip(numbers, windows, strict=True)):
        if next_number > number + 1 and following.start_seconds > window.end_seconds:
            stretches.append([])
        stretches[-1].append(following)
    return stretches


def load(address: str | Path, device: str = "auto") -> Recognizer:
    """A recognizer from a run folder (its best weights, else its last), a .safetensors or .onnx file, or a catalogue name.

    `device`: auto, cpu, cuda or cuda:N. ValueError says in a sentence what is wrong with the weights or the device.
    """
    place = resolve_device(device)
    loaded = load_scorer(address, place)
    card = loaded.card
    source = frame_source("", card.preprocessing)
    return Recognizer(loaded.network, card, loaded.scorer, place, source)
