"""The whole loop over HTTP: mark, train in a process of its own, see the timeline, correct, stop and resume."""

from __future__ import annotations

import fcntl
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from muybridge.cli.options import parse_arguments
from muybridge.cli.train import train
from muybridge.files.run_folder import read_json_lines
from muybridge.parsing import read_json_object
from muybridge.studio.annotation_records import SegmentMark, VideoMarks
from muybridge.studio.app import create_app
from muybridge.studio.config import StudioConfig
from muybridge.studio.errors import StudioError
from muybridge.studio.folders import AllowedFolders
from muybridge.studio.job_inputs import settle_job_inputs
from muybridge.studio.job_runner import read_job
from muybridge.studio.jobs import JobStore
from muybridge.studio.predict_job import run_job
from muybridge.studio.training_runs import TrainingRequest, build_train_command, check_training_data
from studio_client import TOKEN, StudioClient, wait_until
from videos import write_video

TINY = {
    "model": "r2plus1d_10",
    "width": 4,
    "clip_length": 4,
    "scale": [32, 32],
    "crop": 28,
    "batch_size": 4,
    "epochs": 1,
    "clips_per_epoch": 8,
    "workers": 0,
}


def _paint(index: int) -> Any:
    """Bright for a second, dark for a second."""
    return np.full((48, 64, 3), 220 if index // 25 % 2 == 0 else 40, np.uint8)


@pytest.fixture(scope="module")
def loop_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StudioClient]:
    root = tmp_path_factory.mktemp("loop")
    folder = root / "videos"
    folder.mkdir()
    for name in ("a", "b", "c"):
        write_video(folder / f"{name}.mp4", 200, paint=_paint)
    config = StudioConfig(folders=(str(folder),), token=TOKEN, state_folder=str(root / "state"))
    with TestClient(create_app(config), base_url="http://127.0.0.1:8420") as client:
        yield StudioClient(client, folder)


def _mark(client: StudioClient, path: str) -> None:
    labels = ("bright", "dark")
    segments = [
        {"label": labels[second % 2], "start_seconds": second, "end_seconds": second + 1, "annotator": "kim"}
        for second in range(8)
    ]
    client.call("PUT", f"{client.project}/annotations?path={path}", json={"path": path, "segments": segments})


def _wait_for_job(client: StudioClient, job: dict[str, Any], state: str) -> dict[str, Any]:
    def ended() -> dict[str, Any] | None:
        current: dict[str, Any] = client.get(f"jobs/{job['id']}")
        return current if current["state"] in ("done", "failed", "stopped") else None

    current: dict[str, Any] = wait_until(ended, 240)
    log = client.request("GET", f"{client.project}/jobs/{job['id']}/log").text
    assert current["state"] == state, f"{current} {log}"
    return current


def test_the_loop(loop_client: StudioClient) -> None:
    client = loop_client
    assert "at least two classes" in client.get("training-data")["problems"][0]
    assert "at least two classes" in client.refuse(
        "POST", f"{client.project}/trainings", 400, json={"name": "first", **TINY}
    )
    assert "no part is marked as reviewed" in client.get("training-data", background=True)["problems"][0]
    for path in ("a.mp4", "b.mp4"):
        _mark(client, path)
    data = client.get("training-data")
    assert data["problems"] == []
    assert {entry["label"]: entry["num_segments"] for entry in data["classes"]} == {"bright": 8, "dark": 8}

    job = client.call("POST", f"{client.project}/trainings", 202, json={"name": "first", **TINY})
    assert (job["kind"], job["run"]) == ("train", "first")
    done = _wait_for_job(client, job, "done")
    assert done["progress"] == 1.0
    assert done["started"] <= done["ended"]
    assert "already" in client.refuse("POST", f"{client.project}/trainings", 409, json={"name": "first", **TINY})
    (run,) = client.get("runs")["runs"]
    assert (run["name"], run["state"], run["classes"]) == ("first", "done", ["bright", "dark"])
    metrics = client.get("runs/first/metrics")
    assert metrics["step"] == metrics["num_steps"] == len(metrics["train"])
    assert client.get("runs/first/metrics", after_step=metrics["step"])["train"] == []
    weights = client.get("weights")["weights"]
    assert weights[0]["address"] == "first"
    assert "r2plus1d_18-kinetics400-torchvision" in [entry["address"] for entry in weights]

    request = {"model": "first", "paths": ["c.mp4"], "step_frames": 2}
    predicted = _wait_for_job(client, client.call("POST", f"{client.project}/predictions", 202, json=request), "done")
    (prediction,) = client.get("predictions", path="c.mp4")["predictions"]
    assert predicted["predictions"] == [prediction["id"]]
    assert prediction["classes"] == ["bright", "dark"]
    assert not prediction["stale"]
    assert client.get("video", path="c.mp4")["num_predictions"] == 1
    curves = client.call("GET", f"/api/predictions/{prediction['id']}/curves", params={"labels": ["bright", "dark"]})
    assert curves["is_exact"]
    assert len(curves["seconds"]) == prediction["num_windows"] == 99
    sums = np.array(curves["curves"][0]["probabilities"]) + np.array(curves["curves"][1]["probabilities"])
    assert sums == pytest.approx(1, abs=1e-4)
    segments = client.call("GET", f"/api/predictions/{prediction['id']}/segments")
    assert segments["segments"][0]["start_seconds"] == 0.0
    assert segments["total"] == len(segments["segments"])

    _correct(client)
    assert client.call("DELETE", f"/api/predictions/{prediction['id']}", 204) is None
    assert client.get("predictions")["predictions"] == []


