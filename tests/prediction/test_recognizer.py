import json
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from muybridge.loading.frame_stream import TIMESTEPS_PER_CHUNK
from muybridge.models.network import VideoResNet, create_model
from muybridge.prediction import recognizer as recognizer_module
from muybridge.prediction.recognizer import Recognizer, load
from muybridge.prediction.sliding_window import BATCH_CLIPS
from muybridge.prediction.timeline import TimelineOptions
from muybridge.records import FLOW_MEAN, FLOW_STD, Preprocessing, VideoError
from muybridge.video.decode import VideoFiles
from muybridge.video.flow import farneback
from muybridge.video.sampling import sample_dense_clips, sample_uniform_clips
from muybridge.video.views import collate_views, make_evaluation_view, prepare_network_input
from muybridge.weights.card import Card, save

NewFrames = Callable[..., Any]  # of conftest.py
CPU = torch.device("cpu")
CLASSES = ("clap", "wave", "jump")
PREPROCESSING = Preprocessing(clip_length=4, scale_height=20, scale_width=24, crop=16)


def network(preprocessing: Preprocessing = PREPROCESSING) -> VideoResNet:
    torch.manual_seed(0)
    built = create_model(
        "mc2_10", num_classes=3, width=4, clip_length=4, input_channels=preprocessing.input_channels
    ).eval()
    with torch.no_grad():
        built.fc.weight.mul_(5)  # scores far enough apart to be distinguishable
    return built


def saved(path: Path, preprocessing: Preprocessing = PREPROCESSING) -> VideoResNet:
    built = network(preprocessing)
    save(built, path, classes=CLASSES, preprocessing=preprocessing)
    return built


class LevelScorer:
    """Clips of the grey frames of conftest.py: a frame number below 100 is a clap, below 200 a wave, else a jump."""

    def __init__(self) -> None:
        self.clips: list[list[int]] = []

    def __call__(self, clips_ncthw: Tensor) -> Tensor:
        levels = clips_ncthw[:, 0, :, 8, 8] * PREPROCESSING.std[0] + PREPROCESSING.mean[0]
        self.clips += levels.round().int().tolist()
        indices = (levels.mean(1) / 100).int()
        return math.log(8) * torch.nn.functional.one_hot(indices.long(), 3).float()


def recognizer(source: Any, scorer: Any = None, preprocessing: Preprocessing = PREPROCESSING) -> Recognizer:
    built = network()
    card = Card(built.specification, CLASSES, preprocessing, "a test", "CC0", None, "")
    return Recognizer(built, card, scorer or LevelScorer(), CPU, source)


def test_a_real_video_is_predicted_as_clip_by_clip(tmp_path: Path, new_video: Callable[..., Path]) -> None:
    """Against the plain way: every clip read for itself, one at a time through the network, softmax, mean."""
    video = new_video(tmp_path / "video.mp4", 30)
    built = saved(tmp_path / "net.safetensors")
    prediction = load(tmp_path / "net.safetensors", "cpu").predict(video, clips=7, top=2)

    source = VideoFiles(str(tmp_path), scale_height=20, scale_width=24)
    probabilities = []
    for times in sample_uniform_clips(source.read_frame_times("video.mp4"), PREPROCESSING, 7):
        view = make_evaluation_view(source.read("video.mp4", times.ticks), 16)
        with torch.no_grad():
            logits = built(prepare_network_input(collate_views([view]), PREPROCESSING, CPU))
        probabilities.append(torch.softmax(logits[0].double(), 0))
    expected = torch.stack(probabilities).mean(0)

    assert (prediction.video, prediction.status, prediction.reason) == (str(video), "ok", "")
    order = expected.argsort(descending=True)[:2]
    assert [label for label, _ in prediction.classes] == [CLASSES[index] for index in order]
    assert [probability for _, probability in prediction.classes] == pytest.approx(expected[order].tolist(), abs=1e-5)
    assert expected[order[0]] > 0.4, "scores so even would hide a mistake"


def test_probabilities_are_softmax_averaged_over_clips(frames: NewFrames) -> None:
    scorer = LevelScorer()
    prediction = recognizer(frames(124), scorer).predict("x", clips=4, top=10)
    assert scorer.clips == [[n, n + 1, n + 2, n + 3] for n in (0, 40, 80, 120)]
    assert [label for label, _ in prediction.classes] == ["clap", "wave", "jump"]
    assert dict(prediction.classes) == pytest.approx({"clap": 2.5 / 4, "wave": 1.1 / 4, "jump": 0.4 / 4}, abs=1e-6)


def test_json_is_one_object_a_video(frames: NewFrames) -> None:
    prediction = recognizer(frames(50)).predict("x.mp4", top=1)
    values = json.loads(json.dumps(prediction.to_json()))
    assert values == {
        "video": "x.mp4",
        "status": "ok",
        "reason": "",
        "classes": [{"label": "clap", "probability": pytest.approx(0.8)}],
    }


