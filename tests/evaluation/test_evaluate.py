"""Scoring a data set from files: every video is counted once, and an interrupted evaluation leaves no file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import copyfile, copytree, ignore_patterns
from types import SimpleNamespace
from typing import Literal

import av
import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor

from muybridge.datasets.columns import AS_VERSION_0_1
from muybridge.datasets.splits import ValidationSplit
from muybridge.evaluation.evaluate import (
    READING,
    EvaluationJob,
    compute_relative_cost,
    evaluate,
    evaluate_split,
    format_accuracy,
    open_evaluation_data,
    reads_as_run,
    use_training_splits,
)
from muybridge.evaluation.protocol import EvaluationProtocol
from muybridge.evaluation.scores import read_scores
from muybridge.evaluation.scores_header import ScoresHeader
from muybridge.evaluation.scores_path import resolve_scores_path
from muybridge.loading.open_data import open_data
from muybridge.models.cost import cost
from muybridge.models.heads import Head
from muybridge.models.network import create_model
from muybridge.records import Preprocessing
from muybridge.settings import EvaluateSettings, EvaluationSettings, LoadingSettings
from muybridge.weights.address import load_weights
from muybridge.weights.card import save
from videos import write_video

CPU = torch.device("cpu")
CLIPS = Preprocessing(clip_length=4, scale_height=24, scale_width=24, crop=16)


class Darkness:
    """A `Scorer` that finds a clip the more of the first class the darker it is."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, clips_ncthw: Tensor) -> Tensor:
        self.sizes.append(len(clips_ncthw))
        light = clips_ncthw.mean((1, 2, 3, 4))
        return torch.stack([-light, light], dim=1)


@pytest.fixture
def job(tmp_path: Path) -> EvaluationJob:
    """Five dark and light videos; the fourth is shorter than a clip, the last is no video."""
    lines = ["path,label,split"]
    for number, (label, level, num_frames) in enumerate(
        [("dark", 20, 9), ("light", 230, 9), ("light", 20, 9), ("dark", 20, 3), ("light", 230, 9)]
    ):
        picture = torch.full((24, 24, 3), level, dtype=torch.uint8).numpy()
        write_video(
            tmp_path / f"{number}.mp4", num_frames, height=24, width=24, paint=lambda _, picture=picture: picture
        )
        lines.append(f"{number}.mp4,{label},test")
    (tmp_path / "4.mp4").write_bytes(b"no video at all")
    (tmp_path / "data.csv").write_text("\n".join(lines))
    return EvaluationJob(
        manifest=open_data(str(tmp_path / "data.csv")).select_split("test"),
        split="test",
        fold=None,
        preprocessing=CLIPS,
        model_sha256="",
        evaluation=EvaluationSettings(clips=3, batch_size=6),
        loading=LoadingSettings(workers=0),
    )


def test_what_is_right_wrong_looped_and_unreadable_is_counted(job: EvaluationJob, tmp_path: Path) -> None:
    scorer, heard = Darkness(), list[int]()
    result = evaluate(job, scorer, tmp_path / "s.parquet", device=CPU, on_progress=heard.append)
    measured = result.accuracy
    assert (measured.video_top1.of_all.right, measured.video_top1.of_all.of) == (3, 5)
    assert (measured.video_top1.of_readable.right, measured.video_top1.of_readable.of) == (3, 4)
    assert (measured.num_videos, measured.num_failed_videos) == (5, 1)
    assert result.num_looped_videos == 1
    assert heard == [2, 4, 5]  # whole videos, two at once
    assert scorer.sizes == [6, 6]
    line = format_accuracy(measured)
    assert line.startswith("clip@1 60.0 %  video@1 60.0 % [23.1, 88.2]  of 5 videos")
    assert line.endswith("1 of them unreadable")


def test_the_batch_size_is_no_part_of_the_result(job: EvaluationJob, tmp_path: Path) -> None:
    tables = []
    for batch_size in (1, 6, 100):
        settings = replace(job.evaluation, batch_size=batch_size)
        evaluate(replace(job, evaluation=settings), Darkness(), tmp_path / "s.parquet", device=CPU)
        tables.append(read_scores(tmp_path / "s.parquet").table)
    assert tables[0].select(["video", "view", "status"]).equals(tables[2].select(["video", "view", "status"]))
    for column in zip(*(table["logits"].to_pylist() for table in tables), strict=True):
        assert column[0] == pytest.approx(column[1], abs=1e-6)
        assert column[0] == pytest.approx(column[2], abs=1e-6)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_what_is_broken_off_leaves_no_scores(error: type[BaseException], job: EvaluationJob, tmp_path: Path) -> None:
    def stop(num_videos: int) -> None:
        raise error

    (tmp_path / "scores").mkdir()
    with pytest.raises(error):
        evaluate(job, Darkness(), tmp_path / "scores" / "s.parquet", device=CPU, on_progress=stop)
    assert [path.name for path in (tmp_path / "scores").iterdir()] == [".s.parquet.parts"]


