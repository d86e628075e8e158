"""`muybridge watch` from outside: a file as if live, a stream, events, outputs, hooks, the WebSocket."""

from __future__ import annotations

import csv
import json
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from flow_pictures import write_flow_folder
from live_streams import sending
from muybridge.models.heads import Head, make_ordinal_outputs
from muybridge.models.network import create_model
from muybridge.prediction.live_outputs import LiveSocket
from muybridge.prediction.recognizer import load
from muybridge.prediction.timeline import TimelineOptions
from muybridge.records import Preprocessing
from muybridge.weights.card import save
from videos import write_video

LEVELS = ("still", "slow", "fast")


@pytest.fixture
def video(motions: Path) -> Path:
    return motions / "test" / "left" / "00000.mp4"


def write_weights(path: Path, classes: tuple[str, ...], head: Head) -> Path:
    """Weights of another task than single_label, at random."""
    torch.manual_seed(3)
    network = create_model("mc2_10", num_classes=len(head.outputs), width=4, clip_length=4).eval()
    preprocessing = Preprocessing(clip_length=4, scale_height=32, scale_width=32, crop=28)
    save(network, path, classes=classes, preprocessing=preprocessing, head=head)
    return path


def read_windows(lines: str) -> list[dict[str, float]]:
    """The probability of each class in each window of JSON lines."""
    rows = [row for row in map(json.loads, lines.splitlines()) if row["type"] == "window"]
    return [{one["label"]: one["probability"] for one in row["classes"]} for row in rows]


