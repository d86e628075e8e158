"""Which videos are right, stored and read back."""

import json
from pathlib import Path

import numpy as np

from muybridge.evaluation.video_scores import read_video_scores
from muybridge.studies.video_results import VideoResults, collect_video_results
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