def _correct(client: StudioClient) -> None:
    """Accept one suggestion, change one to another class, reject the rest."""
    decide = f"{client.project}/suggestions/decision"
    suggestions = client.get("suggestions", strategy="doubt")["suggestions"]
    assert suggestions
    assert [one["score"] for one in suggestions] == sorted((one["score"] for one in suggestions), reverse=True)
    first = suggestions[0]
    suggested = {name: first[name] for name in ("label", "start_seconds", "end_seconds")}
    body = {"path": "c.mp4", "suggested": suggested, "decision": "change", "annotator": "kim"}
    assert client.refuse("POST", decide, 422, json=body)
    stored = client.call("POST", decide, json={**body, "label": "other"})
    assert [(one["label"], one["origin"]) for one in stored["segments"]] == [("other", "changed")]
    assert [one["label"] for one in stored["rejected"]] == [first["label"]]
    for suggestion in client.get("suggestions")["suggestions"]:
        suggested = {name: suggestion[name] for name in ("label", "start_seconds", "end_seconds")}
        client.call(
            "POST", decide, json={"path": "c.mp4", "suggested": suggested, "decision": "accept", "annotator": "kim"}
        )
    assert client.get("suggestions")["suggestions"] == []


@pytest.mark.long
def test_a_training_stops_and_resumes(loop_client: StudioClient) -> None:
    client = loop_client
    for path in ("a.mp4", "b.mp4"):
        _mark(client, path)
    long = {**TINY, "name": "long", "epochs": 400}
    job = client.call("POST", f"{client.project}/trainings", 202, json=long)
    log = client.folder / "runs" / "long" / "log.jsonl"
    wait_until(lambda: len(read_json_lines(log)) > 2, 240)
    assert client.refuse("DELETE", f"{client.project}/jobs/{job['id']}", 409)
    waiting = client.call("POST", f"{client.project}/trainings", 202, json={**TINY, "name": "waiting"})
    assert waiting["state"] == "queued"
    assert "is being trained or waits" in client.refuse(
        "POST", f"{client.project}/trainings", 409, json={**TINY, "name": "waiting"}
    )
    client.call("POST", f"{client.project}/jobs/{waiting['id']}/stop")
    assert _wait_for_job(client, waiting, "stopped")["message"] == "stopped before it began"
    client.call("POST", f"{client.project}/jobs/{job['id']}/stop")
    stopped = _wait_for_job(client, job, "stopped")
    assert "--resume" in stopped["message"]
    titles = [one["title"] for one in client.get("weights")["weights"] if one["kind"] == "run"]
    assert [title for title in titles if title.startswith("long (your run, stopped at epoch")]
    steps = len(read_json_lines(log))
    assert client.call("POST", f"{client.project}/jobs/{job['id']}/resume")["state"] in ("queued", "running")
    wait_until(lambda: len(read_json_lines(log)) > steps, 240)
    runner = read_json_object(client.folder / ".muybridge" / "jobs" / job["id"] / "state.json")["process_id"]
    client.call("POST", f"{client.project}/jobs/{job['id']}/stop")
    _wait_for_job(client, job, "stopped")
    wait_until(lambda: not Path(f"/proc/{runner}").exists() or _is_zombie(runner))
    assert client.call("DELETE", f"{client.project}/jobs/{job['id']}", 204) is None
    assert client.refuse("GET", f"{client.project}/jobs/{job['id']}", 404)


def _is_zombie(process_id: int) -> bool:
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def _open_jobs(folder: Path) -> JobStore:
    return JobStore(folder, folder / "queues", AllowedFolders([folder]))


