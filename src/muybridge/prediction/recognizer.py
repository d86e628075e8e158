"""Recognizer: classes, timelines and features of videos.

Input: weights with their card, and a video (`video_inputs`). Output: class probabilities by the protocol of evaluation (uniform
centre-crop clips, softmax averaged; paper section 4), segments of a timeline, or the classifier's input for each clip.
`Recognizer.predict` reports an unreadable video in the status of its result; `Recognizer.features` raises `VideoError`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, overload

import numpy as np
import torch
from annotated_types import Interval
from numpy.typing import NDArray
from torch import Tensor

from muybridge.bounds import FrameStep, NumClips, check_arguments
from muybridge.inference.finite import check_finite_outputs, find_unusable, invalidate
from muybridge.inference.folded import optimize
from muybridge.inference.scorer import NetworkScorer, eval_mode, inference_precision, load_scorer, resolve_device
from muybridge.kernels.precision import Precision, RequestedPrecision, choose_inference_precision
from muybridge.loading.clip_reader import open_clip_reader
from muybridge.loading.datasets import Failure
from muybridge.models.network import VideoResNet
from muybridge.prediction.clip_outputs import ClipOutputs, ClipPlan, ClipRunner, ProgressCallback, choose_num_workers
from muybridge.prediction.head_outputs import check_has_classes, describe_outputs
from muybridge.prediction.sliding_window import check_mode
from muybridge.prediction.stream import score_stream
from muybridge.prediction.timeline import INTERRUPTED, Segment, TimelineOptions, Window
from muybridge.prediction.timeline_windows import ScoredWindows, check_finite, compute_timeline
from muybridge.prediction.video_inputs import AnyFrame, AnyVideo, VideoInput, read_stream, resolve_input
from muybridge.records import ClipTimes, FrameSource, Preprocessing, Scorer, Status, TimeOrigin, VideoError
from muybridge.text import format_count
from muybridge.weights.card import Card


@dataclass(frozen=True)
class Prediction:
    """Prediction of one video. `classes` are (label, probability), most probable first; empty unless the status is ok.

    For multi_label `labels` are the classes above their thresholds, for ordinal the level; for regression `values` are (name,
    number, unit), and there are no classes. With status ok, a non-empty `reason` says which clips could not be read, and that
    the video is shorter than a clip.
    """

    video: str
    status: Status
    reason: str = ""
    classes: tuple[tuple[str, float], ...] = ()
    windows: tuple[Window, ...] = ()
    segments: tuple[Segment, ...] = ()
    labels: tuple[str, ...] | None = None
    values: tuple[tuple[str, float, str], ...] = ()
    unscored: Segment | None = None  # the rest of a timeline that was interrupted

    def to_json(self) -> dict[str, Any]:
        """{video, status, reason, classes: [{label, probability}, ...]}, and labels or values [{name, value, unit}, ...]."""
        values = [{"name": name, "value": value, "unit": unit} for name, value, unit in self.values]
        more = {} if self.labels is None else {"labels": list(self.labels)}
        return {
            "video": self.video,
            "status": self.status,
            "reason": self.reason,
            "classes": [{"label": label, "probability": probability} for label, probability in self.classes],
            **more,
            **({"values": values} if values else {}),
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
class Recognizer:
    """A network with its card, ready for video files. Use `load` to create one.

    `model` is the plain float32 network, or None for an .onnx file; predictions run `scorer`, its optimized form. `on_progress`
    is called along a timeline, and after each batch of clips of a video's features, with the share of the video that is done.
    A timeline ends early where it returns False.
    """

    model: VideoResNet | None
    card: Card
    scorer: Scorer
    device: torch.device
    source: FrameSource = field(repr=False)
    precision: Precision = "fp32"
    on_progress: ProgressCallback | None = field(default=None, repr=False)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the logits."""
        return self.card.classes

    def __call__(self, clips_ncthw: Tensor) -> Tensor:
        """Normalised float clips (N, C, T, H, W) on any device -> logits (N, classes) on the CPU.

        Raises TypeError for anything but a tensor, ValueError for another shape or dtype.
        """
        if not isinstance(clips_ncthw, Tensor):
            raise TypeError(
                f"clips are a float tensor of shape (N, C, T, H, W), not {type(clips_ncthw).__name__}; for videos and frames "
                "call predict"
            )
        return self.scorer(clips_ncthw)

    def to(self, device: str | torch.device) -> Recognizer:
        """The same recognizer on another device (cpu, cuda, cuda:N); this one stays where it is.

        bf16 becomes fp32 where that device lacks it. ValueError for an .onnx file, and for a device that does not exist.
        """
        torch_device = resolve_device(str(device))
        if self.model is None:
            raise ValueError("an .onnx file stays on its device; load it again with device=...")
        model = copy.deepcopy(self.model).to(torch_device)
        precision = choose_inference_precision("fp32" if self.precision == "fp32" else "auto", torch_device)
        scorer = NetworkScorer(optimize(model, precision=precision), torch_device, precision)
        return replace(self, model=model, scorer=scorer, device=torch_device, precision=precision)

    @overload
    def predict(
        self,
        video: list[Any] | tuple[Any, ...],
        *,
        clips: NumClips = 10,
        top: Annotated[int, Interval(ge=1, le=1_000_000)] = 5,
        timeline: TimelineOptions | None = None,
        source_fps: float | None = None,
        workers: int | None = None,
    ) -> list[Prediction]: ...

    @overload
    def predict(
        self,
        video: AnyVideo,
        *,
        clips: NumClips = 10,
        top: Annotated[int, Interval(ge=1, le=1_000_000)] = 5,
        timeline: TimelineOptions | None = None,
        source_fps: float | None = None,
        workers: int | None = None,
    ) -> Prediction: ...

    @overload
    def predict(
        self,
        video: Iterator[AnyFrame],
        *,
        clips: NumClips = 10,
        top: Annotated[int, Interval(ge=1, le=1_000_000)] = 5,
        timeline: TimelineOptions | None = None,
        source_fps: float | None = None,
        workers: int | None = None,
    ) -> Iterator[Window]: ...

    @check_arguments
    def predict(
        self,
        video: Any,
        *,
        clips: NumClips = 10,
        top: Annotated[int, Interval(ge=1, le=1_000_000)] = 5,
        timeline: TimelineOptions | None = None,
        source_fps: float | None = None,
        workers: int | None = None,
    ) -> Prediction | list[Prediction] | Iterator[Window]:
        """The `top` most probable classes of a video over `clips` uniform clips; with `timeline`, also windows and segments.

        `video` is a path, bytes, a file opened in binary mode, or frames as a uint8 array or tensor (T, H, W, 3). A list or
        tuple of these gives a list, read by `workers` processes (`predict_each`). A generator of frames (H, W, 3) is a stream
        and gives an iterator of windows, one every `timeline.step_frames` frames. `source_fps` is the rate of frames that are
        stored without one (default: 25).

        Raises TypeError for anything else, ValueError where `clips` or `top` is below 1, the network has one output, scores are
        not finite, or the network does not support the timeline's mode.
        """
        if isinstance(video, list | tuple):
            return list(
                self.predict_each(
                    video, clips=clips, top=top, timeline=timeline, source_fps=source_fps, workers=workers
                )
            )
        self._check_classification(top, timeline or isinstance(video, Iterator))
        if isinstance(video, Iterator) and not callable(getattr(video, "read", None)):
            step = timeline.step_frames if timeline else None
            runner, head = self.clip_runner, self.card.head
            return score_stream(read_stream(video), runner, step_frames=step, source_fps=source_fps, head=head)
        if timeline:
            check_mode(self.scorer, timeline.mode)
        resolved = resolve_input(video, self._preprocessing, self.source, source_fps)
        return self._predict_input(resolved, ClipPlan(clips), top, timeline)

    @check_arguments
    def predict_each(
        self,
        videos: Iterable[AnyVideo],
        *,
        clips: NumClips = 10,
        top: Annotated[int, Interval(ge=1, le=1_000_000)] = 5,
        timeline: TimelineOptions | None = None,
        source_fps: float | Sequence[float | None] | None = None,
        workers: int | None = None,
    ) -> Iterator[Prediction]:
        """The prediction of each video, in order, while `workers` processes read the next ones.

        `source_fps` is the rate of frames that are stored without one, for all videos or for each. Unset, there is one worker
        for each core if there are many videos. 0 reads in this process, as timelines and videos in memory always do. Results
        are bit-equal for any number. Raises as `predict`, and WorkerKilled where a worker is lost.
        """
        self._check_classification(top, timeline)
        plan = ClipPlan(clips)
        if timeline:
            check_mode(self.scorer, timeline.mode)
        inputs = self._resolve_inputs(videos, source_fps)
        if timeline:
            return (self._predict_input(video, plan, top, timeline) for video in inputs)
        return self._classify_each(inputs, plan, top, workers)

    @check_arguments
    def features(
        self,
        video: AnyVideo,
        *,
        clips: NumClips = 10,
        step_frames: FrameStep | None = None,
        source_fps: float | None = None,
    ) -> Features:
        """Input of the classifier for `clips` uniform clips, or for a clip every `step_frames` frames.

        Raises VideoError where the video or all of its clips cannot be read, ValueError for an .onnx file, which has no
        features, TypeError as `predict`.
        """
        resolved = resolve_input(video, self._preprocessing, self.source, source_fps)
        if resolved.error:
            raise resolved.error
        return self._extract_input(resolved, ClipPlan(clips, step_frames))

    def features_each(
        self,
        videos: Iterable[AnyVideo],
        *,
        clips: int = 10,
        step_frames: int | None = None,
        source_fps: float | Sequence[float | None] | None = None,
        workers: int | None = None,
    ) -> Iterator[Features | Failure]:
        """The features of each video, in order, or why there are none; see `predict_each`.

        With `step_frames` this process reads, since the clips of a long video do not fit into the memory of several.
        """
        inputs = self._resolve_inputs(videos, source_fps)
        plan = ClipPlan(clips, step_frames)
        if step_frames is None:
            return self._extract_each(inputs, plan, workers)
        return (self._extract_or_fail(video, plan) for video in inputs)

    def _resolve_inputs(
        self, videos: Iterable[AnyVideo], source_fps: float | Sequence[float | None] | None
    ) -> list[VideoInput]:
        videos = list(videos)
        rates = source_fps if isinstance(source_fps, Sequence) else [source_fps] * len(videos)
        if len(rates) != len(videos):
            raise ValueError(
                f"source_fps has {len(rates)} rates, expected one for {format_count(len(videos), 'video')}, or one for all"
            )
        return [
            resolve_input(video, self._preprocessing, self.source, rate)
            for video, rate in zip(videos, rates, strict=True)
        ]

    def _check_classification(self, top: int, timeline: object) -> None:
        if top < 1:
            raise ValueError(f"top must be at least 1, not {top}")
        self.card.check_classifier()
        check_has_classes(self.card.head if timeline else None)

    def _classify_each(
        self, inputs: Sequence[VideoInput], plan: ClipPlan, top: int, workers: int | None
    ) -> Iterator[Prediction]:
        num_workers = choose_num_workers(workers, len(inputs))
        for video, clip_times, outputs in self.clip_runner.run_each(inputs, plan, num_workers=num_workers):
            if isinstance(outputs, VideoError):
                yield Prediction(video.label, outputs.status, outputs.reason)
            else:
                yield self._rank_classes(video, clip_times, outputs, top)

    def _extract_each(
        self, inputs: Sequence[VideoInput], plan: ClipPlan, workers: int | None
    ) -> Iterator[Features | Failure]:
        runner = replace(self.clip_runner, network=self._compute_features)
        num_workers = choose_num_workers(workers, len(inputs))
        for video, clip_times, outputs in runner.run_each(inputs, plan, num_workers=num_workers):
            if isinstance(outputs, VideoError):
                yield Failure(video.label, outputs.status, outputs.reason)
            else:
                yield _make_features(video, clip_times, outputs)

    def _predict_input(
        self, video: VideoInput, plan: ClipPlan, top: int, timeline: TimelineOptions | None
    ) -> Prediction:
        try:
            if video.error:
                raise video.error
            clip_times = plan.place_clips(video.source.read_frame_times(video.name), self._preprocessing)
            outputs = self.clip_runner.run_clips(video, clip_times)
            scored = ScoredWindows(())
            if timeline:
                extras = (self.card.head, self.on_progress)
                scored = compute_timeline(video, self.clip_runner, self.scorer, timeline, *extras)
        except VideoError as error:
            return Prediction(video.label, error.status, error.reason)
        windows, classes = scored.windows, self.card.classes
        segments = scored.merge(classes, timeline or TimelineOptions(), self.card.head)
        prediction = self._rank_classes(video, clip_times, outputs, top)
        reasons = [prediction.reason, scored.reason and f"along the timeline {scored.reason}"]
        unscored = None
        if scored.is_interrupted:
            unscored = Segment(INTERRUPTED, windows[-1].end_seconds, scored.end_seconds, 0.0)
            reasons.append(f"interrupted at {unscored.start_seconds:.2f} of {unscored.end_seconds:.2f} s")
        reason = "; ".join(filter(None, reasons))
        return replace(prediction, reason=reason, windows=windows, segments=segments, unscored=unscored)

    def _rank_classes(
        self, video: VideoInput, clip_times: Sequence[ClipTimes], outputs: ClipOutputs, top: int
    ) -> Prediction:
        fields = describe_outputs(check_finite(video, outputs.rows), self.card.head, self.card.classes, top)
        reasons = (outputs.reason, "shorter than a clip, repeated in a loop" if clip_times[0].looped else "")
        return Prediction(video.label, "ok", "; ".join(filter(None, reasons)), **fields)

    def _extract_input(self, video: VideoInput, plan: ClipPlan) -> Features:
        clip_times = plan.place_clips(video.source.read_frame_times(video.name), self._preprocessing)
        runner = replace(self.clip_runner, network=self._compute_features)
        return _make_features(video, clip_times, runner.run_clips(video, clip_times, self.on_progress))

    def _extract_or_fail(self, video: VideoInput, plan: ClipPlan) -> Features | Failure:
        try:
            if video.error:
                raise video.error
            return self._extract_input(video, plan)
        except VideoError as error:
            return Failure(video.label, error.status, error.reason)

    @property
    def _preprocessing(self) -> Preprocessing:
        return self.card.preprocessing

    @property
    def clip_runner(self) -> ClipRunner:
        """What runs the network on clips."""
        return ClipRunner(self.scorer, self._preprocessing, self.device)

    def _compute_features(self, clips_ncthw: Tensor) -> Tensor:
        if self.model is None:
            raise ValueError("an .onnx file has no features, only logits; use the weights it was exported from")
        with eval_mode(self.model), inference_precision(self.model, self.device, self.precision):
            features = invalidate(self.model.features(clips_ncthw), find_unusable(clips_ncthw))
        return check_finite_outputs(features.float().cpu(), "features", clips_ncthw)