def test_scores_that_are_not_finite_are_refused_with_the_video(job: EvaluationJob, tmp_path: Path) -> None:
    broken: Callable[[Tensor], Tensor] = lambda clips: torch.full((len(clips), 2), torch.nan)  # noqa: E731
    with pytest.raises(ValueError, match=r"scores of 0\.mp4, view 0 are not finite"):
        evaluate(job, broken, tmp_path / "s.parquet", device=CPU)
    assert not (tmp_path / "s.parquet").exists()


def test_a_split_is_scored_with_the_card_of_the_weights(finished_run: Path, motions: Path, tmp_path: Path) -> None:
    settings = EvaluateSettings(
        data=str(motions), device="cpu", evaluation=EvaluationSettings(clips=2), loading=LoadingSettings(workers=0)
    )
    progress: list[tuple[int, int]] = []
    result = evaluate_split(
        finished_run, settings, tmp_path / "s.parquet", on_progress=lambda *counts: progress.append(counts)
    )
    num_videos = result.accuracy.num_videos
    assert result.accuracy.split == "test"
    assert progress[-1] == (num_videos, num_videos)


def test_longer_clips_and_three_crops_are_scored_as_asked(finished_run: Path, motions: Path, tmp_path: Path) -> None:
    tables, network = [], load_weights(finished_run)[0]
    for crops, length, size in ((1, None, None), (3, None, None), (1, 5, 32)):
        evaluation = EvaluationSettings(clips=2, crops=crops, clip_length=length, crop_size=size)
        settings = EvaluateSettings(
            data=str(motions), device="cpu", evaluation=evaluation, loading=LoadingSettings(workers=0)
        )
        path = tmp_path / f"{crops}-{size}.parquet"
        result = evaluate_split(finished_run, settings, path)
        scores = read_scores(path)
        protocol = scores.header.protocol
        assert len(scores.table) == result.accuracy.num_videos * 2 * crops
        assert (protocol.num_crops, protocol.preprocessing.clip_length) == (crops, length or 4)
        own, usual = (
            cost(network, (3, *sizes)).multiply_adds for sizes in ((length or 4, *[size or 28] * 2), (4, 28, 28))
        )
        assert result.cost == pytest.approx(crops * 2 / 10 * own / usual)
        assert not [note for note in result.notes if "crops" in note]
        tables.append(np.array(scores.table["logits"].to_pylist()))
    center, three, larger = tables
    # the middle crop of three; batches differ, and rounding with them
    np.testing.assert_allclose(three.reshape(-1, 3, center.shape[1])[:, 1], center, atol=1e-4)
    assert np.abs(three.reshape(-1, 3, center.shape[1])[:, 0] - center).max() > 1e-3
    assert np.abs(larger - center).max() > 1e-3


def test_three_equal_crops_are_noted(finished_run: Path, motions: Path, tmp_path: Path) -> None:
    evaluation = EvaluationSettings(clips=1, crops=3, crop_size=32)
    settings = EvaluateSettings(
        data=str(motions), device="cpu", evaluation=evaluation, loading=LoadingSettings(workers=0)
    )
    notes = evaluate_split(finished_run, settings, tmp_path / "s.parquet").notes
    assert notes[-1] == "not used: evaluation.crops 3, since crops of 32 pixels are equal in frames of 32x32"


@pytest.mark.parametrize("crop_size", [113, 128])
def test_the_cost_of_larger_crops_is_that_of_their_maps(crop_size: int) -> None:
    default = EvaluationProtocol.from_settings(EvaluationSettings(), Preprocessing())
    evaluation = EvaluationSettings(clips=5, crops=3, crop_size=crop_size)
    protocol = EvaluationProtocol.from_settings(evaluation, Preprocessing())
    with torch.device("meta"):
        network = create_model("r3d_10")
    factor = cost(network, (3, 16, crop_size, crop_size)).multiply_adds / cost(network, (3, 16, 112, 112)).multiply_adds
    assert compute_relative_cost(network, protocol, default) == pytest.approx(1.5 * factor)
    assert compute_relative_cost(None, protocol, default) == pytest.approx(1.5 * (crop_size / 112) ** 2)
    assert compute_relative_cost(network, default, default) == 1