def test_videos_that_are_gone_do_not_count(tmp_path: Path) -> None:
    segments = tuple(SegmentMark(label=label, start_seconds=0, end_seconds=1, annotator="kim") for label in ("a", "b"))
    marks = {name: VideoMarks(segments=segments) for name in ("here.mp4", "also.mp4", "renamed.mp4")}
    rows = [f"{name},{label},{start},{start + 1}" for name in marks for start, label in enumerate("ab")]
    (tmp_path / "annotations.csv").write_text("path,label,start_seconds,end_seconds\n" + "\n".join(rows))
    for name in ("here.mp4", "also.mp4"):
        (tmp_path / name).touch()
    data = check_training_data(tmp_path, marks)
    assert (data.num_videos, data.num_segments, data.problems) == (2, 4, ())
    assert "Videos with marks that are not there, and not trained on: renamed.mp4." in data.warnings


def test_a_killed_job_is_recognized(tmp_path: Path) -> None:
    store = _open_jobs(tmp_path)
    (tmp_path / "queues").mkdir()
    with (tmp_path / "queues" / "predict.queue").open("a") as queue:
        fcntl.flock(queue, fcntl.LOCK_EX)  # so that the job waits
        job = store.start("predict", "waits", ["muybridge.studio.predict_job", "{job}"])
        state = tmp_path / ".muybridge" / "jobs" / job.id / "state.json"
        wait_until(lambda: "process_id" in read_json_object(state))
        os.kill(read_json_object(state)["process_id"], signal.SIGKILL)
        ended = wait_until(lambda: (found := store.get(job.id)).state == "failed" and found, 10)
    assert "ended from outside" in ended.message


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("command", ["/bin/sh", "-c", "touch ran"], "command is none of a job of the studio"),
        ("command", ["python", "-m", "muybridge", "study", "--launcher", "touch ran"], "none of a job"),
        ("command", ["python", "-c", "open('ran', 'w')"], "none of a job"),
        ("command", ["python", "-m", "muybridge", "train", "--output", "ran"], "none of a job of the kind predict"),
        ("run", "../../outside", "run is not the name of a run"),
        ("kind", "shell", "kind is 'shell', expected"),
        ("paths", 5, "paths is 5, expected"),
    ],
)
def test_a_job_of_somebody_else_runs_nothing(tmp_path: Path, key: str, value: object, sentence: str) -> None:
    folder = tmp_path / ".muybridge" / "jobs" / "20260101-000000-abcdef"
    folder.mkdir(parents=True)
    description = {
        "kind": "predict",
        "title": "t",
        "command": ["python", "-m", "muybridge.studio.predict_job", str(folder)],
        "created": "2026-01-01T00:00:00+00:00",
        "run": None,
        "paths": [],
    }
    (folder / "job.json").write_text(json.dumps(description | {key: value}))
    (folder / "state.json").write_text('{"state": "stopped"}')
    store = _open_jobs(tmp_path)
    (job,) = store.list_jobs()
    assert (job.state, job.title) == ("failed", "damaged")
    assert sentence in job.message
    with pytest.raises(ValueError, match=sentence):
        store.resume(job.id)
    assert not (tmp_path / "ran").exists()
    store.remove(job.id)
    assert store.list_jobs() == []


def _store_stopped(project: Path, **values: object) -> Path:
    """The folder of a stopped job, as somebody else may have made it."""
    folder = project / ".muybridge" / "jobs" / "20260101-000000-abcdef"
    folder.mkdir(parents=True)
    description = {"title": "t", "created": "2026-01-01T00:00:00+00:00", "run": None, "paths": [], **values}
    (folder / "job.json").write_text(json.dumps(description))
    (folder / "state.json").write_text('{"state": "stopped"}')
    return folder


def _train(*options: str) -> list[str]:
    return ["python", "-m", "muybridge", "train", *options]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--init", "OUTSIDE/w.safetensors"], "outside of the folders"),
        (["--init", "absent"], "no network 'absent'"),
        (["--config", "OUTSIDE/x.yaml"], "'--config' 'OUTSIDE/x.yaml', which is no option of the studio's"),
        (["--training.epochs", "--config=x"], "no option of the studio's"),
        (["--training.epochs"], "no option of the studio's"),
        ([], "is a link out of the folders"),
    ],
)
def test_a_training_of_somebody_else_is_resumed_in_the_project_only(
    tmp_path: Path, options: list[str], sentence: str
) -> None:
    project, outside = tmp_path / "project", tmp_path / "outside"
    outside.mkdir()
    options = [option.replace("OUTSIDE", str(outside)) for option in options]
    _store_stopped(project, kind="train", run="first", command=_train("--output", str(outside), *options))
    if not options:
        (project / "runs").mkdir()
        (project / "runs" / "first").symlink_to(outside / "written")
    store = _open_jobs(project)
    with pytest.raises((ValueError, StudioError), match=sentence.replace("OUTSIDE", str(outside))):
        store.resume("20260101-000000-abcdef")
    assert not list(outside.iterdir())


