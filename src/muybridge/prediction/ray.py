"""Prediction on a Ray cluster (extra `ray`), one task a video.

Input: names of videos. Output: `Prediction`s in order of completion. A worker loads the network once and keeps it for later
videos. A video that cannot be read, or whose workers die repeatedly, gives a `Prediction` with that status and reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NoReturn

from muybridge.distributed.ray_tasks import run_on_ray
from muybridge.inference.scorer import resolve_device
from muybridge.kernels.precision import Precision, choose_inference_precision
from muybridge.prediction.recognizer import Prediction, Recognizer, load
from muybridge.records import TimeOrigin

LoadArguments = tuple[str, Precision, TimeOrigin]
"""Device, precision and time origin, as `load` takes them."""


def predict_on_ray(
    run: str,
    videos: Sequence[str],
    *,
    address: str,
    loading: LoadArguments,
    clips: int,
    top: int,
    rates: Sequence[float | None],
) -> Iterator[Prediction]:
    """Run `predict` of the recognizer on each video, `rates` being their `source_fps`.

    A worker gets one GPU if the device is cuda, else one core. Raises ValueError where the device of any of them has no fast
    path for the precision.
    """
    results = run_on_ray(
        _predict_one,
        ((video, (run, loading, video, clips, top, rate)) for video, rate in zip(videos, rates, strict=True)),
        address=address,
        num_gpus=1 if loading[0].startswith("cuda") else 0,
        on_worker_lost=lambda video, reason: Prediction(video, "unreadable", reason),
    )
    return (prediction for _, prediction in results)


def choose_precision_on_ray(address: str, device: str) -> Precision:
    """What `auto` is for all workers: the choice of one GPU of the cluster, since the rows of a table are of one precision.

    Raises ValueError where no worker answers.
    """
    jobs = [("auto", (device,))]
    results = run_on_ray(_choose_precision, jobs, address=address, num_gpus=1, on_worker_lost=_refuse)
    return next(precision for _, precision in list(results))


def _choose_precision(device: str) -> Precision:
    return choose_inference_precision("auto", resolve_device(device))


def _refuse(name: str, reason: str) -> NoReturn:
    raise ValueError(
        f"no precision can be chosen on the Ray cluster for {name}, since {reason}; add --precision bf16 or fp32"
    )


def _predict_one(run: str, loading: LoadArguments, video: str, clips: int, top: int, rate: float | None) -> Prediction:
    return _load_recognizer(run, loading).predict(video, clips=clips, top=top, source_fps=rate)


@lru_cache(maxsize=1)
def _load_recognizer(run: str, loading: LoadArguments) -> Recognizer:
    device, precision, time_origin = loading
    return load(run, device, precision, time_origin=time_origin)
