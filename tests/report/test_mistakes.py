from __future__ import annotations

from pathlib import Path

from muybridge.evaluation.aggregate import compute_video_scores
from muybridge.evaluation.scores import read_scores
from muybridge.report.mistakes import Mistake, find_confident_mistakes
from scored import certain, write_score_file

CLASSES = ("kick", "hug", "point")


def mistakes(path: Path, num: int = 12) -> tuple[Mistake, ...]:
    scores = read_scores(path)
    return find_confident_mistakes(scores, compute_video_scores(scores), num_mistakes=num)


def test_the_surest_come_first_with_the_view_that_says_so(tmp_path: Path) -> None:
    path = write_score_file(
        tmp_path / "s.parquet",
        [
            ("right.mp4", (0,), [certain(0, 3), certain(0, 3)]),
            ("unsure.mp4", (0,), [certain(1, 3, 0.5), certain(1, 3, 0.7)]),
            ("sure.mp4", (0,), [certain(2, 3, 3.0), certain(2, 3, 9.0)]),
            ("second-view.mp4", (1,), [None, certain(2, 3, 2.0)]),
            ("two-labels.mp4", (0, 2), [certain(2, 3), certain(2, 3)]),
            ("unlabelled.mp4", (), [certain(2, 3), certain(2, 3)]),
            ("unreadable.mp4", (0,), [None, None]),
        ],
        CLASSES,
    )
    confident = mistakes(path)
    assert [(one.video, one.view, one.predicted_class) for one in confident] == [
        ("sure.mp4", 1, "point"),
        ("second-view.mp4", 1, "point"),
        ("unsure.mp4", 1, "hug"),
    ]
    assert confident[0].labels == ("kick",)
    assert confident[0].start_seconds == 0.5
    assert (
        confident[0].probability
        > confident[1].probability
        > confident[2].probability
        > confident[2].label_probability
        > 0
    )
    assert [one.video for one in mistakes(path, num=1)] == ["sure.mp4"]


def test_a_network_without_mistakes(tmp_path: Path) -> None:
    assert mistakes(write_score_file(tmp_path / "s.parquet", [("a", (0,), [certain(0, 3)])], CLASSES)) == ()


def test_without_scores_of_views_the_centre_crop_of_the_middle_clip_stands_for_all(tmp_path: Path) -> None:
    for crops, view in ((1, 3), (3, 4)):  # six clips, and two clips of three crops
        path = write_score_file(tmp_path / f"{crops}.parquet", [("a", (0,), [certain(1, 3)] * 6)], CLASSES, crops=crops)
        (mistake,) = find_confident_mistakes(None, compute_video_scores(read_scores(path)))
        assert mistake.view == view
