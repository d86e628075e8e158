"""Predictions as tasks of a Ray cluster (extra `ray`): names of videos in, predictions out as they are done.

A worker loads the network once and keeps it for the videos that come after. A video that cannot be read, or whose workers die
again and again, is a `Prediction` that says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

from muybridge.distributed.ray_tasks import run_on_ray
from muybridge.prediction.recognizer import Prediction, Recognizer, load


def predict_on_ray(
    run: str, videos: Iterable[str], *, address: str, device: str, clips: int, top: int
) -> Iterator[Prediction]:
    """What `load(run, device).predict` says of each video; on `cuda` a worker has a GPU, else a core."""
    results = run_on_ray(
        _predict_one,
        ((video, (run, device, video, clips, top)) for video in videos),
        address=address,
        num_gpus=1 if device.startswith("cuda") else 0,
        on_worker_lost=lambda video, reason: Prediction(video, "unreadable", reason),
    )
    return (prediction for _, prediction in results)


def _predict_one(run: str, device: str, video: str, clips: int, top: int) -> Prediction:
    return _load_recognizer(run, device).predict(video, clips=clips, top=top)


@lru_cache(maxsize=1)
def _load_recognizer(run: str, device: str) -> Recognizer:
    return load(run, device)
