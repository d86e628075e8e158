import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from tests.videos import index_picture

from muybridge.models.network import create_model
from muybridge.prediction.recognizer import Features, Prediction, Recognizer, load
from muybridge.prediction.timeline import TimelineOptions, Window
from muybridge.records import Preprocessing, VideoError
from muybridge.weights.card import save

PREPROCESSING = Preprocessing(clip_length=4, scale_height=20, scale_width=24, crop=16)
FRAMES = np.stack([index_picture(40 * (number % 6), 20, 24) for number in range(30)])


@pytest.fixture(scope="module")
def recognizer(tmp_path_factory: pytest.TempPathFactory) -> Recognizer:
    path = tmp_path_factory.mktemp("weights") / "net.safetensors"
    torch.manual_seed(0)
    network = create_model("mc2_10", num_classes=3, width=4, clip_length=4).eval()
    with torch.no_grad():
        network.fc.weight.mul_(5)
    save(network, path, classes=("clap", "wave", "jump"), preprocessing=PREPROCESSING)
    return load(path, "cpu")


def write_frames(folder: Path, frames: NDArray[np.uint8]) -> Path:
    folder.mkdir()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{number}.png")
    return folder


def test_frames_give_the_same_prediction_however_they_come(recognizer: Recognizer, tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "frames", FRAMES)
    np.savez(tmp_path / "a.npz", frames=FRAMES)
    expected = recognizer.predict(folder, clips=3)
    assert (expected.status, expected.video) == ("ok", str(folder))
    for video in (FRAMES, torch.from_numpy(FRAMES), str(tmp_path / "a.npz")):
        assert recognizer.predict(video, clips=3).classes == expected.classes
    assert recognizer.predict(FRAMES[::-1].copy(), clips=3).classes != expected.classes
    assert np.array_equal(recognizer.features(FRAMES).features, recognizer.features(folder).features)


def test_content_gives_the_prediction_of_its_file(
    recognizer: Recognizer, tmp_path: Path, new_video: Callable[..., Path]
) -> None:
    path = new_video(tmp_path / "video.mp4", 30)
    content = path.read_bytes()
    expected = recognizer.predict(path)
    for video, label in ((content, "<bytes>"), (bytearray(content), "<bytes>"), (io.BytesIO(content), "<file>")):
        prediction = recognizer.predict(video)
        assert prediction.classes == expected.classes
        assert prediction.video == label
    with path.open("rb") as file:
        assert recognizer.predict(file).classes == expected.classes
    assert recognizer.predict(b"not a video").status == "unreadable"


def test_a_list_gives_a_list_in_its_order(
    recognizer: Recognizer, tmp_path: Path, new_video: Callable[..., Path]
) -> None:
    videos: list[Any] = [new_video(tmp_path / "a.mp4", 30), tmp_path / "absent.mp4", FRAMES, FRAMES[:0]]
    predictions = recognizer.predict(videos)
    assert [prediction.status for prediction in predictions] == ["ok", "missing", "ok", "no_video"]
    assert predictions == [recognizer.predict(video) for video in videos]
    assert recognizer.predict([]) == []


def test_clips_of_several_videos_share_a_batch(recognizer: Recognizer) -> None:
    sizes: list[int] = []

    def count_and_score(clips: torch.Tensor) -> torch.Tensor:
        sizes.append(len(clips))
        return recognizer.scorer(clips)

    predictions = replace(recognizer, scorer=count_and_score).predict([FRAMES] * 7, clips=2)
    assert sizes == [10, 4]
    assert len({prediction.classes for prediction in predictions}) <= 2  # up to the rounding of another batch
    with pytest.raises(ValueError, match="clips is 0, expected"):
        recognizer.predict([FRAMES], clips=0)


