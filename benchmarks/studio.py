"""Studio benchmark: a video of two hours beside one of a minute, through the server's own HTTP interface.

    python benchmarks/studio.py -o RESULTS.json [--minutes 120] [--requests 20]

Each video has a server of its own. The video is H.264 of 640x360 pixels at 25 frames a second with a key frame every
250 frames; the long one repeats the packets of a minute, so that it decodes as any other. Measured are the first
opening, the time stamps of frames, single frames at random positions and at neighbouring ones, curves of nine classes
at every zoom, saving one mark among 3,000 and the suggestions beside them, and the memory of all processes of the
server (proportional set size, so that shared pages count once). Beside each wall time are the processor milliseconds of
the server's processes, which a busy machine does not change much.
"""

from __future__ import annotations

import argparse
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import av
import httpx2
import numpy as np

from harness import report_results
from muybridge.prediction.timeline import Segment
from muybridge.studio.timelines import TimelineArrays, TimelineStore, read_file_key

FRAMES_PER_SECOND, GOP, HEIGHT, WIDTH = 25, 250, 360, 640
CLASSES = tuple(f"class {number}" for number in range(9))
STEP_SECONDS = 4 / FRAMES_PER_SECOND
MAX_POINTS = 4000
NUM_MARKS = 3000
TOKEN = "benchmark-0123456789"


