"""A network along a video, and when what it said is out of date."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

import muybridge
from muybridge.files.atomic import write_json
from muybridge.models.heads import Head, make_ordinal_outputs
from muybridge.prediction.timeline_tuning import SegmentationChoice
from muybridge.records import Preprocessing
from muybridge.studio.job_runner import JOB_FILE, PROGRESS_FILE
from muybridge.studio.predict_job import run_job
from muybridge.weights.card import load_card
from studio_client import StudioClient
from videos import write_damaged_video, write_video

SMALL = Preprocessing(clip_length=4, scale_height=32, scale_width=32, crop=28)


def _write_job(client: StudioClient, folder: Path, run: Path) -> None:
    """A job along a.mp4."""
    folder.mkdir(parents=True)
    job = {
        "memory_bytes": 1 << 50,
        "model": str(run),
        "model_name": run.name,
        "paths": ["a.mp4"],
        "step_frames": 4,
        "minimum_probability": None,
        "minimum_seconds": None,
        "mode": "windows",
    }
    (folder / JOB_FILE).write_text(json.dumps(job))


def _save_network(path: Path) -> None:
    network = muybridge.create_model("r2plus1d_10", num_classes=2, clip_length=4, width=4)
    muybridge.save(network, path, classes=["x", "y"], preprocessing=SMALL)


def _predict(client: StudioClient, folder: Path, run: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The progress of a job along a.mp4, and its prediction."""
    _write_job(client, folder, run)
    assert run_job(folder) == 0
    prediction = client.get("predictions", path="a.mp4")["predictions"][0]
    segments = client.call("GET", f"/api/predictions/{prediction['id']}/segments")
    return json.loads((folder / PROGRESS_FILE).read_text()), {**prediction, **segments}


def test_what_was_chosen_for_other_weights_is_not_used(studio_client: StudioClient, tmp_path: Path) -> None:
    run = tmp_path / "first"
    run.mkdir()
    _save_network(run / "best.safetensors")
    present = load_card(run / "best.safetensors").tensors_sha256
    choice = SegmentationChoice(1, present, "", 0.0, 1e6, 0.0, False, 1, 1.0, 1.0)
    write_json(run / "timeline.json", asdict(choice))
    progress, prediction = _predict(studio_client, studio_client.folder / ".muybridge" / "jobs" / "first", run)
    assert progress["message"] == ""
    assert prediction["total"] == 0  # no segment is as long as the shortest that was chosen
    write_json(run / "timeline.json", {**asdict(choice), "model_sha256": "of an earlier epoch"})
    progress, prediction = _predict(studio_client, studio_client.folder / ".muybridge" / "jobs" / "second", run)
    assert "is not used: it was chosen for other weights" in progress["message"]
    assert prediction["total"] > 0
    assert (prediction["stale"], prediction["video_changed"]) == (False, False)
    assert studio_client.get("suggestions", path="a.mp4")["suggestions"]

    video = studio_client.folder / "a.mp4"
    content = video.read_bytes()
    write_video(video, 20)
    (prediction,) = studio_client.get("predictions", path="a.mp4")["predictions"]
    assert (prediction["stale"], prediction["video_changed"]) == (True, True)
    assert studio_client.get("suggestions", path="a.mp4")["suggestions"] == []
    video.write_bytes(content)


def test_suggestions_of_an_ordinal_network_go_by_its_median_level(studio_client: StudioClient, tmp_path: Path) -> None:
    """Its most probable level is another one in every window."""
    network = muybridge.create_model("r2plus1d_10", num_classes=2, clip_length=4, width=4)
    with torch.no_grad():
        network.fc.weight.zero_()
        network.fc.bias.copy_(torch.tensor([0.6, 0.35]).logit())  # P(none), P(mild), P(severe) are 0.4, 0.25, 0.35
    levels = ["none", "mild", "severe"]
    head = Head("ordinal", make_ordinal_outputs(levels), "cumulative_sigmoid")
    weights = tmp_path / "levels.safetensors"
    muybridge.save(network, weights, classes=levels, preprocessing=SMALL, head=head)
    _, prediction = _predict(studio_client, studio_client.folder / ".muybridge" / "jobs" / "levels", weights)
    (suggestion,) = studio_client.get("suggestions", path="a.mp4")["suggestions"]
    assert (suggestion["label"], suggestion["window_disagreement"]) == ("mild", 0.0)
    studio_client.call("DELETE", f"/api/predictions/{prediction['id']}", 204)


def test_a_failed_video_is_tried_again_when_the_job_is_resumed(
    studio_client: StudioClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, folder = tmp_path / "net.safetensors", studio_client.folder / ".muybridge" / "jobs" / "torn"
    _save_network(weights)
    _write_job(studio_client, folder, weights)
    video = studio_client.folder / "a.mp4"
    content = video.read_bytes()
    video.write_bytes(b"torn")
    assert run_job(folder) == 1
    write_damaged_video(video)
    assert run_job(folder) == 0
    assert json.loads((folder / PROGRESS_FILE).read_text())["message"] == ""
    assert "a.mp4: 5 of 15 clips could not be read: the file is damaged" in capsys.readouterr().err
    video.write_bytes(content)