def test_workers_change_nothing(recognizer: Recognizer, tmp_path: Path, new_video: Callable[..., Path]) -> None:
    videos = [str(new_video(tmp_path / f"{number}.mp4", 20 + number)) for number in range(5)]
    videos.insert(2, str(tmp_path / "absent.mp4"))
    videos.insert(4, str(write_frames(tmp_path / "frames", FRAMES)))
    for clips in (3, 10):
        plain = list(recognizer.predict_each(videos, clips=clips, workers=0))
        assert [prediction.video for prediction in plain] == videos
        assert list(recognizer.predict_each(videos, clips=clips, workers=2)) == plain
    features = list(recognizer.features_each(videos, clips=3, workers=2))
    expected = list(recognizer.features_each(videos, clips=3, workers=0))
    assert [type(row) for row in features] == [type(row) for row in expected]
    for row, other in zip(features, expected, strict=True):
        assert row.video == other.video
        if isinstance(row, Features) and isinstance(other, Features):
            assert np.array_equal(row.features, other.features)


def test_a_generator_is_a_stream_of_windows(recognizer: Recognizer) -> None:
    options = TimelineOptions(step_frames=4)
    expected = recognizer.predict(FRAMES[:28], timeline=options, source_fps=10).windows
    windows: list[Window] = list(recognizer.predict(iter(FRAMES[:28]), timeline=options, source_fps=10))
    for bound in ("start_seconds", "end_seconds"):
        assert [getattr(window, bound) for window in windows] == pytest.approx([getattr(w, bound) for w in expected])
    assert np.allclose([window.probabilities for window in windows], [w.probabilities for w in expected], atol=1e-5)
    (short,) = recognizer.predict(frame for frame in FRAMES[:2])
    assert np.allclose(
        sorted(short.probabilities, reverse=True), [p for _, p in recognizer.predict(FRAMES[:2], clips=1).classes]
    )


def test_windows_of_a_stream_begin_a_quarter_of_a_clip_apart(recognizer: Recognizer) -> None:
    windows = list(recognizer.predict(iter(FRAMES[:6]), source_fps=2))
    assert [(window.start_seconds, window.end_seconds) for window in windows] == [(0.0, 2.0), (0.5, 2.5), (1.0, 3.0)]


def test_a_stream_follows_the_rate_of_the_card(recognizer: Recognizer) -> None:
    card = replace(recognizer.card, preprocessing=replace(PREPROCESSING, frames_per_second=5.0))
    slower = replace(recognizer, card=card)
    for source_fps in (10.0, 3.0):
        expected = slower.predict(FRAMES, timeline=TimelineOptions(step_frames=3), source_fps=source_fps).windows
        windows = list(slower.predict(iter(FRAMES), timeline=TimelineOptions(step_frames=3), source_fps=source_fps))
        assert len(windows) >= 4
        for window, other in zip(windows, expected, strict=False):
            assert window.start_seconds == pytest.approx(other.start_seconds)
            assert np.allclose(window.probabilities, other.probabilities, atol=1e-5)


def test_a_timeline_has_times_of_its_own_above_the_rate_of_the_file(recognizer: Recognizer) -> None:
    """Frames at 3 a second and a network that sees 30: ten windows begin while one frame is shown."""
    card = replace(recognizer.card, preprocessing=replace(PREPROCESSING, frames_per_second=30.0))
    faster = replace(recognizer, card=card)
    windows = faster.predict(FRAMES[:3], timeline=TimelineOptions(step_frames=1), source_fps=3).windows
    assert [window.start_seconds for window in windows] == pytest.approx([index / 30 for index in range(27)])
    assert [window.end_seconds for window in windows] == pytest.approx([(index + 4) / 30 for index in range(27)])
    (features,) = faster.features_each([FRAMES[:3]], step_frames=1, source_fps=3)
    assert isinstance(features, Features)
    assert features.start_seconds.tolist() == [window.start_seconds for window in windows]


def test_a_stream_is_scored_while_it_is_read(recognizer: Recognizer) -> None:
    num_read = 0

    def read_camera() -> Any:
        nonlocal num_read
        while True:
            yield FRAMES[num_read % 30]
            num_read += 1

    next(recognizer.predict(read_camera()))
    assert num_read < 8


