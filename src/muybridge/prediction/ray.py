"""Prediction on a Ray cluster (extra `ray`), one task a video.

Input: names of videos. Output: `Prediction`s in order of completion. A worker loads the network once and keeps it for later
videos. A video that cannot be read, or whose workers die repeatedly, gives a `Prediction` with that status and reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

from muybridge.distributed.ray_tasks import run_on_ray
from muybridge.kernels.precision import RequestedPrecision
from muybridge.prediction.recognizer import Prediction, Recognizer, load


def predict_on_ray(
    run: str,
    videos: Iterable[str],
    *,
    address: str,
    device: str,
    precision: RequestedPrecision = "auto",
    clips: int,
    top: int,
) -> Iterator[Prediction]:
    """Run `load(run, device, precision).predict` on each video; a worker gets one GPU if `device` is cuda, else one core."""
    results = run_on_ray(
        _predict_one,
        ((video, (run, device, precision, video, clips, top)) for video in videos),
        address=address,
        num_gpus=1 if device.startswith("cuda") else 0,
        on_worker_lost=lambda video, reason: Prediction(video, "unreadable", reason),
    )
    return (prediction for _, prediction in results)


def _predict_one(run: str, device: str, precision: RequestedPrecision, video: str, clips: int, top: int) -> Prediction:
    return _load_recognizer(run, device, precision).predict(video, clips=clips, top=top)


@lru_cache(maxsize=1)
def _load_recognizer(run: str, device: str, precision: RequestedPrecision) -> Recognizer:
    return load(run, device, precision)