def test_a_bad_video_is_a_prediction_that_says_so(tmp_path: Path) -> None:
    saved(tmp_path / "net.safetensors")
    loaded = load(tmp_path / "net.safetensors", "cpu")
    (tmp_path / "text.mp4").write_text("not a video")
    for name, status in (("absent.mp4", "missing"), ("text.mp4", "unreadable")):
        prediction = loaded.predict(tmp_path / name, timeline=TimelineOptions())
        assert (prediction.status, prediction.classes, prediction.windows, prediction.segments) == (status, (), (), ())
        assert prediction.reason
        assert prediction.to_json()["classes"] == []
        with pytest.raises(VideoError):
            loaded.features(tmp_path / name)


def test_clips_that_cannot_be_read_are_left_out_and_reported(frames: NewFrames) -> None:
    prediction = recognizer(frames(124, broken=[41, 81])).predict("x", clips=4)
    assert prediction.status == "ok"
    assert prediction.reason == "2 of 4 clips could not be read: frame 41 is damaged"
    assert dict(prediction.classes) == pytest.approx({"clap": 0.45, "wave": 0.45, "jump": 0.1}, abs=1e-6)
    prediction = recognizer(frames(20, broken=range(20))).predict("x", clips=4)
    assert (prediction.status, prediction.reason, prediction.classes) == ("unreadable", "frame 0 is damaged", ())


def test_a_timeline_has_a_window_every_few_frames(frames: NewFrames) -> None:
    scorer = LevelScorer()
    prediction = recognizer(frames(250), scorer).predict("x", clips=1, timeline=TimelineOptions(step_frames=2))
    windows = prediction.windows
    assert scorer.clips[1:] == [[n, n + 1, n + 2, n + 3] for n in range(0, 248, 2)]
    assert [window.start_seconds for window in windows] == pytest.approx([n / 25 for n in range(0, 248, 2)])
    assert all(window.end_seconds - window.start_seconds == pytest.approx(4 / 25) for window in windows)
    assert windows[0].probabilities == pytest.approx((0.8, 0.1, 0.1))
    assert [segment.label for segment in prediction.segments] == ["clap", "wave", "jump"]
    # Clips from frame 100 on are waves; the last clap starts at 98 and has mean 99.5. A window's centre is 2 frames on.
    assert [segment.end_seconds for segment in prediction.segments] == pytest.approx([101 / 25, 201 / 25, 250 / 25])
    assert all(segment.mean_probability == pytest.approx(0.8) for segment in prediction.segments)


def test_the_usual_step_is_a_quarter_of_a_clip(frames: NewFrames) -> None:
    prediction = recognizer(frames(30)).predict("x", timeline=TimelineOptions())
    assert len(prediction.windows) == 27
    assert not recognizer(frames(30)).predict("x").windows


def test_minima_reach_the_merging(frames: NewFrames) -> None:
    options = TimelineOptions(step_frames=2, minimum_probability=0.9)
    prediction = recognizer(frames(30)).predict("x", timeline=options)
    assert prediction.windows
    assert not prediction.segments
    options = TimelineOptions(step_frames=2, minimum_seconds=1.0)
    prediction = recognizer(frames(108)).predict("x", timeline=options)
    assert [segment.label for segment in prediction.segments] == ["clap"]


def test_time_that_no_window_saw_is_in_no_segment(frames: NewFrames) -> None:
    options = TimelineOptions(step_frames=1)
    prediction = recognizer(frames(50, broken=range(20, 30))).predict("x", clips=2, timeline=options)
    spans = [(segment.start_seconds * 25, segment.end_seconds * 25) for segment in prediction.segments]
    assert [pytest.approx(span) for span in spans] == [(0, 20), (30, 50)]
    assert prediction.reason == "along the timeline 13 of 47 clips could not be read: frame 20 is damaged"
    # Clips of every third frame: those on either side of the ones that fail overlap, so there is no hole.
    sparse = replace(PREPROCESSING, frame_stride=3)
    prediction = recognizer(frames(50, broken=[20]), preprocessing=sparse).predict("x", clips=2, timeline=options)
    assert len(prediction.windows) == 41 - 4
    assert [(segment.start_seconds, segment.end_seconds) for segment in prediction.segments] == [(0, 2)]


def test_a_long_video_goes_through_in_batches(frames: NewFrames) -> None:
    sizes = []

    def scorer(clips: Tensor) -> Tensor:
        sizes.append(len(clips))
        return torch.zeros(len(clips), 3)

    source = frames(250)
    recognizer(source, scorer).predict("x", clips=1, timeline=TimelineOptions(step_frames=1))
    assert sizes == [1] + [BATCH_CLIPS] * 24 + [7]
    assert [frame for read in source.reads[1:] for frame in read] == list(range(250)), "each frame once, in order"
    assert max(map(len, source.reads)) == TIMESTEPS_PER_CHUNK


def test_scores_that_are_not_finite_are_an_error(frames: NewFrames) -> None:
    with pytest.raises(ValueError, match="the scores of x are not finite"):
        recognizer(frames(50), lambda clips: torch.full((len(clips), 3), torch.nan)).predict("x")