@pytest.mark.parametrize(
    ("video", "error", "sentence"),
    [
        (0, TypeError, "a video is a path, bytes, .* or a list of these; int is none of them"),
        (None, TypeError, "NoneType is none of them"),
        ({"a.mp4"}, TypeError, "set is none of them"),
        (FRAMES.astype(np.float32), ValueError, "frames are float32 of shape .* expected uint8"),
        (torch.zeros(1, 3, 4, 16, 16), ValueError, "expected uint8 of shape"),
        (FRAMES[0, 0], ValueError, r"shape \(24, 3\)"),
        ("rtsp://127.0.0.1/x", ValueError, "is an address, and addresses .* are not read"),
        ("http://127.0.0.1/x.mp4", ValueError, "is an address"),
        (io.StringIO("text"), TypeError, "opened in text mode; open it in binary mode"),
        ([0], TypeError, "int is none of them"),
        (b"", None, ""),
    ],
)
def test_what_is_no_video_is_said_in_a_sentence(
    recognizer: Recognizer, video: Any, error: type[Exception] | None, sentence: str
) -> None:
    if error is None:
        assert recognizer.predict(video).status == "unreadable"
        return
    with pytest.raises(error, match=sentence):
        recognizer.predict(video)


def test_a_stream_whose_frames_change_their_shape_is_refused(recognizer: Recognizer) -> None:
    frames = (np.zeros((40, 48 + 2 * (index // 20), 3), np.uint8) for index in range(40))
    with pytest.raises(ValueError, match=r"a stream have the shapes \(40, 48, 3\) and \(40, 50, 3\), expected one"):
        list(recognizer.predict(frames))


def test_a_generator_of_paths_is_refused(recognizer: Recognizer) -> None:
    with pytest.raises(TypeError, match="it yields str; give several videos as a list"):
        list(recognizer.predict(iter(["a.mp4"])))  # type: ignore[arg-type,list-item]


def test_calling_a_recognizer_scores_clips(recognizer: Recognizer) -> None:
    clips = torch.randn(2, 3, 4, 16, 16)
    assert recognizer.model is not None
    with torch.no_grad():
        assert torch.allclose(recognizer(clips), recognizer.model(clips), atol=1e-5)
    with pytest.raises(TypeError, match="not ndarray; for videos and frames call predict"):
        recognizer(FRAMES)  # type: ignore[arg-type]
    assert recognizer.classes == ("clap", "wave", "jump")


def test_another_device_is_another_recognizer(recognizer: Recognizer) -> None:
    moved = recognizer.to("cpu")
    assert moved is not recognizer
    assert moved.model is not recognizer.model
    assert moved.predict(FRAMES) == recognizer.predict(FRAMES)
    with pytest.raises(ValueError, match="does not exist"):
        recognizer.to("cuda:99")
    with pytest.raises(ValueError, match=r"an \.onnx file stays on its device"):
        replace(recognizer, model=None).to("cpu")


def test_features_of_what_cannot_be_read(recognizer: Recognizer, tmp_path: Path) -> None:
    with pytest.raises(VideoError):
        recognizer.features(FRAMES[:0])
    with pytest.raises(VideoError):
        recognizer.features(tmp_path / "absent.mp4")
    assert isinstance(recognizer.predict(tmp_path / "absent.mp4"), Prediction)


def test_features_are_those_of_ten_clips_by_default(recognizer: Recognizer) -> None:
    expected = recognizer.features(FRAMES, clips=10).features
    (features,) = recognizer.features_each([FRAMES], workers=0)
    assert isinstance(features, Features)
    assert np.array_equal(features.features, expected)
    assert np.array_equal(recognizer.features(FRAMES).features, expected)


def test_a_segment_is_named_behind_its_file(
    recognizer: Recognizer, tmp_path: Path, new_video: Callable[..., Path]
) -> None:
    path = new_video(tmp_path / "video.mp4", 30)
    frames = recognizer.predict(f"{path}#0.4-0.8", clips=1, timeline=TimelineOptions(step_frames=1)).windows
    whole = recognizer.predict(path, clips=1, timeline=TimelineOptions(step_frames=1)).windows
    within = [window for window in whole if window.start_seconds >= 0.4 and window.end_seconds <= 0.8]
    assert [window.probabilities for window in frames] == [window.probabilities for window in within]