def test_dense_scores_are_those_of_a_plain_computation(tmp_path: Path) -> None:
    """The planes converted by the standard's formula, cut by hand, and the classifier applied at every place of the maps."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (20, 8, 12, 3), np.uint8).repeat(4, 1).repeat(4, 2)
    video = write_video(tmp_path / "0.mp4", 20, height=32, width=48, paint=lambda number: pictures[number])
    (tmp_path / "data.csv").write_text("path,label,split\n0.mp4,a,test\n")
    preprocessing = Preprocessing(clip_length=4, scale_height=32, scale_width=48, crop=28)
    network = create_model("r2plus1d_10", num_classes=2, width=4, clip_length=4)
    save(network, tmp_path / "net.safetensors", classes=("a", "b"), preprocessing=preprocessing)
    settings = EvaluateSettings(
        data=str(tmp_path / "data.csv"),
        device="cpu",
        evaluation=EvaluationSettings(clips=3, crops=3, clip_length=8, crop_size=32),
        loading=LoadingSettings(workers=0),
    )
    evaluate_split(tmp_path / "net.safetensors", settings, tmp_path / "s.parquet")

    with av.open(str(video)) as container:
        planes = [frame.to_ndarray(format="yuv420p").astype(float) for frame in container.decode(video=0)]
    luma = np.stack([each[:32] for each in planes])
    blue, red = (
        np.stack([each[rows].reshape(16, 24).repeat(2, 0).repeat(2, 1) for each in planes]) - 128
        for rows in (slice(32, 40), slice(40, 48))
    )
    gray = (luma - 16) * 255 / 219
    rgb = np.stack([gray + 1.59603 * red, gray - 0.39176 * blue - 0.81297 * red, gray + 2.01723 * blue]).clip(0, 255)
    mean, std = (np.array(values)[:, None, None, None] for values in (preprocessing.mean, preprocessing.std))
    frames = torch.from_numpy((rgb - mean) / std).float()
    expected = []
    for start in (0, 6, 12):
        for left in (0, 8, 16):
            maps = frames[None, :, start : start + 8, :, left : left + 32]
            for stage in network.eval().stages:
                maps = stage(maps)
            assert maps.shape[2:].numel() > 1  # several places, in time and space
            expected.append(network.fc(maps.movedim(1, -1)).mean((0, 1, 2, 3)).tolist())
    scored = read_scores(tmp_path / "s.parquet").table["logits"].to_pylist()
    np.testing.assert_allclose(scored, expected, atol=1e-3 * np.abs(expected).max())


def test_the_splits_are_those_that_the_run_was_trained_on(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    data, run = str(tmp_path / "data"), tmp_path / "run"
    run.mkdir()
    (run / "settings.yaml").write_text(yaml.safe_dump({"data": data, "fold": 2, "seed": 7}))
    for weights in (run, run / "best.safetensors"):
        settings = use_training_splits(weights, EvaluateSettings(data=data + "/../data"))
        assert (settings.fold, settings.seed) == (2, 7)
        settings = use_training_splits(weights, EvaluateSettings(data=data, fold=1, seed=0))
        assert (settings.fold, settings.seed) == (1, 0)
        settings = use_training_splits(weights, EvaluateSettings(data=str(tmp_path)))
        assert (settings.fold, settings.seed) == (None, None)
    (run / "settings.yaml").write_text("- damaged")
    with pytest.raises(ValueError, match=r"settings\.yaml"):
        use_training_splits(run, EvaluateSettings(data=data))


def test_labels_are_matched_by_name(finished_run: Path, motions: Path, tmp_path: Path) -> None:
    """The same network with its classes in the other order gives the same figures, and the other numbers as labels."""
    network, card = load_weights(finished_run)
    with torch.no_grad():
        network.fc.weight.copy_(network.fc.weight.flip(0))
        network.fc.bias.copy_(network.fc.bias.flip(0))
    path = tmp_path / "turned.safetensors"
    save(network, path, classes=tuple(reversed(card.classes)), preprocessing=card.preprocessing)
    settings = EvaluateSettings(
        data=str(motions), device="cpu", evaluation=EvaluationSettings(clips=2), loading=LoadingSettings(workers=0)
    )
    plain = evaluate_split(finished_run, settings, tmp_path / "plain.parquet")
    other = evaluate_split(path, settings, tmp_path / "turned.parquet")
    assert other.accuracy.video_top1 == plain.accuracy.video_top1
    assert other.accuracy.clip_top1 == plain.accuracy.clip_top1
    labels = [read_scores(tmp_path / f"{name}.parquet").table["labels"].to_pylist() for name in ("plain", "turned")]
    assert labels[1] == [[1 - label for label in row] for row in labels[0]]


def test_segments_of_a_list_count_from_the_first_picture_or_as_in_a_player(tmp_path: Path) -> None:
    """The sound begins a second before the picture, which turns light 1 s later: at 2 s in a player."""

    def paint(number: int) -> NDArray[np.uint8]:
        return np.full((24, 24, 3), 230 if number >= 25 else 20, np.uint8)

    size = {"height": 24, "width": 24}
    write_video(tmp_path / "late.mp4", 75, ticks=range(25, 100), audio=True, paint=paint, **size)
    (tmp_path / "data.csv").write_text(
        "path,label,split,start_seconds,end_seconds\nlate.mp4,light,test,2.1,2.9\nlate.mp4,dark,test,1.1,1.9\n"
    )
    found = {}
    for origin in ("picture", "container"):
        manifest = open_data(str(tmp_path / "data.csv"), time_origin=origin).select_split("test")  # type: ignore[arg-type]
        job = EvaluationJob(
            manifest=manifest.remap_labels(("dark", "light")),
            split="test",
            fold=None,
            preprocessing=CLIPS,
            model_sha256="",
            evaluation=EvaluationSettings(clips=2),
            loading=LoadingSettings(workers=1),
        )
        path = tmp_path / f"{origin}.parquet"
        found[origin] = evaluate(job, Darkness(), path, device=CPU).accuracy.video_top1.of_all.right
        assert read_scores(path).header.protocol.time_origin == origin
    assert found == {"picture": 1, "container": 2}
    with pytest.raises(ValueError, match="--time-origin container is for segments in seconds, but 1 row is in frames"):
        (tmp_path / "frames.csv").write_text("path,label,split,start_frame\nlate.mp4,a,train,5\nlate.mp4,b,train,\n")
        open_data(str(tmp_path / "frames.csv"), time_origin="container")
    (tmp_path / "whole.csv").write_text("path,label,split\nlate.mp4,a,train\n4.mp4,b,train\n")
    assert "--time-origin is not used" in " ".join(
        open_data(str(tmp_path / "whole.csv"), time_origin="container").notes
    )


HOW_DATA_IS_READ = {
    "fold": 2,
    "num_folds": 5,
    "fold_by": "video",
    "seed": 7,
    "columns": "label=kind",
    "source_fps": 12.5,
    "time_origin": "container",
    "background": True,
    "validation": "0.2",
}
OTHERWISE = {
    "fold": 1,
    "num_folds": 3,
    "fold_by": "group",
    "seed": 0,
    "columns": "label=x",
    "source_fps": 25.0,
    "time_origin": "picture",
    "background": False,
    "validation": "auto",
}


def test_data_is_read_as_the_run_read_it_unless_a_setting_says_otherwise(tmp_path: Path) -> None:
    saved = {"data": str(tmp_path), **HOW_DATA_IS_READ}
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(saved))
    unset = EvaluateSettings(data=str(tmp_path))
    filled = use_training_splits(tmp_path, unset)
    assert {name: getattr(filled, name) for name in HOW_DATA_IS_READ} == HOW_DATA_IS_READ
    given = replace(unset, **OTHERWISE)
    assert use_training_splits(tmp_path, given) == given
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump({"data": str(tmp_path)}))
    old = use_training_splits(tmp_path, unset)
    assert (old.columns, old.background) == (AS_VERSION_0_1, False)


def test_only_the_data_as_the_run_reads_it_counts_as_its_own(tmp_path: Path) -> None:
    own = EvaluateSettings(data=str(tmp_path))
    assert reads_as_run(tmp_path, own)  # of an old version, without settings
    assert not reads_as_run(tmp_path / "best.safetensors", own)
    saved = {"data": str(tmp_path), **HOW_DATA_IS_READ}
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(saved))
    assert set(READING) == set(HOW_DATA_IS_READ)
    assert reads_as_run(tmp_path, own) and reads_as_run(tmp_path, replace(own, **HOW_DATA_IS_READ))
    for name, value in OTHERWISE.items():
        assert not reads_as_run(tmp_path, replace(own, **{name: value})), name
    assert not reads_as_run(tmp_path, replace(own, data=str(tmp_path / "other")))


def test_scores_of_other_splits_than_the_runs_do_not_replace_its_own(
    finished_run: Path, motions: Path, tmp_path: Path
) -> None:
    run = copytree(finished_run, tmp_path / "run", ignore=ignore_patterns("checkpoints"))
    settings = EvaluateSettings(data=str(motions), split="validation", loading=LoadingSettings(workers=0))
    assert evaluate_split(run, settings).path.name == "validation.parquet"
    assert evaluate_split(run, replace(settings, seed=7)).path.name.startswith("validation-data-")


def test_thresholds_tell_score_files_apart(tmp_path: Path) -> None:
    heads = [Head("multi_label", ("a", "b"), "sigmoid", thresholds=values) for values in ((0.5, 0.5), (0.5, 0.6))]
    protocol = EvaluationProtocol.from_settings(EvaluationSettings(), CLIPS, task="multi_label")
    headers = [ScoresHeader(("a", "b"), protocol, "test", None, "m", "d", 1, format=2, head=head) for head in heads]
    assert len({resolve_scores_path(tmp_path, "data", header, is_own=False) for header in headers}) == 2


def test_what_is_set_of_how_data_is_read_reaches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("muybridge.evaluation.evaluate.open_data", lambda address, **options: (address, options))
    card = SimpleNamespace(task="single_label", classes=("a", "b"))
    settings = EvaluateSettings(data="d", **HOW_DATA_IS_READ)
    address, options = open_evaluation_data(card, settings)
    assert address == "d"
    assert options.pop("validation") == ValidationSplit(7, "0.2")
    assert (options.pop("background"), options.pop("task"), options.pop("levels")) == ("drawn", "single_label", ())
    assert options == {name: HOW_DATA_IS_READ[name] for name in options}
    assert open_evaluation_data(card, settings, whole_files=True)[1]["background"] == "all"
    _, options = open_evaluation_data(card, EvaluateSettings(data="d"))
    assert options.pop("validation") == ValidationSplit(0, "auto")
    assert (options["time_origin"], options["background"], options["fold_by"]) == ("picture", "none", "group")


def test_copies_of_data_have_score_files_of_their_own(finished_run: Path, motions: Path, tmp_path: Path) -> None:
    run = copytree(finished_run, tmp_path / "run", ignore=ignore_patterns("checkpoints"))
    paths = set()
    for name in ("noise10", "noise20"):
        copytree(motions, tmp_path / name / "data")
        settings = EvaluateSettings(data=str(tmp_path / name / "data"), loading=LoadingSettings(workers=0))
        paths.add(evaluate_split(run, settings).path)
    assert len(paths) == 2
    assert all(path.is_file() and path.name.startswith("test-data-") for path in paths)


@pytest.mark.parametrize("keep", ["views", "videos"])
def test_a_resumed_evaluation_scores_again_what_failed_or_changed(
    keep: Literal["views", "videos"], job: EvaluationJob, tmp_path: Path
) -> None:
    """The last video is supplied and the first one replaced after all were scored, and the process killed."""
    job = replace(job, evaluation=replace(job.evaluation, keep=keep))
    path, scorer, heard = tmp_path / "s.parquet", Darkness(), list[int]()

    def stop(num_videos: int) -> None:
        if num_videos == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(job, Darkness(), path, device=CPU, on_progress=stop)
    copyfile(tmp_path / "1.mp4", tmp_path / "4.mp4")
    copyfile(tmp_path / "1.mp4", tmp_path / "0.mp4")
    result = evaluate(job, scorer, path, device=CPU, on_progress=heard.append)
    assert scorer.sizes == [3, 3] and heard == [4, 5]  # three views of two videos, which are in batches of their own
    assert (result.accuracy.video_top1.of_all.right, result.accuracy.num_failed_videos) == (3, 0)
    assert result.num_looped_videos == 1
    assert [path.name for path in tmp_path.glob("*.part*")] == []
