from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from muybridge.prediction.feature_index import FeatureIndex, spread_labels
from muybridge.prediction.recognizer import Features, load
from muybridge.prediction.similar import read_feature_index, read_labeled_segments
from muybridge.prediction.tables import METADATA_KEY, FeaturesWriter
from muybridge.prediction.timeline import TimelineOptions
from muybridge.records import Preprocessing
from muybridge.weights.address import load_weights
from muybridge.weights.card import save
from videos import write_video

DIRECTIONS = {"a": (1.0, 0.0, 0.0), "b": (0.0, 1.0, 0.0), "c": (0.0, 0.0, 1.0)}


def write_index(path: Path, letters: dict[str, str], step_frames: int | None = 8) -> Path:
    """Features with a window a second, two seconds long, in the direction of its letter and of a length of its own.

    A window of no letter (`-`) could not be read.
    """
    settings = {
        "model": "m" * 64,
        "preprocessing": Preprocessing(clip_length=16).to_json(),
        "clips": None,
        "step_frames": step_frames,
    }
    rng = np.random.default_rng(3)
    with FeaturesWriter(path, settings) as writer:
        for video, kinds in letters.items():
            views = np.array([view for view, kind in enumerate(kinds) if kind != "-"], np.int32)
            rows = np.array([DIRECTIONS[kinds[view]] for view in views]) + rng.normal(0, 0.05, (len(views), 3))
            rows *= rng.uniform(0.5, 5, (len(views), 1))
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


def test_windows_that_could_not_be_read_lengthen_no_other(tmp_path: Path) -> None:
    index = read_feature_index(write_index(tmp_path / "f.parquet", {"x.mp4": "a-a-ab"}))
    assert (index.end_seconds - index.start_seconds).tolist() == [2.0] * 4


@pytest.mark.parametrize("frames_per_second", [None, 12.5])
@pytest.mark.parametrize("step", [2, 3, 4])
@pytest.mark.parametrize("counts", [(5,), (8, 5), (4, 11), (10,)])
def test_few_windows_end_where_a_timeline_ends_them(
    finished_run: Path,
    tmp_path: Path,
    cli: Callable[..., Any],
    counts: tuple[int, ...],
    step: int,
    frames_per_second: float | None,
) -> None:
    """Videos at 25 frames a second and clips of 4 frames: the step to the last window of a video may be shorter."""
    network, card = load_weights(finished_run)
    preprocessing = replace(card.preprocessing, frames_per_second=frames_per_second)
    weights = tmp_path / "w.safetensors"
    save(network, weights, classes=card.classes, preprocessing=preprocessing)
    factor = 1 if frames_per_second is None else 2
    videos = [write_video(tmp_path / f"{count}.mp4", factor * count, frames_per_second=25) for count in counts]
    assert cli("extract", weights, *videos, "--step", step, "-o", tmp_path / "f.parquet").code == 0
    index = read_feature_index(tmp_path / "f.parquet")
    options = TimelineOptions(step_frames=step)
    expected = [window for video in videos for window in load(weights).predict(video, timeline=options).windows]
    assert index.start_seconds.tolist() == pytest.approx([window.start_seconds for window in expected])
    assert index.end_seconds.tolist() == pytest.approx([window.end_seconds for window in expected])


def test_two_windows_bound_the_rate_of_their_video(tmp_path: Path) -> None:
    """A frame lasts between an eighth of the step and the step, a second: 16 frames 2 s or more, not 0.64 s."""
    index = read_feature_index(write_index(tmp_path / "f.parquet", {"x.mp4": "ab"}))
    assert (index.end_seconds - index.start_seconds).tolist() == [2.0, 2.0]


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
    windows = dict(index.vote(labels, 2, num_neighbors=1))
    tops = [int(np.argmax(window.probabilities)) for window in windows["x.mp4"]]
    assert tops[:6] == [0, 0, 0, 1, 1, 1]
    assert [int(np.argmax(window.probabilities)) for window in windows["y.mp4"]][3:] == [0, 0, 0]
    with pytest.raises(ValueError, match=r"2 windows are labelled, expected more than the 5"):
        dict(index.vote({0: 0, 1: 1}, 2, num_neighbors=5))


def change_table(path: Path, column: str, change: Callable[[list[Any]], list[Any]]) -> None:
    table = pq.read_table(path)
    values = pa.array(change(table[column].to_pylist()), table[column].type)
    pq.write_table(table.set_column(table.column_names.index(column), pa.field(column, values.type), values), path)