def _make_features(video: VideoInput, clip_times: Sequence[ClipTimes], outputs: ClipOutputs) -> Features:
    starts = np.array([clip_times[index].start_seconds for index in outputs.clip_indices]) + video.compute_offset()
    return Features(video.label, np.array(outputs.clip_indices, np.int32), starts, outputs.rows, outputs.reason)


def load(
    address: str | Path,
    device: str = "auto",
    precision: RequestedPrecision = "auto",
    *,
    time_origin: TimeOrigin = "picture",
) -> Recognizer:
    """Load a recognizer from a run folder (best weights, else last), a .safetensors or .onnx file, or a catalogue name.

    `device` is auto, cpu, cuda or cuda:N. `precision` auto is bf16 on a GPU that computes it in hardware, else fp32. Seconds of
    segments, timelines and features count from the first picture of a file, or with `time_origin` container as in a player,
    whose clock may start earlier, with the sound. Raises ValueError where the weights cannot be loaded, the device does not
    exist, or it does not support the precision.
    """
    torch_device = resolve_device(device)
    loaded = load_scorer(address, torch_device, precision)
    card = loaded.card
    source = open_clip_reader("", card.preprocessing, time_origin).source
    return Recognizer(loaded.network, card, loaded.scorer, torch_device, source, loaded.precision)
