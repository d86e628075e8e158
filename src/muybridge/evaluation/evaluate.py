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
from muybridge.distributed.gather import first_ones, rounds
from muybridge.distributed.rank import current_rank
from muybridge.evaluation.metrics import Accuracy, Rate, accuracy
from muybridge.evaluation.protocol import EvaluationProtocol
from muybridge.evaluation.scores import ScoresHeader, score_views, write_scores
from muybridge.evaluation.video_scores import VideoFile, of_videos, read_video_scores
from muybridge.loading.draws import WholeVideos
from muybridge.loading.loader import EvaluationViews, evaluation_batches, frame_source
from muybridge.records import Preprocessing, Scorer
from muybridge.settings import EvaluationSettings, LoadingSettings


@dataclass(frozen=True)
class Examination:
    """What is evaluated and how, apart from who scores it. `manifest` is of one split, its labels the model's classes."""

    manifest: Manifest
    split: str
    fold: int | None
    preprocessing: Preprocessing
    model_sha256: str
    evaluation: EvaluationSettings
    loading: LoadingSettings

    def header(self) -> ScoresHeader:
        """What the score file will say of itself."""
        return ScoresHeader(
            classes=self.manifest.classes,
            protocol=EvaluationProtocol.of(self.evaluation, self.preprocessing),
            split=self.split,
            fold=self.fold,
            model_sha256=self.model_sha256,
            manifest_sha256=self.manifest.sha256(),
            num_videos=len(self.manifest),
        )


@dataclass(frozen=True)
class Result:
    """The accuracy of a score file, and how many of its videos were shorter than a clip and repeated in a loop."""

    accuracy: Accuracy
    num_looped_videos: int


def evaluate(
    examination: Examination,
    scorer: Scorer,
    path: Path,
    *,
    device: torch.device,
    finished: Callable[[int], None] | None = None,
) -> Result:
    """Scores every planned view of every video into the file `path`. `finished` hears how many videos are done so far.

    With `evaluation.keep videos` the file keeps a row a video, and what an evaluation that ended early has done stays done.
    Under torchrun every rank comes here and scores its share of the batches; rank 0 writes, and all get the result. `finished`
    is then called by all, equally often.
    """
    here, header, num_videos = current_rank(), examination.header(), len(examination.manifest)
    averages = examination.evaluation.keep == "videos"
    begun = VideoFile(path, header) if averages and here.is_first else None
    first_video = first_ones(begun.num_done if begun else 0, here)
    source = frame_source(examination.manifest.root, examination.preprocessing)
    views = EvaluationViews(examination.manifest, source, examination.preprocessing, examination.evaluation.clips)
    videos = WholeVideos(num_videos, examination.evaluation.videos_per_batch, here, first_video)
    batches = evaluation_batches(views, videos, examination.loading, pin_memory=device.type == "cuda")

    def scored() -> Iterator[tuple[pa.RecordBatch, int]]:
        for batch in batches:
            (rows,) = score_views((batch,), scorer, preprocessing=examination.preprocessing, device=device)
            yield of_videos(rows, header, batch.num_looped_videos) if averages else rows, batch.num_looped_videos

    def told() -> Iterator[tuple[pa.RecordBatch, int]]:
        for num_batches, found in rounds(scored(), videos.num_batches, here):
            yield from found
            if finished:
                finished(min(num_videos, first_video + num_batches * videos.videos_per_batch))

    result = None
    if here.is_first:
        num_looped = begun.write(rows for rows, _ in told()) if begun else _write_views(path, told(), header)
        result = Result(accuracy(read_video_scores(path)), num_looped)
    else:
        deque(told(), maxlen=0)
    result = first_ones(result, here)
    assert result is not None
    return result


def _write_views(path: Path, batches: Iterable[tuple[pa.RecordBatch, int]], header: ScoresHeader) -> int:
    """The file with a row a view; how many videos repeat in a loop."""
    num_looped = 0

    def counted() -> Iterator[pa.RecordBatch]:
        nonlocal num_looped
        for rows, looped in batches:
            num_looped += looped
            yield rows

    write_scores(path, counted(), header)
    return num_looped


def sentence(measured: Accuracy) -> str:
    """The three figures over all videos in one line."""
    top1, top5 = measured.video_top1.of_all, measured.video_top5.of_all
    line = (
        f"clip@1 {percent(measured.clip_top1.of_all)}  video@1 {percent(top1)} [{100 * top1.low:.1f}, {100 * top1.high:.1f}]  "
        f"video@5 {percent(top5)}  of {top1.of} videos"
    )
    return f"{line}, {measured.num_failed_videos} of them unreadable" if measured.num_failed_videos else line


def percent(rate: Rate) -> str:
    """`52.8 %`, or a dash where there was nothing to count."""
    return f"{100 * rate.share:.1f} %" if rate.of else "-"
