"""The scores of several networks fused: two streams, RGB and optical flow, or any number (paper section 4).

Enter: score files of the same videos. Leaves: a `Fusion`, the weighted mean of their probabilities. Where all files have as
many views a video, views are matched by (video, number of the view): the k-th clip of the flow network begins where the k-th
of the RGB network does, up to the frame that flow needs more. Otherwise the videos' own scores are fused. What cannot be
fused, a video that one file lacks or could not read, is counted as failed: wrong among all videos, never dropped. Pure numpy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from muybridge.datasets.manifest import match_classes
from muybridge.evaluation.aggregate import BLOCK_ROWS, VideoScores, best_ranks, mean_scores, softmax, video_scores
from muybridge.evaluation.metrics import Accuracy, accuracy
from muybridge.evaluation.scores import Scores, video_numbers

Level = Literal["view", "video"]
NUM_NAMED = 3  # videos named in a sentence
FAILED, ABSENT = -1, -2  # instead of the number of a row


@dataclass(frozen=True)
class Fusion:
    """Several score files and their mean.

    `scores` and `accuracy` are the mean's; the protocol in them is that of the first member, so quote `sentence` with
    them. Fused by video, clip@1 has no meaning. `problems` are sentences on what could not be fused.
    """

    names: tuple[str, ...]
    shares: tuple[float, ...]
    level: Level
    members: tuple[Accuracy, ...]
    scores: VideoScores
    accuracy: Accuracy
    problems: tuple[str, ...]

    def sentence(self) -> str:
        """How the mean was made, for people."""
        parts = [
            f"{share:.2f} x {name} ({member.protocol.sentence()})"
            for name, share, member in zip(self.names, self.shares, self.members, strict=True)
        ]
        return f"fused by {self.level}: {' + '.join(parts)}"

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values, without the scores."""
        fused = self.accuracy.to_json()
        del fused["protocol"]
        if self.level == "video":
            del fused["clip_top1"]
        members = [
            {"scores": name, "weight": share, "accuracy": member.to_json()}
            for name, share, member in zip(self.names, self.shares, self.members, strict=True)
        ]
        return {
            "level": self.level,
            "sentence": self.sentence(),
            "members": members,
            "fused": fused,
            "problems": list(self.problems),
        }


def fuse(members: Sequence[Scores], weights: Sequence[float], *, names: Sequence[str] | None = None) -> Fusion:
    """The weighted mean of the probabilities of two or more score files; `names` are what problems call them.

    ValueError says what differs where the files do not belong together: split, fold, classes, labels, or no common video.
    """
    names = tuple(names or (f"file {number}" for number in range(1, len(members) + 1)))
    shares = mean_shares(weights, len(members))
    orders = _class_orders(members, names)
    videos = tuple(dict.fromkeys(name for member in members for name in video_numbers(member.table)[1]))
    problems = _missing(members, names)
    labels = _labels(members, names, orders, videos)
    level: Level = "view" if len({member.header.protocol.clips for member in members}) == 1 else "video"
    match level:
        case "view":
            fused, partial = _by_view(members, shares, orders, videos, labels)
            if partial:
                problems += (f"{partial} views are scored in some of the files only; they are left out of all",)
        case "video":
            fused = _by_video(members, shares, orders, videos, labels)
    of_members = tuple(accuracy(video_scores(member)) for member in members)
    return Fusion(names, shares, level, of_members, fused, accuracy(fused), problems)


def mean_shares(weights: Sequence[float], num_members: int) -> tuple[float, ...]:
    """Weights as shares of 1; ValueError where they are not one for each member, positive in all and never negative."""
    if num_members < 2:
        raise ValueError(f"two or more are needed to fuse, not {num_members}")
    if len(weights) != num_members:
        raise ValueError(f"{len(weights)} weights were given for {num_members} to fuse; give one for each")
    if any(not (math.isfinite(weight) and weight >= 0) for weight in weights) or not sum(weights) > 0:
        raise ValueError(f"weights must not be negative, and one must be positive, not {' '.join(map(str, weights))}")
    return tuple(weight / sum(weights) for weight in weights)


def _class_orders(members: Sequence[Scores], names: Sequence[str]) -> list[NDArray[np.int64]]:
    """For each file, where the classes of the first one stand in it."""
    first = members[0].header
    orders = []
    for member, name in zip(members, names, strict=True):
        header = member.header
        if (header.split, header.fold) != (first.split, first.fold):
            raise ValueError(
                f"{names[0]} is of split {first.split}, fold {first.fold}, but {name} of split {header.split}, "
                f"fold {header.fold}; fuse scores of the same videos"
            )
        try:
            match_classes(header.classes, first.classes)
            orders.append(np.array(match_classes(first.classes, header.classes), np.int64))
        except ValueError as error:
            raise ValueError(f"{names[0]} and {name} are not of the same classes: {error}") from error
    return orders


def _missing(members: Sequence[Scores], names: Sequence[str]) -> tuple[str, ...]:
    """A sentence for each file that lacks videos of another one."""
    present = [dict.fromkeys(video_numbers(member.table)[1]) for member in members]
    everywhere = set(present[0]).intersection(*present[1:])
    if not everywhere:
        raise ValueError(f"{' and '.join(names)} have no video in common; fuse scores of the same videos")
    videos = dict.fromkeys(video for of_member in present for video in of_member)
    sentences = []
    for name, of_member in zip(names, present, strict=True):
        lacking = [video for video in videos if video not in of_member]
        if lacking:
            more = f" and {len(lacking) - NUM_NAMED} more" if len(lacking) > NUM_NAMED else ""
            sentences.append(
                f"{name} lacks {len(lacking)} of {len(videos)} videos ({', '.join(lacking[:NUM_NAMED])}{more}); "
                "they are counted as failed"
            )
    return tuple(sentences)


