"""A data set scored by the evaluation protocol: what `muybridge evaluate` runs, and validation during training alike.

Enter: a manifest of one split and a `Scorer`. Leave: a score file, and the accuracy that is read off that file.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
import torch.distributed as dist

from muybridge.data.loader import EvaluationBatch, EvaluationViews, WholeVideos, evaluation_batches, frame_source
from muybridge.data.manifest import Manifest
from muybridge.evaluation.aggregate import video_scores
from muybridge.evaluation.gather import rounds
from muybridge.evaluation.metrics import Accuracy, Rate, accuracy
from muybridge.evaluation.protocol import EvaluationProtocol
from muybridge.evaluation.score import ScoresHeader, read_scores, score_views, write_scores
from muybridge.processes import Place, place
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

    Under torchrun every rank comes here and scores its share of the batches; rank 0 writes, and all get the result. `finished`
    is then called by all, equally often.
    """
    here, num_videos = place(), len(examination.manifest)
    source = frame_source(examination.manifest.root, examination.preprocessing)
    views = EvaluationViews(examination.manifest, source, examination.preprocessing, examination.evaluation.clips)
    videos = WholeVideos(num_videos, examination.evaluation.videos_per_batch, here)
    batches = evaluation_batches(views, videos, examination.loading, pin_memory=device.type == "cuda")
    num_looped = 0

    def counted() -> Iterator[EvaluationBatch]:
        nonlocal num_looped
        for batch in batches:
            num_looped += batch.num_looped_videos
            yield batch

    def told() -> Iterator[pa.RecordBatch]:
        scored = score_views(counted(), scorer, preprocessing=examination.preprocessing, device=device)
        for num_batches, rows in rounds(scored, videos.num_batches, here):
            yield from rows
            if finished:
                finished(min(num_videos, num_batches * videos.videos_per_batch))

    if here.is_first:
        write_scores(path, told(), examination.header())
        measured = accuracy(video_scores(read_scores(path)))
    else:
        deque(told(), maxlen=0)
        measured = None
    return everyones_result(measured, num_looped, here)


def everyones_result(measured: Accuracy | None, num_looped: int, here: Place) -> Result:
    """The result on every rank: the accuracy that rank 0 has read off the file, the looped videos of all."""
    if here.world_size > 1:
        found: list[Any] = [None] * here.world_size
        dist.all_gather_object(found, (measured, num_looped))
        measured, num_looped = found[0][0], sum(looped for _, looped in found)
    assert measured is not None
    return Result(measured, num_looped)


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
