"""Score files with a row a video: the accuracy of a row a view, resuming, and refused files."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from muybridge.evaluation import video_scores as videos_module
from muybridge.evaluation.aggregate import VideoScores, compute_video_scores
from muybridge.evaluation.fuse import fuse
from muybridge.evaluation.metrics import compute_accuracy
from muybridge.evaluation.scores import Scores, read_execution, read_scores
from muybridge.evaluation.scores_header import ScoresHeader
from muybridge.evaluation.video_scores import VideoScoresWriter, aggregate_record_batch, read_video_scores

draw = np.random.default_rng(4)
VIDEOS = [
    (
        f"{number}.mp4",
        tuple(sorted(draw.choice(5, draw.integers(0, 3), replace=False).tolist())),
        [None if number == 2 or draw.random() < 0.2 else draw.normal(size=5).tolist() for _ in range(4)],
    )
    for number in range(7)
]


@pytest.fixture
def header(new_header: Callable[..., ScoresHeader]) -> ScoresHeader:
    return new_header(len(VIDEOS), clips=4, num_classes=5)


@pytest.fixture
def batches(header: ScoresHeader, new_batch: Callable[..., pa.RecordBatch]) -> list[pa.RecordBatch]:
    """Seven videos, one in three loops."""
    return [aggregate_record_batch(new_batch(video), header, [number % 3 == 0]) for number, video in enumerate(VIDEOS)]


FAILED = {number for number, (_, _, views) in enumerate(VIDEOS) if None in views}
PATHS = {name: f"/nowhere/{name}" for name, _, _ in VIDEOS}


def count_done(path: Path, header: ScoresHeader, execution: dict[str, str] | None = None) -> int:
    return len(VIDEOS) - len(VideoScoresWriter(path, header, execution).select_pending(PATHS))


def same(first: VideoScores, second: VideoScores) -> None:
    assert (first.header, first.videos, first.labels) == (second.header, second.videos, second.labels)
    for name in ("probabilities", "num_views", "num_failed_views", "num_right_views"):
        assert np.array_equal(getattr(first, name), getattr(second, name), equal_nan=True), name


def test_parts_of_two_precisions_are_not_mixed(
    batches: list[pa.RecordBatch], header: ScoresHeader, tmp_path: Path
) -> None:
    path = tmp_path / "s.parquet"
    bf16 = {"precision": "bf16", "device": "a GPU"}
    VideoScoresWriter(path, header, bf16).write(batches)
    assert read_execution(path) == bf16
    path.unlink()
    with pytest.raises(ValueError, match="expected 7"):
        VideoScoresWriter(path, header, bf16).write(batches[:2])
    assert count_done(path, header, bf16) == len({0, 1} - FAILED)
    assert count_done(path, header, {"precision": "fp32"}) == 0


def test_figures_are_those_of_the_views(
    batches: list[pa.RecordBatch], header: ScoresHeader, new_scores: Callable[..., Scores], tmp_path: Path
) -> None:
    assert VideoScoresWriter(tmp_path / "s.parquet", header).write(batches) == 3
    of_views = compute_video_scores(new_scores(VIDEOS, num_classes=5))
    same(read_video_scores(tmp_path / "s.parquet"), of_views)
    assert compute_accuracy(read_video_scores(tmp_path / "s.parquet")) == compute_accuracy(of_views)
    table = pq.read_table(tmp_path / "s.parquet")
    assert table["probabilities"][2].as_py() is None
    assert table["reason"][2].as_py() == "broken on purpose"
    assert [path.name for path in tmp_path.iterdir()] == ["s.parquet"]


@pytest.mark.parametrize("num_done", [1, 4, 7])
def test_what_ended_early_is_taken_up(
    num_done: int, batches: list[pa.RecordBatch], header: ScoresHeader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(videos_module, "PART_VIDEOS", 2)
    VideoScoresWriter(tmp_path / "whole.parquet", header).write(batches)

    def ends() -> object:
        yield from batches[:num_done]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        VideoScoresWriter(tmp_path / "s.parquet", header).write(ends())  # type: ignore[arg-type]
    assert not (tmp_path / "s.parquet").exists()
    (next((tmp_path / ".s.parquet.parts").iterdir()).parent / ".000009.parquet.x0000000.partial").write_bytes(b"half")
    other = VideoScoresWriter(tmp_path / "s.parquet", header)
    pending = other.select_pending(PATHS)
    assert pending == [number for number in range(7) if number >= num_done or number in FAILED]
    assert other.write(batches[number] for number in pending) == 3
    assert (tmp_path / "s.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


def test_parts_of_another_model_are_removed(
    batches: list[pa.RecordBatch], header: ScoresHeader, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="of 2 videos, expected 7"):
        VideoScoresWriter(tmp_path / "s.parquet", header).write(batches[:2])
    assert count_done(tmp_path / "s.parquet", header) == len({0, 1} - FAILED)
    assert count_done(tmp_path / "s.parquet", replace(header, model_sha256="n" * 64)) == 0
    assert count_done(tmp_path / "s.parquet", header) == 0


def test_reading_views_of_a_file_of_videos_is_refused(
    batches: list[pa.RecordBatch], header: ScoresHeader, tmp_path: Path
) -> None:
    path = tmp_path / "s.parquet"
    VideoScoresWriter(path, header).write(batches)
    with pytest.raises(
        ValueError, match=r"s\.parquet: the file has a row a video .* again with --evaluation\.keep views$"
    ):
        fuse([read_scores(path)] * 2, [1.0, 1.0])


def test_files_of_views_are_read_too(new_scores: Callable[..., Scores], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no score file"):
        read_video_scores(tmp_path / "s.parquet")
    (tmp_path / "s.parquet").write_bytes(b"no Parquet")
    with pytest.raises(ValueError, match="not a Parquet file, or a damaged one"):
        read_video_scores(tmp_path / "s.parquet")


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("video", "0.mp4", "a video occurs more than once"),
        ("num_views", 3, "contradict"),
        ("num_failed_views", 4, "contradict"),
        ("num_right_views", 5, "contradict"),
        ("labels", [5], "labels are not among the 5 classes"),
        ("probabilities", [0.5, 0.5], "without a finite score for each of the 5 classes"),
        ("probabilities", [float("nan")] * 5, "without a finite score for each of the 5 classes"),
    ],
)
def test_contradictions_are_refused(
    column: str, value: object, message: str, batches: list[pa.RecordBatch], header: ScoresHeader, tmp_path: Path
) -> None:
    path = tmp_path / "s.parquet"
    VideoScoresWriter(path, header).write(batches)
    table = pq.read_table(path)
    readable = table["probabilities"].is_valid().to_pylist().index(True, 1)
    values = table[column].to_pylist()
    values[readable] = value
    number = table.column_names.index(column)
    pq.write_table(table.set_column(number, table.schema.field(column), pa.array(values, table[column].type)), path)
    with pytest.raises(ValueError, match=message):
        read_video_scores(path)


def test_a_score_too_many_for_one_video_does_not_make_up_for_one_too_few(
    batches: list[pa.RecordBatch], header: ScoresHeader, tmp_path: Path
) -> None:
    path = tmp_path / "s.parquet"
    VideoScoresWriter(path, header).write(batches)
    table = pq.read_table(path)
    values = table["probabilities"].to_pylist()
    one, other = [row for row, value in enumerate(values) if value is not None][:2]
    values[one], values[other] = values[one][:-1], [*values[other], 0.5]
    number = table.column_names.index("probabilities")
    column = pa.array(values, table["probabilities"].type)
    pq.write_table(table.set_column(number, table.schema.field("probabilities"), column), path)
    with pytest.raises(ValueError, match="without a finite score for each of the 5 classes"):
        read_video_scores(path)


MANY = """
import sys
from dataclasses import replace
from pathlib import Path
import numpy as np, pyarrow as pa, torch
from muybridge.bench.measure import measure_peak_bytes
from muybridge.evaluation.metrics import compute_accuracy
from muybridge.evaluation.protocol import EvaluationProtocol
from muybridge.evaluation.scores_header import ScoresHeader
from muybridge.evaluation.video_scores import SCHEMA, VideoScoresWriter, read_video_scores
from muybridge.records import Preprocessing
from muybridge.settings import EvaluationSettings