def write_minute(path: Path) -> None:
    """A blurred random picture that drifts and flickers."""
    generator = np.random.default_rng(0)
    picture = np.kron(generator.integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    options = {"preset": "veryfast", "crf": "28", "x264-params": f"keyint={GOP}:scenecut=0"}
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=FRAMES_PER_SECOND, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(60 * FRAMES_PER_SECOND):
            shown = np.roll(picture, (index // 3, 2 * index), (0, 1)) // 2
            shown = shown + np.uint8(40 * (1 + np.sin(index / 9)))
            output.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
        output.mux(stream.encode(None))


def repeat_packets(source: Path, target: Path, times: int) -> None:
    """A video of the same packets, again and again."""
    with av.open(str(source)) as input_file, av.open(str(target), "w") as output:
        stream = input_file.streams.video[0]
        packets = [packet for packet in input_file.demux(stream) if packet.size]
        contents = [(bytes(one), one.pts, one.dts, one.duration, one.is_keyframe) for one in packets]
        copy = output.add_stream_from_template(stream)
        copy.time_base = stream.time_base
        span = len(packets) * packets[0].duration
        for number in range(times):
            for content, pts, dts, duration, is_key in contents:
                packet = av.Packet(content)
                packet.stream, packet.time_base = copy, stream.time_base
                packet.pts, packet.dts = pts + number * span, dts + number * span
                packet.duration, packet.is_keyframe = duration, is_key
                output.mux(packet)


def store_prediction(folder: Path, project: str, seconds: float) -> str:
    """Random curves and ten segments a minute."""
    starts = np.arange(0, seconds - 1, STEP_SECONDS)
    noise = np.random.default_rng(0).dirichlet(np.ones(len(CLASSES)), len(starts)).T
    arrays = TimelineArrays(starts, starts + 1, np.ascontiguousarray(noise, np.float32))
    segments = [
        Segment(CLASSES[number % 9], 6.0 * number, 6.0 * number + 5, 0.5) for number in range(int(seconds // 6))
    ]
    values = {
        "path": "video.mp4",
        "model": "benchmark",
        "classes": CLASSES,
        "duration_seconds": seconds,
        "weights": str(folder / "none"),
        "weights_key": (0, 0),
        "video_key": read_file_key(folder / "video.mp4"),
    }
    return TimelineStore(project, folder).write(values, arrays, segments)


@contextmanager
def serve(folder: Path) -> Iterator[tuple[httpx2.Client, int]]:
    """A client of a studio over a folder, and the server's process."""
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    command = [sys.executable, "-m", "muybridge", "studio", str(folder), "--port", str(port), "--no-browser"]
    environment = {**os.environ, "MUYBRIDGE_STUDIO_TOKEN": TOKEN, "MUYBRIDGE_CACHE": str(folder.parent / "cache")}
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=600) as client:
            while True:
                try:
                    client.get("/api/health")
                    break
                except httpx2.ConnectError:
                    time.sleep(0.2)
            yield client, server.pid
    finally:
        server.terminate()
        server.wait()


def list_processes(root: int) -> list[int]:
    """A process and all below it."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    processes = [root]
    for process in processes:
        processes += [child for child, parent in parents.items() if parent == process]
    return processes


def read_processor_seconds(root: int) -> float:
    ticks = 0
    for process in list_processes(root):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(int(field) for field in fields[11:15])  # of the process and of its children that ended
    return ticks / os.sysconf("SC_CLK_TCK")


def read_memory_mib(root: int) -> dict[str, float]:
    """Proportional set size of the server's processes: all, and the greatest."""
    sizes = []
    for process in list_processes(root):
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        sizes.append(next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024)
    return {"all": round(sum(sizes), 1), "largest": round(max(sizes), 1), "processes": len(sizes)}


class Meter:
    """Times requests: wall and processor milliseconds."""

    def __init__(self, client: httpx2.Client, server: int) -> None:
        self.client = client
        self.server = server
        self.rows: dict[str, dict[str, float]] = {}

    def measure(self, name: str, addresses: list[tuple[str, dict[str, Any]]]) -> list[httpx2.Response]:
        """All requests, one after another, in a row of this name."""
        return self._measure(name, [partial(self.client.get, address, params=params) for address, params in addresses])

    def measure_saving(self, name: str, address: str, documents: list[dict[str, Any]]) -> list[httpx2.Response]:
        """All documents, one after another; the first is not measured."""
        self.client.put(address, json=documents[0]).raise_for_status()
        return self._measure(name, [partial(self.client.put, address, json=document) for document in documents[1:]])

    def _measure(self, name: str, requests: list[Callable[[], httpx2.Response]]) -> list[httpx2.Response]:
        walls, answers = [], []
        before = read_processor_seconds(self.server)
        for request in requests:
            start = time.perf_counter()
            answers.append(request().raise_for_status())
            walls.append(1000 * (time.perf_counter() - start))
        processor = 1000 * (read_processor_seconds(self.server) - before) / len(requests)
        self.rows[name] = {
            "wall_ms_median": round(statistics.median(walls), 1),
            "wall_ms_max": round(max(walls), 1),
            "processor_ms_mean": round(processor, 1),
            "requests": len(walls),
        }
        return answers


def measure_video(folder: Path, seconds: float, num_requests: int) -> dict[str, Any]:
    positions = [random.Random(number).uniform(0, seconds) for number in range(num_requests)]
    num_frames = round(seconds * FRAMES_PER_SECOND)
    video = {"path": "video.mp4"}
    with serve(folder) as (client, server):
        project = client.get("/api/projects").json()["default"]
        address = f"/api/projects/{project}"
        prediction = store_prediction(folder, project, seconds)
        meter = Meter(client, server)
        meter.measure("first opening", [(f"{address}/video", video)])
        meter.measure("first page of time stamps", [(f"{address}/frames", {**video, "count": 2000})])
        meter.measure("first frame", [(f"{address}/frame", {**video, "index": 0})])
        around = [{**video, "around_seconds": position, "count": 2000} for position in positions]
        meter.measure("time stamps around a position", [(f"{address}/frames", params) for params in around])
        frames = [{**video, "seconds": position} for position in positions]
        meter.measure("frame at a random position", [(f"{address}/frame", params) for params in frames])
        last = num_frames * 3 // 4 // GOP * GOP + GOP - 1  # the worst of a group of pictures
        back = [{**video, "index": last - number} for number in range(num_requests)]
        meter.measure("step back by a frame", [(f"{address}/frame", params) for params in back])
        curves = f"/api/predictions/{prediction}/curves"
        for span in (seconds, seconds / 6, 60.0, 10.0, 1.0):
            starts = [random.Random(number).uniform(0, seconds - span) for number in range(num_requests)]
            zooms = [
                {"start_seconds": start, "end_seconds": start + span, "points": MAX_POINTS, "labels": list(CLASSES)}
                for start in starts
            ]
            answers = meter.measure(f"curves over {span:g} s", [(curves, params) for params in zooms])
            assert all(len(answer.json()["seconds"]) <= MAX_POINTS for answer in answers)
        part = [{"start_seconds": position, "end_seconds": position + 60} for position in positions]
        meter.measure("segments of a minute", [(f"/api/predictions/{prediction}/segments", params) for params in part])
        measure_marks(meter, address, seconds, num_requests)
        ranges = client.get(f"{address}/media", params=video, headers={"Range": "bytes=1000000-1999999"})
        assert ranges.status_code == 206
        return {"rows": meter.rows, "memory_mib": read_memory_mib(server)}


def measure_marks(meter: Meter, address: str, seconds: float, num_requests: int) -> None:
    """Saving a mark among NUM_MARKS, each time another one, and what is suggested beside them."""
    starts = np.linspace(0, seconds - 1, NUM_MARKS).round(3)
    segments = [
        {"label": CLASSES[number % 9], "start_seconds": start, "end_seconds": start + 0.5, "annotator": "kim"}
        for number, start in enumerate(starts.tolist())
    ]
    documents = [{"path": "video.mp4", "segments": segments[:-number]} for number in range(1, num_requests + 1)]
    meter.measure_saving("save one mark among 3,000", f"{address}/annotations?path=video.mp4", documents)
    meter.measure("suggestions beside 3,000 marks", [(f"{address}/suggestions", {}) for _ in range(num_requests)])


def measure_reopening(folder: Path) -> dict[str, dict[str, float]]:
    """The same after a restart of the server."""
    with serve(folder) as (client, server):
        address = f"/api/projects/{client.get('/api/projects').json()['default']}"
        meter = Meter(client, server)
        meter.measure("opening after a restart", [(f"{address}/video", {"path": "video.mp4"})])
        meter.measure("time stamps after a restart", [(f"{address}/frames", {"path": "video.mp4"})])
        return meter.rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=int, default=120)
    parser.add_argument("--requests", type=int, default=20)
    parser.add_argument("-o", "--output")
    args = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        short, long = Path(temporary, "short"), Path(temporary, "long")
        short.mkdir()
        long.mkdir()
        write_minute(short / "video.mp4")
        repeat_packets(short / "video.mp4", long / "video.mp4", args.minutes)
        for name, folder, seconds in (("minute", short, 60.0), (f"{args.minutes} minutes", long, 60.0 * args.minutes)):
            results[name] = measure_video(folder, seconds, args.requests)
            results[name]["rows"] |= measure_reopening(folder)
            results[name]["file_mib"] = round((folder / "video.mp4").stat().st_size / 2**20, 1)
    report_results(results, args.output)


if __name__ == "__main__":
    main()
