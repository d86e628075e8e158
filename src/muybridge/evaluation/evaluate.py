"""A data set scored by the evaluation protocol: what `muybridge evaluate` runs, and validation during training alike.

Enter: a manifest of one split and a `Scorer`. Leave: a score file, and the accuracy that is read off that file.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import torch

from muybridge.datasets.manifest import Manifest
from muybridge.distributed.gather import broadcast_from_rank0, gather_rounds
from muybridge.distributed.rank import current_rank
from muybridge.evaluation.metrics import Accuracy, Rate, compute_accuracy
from muybridge.evaluation.protocol import EvaluationProtocol
from muybridge.evaluation.scores import ScoresHeader, score_views, write_scores
from muybridge.evaluation.video_scores import VideoScoresWriter, aggregate_record_batch, read_video_scores
from muybridge.loading.clip_reader import open_clip_reader
from muybridge.loading.datasets import EvaluationDataset
from muybridge.loading.draws import VideoBatchSampler
from muybridge.loading.loader import load_evaluation_batches
from muybridge.records import Preprocessing, Scorer
from muybridge.settings import EvaluationSettings, LoadingSettings


@dataclass(frozen=True)
class EvaluationJob:
    """What is evaluated and how, apart from who scores it. `manifest` is of one split, its labels the model's classes."""

    manifest: Manifest
    split: str
    fold: int | None
    preprocessing: Preprocessing
    model_sha256: str
    evaluation: EvaluationSettings
    loading: LoadingSettings

    def make_header(self) -> ScoresHeader:
        """What the score file will say of itself."""
        return ScoresHeader(
            classes=self.manifest.classes,
            protocol=EvaluationProtocol.from_settings(self.evaluation, self.preprocessing),
            split=self.split,
            fold=self.fold,
            model_sha256=self.model_sha256,
            manifest_sha256=self.manifest.compute_sha256(),
            num_videos=len(self.manifest),
        )


@dataclass(frozen=True)
class EvaluationResult:
    """The accuracy of a score file, and how many of its videos were shorter than a clip and repeated in a loop."""

    accuracy: Accuracy
    num_looped_videos: int


def evaluate(
    job: EvaluationJob,
    scorer: Scorer,
    path: Path,
    *,
    device: torch.device,
    on_progress: Callable[[int], None] | None = None,
) -> EvaluationResult:
    """Scores every planned view of every video into the file `path`. `finished` hears how many videos are done so far.

    With `evaluation.keep videos` the file keeps a row a video, and what an evaluation that ended early has done stays done.
    Under torchrun every rank comes here and scores its share of the batches; rank 0 writes, and all get the result. `finished`
    is then called by all, equally often.
    """
    rank, header, num_videos = current_rank(), job.make_header(), len(job.manifest)
    averages_views = job.evaluation.keep == "videos"
    writer = VideoScoresWriter(path, header) if averages_views and rank.is_rank0 else None
    first_video = broadcast_from_rank0(writer.num_done if writer else 0, rank)
    reader = open_clip_reader(job.manifest.root, job.preprocessing)
    views = EvaluationDataset(job.manifest, reader, job.evaluation.clips)
    videos = VideoBatchSampler(num_videos, job.evaluation.videos_per_batch, rank, first_video)
    batches = load_evaluation_batches(views, videos, job.loading, pin_memory=device.type == "cuda")

    def iterate_local_rows() -> Iterator[tuple[pa.RecordBatch, int]]:
        for batch in batches:
            (rows,) = score_views((batch,), scorer, preprocessing=job.preprocessing, device=device)
            yield (
                aggregate_record_batch(rows, header, batch.num_looped_videos) if averages_views else rows,
                batch.num_looped_videos,
            )

    def iterate_gathered_rows() -> Iterator[tuple[pa.RecordBatch, int]]:
        for num_batches, gathered_rows in gather_rounds(iterate_local_rows(), videos.num_batches, rank):
            yield from gathered_rows
            if on_progress:
                on_progress(min(num_videos, first_video + num_batches * videos.videos_per_batch))

    result = None
    if rank.is_rank0:
        num_looped = (
            writer.write(rows for rows, _ in iterate_gathered_rows())
            if writer
            else _write_view_scores(path, iterate_gathered_rows(), header)
        )
        result = EvaluationResult(compute_accuracy(read_video_scores(path)), num_looped)
    else:
        deque(iterate_gathered_rows(), maxlen=0)
    result = broadcast_from_rank0(result, rank)
    assert result is not None
    return result


def _write_view_scores(path: Path, batches: Iterable[tuple[pa.RecordBatch, int]], header: ScoresHeader) -> int:
    """The file with a row a view; how many videos repeat in a loop."""
    num_looped = 0

    def iterate_and_count() -> Iterator[pa.RecordBatch]:
        nonlocal num_looped
        for rows, looped in batches:
            num_looped += looped
            yield rows

    write_scores(path, iterate_and_count(), header)
    return num_looped


def format_accuracy(measured: Accuracy) -> str:
    """The three figures over all videos in one line."""
    top1, top5 = measured.video_top1.of_all, measured.video_top5.of_all
    line = (
        f"clip@1 {format_percent(measured.clip_top1.of_all)}  video@1 {format_percent(top1)} "
        f"[{100 * top1.low:.1f}, {100 * top1.high:.1f}]  "
        f"video@5 {format_percent(top5)}  of {top1.of} videos"
    )
    return f"{line}, {measured.num_failed_videos} of them unreadable" if measured.num_failed_videos else line


def format_percent(rate: Rate) -> str:
    """`52.8 %`, or a dash where there was nothing to count."""
    return f"{100 * rate.share:.1f} %" if rate.of else "-"