path, num_videos = Path(sys.argv[1]), int(sys.argv[2])
protocol = EvaluationProtocol.from_settings(EvaluationSettings(clips=100), Preprocessing())
header = ScoresHeader(tuple(map(str, range(487))), protocol, "test", None, "", "", num_videos)

def batches():
    draw = np.random.default_rng(1)
    for first in range(0, num_videos, 200):
        values = draw.dirichlet(np.full(487, 0.05), 200)
        offsets = pa.array(np.arange(201, dtype=np.int32) * 487)
        numbers = [pa.array(np.full(200, count, np.int32)) for count in (100, 0, 50, 0)]
        yield pa.RecordBatch.from_arrays([
            pa.array([f"{first + number}.mp4" for number in range(200)]),
            pa.array([[int(row.argmax())] for row in values], pa.list_(pa.int32())),
            *numbers, pa.ListArray.from_arrays(offsets, pa.array(values.reshape(-1))), pa.array([""] * 200),
        ], schema=SCHEMA)

def write_and_read():
    VideoScoresWriter(path, header).write(batches())
    print(compute_accuracy(read_video_scores(path)).video_top1.of_all.right)

print(measure_peak_bytes(write_and_read, torch.device("cpu")) / 2**20)
"""


@pytest.mark.long
def test_a_tenth_of_sports1m_takes_a_tenth_of_its_scores_in_memory(tmp_path: Path) -> None:
    """22 thousand videos of 487 classes: 86 MB of float64; a row a view of 100 clips each would be 4.3 GB."""
    command = [sys.executable, "-c", MANY, str(tmp_path / "s.parquet"), "22000"]
    right, megabytes = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert right == "22000"
    assert float(megabytes) < 86 + 250
