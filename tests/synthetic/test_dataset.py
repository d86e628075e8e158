"""Generated motions as files: layout, exact twins after decoding, reproducible bytes, untrimmed video."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from muybridge.randomness import make_generator
from muybridge.synthetic.dataset import (
    write_intra_video,
    write_motion_dataset,
    write_untrimmed_video,
)
from muybridge.synthetic.motions import MotionSettings, create_video_generator
from muybridge.synthetic.scenes import render_motion

SMALL = MotionSettings(
    classes=("approach", "recede", "left", "right"),
    train_videos_per_class=2,
    validation_videos_per_class=1,
    test_videos_per_class=3,
    num_frames=6,
    frames_per_second=12,
    height=32,
    width=48,
    distractors=1,
    seed=3,
)


def decode(path: Path) -> NDArray[np.uint8]:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*.mp4")
    }


def test_one_process_writes_a_folder_at_a_time(tmp_path: Path) -> None:
    def write_again(num_done: int, num_videos: int) -> None:
        with pytest.raises(ValueError, match=r"data is being written by process \d+ .*wait until it ends"):
            write_motion_dataset(tmp_path / "data", SMALL)

    few = replace(SMALL, classes=("left", "right"), train_videos_per_class=1, test_videos_per_class=1)
    write_motion_dataset(tmp_path / "data", few, progress=write_again)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert len(list((tmp_path / "data").rglob("*.mp4"))) == 6


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("motion") / "data"
    write_motion_dataset(folder, SMALL)
    return folder


def test_files_lie_in_class_folders_and_are_named_by_number_alone(dataset: Path) -> None:
    expected = {
        f"{split}/{label}/{number:05d}.mp4"
        for split, count in (("train", 2), ("validation", 1), ("test", 3))
        for label in SMALL.class_names
        for number in range(count)
    }
    assert {path.relative_to(dataset).as_posix() for path in dataset.rglob("*") if path.is_file()} == expected
    assert [path.name for path in dataset.parent.iterdir()] == ["data"]


def test_files_are_h264_key_frames_at_the_rate_asked_for(dataset: Path) -> None:
    with av.open(str(dataset / "train/left/00001.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.codec_context.width, stream.codec_context.height) == (48, 32)
        assert "creation_time" not in container.metadata
        frames = list(container.decode(stream))
    assert all(frame.key_frame for frame in frames)
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(6) / 12)


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize(("label", "other"), [("left", "right"), ("approach", "recede")])
def test_decoded_twins_are_exactly_reversed(dataset: Path, split: str, label: str, other: str) -> None:
    for path in sorted((dataset / split / label).iterdir()):
        video, twin = decode(path), decode(dataset / split / other / path.name)
        np.testing.assert_array_equal(video, twin[::-1])
        assert not np.array_equal(video, twin)


def test_training_videos_and_splits_share_no_draw(dataset: Path) -> None:
    sets = [frozenset(frame.tobytes() for frame in decode(path)) for path in dataset.glob("train/*/*.mp4")]
    held_out = [frozenset(frame.tobytes() for frame in decode(path)) for path in dataset.glob("[vt]*/*/*.mp4")]
    assert len(set(sets)) == 2 * 4
    assert len(set(held_out)) == 2 * 4 + (1 + 3) * 2  # twins hold the same frames


def test_files_show_what_was_rendered(dataset: Path) -> None:
    for split, label, number in (("train", "left", 1), ("test", "recede", 2)):
        rng = create_video_generator(SMALL, split, label, number)  # type: ignore[arg-type]
        rendered = render_motion(label, rng, settings=SMALL).frames_thwc
        decoded = decode(dataset / split / label / f"{number:05d}.mp4")
        assert np.abs(decoded.astype(int) - rendered).mean() < 6


def test_flat_colours_survive_the_file(tmp_path: Path) -> None:
    colours = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200], [128, 128, 128]], dtype=np.uint8)
    frames_thwc = np.tile(colours[:, None, None], (1, 32, 32, 1))
    write_intra_video(tmp_path / "flat.mp4", frames_thwc, frames_per_second=10)
    decoded = decode(tmp_path / "flat.mp4")
    assert np.abs(decoded.astype(int) - frames_thwc).max() <= 6


def test_one_seed_gives_one_data_set(dataset: Path, tmp_path: Path) -> None:
    write_motion_dataset(tmp_path / "again", SMALL)
    write_motion_dataset(tmp_path / "other", replace(SMALL, seed=4))
    original, again, other = hashes(dataset), hashes(tmp_path / "again"), hashes(tmp_path / "other")
    assert original == again
    assert original.keys() == other.keys()
    assert not set(original.values()) & set(other.values())


def test_an_interrupted_call_leaves_no_folder_that_looks_whole(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []

    def stop_at_five(done: int, total: int) -> None:
        calls.append((done, total))
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_motion_dataset(tmp_path / "data", SMALL, progress=stop_at_five)
    assert calls == [(done, 24) for done in range(1, 6)]
    assert not (tmp_path / "data").exists()

    fewer = replace(SMALL, classes=2, test_videos_per_class=1)
    (tmp_path / "data").mkdir()  # an empty folder is filled
    write_motion_dataset(tmp_path / "data", fewer)
    assert len(hashes(tmp_path / "data")) == 2 * (2 + 1 + 1)
    assert not (tmp_path / "data" / "train" / "approach").exists()
    with pytest.raises(ValueError, match="not an empty folder; delete it or choose another"):
        write_motion_dataset(tmp_path / "data", fewer)


def test_untrimmed_video_shows_its_segments_in_order(tmp_path: Path) -> None:
    labels = ["left", "recede", "left"]
    segments = write_untrimmed_video(tmp_path / "new" / "long.mp4", SMALL, labels=labels)
    assert [tuple(segment) for segment in segments] == [("left", 0.0, 0.5), ("recede", 0.5, 1.0), ("left", 1.0, 1.5)]
    decoded = decode(tmp_path / "new" / "long.mp4")
    assert len(decoded) == 3 * 6
    rendered = render_motion("recede", make_generator(SMALL.seed, "motion/untrimmed", 1), settings=SMALL).frames_thwc
    assert np.abs(decoded[6:12].astype(int) - rendered).mean() < 6
    write_untrimmed_video(tmp_path / "other.mp4", SMALL, labels=labels, number=1)
    assert np.abs(decode(tmp_path / "other.mp4").astype(int) - decoded).mean() > 6
    with pytest.raises(ValueError, match="at least one label"):
        write_untrimmed_video(tmp_path / "none.mp4", SMALL, labels=[])