@pytest.mark.parametrize("wrong", [{"top": 0}, {"clips": 0}])
def test_no_clips_or_no_classes_is_an_error(frames: NewFrames, wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="is 0, expected a whole number from 1"):
        recognizer(frames(50)).predict("x", **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("step_frames", [None, 6])
def test_features_are_the_input_of_the_classifier(frames: NewFrames, step_frames: int | None) -> None:
    source = frames(60)
    used = recognizer(source)
    features = used.features("x", clips=3, step_frames=step_frames)
    if step_frames is None:
        clip_times = sample_uniform_clips(source.times, PREPROCESSING, 3)
    else:
        clip_times = sample_dense_clips(source.times, PREPROCESSING, step_frames)
    assert features.views.tolist() == list(range(len(clip_times)))
    assert features.start_seconds.tolist() == [times.start_seconds for times in clip_times]
    assert (features.features.shape, features.features.dtype) == ((len(clip_times), 32), np.float32)
    views = [make_evaluation_view(source.read("x", times.ticks), 16) for times in clip_times]
    with torch.no_grad():
        logits = used.model(prepare_network_input(collate_views(views), PREPROCESSING, CPU))
        again = used.model.fc(torch.from_numpy(features.features))
    assert torch.allclose(again, logits, atol=1e-5)
    assert logits.std(0).max() > 1e-3, "clips so alike would hide a mistake"


def test_features_skip_clips_that_cannot_be_read(frames: NewFrames) -> None:
    features = recognizer(frames(60, broken=[29])).features("x", clips=3)
    assert features.views.tolist() == [0, 2]
    assert features.start_seconds.tolist() == pytest.approx([0.0, 56 / 25])
    assert features.reason == "1 of 3 clips could not be read: frame 29 is damaged"


def test_a_run_folder_is_loaded_with_its_card(tmp_path: Path) -> None:
    built = saved(tmp_path / "run" / "last.safetensors")
    loaded = load(tmp_path / "run", "cpu")
    assert loaded.card.classes == CLASSES
    assert not loaded.model.training
    clips = torch.randn(1, 3, 4, 16, 16)
    with torch.no_grad():
        logits = built(clips)
    assert torch.allclose(loaded.model(clips).detach(), logits, atol=1e-6)
    assert torch.allclose(loaded.scorer(clips), logits, atol=1e-6)
    assert load(tmp_path / "run").device.type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_what_cannot_be_loaded_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.pt").touch()
    with pytest.raises(ValueError, match="muybridge weights import"):
        load(tmp_path / "net.pt", "cpu")
    with pytest.raises(ValueError, match="there is no"):
        load(tmp_path / "absent", "cpu")
    saved(tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match="device"):
        load(tmp_path / "net.safetensors", "toaster")


FLOW = replace(PREPROCESSING, modality="flow", mean=FLOW_MEAN, std=FLOW_STD)


def test_flow_without_opencv_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path / "flow.safetensors", FLOW)
    monkeypatch.setitem(sys.modules, "cv2", None)  # importing it now fails
    with pytest.raises(ImportError, match=r"needs OpenCV; get it with: pip install 'muybridge\[flow\]'"):
        load(tmp_path / "flow.safetensors", "cpu")


def test_a_network_that_sees_flow_gets_flow(tmp_path: Path, new_video: Callable[..., Path]) -> None:
    network = saved(tmp_path / "flow.safetensors", FLOW)
    video = new_video(tmp_path / "video.mp4", 12)
    prediction = load(tmp_path / "flow.safetensors", "cpu").predict(video, clips=2, top=3)
    source = VideoFiles("", scale_height=20, scale_width=24)
    logits = []
    for start in (0, 7):  # of 12 frames, five each: four flows
        frames = source.read(str(video), source.read_frame_times(str(video)).ticks[start : start + 5])
        gray = np.clip(np.rint((frames.luma_thw[:, 2:18, 4:20] - 16.0) * 255 / 219), 0, 255).astype(np.uint8)
        flow = np.stack([farneback(gray[index], gray[index + 1]) for index in range(4)]).transpose(3, 0, 1, 2)
        clip = (flow - np.array(FLOW_MEAN)[:, None, None, None]) / np.array(FLOW_STD)[:, None, None, None]
        logits.append(network(torch.from_numpy(clip[None]).float()))
    expected = torch.softmax(torch.cat(logits), 1).mean(0).tolist()
    probabilities = dict(prediction.classes)
    assert [probabilities[name] for name in CLASSES] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("wrong", [{"step_frames": 0}, {"minimum_probability": 1.5}, {"minimum_seconds": -1.0}])
def test_impossible_timelines_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"is -?[01].*, expected a"):
        TimelineOptions(**wrong)  # type: ignore[arg-type]


def test_on_another_device_bf16_stays_where_that_device_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = replace(recognizer(None), precision="fp32")
    rounded = replace(exact, precision="bf16")
    assert exact.to("cpu").precision == rounded.to("cpu").precision == "fp32"
    monkeypatch.setattr(recognizer_module, "choose_inference_precision", lambda requested, device: "bf16")
    moved = rounded.to("cpu")
    assert (moved.precision, moved.scorer.precision, moved.scorer.network.precision) == ("bf16",) * 3  # type: ignore[attr-defined]