def test_a_job_runs_in_its_own_folder_whatever_it_says(tmp_path: Path) -> None:
    """A stopped training of a project that was copied would have trained into the original's run."""
    project, former, outside = tmp_path / "copy", tmp_path / "original", tmp_path / "outside"
    (project / "runs" / "before").mkdir(parents=True)
    places = ("--data", str(former / "annotations.csv"), "--output", str(outside), "--resume")
    options = ("--init", str(former / "runs" / "before"), "--training.epochs", "2")
    folder = _store_stopped(project, kind="train", run="first", command=_train(*places, *options))
    settle_job_inputs(folder, AllowedFolders([project]))
    expected = ["muybridge", "train", "--data", str(project / "annotations.csv")]
    expected += ["--output", str(project / "runs" / "first"), "--resume"]
    init = ["--init", str(project / "runs" / "before")]
    assert read_job(folder).build_command(folder) == [*expected, *init, "--training.epochs", "2"]
    (project / "runs" / "first" / "checkpoints" / "step-00000004").mkdir(parents=True)
    assert read_job(folder).build_command(folder) == [*expected, "--training.epochs", "2"]


def test_a_prediction_of_somebody_else_reads_allowed_files_only(tmp_path: Path) -> None:
    project, former = tmp_path / "copy", tmp_path / "original"
    (project / "runs" / "first").mkdir(parents=True)
    command = ["python", "-m", "muybridge.studio.predict_job", str(former / ".muybridge" / "jobs" / "x")]
    folder = _store_stopped(project, kind="predict", command=command, model=str(former / "runs" / "first"))
    stored = read_json_object(folder / "job.json")
    settle_job_inputs(folder, AllowedFolders([project]))
    assert read_json_object(folder / "job.json")["model"] == str(project / "runs" / "first")
    assert read_job(folder).build_command(folder) == ["muybridge.studio.predict_job", str(folder)]
    for wrong in ({"model": str(tmp_path / "w.onnx")}, {"paths": ["../x.mp4"]}, {"files": ["/etc/passwd"]}):
        (folder / "job.json").write_text(json.dumps({**stored, **wrong}))
        with pytest.raises(StudioError):
            settle_job_inputs(folder, AllowedFolders([project]))


def test_failures_are_sentences(tmp_path: Path) -> None:
    store = _open_jobs(tmp_path)
    command = build_train_command(TrainingRequest(name="run"), tmp_path, None)
    job = store.start("train", "wrong", command, run="run")
    failed = wait_until(lambda: (found := store.get(job.id)).state == "failed" and found)
    assert "annotations.csv" in failed.message
    assert "Traceback" not in store.read_output(job.id)


def test_a_job_of_unreadable_videos_fails(tmp_path: Path, finished_run: Path) -> None:
    (tmp_path / "x.mp4").write_bytes(b"none")
    folder = tmp_path / ".muybridge" / "jobs" / "job"
    folder.mkdir(parents=True)
    description = {
        "paths": ["x.mp4"],
        "model": str(finished_run),
        "model_name": "run",
        "step_frames": None,
        "minimum_probability": None,
        "minimum_seconds": None,
        "mode": "windows",
        "memory_bytes": 64 << 30,
    }
    (folder / "job.json").write_text(json.dumps(description))
    assert run_job(folder) == 1
    assert "1 of 1" in read_json_object(folder / "progress.json")["message"]


def test_every_field_is_an_option_of_train(tmp_path: Path) -> None:
    request = TrainingRequest(
        name="all",
        model="r3d_18",
        recipe="scratch",
        epochs=3,
        learning_rate=0.01,
        batch_size=2,
        clips_per_epoch=10,
        frozen_stages=1,
        width=8,
        clip_length=8,
        frame_stride=2,
        frames_per_second=12.5,
        scale=(64, 80),
        crop=56,
        workers=0,
        mirror=False,
        background=True,
    )
    command = build_train_command(request, tmp_path, "w.safetensors")
    arguments = parse_arguments(train, "muybridge train", command[2:])
    assert arguments["resume"] is True
    values = arguments["given"].values
    assert values["init"] == "w.safetensors"
    assert values["background"] is True
    assert values["clips"]["mirror"] is False
    assert list(values["clips"]["scale"]) == [64, 80]
    assert values["training"]["epochs"] == 3
    for field in TrainingRequest.model_fields:
        assert getattr(request, field) is not None or field == "init"
