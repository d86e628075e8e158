"""The command of a prediction job: `python -m muybridge.studio.predict_job JOB_FOLDER`.

Input: job.json with the network and the videos. Output: a prediction for each video in the project's `TimelineStore`, and
progress.json as it goes. What is done already is skipped, so that a stopped job is resumed by running it again.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from muybridge.files.atomic import write_json
from muybridge.parsing import read_json_object
from muybridge.prediction.clip_outputs import ClipRunner
from muybridge.prediction.head_outputs import check_has_classes
from muybridge.prediction.recognizer import Recognizer, load
from muybridge.prediction.timeline import TimelineOptions
from muybridge.prediction.timeline_windows import ScoredWindows, compute_timeline
from muybridge.prediction.video_inputs import resolve_input
from muybridge.records import VideoError
from muybridge.studio.child_pool import limit_memory
from muybridge.studio.job_runner import JOB_FILE, PROGRESS_FILE
from muybridge.studio.recognition import make_timeline_options
from muybridge.studio.timelines import TimelineArrays, TimelineStore, read_file_key
from muybridge.terminal import print_line
from muybridge.weights.address import resolve_weights_file

_PROGRESS_SECONDS = 1.0


class _Progress:
    """Writes progress.json at most once a second."""

    def __init__(self, folder: Path, num_videos: int) -> None:
        self.file = folder / PROGRESS_FILE
        self.num_videos = num_videos
        values = read_json_object(self.file) if self.file.exists() else {}
        self.done: dict[str, str | None] = values.get("done", {})  # path -> id, None if it failed
        self._written = 0.0

    def write(self, share_of_video: float = 0.0, message: str = "", *, force: bool = False) -> None:
        if force or time.monotonic() - self._written > _PROGRESS_SECONDS:
            self._written = time.monotonic()
            values = {
                "progress": min(1.0, (len(self.done) + share_of_video) / self.num_videos),
                "message": message,
                "done": self.done,
                "predictions": [name for name in self.done.values() if name],
            }
            write_json(self.file, values)


def run_job(folder: Path) -> int:
    """Run the job in a folder; returns its exit code: 0, 3 where some videos could not be read, 1 where none could."""
    job = read_json_object(folder / JOB_FILE)
    limit_memory(int(job["memory_bytes"]))
    project_folder = Path(job["cwd"])
    store = TimelineStore(job["project_id"], project_folder)
    progress = _Progress(folder, len(job["paths"]))
    progress.write(message=f"loading {job['model_name']}", force=True)
    recognizer = load(job["model"])
    recognizer.card.check_classifier()
    check_has_classes(recognizer.card.head)
    weights = _find_weights_file(job["model"])
    names = ("step_frames", "minimum_probability", "minimum_seconds", "mode")
    options = make_timeline_options(job["model"], **{name: job[name] for name in names})
    for path in job["paths"]:
        if path in progress.done:
            continue
        file = project_folder / path
        try:
            scored = _predict(recognizer, str(file), options, progress, path)
        except VideoError as error:
            print_line(f"{path}: {error.reason}", error=True)
            progress.done[path] = None
            continue
        values = {
            "path": path,
            "model": job["model_name"],
            "classes": recognizer.classes,
            "duration_seconds": scored.windows[-1].end_seconds,
            "weights": str(weights),
            "weights_key": read_file_key(weights),
            "video_key": read_file_key(file),
        }
        progress.done[path] = store.write(
            values, _to_arrays(scored), scored.merge(recognizer.classes, options, recognizer.card.head)
        )
        progress.write(force=True)
    num_failed = sum(name is None for name in progress.done.values())
    message = f"{num_failed} of {len(job['paths'])} videos could not be read" if num_failed else ""
    progress.write(message=message, force=True)
    return 1 if num_failed == len(job["paths"]) else 3 if num_failed else 0


def _predict(
    recognizer: Recognizer, file: str, options: TimelineOptions, progress: _Progress, path: str
) -> ScoredWindows:
    preprocessing = recognizer.card.preprocessing
    video = resolve_input(file, preprocessing, recognizer.source)
    if video.error:
        raise video.error
    runner = ClipRunner(recognizer.scorer, preprocessing, recognizer.device)
    return compute_timeline(
        video,
        runner,
        recognizer.scorer,
        options,
        recognizer.card.head,
        on_progress=lambda share: progress.write(share, path),
    )


def _find_weights_file(address: str) -> Path:
    return Path(address) if address.endswith(".onnx") else resolve_weights_file(address)


def _to_arrays(scored: ScoredWindows) -> TimelineArrays:
    windows = scored.windows
    gaps = np.cumsum([len(run) for run in scored.runs[:-1]], dtype=np.int64).tolist()
    return TimelineArrays(
        np.array([window.start_seconds for window in windows]),
        np.array([window.end_seconds for window in windows]),
        np.array([window.probabilities for window in windows], np.float32).T,
        tuple(gaps),
    )


def _main(folder: Path) -> int:
    """One sentence about what went wrong, for the last line of the job's output."""
    try:
        return run_job(folder)
    except (ValueError, OSError, RuntimeError, MemoryError, ImportError) as error:
        print_line(f"muybridge: {' '.join(str(error).split()) or 'the memory is not enough'}", error=True)
        return 1


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1])))
