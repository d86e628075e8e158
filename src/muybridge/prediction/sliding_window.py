"""Logits of overlapping windows along a video; every frame is decoded once, and layers that windows share run once.

Input: the first timestep of each window. Output: logits, several windows at a time. Mode "windows" scores each window as a
clip, exact up to rounding; mode "convolutional" runs all layers once along the video (`inference.streaming`). Apart from time
stamps and scores, memory does not grow with the length of the video.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from muybridge.inference.folded import InferenceNetwork
from muybridge.inference.scorer import NetworkScorer
from muybridge.inference.streaming import FeatureStream, SplitNetwork, check_streamable
from muybridge.loading.clip_reader import create_clip_reader
from muybridge.prediction.segments import get_file_source
from muybridge.prediction.timeline import TimelineMode
from muybridge.records import FrameSource, Preprocessing, Scorer, VideoError
from muybridge.video.sampling import compute_timestep_ticks
from muybridge.video.views import collate_views, prepare_network_input

BATCH_CLIPS = 10  # clips in a batch: one video of the default protocol; about 1 GB for R(2+1)D at width 64

WindowLogits = tuple[list[int], Tensor]  # window indices, and their logits (N, classes) on the CPU
_TensorFunction = Callable[[Tensor], Tensor]


def check_mode(scorer: Scorer, mode: TimelineMode) -> None:
    """Raise ValueError if `scorer` does not support this mode."""
    if mode == "windows":
        return
    network = _find_optimized_network(scorer)
    if network is None:
        raise ValueError(
            "an .onnx file takes whole clips only; for convolutional mode use the weights it was exported from"
        )
    check_streamable(network)


def _find_optimized_network(scorer: Scorer) -> InferenceNetwork | None:
    network = scorer.network if isinstance(scorer, NetworkScorer) else None
    return network if isinstance(network, InferenceNetwork) else None


@dataclass(frozen=True)
class WindowScorer:
    """Scores the windows of one video that is longer than a clip."""

    source: FrameSource
    video: str
    preprocessing: Preprocessing
    device: torch.device

    def score_windows(self, scorer: Scorer, starts: NDArray[np.int64], mode: TimelineMode) -> Iterator[WindowLogits]:
        """Logits of the windows that start at the timesteps `starts` (increasing); window indices are positions in `starts`.

        Raises VideoError where a frame cannot be read; in convolutional mode after all windows before that frame.
        """
        network = _find_optimized_network(scorer)
        if mode == "convolutional":
            assert network is not None, "check_mode comes first"
            return self._score_convolutional(SplitNetwork(network), starts)
        split = None if network is None else SplitNetwork(network)
        if split is None or not split.frame_layers:
            return self._score_each_window(starts, lambda frames: frames, lambda maps: scorer(maps.contiguous()))
        return self._score_each_window(
            starts, split.compute_frame_maps, lambda maps: split.fetch(split.compute_logits(maps))
        )

    def _score_each_window(
        self, starts: NDArray[np.int64], frame_network: _TensorFunction, window_network: _TensorFunction
    ) -> Iterator[WindowLogits]:
        """Run `frame_network` once on every timestep, and `window_network`, to CPU logits, on each window of its outputs."""
        span = np.arange(self.preprocessing.clip_length) * self.preprocessing.frame_stride
        used, indices_wl = np.unique(starts[:, None] + span, return_inverse=True)
        indices_wl = indices_wl.reshape(len(starts), -1)  # only NumPy 2.0 returns this shape
        buffer, buffer_start, window_index = None, 0, 0
        for frames in self._read_network_inputs(used):
            maps = frame_network(frames)[0].permute(1, 2, 3, 0)  # (T, H, W, C)
            buffer = maps if buffer is None else torch.cat([buffer, maps])
            while window_index < len(starts):
                batch = indices_wl[window_index : window_index + BATCH_CLIPS]
                if batch[-1, -1] >= buffer_start + len(buffer):
                    break
                windows = buffer[torch.from_numpy(batch - buffer_start).to(self.device)]  # (N, L, H, W, C)
                logits = window_network(windows.permute(0, 4, 1, 2, 3))
                yield list(range(window_index, window_index + len(batch))), logits
                window_index += len(batch)
            needed = indices_wl[window_index, 0] if window_index < len(starts) else buffer_start + len(buffer)
            buffer, buffer_start = buffer[needed - buffer_start :], int(needed)

    def _score_convolutional(self, split: SplitNetwork, starts: NDArray[np.int64]) -> Iterator[WindowLogits]:
        """Run the whole network along the video, separately for each phase of the clip's frame stride.

        With a stride above 1, the timesteps between those of one window belong to windows of other phases.
        """
        length, stride = self.preprocessing.clip_length, self.preprocessing.frame_stride
        offsets = starts - starts[0]
        phases = {int(phase): np.flatnonzero(offsets % stride == phase) for phase in np.unique(offsets % stride)}
        streams = {
            phase: FeatureStream(split, (offsets[window_indices] // stride).tolist(), length)
            for phase, window_indices in phases.items()
        }
        used = np.arange(self._count_timesteps() - starts[0])
        first_used = np.array(
            [streams[phase].first_frame if phase in streams else len(used) for phase in range(stride)]
        )
        used = used[used // stride >= first_used[used % stride]]
        failure, num_read = None, 0
        try:
            for frames in self._read_network_inputs(starts[0] + used):
                maps = split.compute_frame_maps(frames)[0].permute(1, 2, 3, 0)  # (T, H, W, C)
                map_phases = used[num_read : num_read + len(maps)] % stride
                num_read += len(maps)
                for phase, stream in streams.items():
                    phase_maps = maps[torch.from_numpy(map_phases == phase).to(self.device)]
                    yield from _classify(split, phases[phase], stream.push(phase_maps))
        except VideoError as error:
            failure = error
        if num_read:
            is_complete = offsets + (length - 1) * stride <= used[num_read - 1]
            for phase, stream in streams.items():
                remaining = [(index, row) for index, row in stream.finish() if is_complete[phases[phase][index]]]
                yield from _classify(split, phases[phase], remaining)
        if failure is not None:
            raise failure

    def _count_timesteps(self) -> int:
        return len(compute_timestep_ticks(self.source.read_frame_times(self.video), self.preprocessing))

    def _read_network_inputs(self, indices: NDArray[np.int64]) -> Iterator[Tensor]:
        """Network inputs (1, C, T, crop, crop) of the timesteps `indices` (increasing), in chunks."""
        ticks = compute_timestep_ticks(self.source.read_frame_times(self.video), self.preprocessing)[indices]
        for view in create_clip_reader(get_file_source(self.source), self.preprocessing).read_timesteps(
            self.video, ticks
        ):
            yield prepare_network_input(collate_views([view]), self.preprocessing, self.device)


def _classify(
    split: SplitNetwork, window_indices: NDArray[np.int64], features_by_index: list[tuple[int, Tensor]]
) -> Iterator[WindowLogits]:
    if features_by_index:
        logits = split.classify(torch.stack([features for _, features in features_by_index]))
        yield [int(window_indices[index]) for index, _ in features_by_index], split.fetch(logits)
