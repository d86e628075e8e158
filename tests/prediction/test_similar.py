from __future__ import annotations

import csv
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from muybridge.prediction.feature_index import FeatureIndex
from muybridge.prediction.recognizer import Features
from muybridge.prediction.similar import read_feature_index
from muybridge.prediction.tables import FeaturesWriter
from muybridge.records import Preprocessing
from videos import write_video

DIRECTIONS = {"a": (1.0, 0.0, 0.0), "b": (0.0, 1.0, 0.0), "c": (0.0, 0.0, 1.0)}


def write_index(path: Path, letters: dict[str, str], step_frames: int | None = 8) -> Path:
    """Features with a window a second, two seconds long, in the direction of its letter and of a length of its own."""
    settings = {
        "model": "m" * 64,
        "preprocessing": Preprocessing(clip_length=16).to_json(),
        "clips": None,
        "step_frames": step_frames,
    }
    rng = np.random.default_rng(3)
    with FeaturesWriter(path, settings) as writer:
        for video, kinds in letters.items():
            rows = np.array([DIRECTIONS[kind] for kind in kinds]) + rng.normal(0, 0.05, (len(kinds), 3))
            rows *= rng.uniform(0.5, 5, (len(kinds), 1))
            views = np.arange(len(kinds), dtype=np.int32)
            writer.add(Features(video, views, views.astype(np.float64), rows.astype(np.float32)))
        writer.finish(letters)
    return path


@pytest.fixture
def index(tmp_path: Path) -> FeatureIndex:
    return read_feature_index(write_index(tmp_path / "f.parquet", {"x.mp4": "aaabbbccc", "y.mp4": "cccaaa"}))


def test_windows_have_the_length_of_a_clip(index: FeatureIndex) -> None:
    assert index.videos == ("x.mp4", "y.mp4")
    assert (index.end_seconds - index.start_seconds).tolist() == [
        2.0
    ] * 15  # 16 frames, a window every 8 frames, a second
    assert np.linalg.norm(index.features_nd, axis=1) == pytest.approx(np.ones(15), abs=1e-6)


def test_a_query_is_the_windows_centred_in_it(index: FeatureIndex) -> None:
    assert index.find_rows("x.mp4#2-4").tolist() == [1, 2, 3]
    assert index.find_rows("x.mp4#2.1-2.2").tolist() == [1]  # the nearest one
    assert index.find_rows("y.mp4").tolist() == list(range(9, 15))
    with pytest.raises(ValueError, match=r"z.mp4#1-2 is no video of the index"):
        index.find_rows("z.mp4#1-2")


def test_similar_windows_are_of_the_same_kind_and_do_not_overlap(index: FeatureIndex) -> None:
    moments = index.find_similar(index.find_rows("x.mp4#0.5-1.5"), top=2)
    assert {(moment.video, moment.start_seconds) for moment in moments} <= {("x.mp4", 2.0)} | {
        ("y.mp4", start) for start in (3.0, 4.0, 5.0)
    }
    assert moments[0].similarity > moments[1].similarity > 0.9
    every = index.find_similar(index.find_rows("x.mp4#0.5-1.5"), top=100)
    spans = sorted((moment.video, moment.start_seconds) for moment in every)
    assert all(left[0] != right[0] or right[1] - left[1] >= 2 for left, right in pairwise(spans))
    assert ("x.mp4", 0.0) not in spans
    assert min(moment.similarity for moment in every) < 0.2


def test_similarities_are_cosines(index: FeatureIndex) -> None:
    (moment,) = index.find_similar(np.array([0]), top=1)
    row = int(
        np.flatnonzero(
            (index.video_indices == index.videos.index(moment.video)) & (index.start_seconds == moment.start_seconds)
        )[0]
    )
    assert moment.similarity == pytest.approx(float(index.features_nd[0] @ index.features_nd[row]))