@pytest.mark.parametrize(
    ("column", "change", "sentence"),
    [
        (
            "features",
            lambda rows: [[math.nan, 1.0, 0.0], *rows[1:]],
            "column features holds numbers that are not finite",
        ),
        ("features", lambda rows: [[None, 1.0, 0.0], *rows[1:]], "1 rows have no features"),
        (
            "features",
            lambda rows: [rows[0][:2], [*rows[1], 1.0], *rows[2:]],
            "features of 2, 4, 3 values, expected one",
        ),
        ("features", lambda rows: [[] for _ in rows], "features of 0 values"),
        ("features", lambda rows: [[0.0, 0.0, 0.0], *rows[1:]], "some features are all 0, which are like nothing"),
        ("start_seconds", lambda rows: [math.inf, *rows[1:]], "start_seconds holds numbers that are not finite"),
        ("start_seconds", lambda rows: [1e300, *rows[1:]], "windows at 1e.300 s, expected at most"),
        ("start_seconds", lambda rows: [None, *rows[1:]], "1 rows have no start_seconds"),
    ],
)
def test_features_that_cannot_be_are_refused(column: str, change: Any, sentence: str, tmp_path: Path) -> None:
    path = write_index(tmp_path / "f.parquet", {"x.mp4": "aab"})
    change_table(path, column, change)
    with pytest.raises(ValueError, match=sentence):
        read_feature_index(path)


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("format", 2, "has format 2, expected 1"),
        ("step_frames", 0, "step_frames is 0, expected a number greater than or equal to 1"),
        ("step_frames", True, "step_frames is True, expected a valid integer"),
        ("preprocessing", None, "preprocessing is None, expected an object"),
        ("preprocessing", {}, "preprocessing.clip_length is missing"),
        ("time_origin", "noon", "time_origin is 'noon'"),
    ],
)
def test_metadata_that_cannot_be_is_refused(key: str, value: Any, sentence: str, tmp_path: Path) -> None:
    path = write_index(tmp_path / "f.parquet", {"x.mp4": "aab"})
    table = pq.read_table(path)
    settings = json.loads(table.schema.metadata[METADATA_KEY]) | {key: value}
    pq.write_table(table.replace_schema_metadata({METADATA_KEY: json.dumps(settings)}), path)
    with pytest.raises(ValueError, match=sentence):
        read_feature_index(path)


def test_large_features_have_a_direction_too(tmp_path: Path) -> None:
    path = write_index(tmp_path / "f.parquet", {"x.mp4": "aab"})
    change_table(path, "features", lambda rows: [[3e38, 3e38, 0.0], *rows[1:]])
    assert read_feature_index(path).features_nd[0] == pytest.approx([math.sqrt(0.5), math.sqrt(0.5), 0.0])


def test_a_part_that_is_not_there_is_no_query(index: FeatureIndex) -> None:
    for query, sentence in (
        ("x.mp4#5-2", "ends before it starts"),
        ("x.mp4#100-200", "after the last window .* 10.00 s"),
    ):
        with pytest.raises(ValueError, match=sentence):
            index.find_rows(query)


def test_seconds_of_another_clock_are_not_mixed(tmp_path: Path) -> None:
    index = read_feature_index(write_index(tmp_path / "f.parquet", {"x.mp4": "aab"}))
    with pytest.raises(ValueError, match="extract the features without --time-origin"):
        read_labeled_segments(tmp_path / "l.csv", replace(index, time_origin="container"))


def test_labels_after_the_end_of_a_video_are_left_out(tmp_path: Path) -> None:
    video = tmp_path / "x.mp4"
    index = read_feature_index(write_index(tmp_path / "f.parquet", {str(video): "aab"}))
    (tmp_path / "l.csv").write_text("path,label,start_seconds,end_seconds\nx.mp4,a,0,4\nx.mp4,b,90,91\n")
    labeled, notes = read_labeled_segments(tmp_path / "l.csv", index)
    assert [note for note in notes if "1 segment is after the last window" in note]
    ((segment,),) = spread_labels(index, labeled, num_neighbors=1).values()
    assert segment.label == "a"


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no windows along its videos; make it with .* --step 8"):
        read_feature_index(write_index(tmp_path / "uniform.parquet", {"x.mp4": "abc"}, step_frames=None))
    (tmp_path / "text.parquet").write_text("no parquet")
    with pytest.raises(
        ValueError,
        match=r"text.parquet: the file is damaged, or not .*; name a features file of",
    ):
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
