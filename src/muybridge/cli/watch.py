"""`muybridge watch`: the classes of a camera or stream while it runs."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Interval

from muybridge.bounds import FramesPerSecond, FrameStep, Share
from muybridge.cli.output import print_notes
from muybridge.distributed.stop import stop_on_signals
from muybridge.files.atomic import check_output_file
from muybridge.records import VideoError
from muybridge.terminal import print_line
from muybridge.text import format_count

if TYPE_CHECKING:
    from muybridge.prediction.live import LiveCounts, LiveWindow
    from muybridge.prediction.live_events import EventDetector, LiveEvent
    from muybridge.prediction.live_hooks import HookRunner
    from muybridge.prediction.live_outputs import LiveFile, LiveSocket
    from muybridge.prediction.live_stretch import Timestep
    from muybridge.prediction.recognizer import Recognizer
    from muybridge.prediction.video_inputs import VideoInput
    from muybridge.studio.live_page import LivePage

_MAX_PAGE_CLASSES = 50  # of a window, the most probable ones


@dataclass(frozen=True)
class WindowArguments:
    """windows"""

    step: FrameStep | None = None
    """Frames between two windows (default: a quarter of a clip)."""
    drop: Literal["late", "none"] = "late"
    """late: where scoring is behind, skip to the newest window. none: score every window; a file is read as fast as that
    goes."""
    top: Annotated[int, Interval(ge=1, le=1_000_000)] = 5
    """Classes to name of each window in JSON."""
    source_fps: FramesPerSecond | None = None
    """The rate of frames stored without one, of a folder of pictures (default: 25)."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto is bf16 on a GPU that computes it in hardware, else fp32."""


@dataclass(frozen=True)
class EventArguments:
    """events"""

    on: Share | None = None
    """A class begins when its probability is at least this (default: 0.6; of a multi_label network the threshold of each
    class, below two thirds of which it ends)."""
    off: Share | None = None
    """A class ends when its probability is below this (default: 0.4)."""
    on_windows: Annotated[int, Interval(ge=1, le=100_000)] = 1
    """Number of consecutive windows that must be at or above --on."""
    hooks: str | None = None
    """A YAML file: for each class a command (a list of arguments) or a webhook (docs/live.md)."""


@dataclass(frozen=True)
class LiveOutputArguments:
    """output"""

    json: bool = False
    """Print windows, events and lost connections as JSON lines."""
    output: str | None = None
    """Also write a file as it happens: .jsonl (everything), .csv or .srt (events)."""
    websocket: Annotated[int, Interval(ge=0, le=65535)] | None = None
    """Also serve the JSON lines over a WebSocket at this port of this machine; 0: any free port."""
    page: Annotated[int, Interval(ge=0, le=65535)] | None = None
    """Also show the stream in a browser: picture, probabilities and events on a page at this port of this machine; 0: any free
    port."""