def test_nearest_neighbours_vote_and_none_votes_for_itself(index: FeatureIndex) -> None:
    labels = {0: 0, 1: 0, 3: 1, 4: 1, 6: 1}  # row 6 is mislabelled: its neighbours say otherwise
    windows = index.vote(labels, 2, num_neighbors=1)
    tops = [int(np.argmax(window.probabilities)) for window in windows["x.mp4"]]
    assert tops[:6] == [0, 0, 0, 1, 1, 1]
    assert [int(np.argmax(window.probabilities)) for window in windows["y.mp4"]][3:] == [0, 0, 0]
    with pytest.raises(ValueError, match=r"2 windows are labelled, expected more than the 5"):
        index.vote({0: 0, 1: 1}, 2, num_neighbors=5)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no windows along its videos; make it with .* --step 8"):
        read_feature_index(write_index(tmp_path / "uniform.parquet", {"x.mp4": "abc"}, step_frames=None))
    (tmp_path / "text.parquet").write_text("no parquet")
    with pytest.raises(ValueError, match=r"text.parquet is not a features file"):
        read_feature_index(tmp_path / "text.parquet")


def test_the_command_finds_windows(tmp_path: Path, cli: Callable[..., Any]) -> None:
    path = write_index(tmp_path / "f.parquet", {"x.mp4": "aaabbb", "y.mp4": "cccaaa"})
    told = cli("similar", path, "x.mp4#0.5-1.5", "--top", 2)
    assert told.code == 0
    assert "y.mp4" in told.out.splitlines()[0] + told.out.splitlines()[1]
    rows = json.loads(cli("similar", path, "x.mp4#0.5-1.5", "--top", 1, "--json").out)
    assert set(rows[0]) == {"video", "start_seconds", "end_seconds", "similarity"}


def test_labels_are_spread_into_a_list_that_can_be_trained_on(tmp_path: Path, cli: Callable[..., Any]) -> None:
    for name in ("x.mp4", "y.mp4"):
        write_video(tmp_path / name, 8)
    names = [str(tmp_path / name) for name in ("x.mp4", "y.mp4")]
    path = write_index(tmp_path / "f.parquet", dict(zip(names, ("aaaabbbb", "bbbbaaaa"), strict=True)))
    (tmp_path / "marks.csv").write_text(
        "path,label,start_seconds,end_seconds\nx.mp4,walk,0,4\nx.mp4,sit,5,9\nelsewhere.mp4,sit,0,1\n"
    )
    told = cli("similar", path, "--labels", tmp_path / "marks.csv", "--neighbors", 1, "-o", tmp_path / "draft.csv")
    assert told.code == 0
    assert "1 segment is in videos of" in told.err
    rows = list(csv.DictReader((tmp_path / "draft.csv").read_text().splitlines()))
    assert [(row["path"], row["label"]) for row in rows] == [
        ("x.mp4", "walk"),
        ("x.mp4", "sit"),
        ("y.mp4", "sit"),
        ("y.mp4", "walk"),
    ]
    assert float(rows[2]["end_seconds"]) == pytest.approx(float(rows[3]["start_seconds"])) == pytest.approx(4.5)


@pytest.mark.parametrize("argv", [(), ("x.mp4", "--labels", "l.csv"), ("--labels", "l.csv"), ("x.mp4", "-o", "y.csv")])
def test_a_query_or_labels_with_an_output(tmp_path: Path, cli: Callable[..., Any], argv: tuple[str, ...]) -> None:
    told = cli("similar", tmp_path / "f.parquet", *argv)
    assert told.code == 2
    assert "both or neither" in told.err or "one of the two" in told.err


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (("x.mp4", "--neighbors", 2), "--neighbors is for --labels"),
        (("--labels", "l.csv", "-o", "y.csv", "--top", 2), "--top is for the windows like a QUERY"),
    ],
)
def test_options_that_cannot_be_used_are_refused(
    tmp_path: Path, cli: Callable[..., Any], argv: tuple[Any, ...], sentence: str
) -> None:
    told = cli("similar", tmp_path / "f.parquet", *argv)
    assert told.code == 2
    assert sentence in told.err


def test_extracted_features_are_an_index(
    finished_run: Path, motions: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    path = tmp_path / "f.parquet"
    assert cli("extract", finished_run, motions / "test", "--step", 2, "-o", path).code == 0
    index = read_feature_index(path)
    assert len(index.videos) == 6
    assert index.end_seconds.max() <= 13 / 24 + 1e-6
