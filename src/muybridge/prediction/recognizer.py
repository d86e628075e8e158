"""Recognizer: classes, timelines and features of video files.

Input: weights with their card, and the path of a video. Output: class probabilities by the protocol of evaluation (uniform
centre-crop clips, softmax averaged; paper section 4), segments of a timeline, or the classifier's input for each clip.
`Recognizer.predict` reports an unreadable video in the status of its result; `Recognizer.features` raises `VideoError`.
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

from muybridge.evaluation.aggregate import average_by_video, softmax
from muybridge.inference.finite import check_finite_clips, check_finite_outputs
from muybridge.inference.scorer import eval_mode, load_scorer, resolve_device
from muybridge.loading.clip_reader import create_clip_reader, open_clip_reader
from muybridge.loading.evaluation_clips import group_into_blocks
from muybridge.models.network import VideoResNet
from muybridge.prediction.prepared_videos import find_prepared_video
from muybridge.prediction.segments import SegmentSource, find_segment
from muybridge.prediction.sliding_window import BATCH_CLIPS, WindowScorer, check_mode
from muybridge.prediction.timeline import Segment, TimelineMode, TimelineOptions, Window, merge_windows
from muybridge.records import ClipTimes, FrameSource, Preprocessing, Scorer, Status, VideoError
from muybridge.video.sampling import compute_dense_starts, sample_dense_clips, sample_uniform_clips
from muybridge.video.views import AnyView, collate_views, prepare_network_input
from muybridge.weights.card import Card


@dataclass(frozen=True)
class Prediction:
    """Prediction of one video. `classes` are (label, probability), most probable first; empty unless the status is ok.

    With status ok, a non-empty `reason` says which clips were left out because they could not be read.
    """

    video: str
    status: Status
    reason: str = ""
    classes: tuple[tuple[str, float], ...] = ()
    windows: tuple[Window, ...] = ()
    segments: tuple[Segment, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """{video, status, reason, classes: [{label, probability}, ...]}; for windows and segments see `timeline.to_json`."""
        return {
            "video": self.video,
            "status": self.status,
            "reason": self.reason,
            "classes": [{"label": label, "probability": probability} for label, probability in self.classes],
        }


@dataclass(frozen=True)
class Features:
    """Input of the classifier for K clips of a video.

    views: int32 (K,), the indices of the clips; clips that could not be read are missing, and `reason` says why.
    start_seconds: float64 (K,). features: float32 (K, D), D = 512 for basic blocks at width 64.
    """

    video: str
    views: NDArray[np.int32]
    start_seconds: NDArray[np.float64]
    features: NDArray[np.float32]
    reason: str = ""


@dataclass(frozen=True)
class _ClipOutputs:
    """Outputs of a network for the readable clips among some clips, float32 (R, X), and the errors of the others."""

    clip_indices: tuple[int, ...]
    rows: NDArray[np.float32]
    failures: tuple[VideoError, ...]

    @property
    def reason(self) -> str:
        if not self.failures:
            return ""
        num_clips = len(self.clip_indices) + len(self.failures)
        return f"{len(self.failures)} of {num_clips} clips could not be read: {self.failures[0].reason}"


@dataclass(frozen=True)
class Recognizer:
    """A network with its card, ready for video files. Use `load` to create one.

    `model` is the plain float32 network, or None for an .onnx file; predictions run `scorer`, its optimized form.
    """

    model: VideoResNet | None
    card: Card
    scorer: Scorer
    device: torch.device
    source: FrameSource = field(repr=False)

    def predict(
        self, video: str | Path, *, clips: int = 10, top: int = 5, timeline: TimelineOptions | None = None
    ) -> Prediction:
        """The `top` most probable classes of a video over `clips` uniform clips; with `timeline`, also windows and segments.

        Raises ValueError where `clips` or `top` is below 1, the network has one output, scores are not finite, or the network
        does not support the timeline's mode.
        """
        if top < 1:
            raise ValueError(f"top must be at least 1, not {top}")
        self.card.check_classifier()
        if timeline:
            check_mode(self.scorer, timeline.mode)
        video = str(video)
        try:
            if redirected := self._redirect(video):
                recognizer, name = redirected
                prediction = recognizer.predict(name, clips=clips, top=top, timeline=timeline)
                offset = recognizer._compute_offset(name) if prediction.windows else 0.0
                windows, segments = (
                    [part.shift(offset) for part in parts] for parts in (prediction.windows, prediction.segments)
                )
                return replace(prediction, video=video, windows=tuple(windows), segments=tuple(segments))
            clip_times = sample_uniform_clips(self.source.read_frame_times(video), self._preprocessing, clips)
            outputs = self._run_clips(video, clip_times, self.scorer)
            windows, segments, timeline_reason = self._compute_timeline(video, timeline) if timeline else ((), (), "")
        except VideoError as error:
            return Prediction(video, error.status, error.reason)
        logits = self._check_finite(video, outputs.rows)
        _, means = average_by_video(logits, np.zeros(len(logits), np.int64), average="softmax")
        best = np.argsort(-means[0], kind="stable")[:top]
        classes = tuple((self.card.classes[index], float(means[0, index])) for index in best)
        reasons = (outputs.reason, timeline_reason and f"along the timeline {timeline_reason}")
        return Prediction(video, "ok", "; ".join(filter(None, reasons)), classes, windows, segments)

    def features(self, video: str | Path, *, clips: int = 10, step_frames: int | None = None) -> Features:
        """Input of the classifier for `clips` uniform clips, or for a clip every `step_frames` frames.

        Raises VideoError where the video or all of its clips cannot be read, ValueError for an .onnx file, which has no
        features.
        """
        video = str(video)
        if redirected := self._redirect(video):
            recognizer, name = redirected
            features = recognizer.features(name, clips=clips, step_frames=step_frames)
            return replace(
                features, video=video, start_seconds=features.start_seconds + recognizer._compute_offset(name)
            )
        times = self.source.read_frame_times(video)
        if step_frames is None:
            clip_times = sample_uniform_clips(times, self._preprocessing, clips)
        else:
            clip_times = sample_dense_clips(times, self._preprocessing, step_frames)
        outputs = self._run_clips(video, clip_times, self._compute_features)
        starts = np.array([clip_times[index].start_seconds for index in outputs.clip_indices])
        return Features(video, np.array(outputs.clip_indices, np.int32), starts, outputs.rows, outputs.reason)

    def _redirect(self, video: str) -> tuple[Recognizer, str] | None:
        """For a prepared video or a segment: the recognizer with its frame source, and its name there; None for a file."""
        redirected = find_prepared_video(video, self._preprocessing) or find_segment(video, self.source)
        return redirected and (replace(self, source=redirected[0]), redirected[1])

    def _compute_offset(self, video: str) -> float:
        """Seconds from the first frame of the file to the first frame of `source`."""
        return self.source.compute_offset(video) if isinstance(self.source, SegmentSource) else 0.0

    def _compute_timeline(
        self, video: str, options: TimelineOptions
    ) -> tuple[tuple[Window, ...], tuple[Segment, ...], str]:
        """Windows along the video, the segments they merge into, and a reason if some windows could not be read.

        Segments never cover time that was in unreadable windows only.
        """
        step = options.step_frames or max(1, self._preprocessing.clip_span // 4)
        clip_times = sample_dense_clips(self.source.read_frame_times(video), self._preprocessing, step)
        if clip_times[0].looped:
            outputs = self._run_clips(video, clip_times, self.scorer)
        else:
            outputs = self._score_windows(video, clip_times, step, options.mode)
        windows = tuple(
            Window(clip_times[index].start_seconds, clip_times[index].end_seconds, tuple(probabilities))
            for index, probabilities in zip(
                outputs.clip_indices, softmax(self._check_finite(video, outputs.rows)).tolist(), strict=True
            )
        )
        segments: list[Segment] = []
        for window_run in _split_at_gaps(outputs.clip_indices, windows):
            segments += merge_windows(
                window_run,
                self.card.classes,
                minimum_probability=options.minimum_probability,
                minimum_seconds=options.minimum_seconds,
            )
        return windows, tuple(segments), outputs.reason

    def _score_windows(
        self, video: str, clip_times: Sequence[ClipTimes], step: int, mode: TimelineMode
    ) -> _ClipOutputs:
        """Logits of windows along a video; windows near unreadable frames are read and scored as single clips.

        Raises the first VideoError if no window can be read.
        """
        starts = compute_dense_starts(self.source.read_frame_times(video), self._preprocessing, step)
        window_scorer = WindowScorer(self.source, video, self._preprocessing, self.device)
        rows: dict[int, NDArray[np.float32]] = {}
        failures: list[VideoError] = []
        num_done = 0
        while num_done < len(clip_times):
            try:
                for window_indices, logits in window_scorer.score_windows(self.scorer, starts[num_done:], mode):
                    rows.update(zip((num_done + index for index in window_indices), logits.numpy(), strict=True))
                break
            except VideoError:
                num_done = next(
                    (index for index in range(num_done, len(clip_times)) if index not in rows), len(clip_times)
                )
            for block in islice(group_into_blocks(clip_times[num_done:]), 1):
                outputs = self._run_readable_clips(video, block, self.scorer)
                rows.update(zip((num_done + index for index in outputs.clip_indices), outputs.rows, strict=True))
                failures += outputs.failures
                num_done += len(block)
        if not rows:
            raise failures[0]
        indices = tuple(sorted(rows))
        return _ClipOutputs(indices, np.stack([rows[index] for index in indices]), tuple(failures))

    @property
    def _preprocessing(self) -> Preprocessing:
        return self.card.preprocessing

    def _compute_features(self, clips_ncthw: Tensor) -> Tensor:
        if self.model is None:
            raise ValueError("an .onnx file has no features, only logits; use the weights it was exported from")
        with eval_mode(self.model):
            check_finite_clips(clips_ncthw)
            return check_finite_outputs(self.model.features(clips_ncthw), "features")

    def _run_clips(
        self, video: str, clip_times: Sequence[ClipTimes], network: Callable[[Tensor], Tensor]
    ) -> _ClipOutputs:
        """Run `network` on the clips of a video. Raises the first VideoError if no clip can be read."""
        outputs = self._run_readable_clips(video, clip_times, network)
        if not outputs.clip_indices:
            raise outputs.failures[0]
        return outputs

    def _run_readable_clips(
        self, video: str, clip_times: Sequence[ClipTimes], network: Callable[[Tensor], Tensor]
    ) -> _ClipOutputs:
        """Run `network` on the readable clips, in batches; there may be none."""
        clip_indices: list[int] = []
        rows: list[NDArray[np.float32]] = []
        failures: list[VideoError] = []
        reader = create_clip_reader(self.source, self._preprocessing)

        def iterate_views() -> Iterator[AnyView]:
            for index, view in enumerate(reader.read_evaluation_views(video, clip_times)):
                if isinstance(view, VideoError):
                    failures.append(view)
                else:
                    clip_indices.append(index)
                    yield view

        remaining_views = iterate_views()
        while batch := list(islice(remaining_views, BATCH_CLIPS)):
            outputs = network(prepare_network_input(collate_views(batch), self._preprocessing, self.device))
            rows.append(outputs.float().cpu().numpy())
        return _ClipOutputs(
            tuple(clip_indices), np.concatenate(rows or [np.empty((0, 0), np.float32)]), tuple(failures)
        )

    def _check_finite(self, video: str, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        if not np.isfinite(logits).all():
            raise ValueError(f"the scores of {video} are not finite; check the weights")
        return logits.astype(np.float64)


def _split_at_gaps(indices: Sequence[int], windows: Sequence[Window]) -> list[list[Window]]:
    """Split windows where unreadable ones between them leave time that no window covers."""
    runs = [[windows[0]]]
    for (index, window), (next_index, next_window) in pairwise(zip(indices, windows, strict=True)):
        if next_index > index + 1 and next_window.start_seconds > window.end_seconds:
            runs.append([])
        runs[-1].append(next_window)
    return runs


def load(address: str | Path, device: str = "auto") -> Recognizer:
    """Load a recognizer from a run folder (best weights, else last), a .safetensors or .onnx file, or a catalogue name.

    `device` is auto, cpu, cuda or cuda:N. Raises ValueError where the weights cannot be loaded or the device does not exist.
    """
    torch_device = resolve_device(device)
    loaded = load_scorer(address, torch_device)
    card = loaded.card
    source = open_clip_reader("", card.preprocessing).source
    return Recognizer(loaded.network, card, loaded.scorer, torch_device, source)