def watch(
    source: str,
    *,
    model: str,
    windows: WindowArguments,
    events: EventArguments,
    output: LiveOutputArguments,
) -> int:
    """Names the classes of a camera or stream while it runs, with a delay of at most one step plus one inference.

    Args:
        source: rtsp://, http://, srt://, udp://, tcp:// or rtmp:// address, /dev/video0, a pipe, - (standard input), or a file,
            which is played as if it were live.
        model: A run folder, a .safetensors or .onnx file, or a catalogue name.

    Returns:
        130 when stopped by Ctrl-C, 0 when the source has ended, 1 when it ended before its first window.

    Examples:
        muybridge watch rtsp://camera.local/stream --model runs/first
        muybridge watch /dev/video0 --model runs/first --hooks hooks.yaml -o events.csv
        muybridge watch match.mp4 --model runs/first --drop none --json
        muybridge watch /dev/video0 --model runs/first --page 0
    """
    if output.output:
        _check_output(output.output)

    from muybridge.prediction.live import LiveCounts, LiveScorer
    from muybridge.prediction.live_events import EventDetector, choose_hysteresis
    from muybridge.prediction.live_hooks import HookRunner, read_hooks
    from muybridge.prediction.live_outputs import LiveFile, LiveSocket
    from muybridge.prediction.recognizer import load

    recognizer = load(model, windows.device, windows.precision)
    recognizer.card.check_classifier()
    head = recognizer.card.head
    hysteresis = choose_hysteresis(
        recognizer.classes, head, on=events.on, off=events.off, num_windows=events.on_windows
    )
    counts, delays = LiveCounts(), []
    step = windows.step or max(1, recognizer.card.preprocessing.clip_span // 4)
    scorer = LiveScorer(recognizer.clip_runner, step, counts, head)
    hooks = read_hooks(Path(events.hooks), recognizer.classes) if events.hooks else {}
    with _name_unreadable(source), ExitStack() as stack:
        video = _open_file(source, recognizer, windows.source_fps)
        stop = stack.enter_context(stop_on_signals())
        file = stack.enter_context(LiveFile(Path(output.output))) if output.output else None
        socket = stack.enter_context(LiveSocket(output.websocket)) if output.websocket is not None else None
        if socket:
            print_line(f"WebSocket: {socket.address}", error=True)
        page = _open_page(stack, output.page, source, model, recognizer.classes)
        runner = stack.enter_context(HookRunner(hooks, lambda problem: print_line(problem, error=True)))
        detector = EventDetector(recognizer.classes, hysteresis)
        printer = _Printer(detector, recognizer, counts, windows.top, output.json, file, socket, page, runner)

        def should_stop() -> bool:
            return stop.signal_number is not None

        timesteps = _read_timesteps(video or source, recognizer, windows, printer, should_stop)
        scored = scorer.score(timesteps, drop=windows.drop == "late", should_stop=should_stop)
        try:
            for window in stack.enter_context(closing(scored)):
                delays.append(window.delay_seconds)
                printer.add_window(window)
                stop.raise_if_requested()
        finally:
            if delays:
                printer.finish(delays)
        stop.raise_if_requested()
    if not delays:
        print_line(f"{source} ended {_describe_lack(recognizer, windows)}", error=True)
    return 0 if delays else 1


@contextmanager
def _name_unreadable(source: str) -> Iterator[None]:
    """Inside the block, a source that cannot be read is a ValueError that names it."""
    try:
        yield
    except VideoError as error:
        raise ValueError(f"{source}: {error.reason}") from error


def _describe_lack(recognizer: Recognizer, windows: WindowArguments) -> str:
    """How a source ended that has no window."""
    if windows.drop == "none":
        return "before its second frame"
    preprocessing = recognizer.card.preprocessing
    rate = preprocessing.frames_per_second
    frames = format_count(preprocessing.clip_span, "frame") + (f" at {rate:g} a second" if rate else "")
    return f"before its first window, which takes {frames}; with --drop none a shorter source is repeated in a loop"


def _check_output(path: str) -> None:
    from muybridge.prediction.live_outputs import FORMATS

    if Path(path).suffix.lower() not in FORMATS:
        raise ValueError(f"-o is {path}, expected a file that ends in {', '.join(FORMATS)}")
    check_output_file(Path(path))


def _open_page(stack: ExitStack, port: int | None, source: str, model: str, classes: Sequence[str]) -> LivePage | None:
    """The page of the stream, served until the stack is left."""
    if port is None:
        return None
    try:
        from muybridge.studio.live_page import LivePage
    except ImportError as error:
        raise ImportError(f"--page needs more packages ({error}); pip install 'muybridge[studio]'") from error
    from muybridge.video.live_source import hide_credentials

    hello = {"source": hide_credentials(source), "model": Path(model).name, "classes": list(classes)}
    page = stack.enter_context(LivePage(port, hello))
    print_line(f"Page: {page.address}", error=True)
    return page


def _open_file(source: str, recognizer: Recognizer, source_fps: float | None) -> VideoInput | None:
    """The video of a file, whose time stamps can be read; None for a stream. Raises VideoError."""
    from muybridge.datasets.source_rates import describe_rates
    from muybridge.prediction.video_inputs import resolve_input
    from muybridge.video.live_source import is_live_address

    if is_live_address(source):
        if source_fps is not None:
            raise ValueError("--source-fps is for frames stored without a rate; a stream has a clock, so leave it out")
        return None
    video = resolve_input(source, recognizer.card.preprocessing, recognizer.source, source_fps)
    if video.error:
        raise video.error
    video.source.read_frame_times(video.name)
    if recognizer.card.preprocessing.modality == "flow" and video.has_stored_flow():
        raise ValueError(
            f"{source} is stored with its optical flow, but `watch` computes flow from frames; use `predict --timeline`"
        )
    print_notes(describe_rates([video.name], source_fps))
    return video


def _read_timesteps(
    source: VideoInput | str,
    recognizer: Recognizer,
    windows: WindowArguments,
    printer: _Printer,
    should_stop: Callable[[], bool],
) -> Iterator[Timestep]:
    """The timesteps of a file or of the stream at an address, which the page shows as they are read."""
    from muybridge.prediction.live import iterate_file, iterate_stream

    preprocessing = recognizer.card.preprocessing
    if isinstance(source, str):
        stream = iterate_stream(
            source, preprocessing, printer.counts, on_event=printer.add_break, should_stop=should_stop
        )
        return printer.show_frames(stream)
    aspect = _read_aspect(source, windows.source_fps) if printer.page else None
    is_paced = windows.drop == "late"
    return printer.show_frames(iterate_file(source, preprocessing, pace=is_paced, aspect=aspect))


def _read_aspect(video: VideoInput, source_fps: float | None) -> float | None:
    """Width over height of a file's frames; None for prepared data, which does not keep it. Raises VideoError."""
    from muybridge.video.media import MediaFiles, probe_media

    if not isinstance(video.file_source, MediaFiles):
        return None
    metadata = probe_media(video.name, source_fps)
    return metadata.width / metadata.height


@dataclass
class _Printer:
    """Writes windows, events and breaks to standard output, the file, the WebSocket, the page and the hooks."""

    detector: EventDetector
    recognizer: Recognizer
    counts: LiveCounts
    top: int
    is_json: bool
    file: LiveFile | None
    socket: LiveSocket | None
    page: LivePage | None
    hooks: HookRunner
    last_label: str | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)  # breaks are told by the thread that reads

    def show_frames(self, timesteps: Iterator[Timestep]) -> Iterator[Timestep]:
        """The timesteps; the page shows some of them."""
        for timestep in timesteps:
            if self.page:
                self.page.add_picture(timestep.planes, timestep.aspect)
            yield timestep

    def add_window(self, window: LiveWindow) -> None:
        """A window, and the events that it decides."""
        probabilities = window.window.probabilities
        ranked = sorted(zip(probabilities, self.recognizer.classes, strict=True), key=lambda pair: -pair[0])
        classes = [{"label": label, "probability": probability} for probability, label in ranked]
        values = {
            "type": "window",
            "start_seconds": window.window.start_seconds,
            "end_seconds": window.window.end_seconds,
            "delay_seconds": round(window.delay_seconds, 4),
        }
        self._write({**values, "classes": classes[: self.top]}, to_page=False)
        if self.page:
            self.page.add({**values, "classes": classes[:_MAX_PAGE_CLASSES], **self._count()})
        probability, label = ranked[0]
        if not self.is_json and label != self.last_label:
            print_line(f"{window.window.center_seconds:9.2f} s  {100 * probability:3.0f} %  {label}")
        self.last_label = label
        for event in self.detector.add(window.window):
            self._add_event(event)

    def add_break(self, sentence: str) -> None:
        """The stream broke off, or has no picture yet."""
        with self.lock:
            print_line(sentence, error=True)
            self._write({"type": "connection", "detail": sentence})

    def finish(self, delays: list[float]) -> None:
        """Ends the events that go on, and says what was done."""
        for event in self.detector.finish():
            self._add_event(event)
        counts = self.counts
        seconds = {"median_delay_seconds": round(median(delays), 4), "max_delay_seconds": round(max(delays), 4)}
        self._write({"type": "summary", **self._count(), **seconds})
        delay = f"delay {1000 * median(delays):.0f} ms, at most {1000 * max(delays):.0f} ms"
        parts = (
            delay,
            f"skipped {format_count(counts.num_skipped_windows, 'window')}",
            f"dropped {format_count(counts.num_dropped_frames, 'frame')}",
            format_count(counts.damage.num_frames, "damaged frame"),
            format_count(counts.num_reconnects, "reconnection"),
        )
        print_line(f"{format_count(counts.num_windows, 'window')}: {', '.join(parts)}", error=True)

    def _count(self) -> dict[str, int]:
        values = {name: value for name, value in asdict(self.counts).items() if name != "damage"}
        return {**values, "num_damaged_frames": self.counts.damage.num_frames}

    def _add_event(self, event: LiveEvent) -> None:
        self._write(event.to_json())
        if not self.is_json:
            verb = "begins" if event.kind == "start" else "ends"
            print_line(f"{event.seconds:9.2f} s  {event.label} {verb}")
        if self.file:
            self.file.add_event(event)
        self.hooks.run(event)

    def _write(self, values: dict[str, Any], *, to_page: bool = True) -> None:
        with self.lock:
            if self.is_json:
                print_line(json.dumps(values))
            for sink in (self.file, self.socket, self.page if to_page else None):
                if sink:
                    sink.add(values)
