"""Logits of windows along a video: frames are decoded once, and what windows share is computed once.

Enter: where the windows of a video start, among its moments. Leave: their logits, some windows at a time. Two modes:
"windows" is exact, each window as the clip that it is, up to rounding; "convolutional" is one pass along the video
(`models.windows`). Memory does not grow with the video, but for its time stamps and the scores themselves.
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
from muybridge.inference.streaming import FeatureStream, SplitNetwork, check_convolutional
from muybridge.loading.frame_stream import read_moments
from muybridge.prediction.timeline import TimelineMode
from muybridge.records import FrameSource, Preprocessing, Scorer, VideoError
from muybridge.video.sampling import moments
from muybridge.video.views import batched, network_input

BATCH_CLIPS = 10  # in the network at once: all of a video by the usual protocol; about 1 GB for R(2+1)D at width 64

Scored = tuple[list[int], Tensor]  # the numbers of windows, and their logits (N, classes) on the CPU
_Network = Callable[[Tensor], Tensor]


def check_mode(scorer: Scorer, mode: TimelineMode) -> None:
    """ValueError where `scorer` cannot score windows in this way."""
    if mode == "windows":
        return
    network = _optimized(scorer)
    if network is None:
        raise ValueError("an .onnx file takes whole clips; run along a video the weights it was exported from")
    check_convolutional(network)


def _optimized(scorer: Scorer) -> InferenceNetwork | None:
    network = scorer.network if isinstance(scorer, NetworkScorer) else None
    return network if isinstance(network, InferenceNetwork) else None


@dataclass(frozen=True)
class WindowReader:
    """Windows of one video that is longer than a clip."""

    source: FrameSource
    video: str
    preprocessing: Preprocessing
    device: torch.device

    def scores(self, scorer: Scorer, starts: NDArray[np.int64], mode: TimelineMode) -> Iterator[Scored]:
        """Logits of the windows that begin at the moments `starts` (increasing). Numbers are places in `starts`.

        Raises VideoError where a frame cannot be read; in convolutional mode all windows before that frame were given then.
        """
        network = _optimized(scorer)
        if mode == "convolutional":
            assert network is not None, "check_mode was asked"
            return self._convolutional(SplitNetwork(network), starts)
        split = None if network is None else SplitNetwork(network)
        if split is None or not split.frame_layers:
            return self._window_by_window(starts, lambda frames: frames, lambda maps: scorer(maps.contiguous()))
        return self._window_by_window(starts, split.frame_maps, split.logits)

    def _window_by_window(
        self, starts: NDArray[np.int64], of_frames: _Network, of_windows: _Network
    ) -> Iterator[Scored]:
        """`of_frames` once a moment, `of_windows` on what each window has of it."""
        span = np.arange(self.preprocessing.clip_length) * self.preprocessing.frame_stride
        used, places_wl = np.unique(starts[:, None] + span, return_inverse=True)
        places_wl = places_wl.reshape(len(starts), -1)  # numpy 2.0 alone gives it this shape
        held, first, number = None, 0, 0
        for frames in self._moments(used):
            maps = of_frames(frames)[0].permute(1, 2, 3, 0)  # (T, H, W, C)
            held = maps if held is None else torch.cat([held, maps])
            while number < len(starts):
                batch = places_wl[number : number + BATCH_CLIPS]
                if batch[-1, -1] >= first + len(held):
                    break
                windows = held[torch.from_numpy(batch - first).to(self.device)]  # (N, L, H, W, C)
                logits = of_windows(windows.permute(0, 4, 1, 2, 3))
                yield list(range(number, number + len(batch))), logits.float().cpu()
                number += len(batch)
            needed = places_wl[number, 0] if number < len(starts) else first + len(held)
            held, first = held[needed - first :], int(needed)

    def _convolutional(self, split: SplitNetwork, starts: NDArray[np.int64]) -> Iterator[Scored]:
        """The frames that a clip's stride leaves out belong to other clips: every phase of it is a video of its own."""
        length, stride = self.preprocessing.clip_length, self.preprocessing.frame_stride
        places = starts - starts[0]
        phases = {int(phase): np.flatnonzero(places % stride == phase) for phase in np.unique(places % stride)}
        streams = {
            phase: FeatureStream(split, (places[own] // stride).tolist(), length) for phase, own in phases.items()
        }
        used = np.arange(self._num_moments() - starts[0])
        first_used = np.array([streams[phase].begin if phase in streams else len(used) for phase in range(stride)])
        used = used[used // stride >= first_used[used % stride]]
        failure, num_read = None, 0
        try:
            for frames in self._moments(starts[0] + used):
                maps = split.frame_maps(frames)[0].permute(1, 2, 3, 0)  # (T, H, W, C)
                phase_of = used[num_read : num_read + len(maps)] % stride
                num_read += len(maps)
                for phase, stream in streams.items():
                    own_maps = maps[torch.from_numpy(phase_of == phase).to(self.device)]
                    yield from _classified(split, phases[phase], stream.push(own_maps))
        except VideoError as error:
            failure = error
        if num_read:
            whole = places + (length - 1) * stride <= used[num_read - 1]
            for phase, stream in streams.items():
                left = [(number, row) for number, row in stream.finish() if whole[phases[phase][number]]]
                yield from _classified(split, phases[phase], left)
        if failure is not None:
            raise failure

    def _num_moments(self) -> int:
        return len(moments(self.source.frame_times(self.video), self.preprocessing))

    def _moments(self, places: NDArray[np.int64]) -> Iterator[Tensor]:
        """The moments at `places` (increasing) as the network wants them, (1, C, T, crop, crop) some at a time."""
        ticks = moments(self.source.frame_times(self.video), self.preprocessing)[places]
        for view in read_moments(self.source, self.video, ticks, self.preprocessing):
            yield network_input(batched([view]), self.preprocessing, self.device)


def _classified(split: SplitNetwork, numbers: NDArray[np.int64], found: list[tuple[int, Tensor]]) -> Iterator[Scored]:
    if found:
        logits = split.classified(torch.stack([features for _, features in found]))
        yield [int(numbers[place]) for place, _ in found], logits.float().cpu()