@pytest.mark.parametrize(
    ("classes", "head"),
    [
        (LEVELS, Head("multi_label", LEVELS, "sigmoid")),
        (LEVELS, Head("ordinal", make_ordinal_outputs(LEVELS), "cumulative_sigmoid")),
    ],
    ids=["multi_label", "ordinal"],
)
def test_probabilities_are_those_of_the_task(
    classes: tuple[str, ...], head: Head, video: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    weights = write_weights(tmp_path / "w.safetensors", classes, head)
    told = cli("watch", video, "--model", weights, "--drop", "none", "--step", 2, "--json")
    assert told.code == 0
    expected = load(weights).predict(video, timeline=TimelineOptions(step_frames=2)).windows
    assert len(expected) > 3
    assert read_windows(told.out) == [
        pytest.approx(dict(zip(classes, window.probabilities, strict=True)), abs=1e-6) for window in expected
    ]


def test_events_of_several_labels_begin_at_their_thresholds(
    video: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    head = Head("multi_label", LEVELS, "sigmoid", thresholds=(0.01, 0.99, 0.01))
    weights = write_weights(tmp_path / "w.safetensors", LEVELS, head)
    told = cli("watch", video, "--model", weights, "--drop", "none")
    assert [line.split()[-2] for line in told.out.splitlines() if line.endswith(" begins")] == ["still", "fast"]
    assert "begins" not in cli("watch", video, "--model", weights, "--drop", "none", "--on", 0.99).out


def test_a_number_is_no_class(video: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    head = Head("regression", ("ef",), "identity", ("%",), (50.0,), (10.0,))
    told = cli("watch", video, "--model", write_weights(tmp_path / "w.safetensors", ("ef",), head))
    assert (told.code, told.out) == (2, "")
    assert "the timeline of a stream is of classes, but the network is of the task regression" in told.err


def test_every_window_of_a_file_as_json_lines(finished_run: Path, video: Path, cli: Callable[..., Any]) -> None:
    told = cli("watch", video, "--model", finished_run, "--drop", "none", "--step", 2, "--json")
    assert told.code == 0
    rows = [json.loads(line) for line in told.out.splitlines()]
    windows = [row for row in rows if row["type"] == "window"]
    expected = load(finished_run).predict(video, timeline=TimelineOptions(step_frames=2)).windows
    assert [(row["start_seconds"], row["end_seconds"]) for row in windows] == [
        (window.start_seconds, window.end_seconds) for window in expected
    ]
    for row, window in zip(windows, expected, strict=True):
        assert row["classes"][0]["probability"] == pytest.approx(max(window.probabilities), abs=1e-6)
    assert rows[-1]["type"] == "summary"
    assert rows[-1]["num_windows"] == len(expected)
    assert rows[-1]["num_skipped_windows"] == 0
    assert f"{len(expected)} windows: delay" in told.err


@pytest.mark.parametrize("ending", ["jsonl", "csv", "srt"])
def test_events_are_written_as_the_extension_says(
    finished_run: Path, video: Path, tmp_path: Path, cli: Callable[..., Any], ending: str
) -> None:
    path = tmp_path / f"events.{ending}"
    told = cli("watch", video, "--model", finished_run, "--drop", "none", "--on", 0.5, "--off", 0.4, "-o", path)
    assert told.code == 0
    assert " begins" in told.out
    assert " ends" in told.out
    text = path.read_text()
    if ending == "jsonl":
        assert {json.loads(line)["type"] for line in text.splitlines()} == {"window", "event", "summary"}
    elif ending == "csv":
        rows = list(csv.DictReader(text.splitlines()))
        assert rows
        assert all(float(row["end_seconds"]) >= float(row["start_seconds"]) for row in rows)
    else:
        assert text.startswith("1\n00:00:00,")


def test_a_stream_is_watched_with_hooks(finished_run: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    script = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read() + '\\n')"
    hooks = {"*": {"command": [sys.executable, "-c", script, str(tmp_path / "hooked.jsonl")]}}
    (tmp_path / "hooks.yaml").write_text(json.dumps(hooks))
    with sending("udp", 60) as address:
        # A pause of ten seconds ends a stream that comes over UDP; the watcher is stopped before.
        threading.Timer(4, lambda: __import__("signal").raise_signal(15)).start()
        told = cli("watch", address, "--model", finished_run, "--on", 0.5, "--hooks", tmp_path / "hooks.yaml", "--json")
    assert told.code == 75
    rows = [json.loads(line) for line in told.out.splitlines()]
    assert sum(row["type"] == "window" for row in rows) > 5
    assert rows[-1]["type"] == "summary"
    events = [row for row in rows if row["type"] == "event"]
    assert len((tmp_path / "hooked.jsonl").read_text().splitlines()) == len(events) > 0


def test_a_rate_that_is_not_used_is_said(finished_run: Path, video: Path, cli: Callable[..., Any]) -> None:
    told = cli("watch", video, "--model", finished_run, "--drop", "none", "--source-fps", 5)
    assert told.code == 0
    assert "--source-fps is not used" in told.err


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (("x.txt.mp4", "-o", "x.parquet"), "expected a file that ends in .jsonl, .csv, .srt"),
        (("absent.mp4",), "absent.mp4"),
        (("udp://127.0.0.1:9", "--source-fps", 5), "--source-fps is for frames stored without a rate"),
        (("a.mp4", "--off", 0.9), "off is 0.9, expected at most on"),
        (("a.mp4", "--on", 2), "on"),
    ],
)
def test_what_cannot_be_is_refused(
    finished_run: Path, cli: Callable[..., Any], argv: tuple[Any, ...], sentence: str
) -> None:
    told = cli("watch", *argv, "--model", finished_run)
    assert told.code in (1, 2)
    assert sentence in told.err
    assert told.err.count("\n") <= 2


def test_a_source_that_cannot_be_read_leaves_the_events_of_another(
    finished_run: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    path = tmp_path / "events.csv"
    path.write_text("of yesterday")
    told = cli("watch", tmp_path / "absent.mp4", "--model", finished_run, "-o", path)
    assert (told.code, told.out) == (2, "")
    assert "absent.mp4: the file does not exist" in told.err
    assert path.read_text() == "of yesterday"


@pytest.mark.parametrize("option", [(), ("--page", 0), ("--websocket", 0)])
def test_a_source_that_cannot_be_read_is_one_sentence(
    finished_run: Path, tmp_path: Path, cli: Callable[..., Any], option: tuple[Any, ...]
) -> None:
    told = cli("watch", tmp_path / "absent.mp4", "--model", finished_run, *option)
    assert told == (2, "", f"muybridge: {tmp_path / 'absent.mp4'}: the file does not exist\n")


def test_a_source_without_a_window_is_told(finished_run: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    short, events = write_video(tmp_path / "short.mp4", 3), tmp_path / "events.csv"
    told = cli("watch", short, "--model", finished_run, "-o", events)
    assert (told.code, told.out, events.exists()) == (1, "", False)
    assert told.err == (
        f"{short} ended before its first window, which takes 4 frames; with --drop none a shorter source is repeated in a "
        "loop\n"
    )
    told = cli("watch", short, "--model", finished_run, "--drop", "none", "-o", events)
    assert told.code == 0
    assert "1 window: delay" in told.err


def test_a_page_shows_prepared_data_and_parts(
    finished_run: Path, motions: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    assert cli("prepare", motions, "-o", tmp_path / "data", "--scale", 32, 32).code == 0
    for source in (tmp_path / "data" / "test/left/00000.mp4", f"{motions / 'test/left/00000.mp4'}#0.1-"):
        told = cli("watch", source, "--model", finished_run, "--drop", "none", "--page", 0)
        assert told.code == 0, told.err


@pytest.mark.parametrize("is_prepared", [False, True])
def test_stored_flow_is_left_to_predict(tmp_path: Path, cli: Callable[..., Any], is_prepared: bool) -> None:
    pytest.importorskip("cv2", reason="OpenCV is not installed: pip install 'muybridge[flow]'")
    rng = np.random.default_rng(2)
    flow, frames = rng.integers(0, 255, (12, 2, 32, 32), np.uint8), rng.integers(0, 255, (13, 32, 32, 3), np.uint8)
    source, _ = (write_flow_folder(tmp_path / "videos" / name / "a", flow, frames) for name in ("walk", "run"))
    if is_prepared:
        assert cli("prepare", tmp_path / "videos", "-o", tmp_path / "data", "--scale", 32, 32, "--flow").code == 0
        source = tmp_path / "data" / "walk" / "a"
    network = create_model("mc2_10", num_classes=2, width=4, clip_length=4, input_channels=2).eval()
    preprocessing = Preprocessing(
        modality="flow", clip_length=4, scale_height=32, scale_width=32, crop=28, mean=(0, 0), std=(8, 8)
    )
    weights = tmp_path / "w.safetensors"
    save(network, weights, classes=("walk", "run"), preprocessing=preprocessing)
    assert cli("predict", weights, source, "--timeline").code == 0
    told = cli("watch", source, "--model", weights, "--drop", "none")
    assert told.code == 2
    assert f"{source} is stored with its optical flow, but `watch` computes flow" in told.err


def test_the_rate_of_a_part_of_a_folder_of_frames_is_used(
    finished_run: Path, video: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    with av.open(str(video)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            frame.to_image().save(folder / f"{number:03d}.png")
    told = cli("watch", f"{folder}#0.2-", "--model", finished_run, "--drop", "none", "--source-fps", 20, "--json")
    assert (told.code, "is not used" in told.err) == (0, False)
    assert json.loads(told.out.splitlines()[0])["start_seconds"] == pytest.approx(0.2)


def test_the_web_socket_sends_to_those_who_know_the_token() -> None:
    client = pytest.importorskip("websockets.sync.client", reason="websockets is in the extra studio")
    with LiveSocket(0) as server, client.connect(server.address) as connection:
        assert all(thread.daemon for thread in threading.enumerate() if thread.name == "live-socket")
        received = None
        while received is None:  # the server knows its client soon after the client knows the server
            server.add({"type": "window", "start_seconds": 1.0})
            with suppress(TimeoutError):
                received = connection.recv(timeout=0.1)
        assert json.loads(received) == {"type": "window", "start_seconds": 1.0}
        wrong = server.address.rpartition("/")[0] + "/guess"
        with client.connect(wrong) as stranger, pytest.raises(Exception, match="the token is wrong"):
            stranger.recv(timeout=60)


def test_a_page_shows_the_stream(finished_run: Path, video: Path, cli: Callable[..., Any]) -> None:
    told = cli("watch", video, "--model", finished_run, "--drop", "none", "--step", 2, "--page", 0)
    assert told.code == 0
    assert "Page: http://127.0.0.1:" in told.err
    assert "/?token=" in told.err
