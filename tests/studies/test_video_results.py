"""Which videos are right, stored and read back."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from muybridge.datasets.rows import find_recording
from muybridge.evaluation.video_scores import read_video_scores
from muybridge.studies.laptop import build_laptop_settings
from muybridge.studies.plan import DataSource, EvaluationSpec, PlannedRun, RunGroup, with_seeds
from muybridge.studies.study import GridResults, StudyConfig
from muybridge.studies.video_results import StoredVideoResults, VideoResults, collect_video_results
from scored import certain, write_score_file


def test_results_by_video_survive_json() -> None:
    right = np.array([True, False, True, True, False, False, True, False, True, True, True])
    views = np.arange(11, dtype=np.uint16) * 30
    read = VideoResults.from_json(json.loads(json.dumps(VideoResults("ab", right, views, 300).to_json())))
    assert (read.right_v == right).all() and (read.right_views_v == views).all()
    values = read.get_values("clip_top1")
    assert values is not None and values[-1] == 100.0 and values[1] == 10.0
    videos = read.get_values("video_top1")
    assert videos is not None and videos.mean() == 100 * right.mean()
    assert read.get_values("video_top5") is None


def test_results_are_sorted_by_name_and_unreadable_videos_are_wrong(tmp_path: Path) -> None:
    videos = [
        ("z.mp4", (0,), [certain(0, 2), certain(1, 2, by=1.0)]),
        ("a.mp4", (1,), [certain(0, 2), certain(0, 2)]),
        ("m.mp4", (1,), [None, None]),
        ("none.mp4", (), [certain(0, 2), certain(0, 2)]),
    ]
    results = collect_video_results(read_video_scores(write_score_file(tmp_path / "s.parquet", videos, ["x", "y"])))
    assert results.right_v.tolist() == [False, False, True]  # a, m, z; the unlabelled one is left out
    assert results.right_views_v.tolist() == [0, 0, 1]
    assert results.views == 2
    other = [("b.mp4", (0,), [certain(0, 2), certain(0, 2)])]
    second = collect_video_results(read_video_scores(write_score_file(tmp_path / "t.parquet", other, ["x", "y"])))
    assert second.videos_sha256 != results.videos_sha256


def test_rows_without_recordings_get_those_of_rows_with_the_same_videos(tmp_path: Path) -> None:
    """Rows written before recordings were counted: otherwise they could not be compared with newer ones."""
    config = StudyConfig("laptop", 2, DataSource("data-1", address="/data/1"), "test")
    run, evaluation = PlannedRun(build_laptop_settings("r3d_10", 8), config.source), EvaluationSpec(5, 8)
    group = RunGroup(with_seeds(run, 2), evaluation)
    right = np.array([True, True, False, False])
    newer = VideoResults("ab", right, 5 * right.astype(np.uint16), 5, (2, 2))
    older = replace(newer, recordings=())
    rows = {
        (member.name, evaluation.key): {"data": {"key": "data-1"}, "numbers": {"videos": results.to_json()}}
        for member, results in zip(group.members, (older, newer), strict=True)
    }
    results = GridResults(config, {"cell": group}, rows, tmp_path)
    assert [values.tolist() for values in results.by_seed("cell").values()] == [[100.0, 0.0]] * 2
    alone = replace(results, rows=dict(list(rows.items())[:1]))
    assert [values.tolist() for values in alone.by_seed("cell").values()] == [[100.0, 100.0, 0.0, 0.0]]


def test_segments_are_counted_by_recording(tmp_path: Path) -> None:
    segments = ["b.mp4#0-1.5", "a.mp4#1e-05-2", "a#1.mp4", "b.mp4#-", "a.mp4#2-", "b.mp4#3-4"]
    assert [find_recording(name) for name in segments] == ["b.mp4", "a.mp4", "a#1.mp4", "b.mp4", "a.mp4", "b.mp4"]
    videos = [(name, (0,), [certain(0, 2)]) for name in segments]
    results = collect_video_results(read_video_scores(write_score_file(tmp_path / "s.parquet", videos, ["x", "y"])))
    assert results.recordings == (1, 2, 3)  # a#1.mp4, a.mp4, b.mp4
    stored = json.loads(json.dumps(results.to_json()))
    assert VideoResults.from_json(stored).recordings == (1, 2, 3)
    assert StoredVideoResults(**stored).recordings == [1, 2, 3]
    with pytest.raises(ValueError, match="the recordings of 6 segments have 5"):
        StoredVideoResults(**{**stored, "recordings": [2, 3]})
    files = [(f"{name}.mp4", (0,), [certain(0, 2)]) for name in "ab"]
    of_files = collect_video_results(read_video_scores(write_score_file(tmp_path / "t.parquet", files, ["x", "y"])))
    assert of_files.recordings == () and "recordings" not in of_files.to_json()