def _labels(
    members: Sequence[Scores], names: Sequence[str], orders: Sequence[NDArray[np.int64]], videos: Sequence[str]
) -> list[tuple[int, ...]]:
    """The labels of each video as classes of the first file; ValueError where two files contradict each other."""
    known: dict[str, tuple[int, ...]] = {}
    for member, name, order in zip(members, names, orders, strict=True):
        to_first = np.argsort(order)
        number, of_member = video_numbers(member.table)
        _, first_rows = np.unique(number, return_index=True)
        for video, labels in zip(of_member, member.table["labels"].take(pa.array(first_rows)).to_pylist(), strict=True):
            found = tuple(int(to_first[label]) for label in labels)
            if set(known.setdefault(video, found)) != set(found):
                raise ValueError(f"{video} has other labels in {name} than in {names[0]}; fuse scores of the same data")
    return [known[video] for video in videos]


def _by_view(
    members: Sequence[Scores],
    shares: Sequence[float],
    orders: Sequence[NDArray[np.int64]],
    videos: tuple[str, ...],
    labels: Sequence[tuple[int, ...]],
) -> tuple[VideoScores, int]:
    """The mean over views that all files scored; also how many views only some of them did."""
    header = members[0].header
    clips, num_classes = header.protocol.clips, len(header.classes)
    rows = np.stack([_scored_rows(member, videos) for member in members])  # (files, videos * clips)
    common = np.all(rows >= 0, axis=0)
    in_all_files = np.all(rows != ABSENT, axis=0)
    partial = int(np.count_nonzero(np.any(rows >= 0, axis=0) & ~common & in_all_files))
    probabilities = np.full((len(videos), num_classes), np.nan)
    num_right = np.zeros(len(videos), np.int64)
    places = np.flatnonzero(common)
    for first in range(0, len(videos), max(1, BLOCK_ROWS // clips)):
        last = first + max(1, BLOCK_ROWS // clips)
        block = places[(places >= first * clips) & (places < last * clips)]
        if not len(block):
            continue
        video = block // clips
        of_views = np.zeros((len(block), num_classes))
        of_videos = np.zeros((len(np.unique(video)), num_classes))
        for member, share, order, member_rows in zip(members, shares, orders, rows[:, block], strict=True):
            logits = pc.list_flatten(member.table["logits"].take(pa.array(member_rows))).to_numpy()
            logits = logits.reshape(len(block), num_classes)[:, order].astype(np.float64)
            of_views += share * softmax(logits)
            present, means = mean_scores(logits, video, average=member.header.protocol.average)
            of_videos += share * means
        probabilities[present] = of_videos
        np.add.at(num_right, video[_right(of_views, [labels[number] for number in video.tolist()])], 1)
    num_common = np.bincount(places // clips, minlength=len(videos))
    num_views = np.full(len(videos), clips, np.int64)
    failed = num_views - num_common
    return VideoScores(header, videos, tuple(labels), probabilities, num_views, failed, num_right), partial


def _scored_rows(member: Scores, videos: Sequence[str]) -> NDArray[np.int64]:
    """For every view of every video, (videos * clips,), the row of `member` that has its scores.

    FAILED where the view has none, ABSENT where the file does not know the video.
    """
    clips = member.header.protocol.clips
    place = {video: number for number, video in enumerate(videos)}
    number, names = video_numbers(member.table)
    keys = np.array([place[name] for name in names], np.int64)[number] * clips + member.table["view"].to_numpy()
    scored = np.flatnonzero(member.table["logits"].is_valid().to_numpy())
    rows = np.full(len(videos) * clips, ABSENT, np.int64)
    rows[keys] = FAILED
    rows[keys[scored]] = scored
    return rows


def _by_video(
    members: Sequence[Scores],
    shares: Sequence[float],
    orders: Sequence[NDArray[np.int64]],
    videos: tuple[str, ...],
    labels: Sequence[tuple[int, ...]],
) -> VideoScores:
    """The mean of the videos' scores; each video counts as one view."""
    header = members[0].header
    place = {video: number for number, video in enumerate(videos)}
    probabilities = np.zeros((len(videos), len(header.classes)))
    for member, share, order in zip(members, shares, orders, strict=True):
        own = video_scores(member)
        aligned = np.full_like(probabilities, np.nan)  # NaN stays NaN in a sum: what one file lacks is not fused
        aligned[[place[video] for video in own.videos]] = own.probabilities[:, order]
        probabilities += share * aligned
    failed = np.isnan(probabilities.sum(axis=1))
    right = np.zeros(len(videos), np.int64)
    readable = np.flatnonzero(~failed)
    right[readable[_right(probabilities[readable], [labels[number] for number in readable.tolist()])]] = 1
    ones = np.ones(len(videos), np.int64)
    return VideoScores(header, videos, tuple(labels), probabilities, ones, np.where(failed, 1, 0), right)


def _right(scores_nc: NDArray[np.float64], labels: Sequence[tuple[int, ...]]) -> NDArray[np.intp]:
    """The rows whose first class is one of their labels."""
    rows = np.repeat(np.arange(len(labels)), [len(of_row) for of_row in labels])
    flat = np.array([label for of_row in labels for label in of_row], np.int64)
    return np.flatnonzero(best_ranks(scores_nc, rows, flat) == 0)
