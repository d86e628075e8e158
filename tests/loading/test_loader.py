"""Draws depend on seed and number alone; evaluation plans hold every view once; failures are recorded."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from muybridge.datasets.manifest import Manifest
from muybridge.distributed.rank import Rank
from muybridge.loading import workers as workers_module
from muybridge.loading.clip_reader import create_clip_reader
from muybridge.loading.datasets import EvaluationBatch, EvaluationDataset, Failure, TrainingBatch, TrainingDataset
from muybridge.loading.draws import TrainingBatchSampler, VideoBatchSampler
from muybridge.loading.loader import load_evaluation_batches, load_training_batches
from muybridge.settings import LoadingSettings
from muybridge.video.decode import VideoFiles
from sources import NUM_FRAMES, SMALL, Counting, counted_manifest
from videos import write_video

NUM_VIDEOS, NUM_STEPS, BATCH = 7, 6, 4


def draws_of(
    source: Counting, *, seed: int = 5, mirror: bool = True, manifest: Manifest | None = None
) -> TrainingDataset:
    reader = create_clip_reader(source, SMALL)
    return TrainingDataset(manifest or counted_manifest(NUM_VIDEOS), reader, mirror=mirror, seed=seed)


def steps(first: int = 0, *, batch: int = BATCH, rank: Rank | None = None) -> TrainingBatchSampler:
    return TrainingBatchSampler(first, NUM_STEPS, batch, rank or Rank())


def batches_of(draws: TrainingDataset, sampler: TrainingBatchSampler, *, workers: int = 0) -> Iterator[TrainingBatch]:
    return load_training_batches(draws, sampler, LoadingSettings(workers=workers), pin_memory=False)


def clips(batches: Iterable[TrainingBatch]) -> list[tuple[Any, ...]]:
    """Everything about every readable clip, in order, as plain values."""
    actual: list[tuple[Any, ...]] = []
    for batch in batches:
        if batch.views is None:
            assert not batch.videos
            continue
        assert len(batch.views) == len(batch.videos) == len(batch.labels_n)
        actual += zip(
            batch.videos,
            batch.labels_n.tolist(),
            [luma.numpy().tobytes() for luma in batch.views.luma_nthw],
            [chroma.numpy().tobytes() for chroma in batch.views.chroma_ncthw],
            batch.views.corners,
            batch.views.mirrors,
            strict=True,
        )
    return actual


def test_a_draw_depends_on_seed_and_number_alone() -> None:
    once, again = (clips(batches_of(draws_of(Counting()), steps())) for _ in range(2))
    assert once == again
    assert len(once) == NUM_STEPS * BATCH
    assert once != clips(batches_of(draws_of(Counting(), seed=6), steps()))


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_are_the_same_for_any_number_of_workers(workers: int) -> None:
    alone = list(batches_of(draws_of(Counting({"3": 0})), steps()))
    together = list(batches_of(draws_of(Counting({"3": 0})), steps(), workers=workers))
    assert [clips([batch]) for batch in together] == [clips([batch]) for batch in alone]
    assert [batch.failures for batch in together] == [batch.failures for batch in alone]


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_together_draw_what_one_rank_draws(world_size: int) -> None:
    alone = list(batches_of(draws_of(Counting()), steps(batch=BATCH * world_size)))
    ranks = [list(batches_of(draws_of(Counting()), steps(rank=Rank(rank, world_size)))) for rank in range(world_size)]
    for step, batch in enumerate(alone):
        assert clips(rank[step] for rank in ranks) == clips([batch])


def test_every_pass_visits_every_video_once_in_an_order_of_its_own() -> None:
    draws = draws_of(Counting(), manifest=counted_manifest(50))
    passes = [[draws.find_video_index(50 * number + index) for index in range(50)] for number in range(3)]
    for order in passes:
        assert sorted(order) == list(range(50))
    assert passes[0] != passes[1] != passes[2] != passes[0]


@pytest.mark.parametrize("first_step", [1, 4, NUM_STEPS])
def test_a_resumed_run_draws_what_it_would_have_drawn(first_step: int) -> None:
    whole = list(batches_of(draws_of(Counting()), steps()))
    rest = list(batches_of(draws_of(Counting()), steps(first_step)))
    assert clips(rest) == clips(whole[first_step:])
    assert len(rest) == len(steps(first_step)) == NUM_STEPS - first_step


def test_a_broken_video_becomes_a_failure_and_no_other_draw_changes() -> None:
    good, broken = (list(batches_of(draws_of(Counting(faults)), steps())) for faults in ({}, {"3": 0}))
    assert any(batch.failures for batch in broken)
    for before, after in zip(good, broken, strict=True):
        num_hit = before.videos.count("3")
        assert after.failures == (Failure("3", "unreadable", "broken on purpose"),) * num_hit
        assert clips([after]) == [clip for clip in clips([before]) if clip[0] != "3"]


def test_a_batch_of_failures_alone_has_no_views() -> None:
    everything = dict.fromkeys(map(str, range(NUM_VIDEOS)), 0)
    batch = next(batches_of(draws_of(Counting(everything)), steps()))
    assert batch.views is None
    assert batch.videos == ()
    assert len(batch.failures) == BATCH


def test_a_clip_is_of_its_video_and_its_label_is_the_videos() -> None:
    for video, label, luma, *_ in clips(batches_of(draws_of(Counting()), steps())):
        frames = np.frombuffer(luma, np.uint8).reshape(SMALL.clip_length, -1)
        assert set(frames[:, 0] // 16) == {int(video)}
        assert set(np.diff(frames[:, 0])) == {SMALL.frame_stride}
        assert label == int(video) % 3


def test_only_the_segment_of_a_row_is_read() -> None:
    draws = draws_of(Counting(), manifest=counted_manifest(3, segments=True))
    actual = [np.frombuffer(luma, np.uint8) % 16 for _, _, luma, *_ in clips(batches_of(draws, steps()))]
    assert {int(frame) for frames in actual for frame in frames} == {4, 5, 6, 7, 8, 9}


def test_a_video_with_several_labels_is_drawn_with_each_of_them() -> None:
    row = {"video": "0", "labels": [0, 2], "split": "train"}
    manifest = Manifest.from_rows([row], classes=["a", "b", "c"], root=".")
    labels = {label for _, label, *_ in clips(batches_of(draws_of(Counting(), manifest=manifest), steps()))}
    assert labels == {0, 2}


def test_mirroring_can_be_left_out() -> None:
    mirrored = [mirror for *_, mirror in clips(batches_of(draws_of(Counting()), steps(batch=20)))]
    assert 0.3 < np.mean(mirrored) < 0.7
    assert not any(mirror for *_, mirror in clips(batches_of(draws_of(Counting(), mirror=False), steps(batch=20))))


def test_workers_come_from_a_fork_server_and_leave_ctrl_c_to_the_parent() -> None:
    source = Counting(telling=frozenset(map(str, range(NUM_VIDEOS))))
    failures = [failure for batch in batches_of(draws_of(source), steps(), workers=1) for failure in batch.failures]
    parent, name, ignores_ctrl_c = failures[0].reason.split()
    assert name != multiprocessing.current_process().name
    assert int(parent) != os.getpid()  # a child by fork or spawn would be ours
    assert ignores_ctrl_c == "True"


def test_no_decoder_travels_with_a_data_set(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", NUM_FRAMES)
    manifest = Manifest.from_rows(
        [{"video": "a.mp4", "labels": [0], "split": "train"}], classes=["a", "b"], root=str(tmp_path)
    )
    source = VideoFiles(str(tmp_path), scale_height=20, scale_width=24)
    draws = TrainingDataset(manifest, create_clip_reader(source, SMALL), mirror=False, seed=0)
    before = pickle.dumps(draws)
    first = draws[0]
    assert not isinstance(first, Failure)
    assert pickle.dumps(draws) == before
    again = pickle.loads(before)[0]
    assert np.array_equal(again.view.luma_thw, first.view.luma_thw)


def test_a_killed_worker_is_told_in_a_sentence() -> None:
    source = Counting(deadly=frozenset(map(str, range(NUM_VIDEOS))))
    loading = LoadingSettings(workers=1, worker_restarts=0)
    video = draws_of(source).get_video(0)
    with pytest.raises(RuntimeError, match=rf"was killed while it read {video}, .* lower loading\.workers"):
        list(load_training_batches(draws_of(source), steps(), loading, pin_memory=False))


def test_workers_start_again_where_they_were(tmp_path: Path) -> None:
    source = Counting(deadly=frozenset({"5"}), only_once=tmp_path / "once")
    heard: list[str] = []
    batches = load_training_batches(
        draws_of(source), steps(), LoadingSettings(workers=1), pin_memory=False, on_restart=heard.append
    )
    assert clips(batches) == clips(batches_of(draws_of(Counting()), steps()))
    assert len(heard) == 1
    assert heard[0].startswith("a data worker was killed")


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
@pytest.mark.parametrize(("global_batch", "batch_size"), [(8, 2), (8, 8), (7, 3), (5, 1)])
def test_global_batches_are_the_same_for_any_number_of_ranks(
    world_size: int, global_batch: int, batch_size: int
) -> None:
    ranks = [TrainingBatchSampler(1, 4, batch_size, Rank(rank, world_size), global_batch) for rank in range(world_size)]
    for step in (1, 2, 3):
        drawn = sorted(draw for rank in ranks for draw in rank.list_draws(step))
        assert drawn == list(range(step * global_batch, (step + 1) * global_batch))
    for rank in ranks:
        batches = list(rank)
        assert len(batches) == len(rank) == 3 * ranks[0].num_micro_batches
        assert max(map(len, batches)) <= batch_size
        assert [draw for batch in batches for draw in batch] == [draw for n in (1, 2, 3) for draw in rank.list_draws(n)]


@pytest.mark.parametrize(
    "lost", [ConnectionResetError(104, "Connection reset by peer"), EOFError(), FileNotFoundError(2)]
)
def test_a_worker_that_dies_while_it_hands_over_is_told_alike(lost: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __init__(self, *arguments: object, **options: object) -> None: ...

        def __iter__(self) -> Iterator[None]:
            raise lost

    monkeypatch.setattr(workers_module, "DataLoader", Broken)
    with pytest.raises(RuntimeError, match=r"a data worker was killed"):
        list(batches_of(draws_of(Counting()), steps(), workers=1))
    with pytest.raises(type(lost)):  # in this very process there is no worker to lose
        list(batches_of(draws_of(Counting()), steps(), workers=0))


@pytest.mark.parametrize("error", [ValueError, RuntimeError, FileNotFoundError])
def test_errors_of_the_data_itself_pass_through(error: type[Exception]) -> None:
    with pytest.raises(error, match=f"Caught {error.__name__} in DataLoader worker process 0"):
        list(batches_of(draws_of(Counting(raising=error)), steps(), workers=1))


def plan(
    source: Counting, *, rank: Rank | None = None, videos_per_batch: int = 2, workers: int = 0
) -> list[EvaluationBatch]:
    views = EvaluationDataset(counted_manifest(NUM_VIDEOS), create_clip_reader(source, SMALL), num_clips=3)
    videos = VideoBatchSampler(range(NUM_VIDEOS), videos_per_batch, rank or Rank())
    batches = list(load_evaluation_batches(views, videos, LoadingSettings(workers=workers), pin_memory=False))
    assert len(batches) == len(videos)
    return batches


@pytest.mark.parametrize("videos_per_batch", [1, 2, 3, 100])
@pytest.mark.parametrize("world_size", [1, 2, 3, 10])
def test_every_view_of_every_video_is_planned_once(world_size: int, videos_per_batch: int) -> None:
    batches = [
        batch
        for rank in range(world_size)
        for batch in plan(Counting(), rank=Rank(rank, world_size), videos_per_batch=videos_per_batch)
    ]
    planned = sorted((row.video, row.view) for batch in batches for row in batch.planned_views)
    assert planned == [(str(video), view) for video in range(NUM_VIDEOS) for view in range(3)]
    # What goes through the network together does not depend on the number of ranks either.
    alone = plan(Counting(), videos_per_batch=videos_per_batch)
    assert {batch.planned_views for batch in batches} == {batch.planned_views for batch in alone}
    assert sum(len(batch.views or ()) for batch in batches) == 3 * NUM_VIDEOS


def test_views_are_uniform_and_their_frames_are_the_planned_ones() -> None:
    batch = plan(Counting(), videos_per_batch=NUM_VIDEOS, workers=2)[0]
    assert batch.views is not None
    assert batch.looped == (False,) * NUM_VIDEOS
    starts = [0, 3, 7]  # floor(i * (12 - 5) / 2)
    for row, luma in zip(batch.planned_views, batch.views.luma_nthw, strict=True):
        frames = [starts[row.view] + 2 * number for number in range(3)]
        assert torch.unique_consecutive(luma[:, 0, 0]).tolist() == [16 * int(row.video) + frame for frame in frames]
        assert row.start_seconds == starts[row.view] / 25
        assert row.labels == (int(row.video) % 3,)


def test_a_corrupted_video_keeps_its_rows_and_every_one_has_failed() -> None:
    batch = plan(Counting({"1": 0}))[0]
    rows = [row for row in batch.planned_views if row.video == "1"]
    assert [(row.view, row.status, row.start_seconds) for row in rows] == [(n, "unreadable", None) for n in range(3)]
    assert {row.reason for row in rows} == {"broken on purpose"}
    assert len(batch.views or ()) == 3  # those of the other video


def test_of_a_truncated_video_the_whole_views_are_kept() -> None:
    batch = plan(Counting({"0": 8}))[0]
    assert [row.status for row in batch.planned_views if row.video == "0"] == ["ok", "ok", "truncated"]
    assert [row.start_seconds is None for row in batch.planned_views if row.video == "0"] == [False] * 3
    assert batch.views is not None
    assert len(batch.views) == 5


def test_a_batch_without_a_readable_view_has_rows_only() -> None:
    batch = plan(Counting({"0": 0, "1": 0}))[0]
    assert batch.views is None
    assert len(batch.planned_views) == 6
