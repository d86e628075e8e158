"""`muybridge predict -o predictions.parquet` or `.csv`: one table of the classes of many videos, and a summary of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muybridge.cli.output import compute_exit_code, print_json
from muybridge.distributed.stop import stop_on_signals
from muybridge.files.atomic import is_stream
from muybridge.terminal import print_lines
from muybridge.text import format_count, sanitize_text

if TYPE_CHECKING:
    from muybridge.kernels.precision import RequestedPrecision
    from muybridge.prediction.inputs import VideoInputs
    from muybridge.prediction.predictions_summary import PredictionsSummary
    from muybridge.prediction.recognizer import Prediction
    from muybridge.records import TimeOrigin
    from muybridge.weights.card import Card

_MAX_CLASSES_SHOWN = 20


@dataclass(frozen=True)
class TableOptions:
    """Options of `muybridge predict` that decide a table."""

    output: str
    json: bool
    ray: str | None
    clips: int
    top: int
    device: str
    precision: RequestedPrecision
    workers: int | None
    source_fps: float | None
    time_origin: TimeOrigin


def write_table(run: str, inputs: VideoInputs, options: TableOptions) -> int:
    """Writes one row for each video, and prints a summary; an interrupted table is resumed."""
    from muybridge.console import create_progress
    from muybridge.prediction.tables import PredictionsWriter
    from muybridge.weights.address import load_weights

    card = load_weights(run)[1]
    options = _resolve_execution(options)
    if options.ray:
        inputs = inputs.make_absolute()
    videos = inputs.videos
    late_settings = _describe_network(card, options)
    with (
        stop_on_signals("video") as stop,
        PredictionsWriter(
            options.output, _describe_rows(card, options), card.head, late_settings=late_settings
        ) as writer,
        create_progress() as bar,
    ):
        pending = writer.select_pending(videos)
        task = bar.add_task("videos", total=len(videos), completed=len(videos) - len(pending))
        failures = [inputs.make_failure(video) for video in pending if video in inputs.problems]
        readable = [video for video in pending if video not in inputs.problems]
        predictions = _predict_rows(run, readable, inputs.get_rates(readable), options)
        for prediction in chain(failures, predictions):
            writer.add(prediction)
            bar.advance(task)
            stop.raise_if_requested()
        summary = writer.finish(videos)
    if options.json:
        print_json({"predictions": options.output, **summary.to_json()})
    else:
        # Standard output may be the file: -o /dev/stdout.
        is_file = is_stream(Path(options.output))
        counts = f"{format_count(len(videos), 'video')}, {summary.num_failed} of them failed: {options.output}"
        print_lines([counts, *_format_summary(summary)], error=is_file)
    return compute_exit_code(summary.num_failed, len(videos))


def _resolve_execution(options: TableOptions) -> TableOptions:
    """The options with the precision that `auto` stands for, on GPUs of a Ray cluster that of one of them."""
    from muybridge.inference.scorer import resolve_device
    from muybridge.kernels.precision import choose_inference_precision

    device = "cpu" if options.ray and options.device == "auto" else options.device
    options = replace(options, device=device)
    if options.ray and device != "cpu":
        if options.precision != "auto":
            return options
        from muybridge.prediction.ray import choose_precision_on_ray

        return replace(options, precision=choose_precision_on_ray(options.ray, device))
    return replace(options, precision=choose_inference_precision(options.precision, resolve_device(device)))


def _describe_rows(card: Card, options: TableOptions) -> dict[str, Any]:
    """What the rows of a file have in common; an unfinished one of other settings is not resumed."""
    return {
        "model_sha256": card.tensors_sha256,
        "clips": options.clips,
        "top": options.top,
        **({} if options.source_fps is None else {"source_fps": options.source_fps}),
        **({} if options.time_origin == "picture" else {"time_origin": options.time_origin}),
        "precision": options.precision,
    }


def _describe_network(card: Card, options: TableOptions) -> dict[str, Any]:
    """What decides the rows besides, and older versions did not record: the same tensors may be imported in another way."""
    return {
        "specification": card.specification.to_json(),
        "preprocessing": card.preprocessing.to_json(),
        "classes_sha256": hashlib.sha256(json.dumps(card.classes).encode()).hexdigest(),
        "precision": options.precision,
    }


def _format_summary(summary: PredictionsSummary) -> list[str]:
    """Videos by most probable class, and failed ones with an example for each status."""
    num_predicted = summary.num_videos - summary.num_failed
    lines = [
        f"  {count:7} {100 * count / num_predicted:5.1f} %  {label}"
        for label, count in list(summary.classes.items())[:_MAX_CLASSES_SHOWN]
    ]
    lines += [
        f"  {sanitize_text(name)}: {low:.4g} to {high:.4g}, {mean:.4g} in the mean{f' ({unit})' * bool(unit)}"
        for name, (low, mean, high, unit) in summary.values.items()
    ]
    if (num_hidden := len(summary.classes) - _MAX_CLASSES_SHOWN) > 0:
        lines.append(f"  and {format_count(num_hidden, 'other class')}")
    for status, count in summary.failures.items():
        video, reason = summary.examples[status]
        lines.append(f"  {count:7} {status}, such as {video} ({reason})")
    return lines


def _predict_rows(
    run: str,
    videos: Sequence[str],
    rates: Sequence[float | None],
    options: TableOptions,
) -> Iterator[Prediction]:
    clips, top = options.clips, options.top
    if options.ray:
        from muybridge.prediction.ray import predict_on_ray

        run = str(Path(run).absolute()) if Path(run).exists() else run
        assert options.precision != "auto", "one precision for all workers"
        loading = (options.device, options.precision, options.time_origin)
        yield from predict_on_ray(run, videos, address=options.ray, loading=loading, clips=clips, top=top, rates=rates)
        return
    from muybridge.prediction.recognizer import load

    recognizer = load(run, options.device, options.precision, time_origin=options.time_origin)
    yield from recognizer.predict_each(videos, clips=clips, top=top, source_fps=rates, workers=options.workers)
