from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from muybridge.evaluation import aggregate
from muybridge.evaluation.aggregate import UNRANKED, compute_best_ranks, compute_video_scores
from muybridge.evaluation.scores import Scores, make_record_batch, read_scores, write_scores
from muybridge.evaluation.scores_header import ScoresHeader
from muybridge.records import PlannedView

Video = tuple[str, tuple[int, ...], list[list[float] | None]]


def plain_softmax(logits: Sequence[float]) -> list[float]:
    powers = [math.exp(value - max(logits)) for value in logits]
    return [power / math.fsum(powers) for power in powers]


def plain_mean(rows: Sequence[Sequence[float]]) -> list[float]:
    return [math.fsum(column) / len(rows) for column in zip(*rows, strict=True)]


def random_videos(chance: np.random.Generator, *, num_videos: int, clips: int, num_classes: int) -> list[Video]:
    """Any number of labels, none among them; any number of failed views, all among them; few values, so ties are common."""
    videos: list[Video] = []
    for number in range(num_videos):
        labels = tuple(int(label) for label in chance.permutation(num_classes)[: chance.integers(0, 3)])
        views = [
            None if chance.random() < 0.3 else [float(value) for value in chance.integers(-3, 4, num_classes)]
            for _ in range(clips)
        ]
        videos.append((f"folder/{chance.integers(10**6)}-{number}.mp4", labels, views))
    return videos


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("average", ["softmax", "logits"])
def test_against_plain_arithmetic(
    seed: int, average: str, new_scores: Callable[..., Scores], monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = np.random.default_rng(seed)
    num_classes, clips = int(chance.integers(2, 8)), int(chance.integers(1, 5))
    videos = random_videos(chance, num_videos=int(chance.integers(1, 12)), clips=clips, num_classes=num_classes)
    monkeypatch.setattr(aggregate, "BLOCK_ROWS", int(chance.integers(1, 12)))
    averaged = compute_video_scores(new_scores(videos, num_classes=num_classes, average=average))

    assert averaged.videos == tuple(name for name, _, _ in videos)
    assert averaged.labels == tuple(labels for _, labels, _ in videos)
    assert averaged.probabilities.dtype == np.float64
    for number, (_, labels, views) in enumerate(videos):
        read = [logits for logits in views if logits is not None]
        assert averaged.num_views[number] == clips
        assert averaged.num_failed_views[number] == clips - len(read)
        assert averaged.readable_mask[number] == (len(read) > 0)
        assert averaged.num_right_views[number] == sum(logits.index(max(logits)) in labels for logits in read)
        if not read:
            assert np.isnan(averaged.probabilities[number]).all()
        elif average == "softmax":
            assert averaged.probabilities[number] == pytest.approx(
                plain_mean([plain_softmax(v) for v in read]), abs=1e-14
            )
        else:
            assert averaged.probabilities[number] == pytest.approx(plain_softmax(plain_mean(read)), abs=1e-14)


def test_a_video_is_the_mean_of_its_own_views_not_of_its_batch(new_scores: Callable[..., Scores]) -> None:
    sure, unsure = [math.log(8.0), 0.0, 0.0], [0.0, 0.0, 0.0]
    averaged = compute_video_scores(
        new_scores(
            [("a", (0,), [sure, sure, unsure]), ("b", (0,), [None, sure, None]), ("c", (0,), [None, None, None])]
        )
    )
    assert averaged.probabilities[0] == pytest.approx([(0.8 + 0.8 + 1 / 3) / 3, (0.2 + 1 / 3) / 3, (0.2 + 1 / 3) / 3])
    assert averaged.probabilities[1] == pytest.approx(
        [0.8, 0.1, 0.1]
    )  # its one readable view, not that divided by three
    assert averaged.readable_mask.tolist() == [True, True, False]


def test_the_result_depends_neither_on_chunks_nor_on_the_order_of_rows(
    new_scores: Callable[..., Scores], monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = np.random.default_rng(5)
    videos = [
        (f"{number}", (number % 7,), [chance.normal(0, 5, 7).tolist() for _ in range(10)]) for number in range(40)
    ]
    scores = new_scores(videos, num_classes=7)
    expected = compute_video_scores(scores)
    by_name = np.argsort(expected.videos)
    order = np.arange(400).reshape(40, 10)[:, chance.permutation(10)].reshape(10, 4, 10).transpose(1, 0, 2).reshape(-1)
    monkeypatch.setattr(aggregate, "BLOCK_ROWS", 33)
    for table in (scores.table.combine_chunks(), pa.Table.from_batches(scores.table.combine_chunks().to_batches(7))):
        averaged = compute_video_scores(Scores(table, scores.header))
        assert np.array_equal(averaged.probabilities, expected.probabilities)  # to the last bit
    shuffled = compute_video_scores(Scores(scores.table.take(pa.array(order)), scores.header))
    assert shuffled.videos != expected.videos
    by_name_shuffled = np.argsort(shuffled.videos)
    assert np.array_equal(shuffled.probabilities[by_name_shuffled], expected.probabilities[by_name])
    assert np.array_equal(shuffled.num_right_views[by_name_shuffled], expected.num_right_views[by_name])


def test_large_logits_do_not_overflow(new_scores: Callable[..., Scores]) -> None:
    averaged = compute_video_scores(new_scores([("a", (1,), [[-3e38, 3e38, 3e38]])]))
    assert averaged.probabilities[0].tolist() == [0, 0.5, 0.5]


def test_the_rank_of_a_label() -> None:
    scores = np.array([[0.1, 0.5, 0.4], [0.2, 0.2, 0.6], [1.0, 1.0, 1.0]])

    def ranks(*pairs: tuple[int, int]) -> list[int]:
        rows, labels = np.array(pairs, np.int64).reshape(-1, 2).T
        return compute_best_ranks(scores, rows, labels).tolist()

    assert ranks((0, 0), (1, 1), (2, 2)) == [2, 2, 2]  # an equal score places the lower number first
    assert ranks((0, 1), (1, 0), (2, 0)) == [0, 1, 0]
    assert ranks((0, 0), (0, 2), (2, 1)) == [1, UNRANKED, 1]  # the best of several; none
    assert ranks() == [UNRANKED] * 3


def test_exactly_k_classes_are_among_the_first_k() -> None:
    chance = np.random.default_rng(0)
    scores = chance.integers(0, 3, (200, 6)).astype(np.float64)
    ranks = [compute_best_ranks(scores, np.arange(200), np.full(200, label)) for label in range(6)]
    assert (np.sort(np.stack(ranks), axis=0) == np.arange(6)[:, None]).all()


def test_many_rows(tmp_path: Path, new_header: Callable[..., ScoresHeader]) -> None:
    """20,000 views of 400 classes, a quarter of them failed, through the file."""
    chance = np.random.default_rng(1)
    num_videos, clips, num_classes = 2000, 10, 400
    failed = chance.random((num_videos, clips)) < 0.25
    failed[17] = True
    logits = chance.standard_normal((num_videos, clips, num_classes), dtype=np.float32)

    def batch(first: int) -> pa.RecordBatch:
        rows = [
            PlannedView(f"{video:05}.mp4", view, float(view), (video % num_classes,))
            if not failed[video, view]
            else PlannedView(f"{video:05}.mp4", view, None, (video % num_classes,), "missing", "not there")
            for video in range(first, first + 50)
            for view in range(clips)
        ]
        return make_record_batch(rows, logits[first : first + 50][~failed[first : first + 50]])

    path = tmp_path / "scores.parquet"
    header = new_header(num_videos, clips=clips, num_classes=num_classes)
    write_scores(path, map(batch, range(0, num_videos, 50)), header)
    averaged = compute_video_scores(read_scores(path))

    powers = np.exp(logits.astype(np.float64))
    kept = np.where(failed[..., None], 0, powers / powers.sum(-1, keepdims=True))
    read = (~failed).sum(1)
    expected = kept.sum(1)[read > 0] / read[read > 0, None]
    assert np.allclose(averaged.probabilities[read > 0], expected, rtol=1e-12, atol=0)
    assert np.isnan(averaged.probabilities[17]).all()
    assert averaged.num_failed_views.tolist() == failed.sum(1).tolist()
    right = (logits.argmax(-1) == (np.arange(num_videos) % num_classes)[:, None]) & ~failed
    assert averaged.num_right_views.tolist() == right.sum(1).tolist()
