"""The command of a prediction job: `python -m muybridge.studio.predict_job JOB_FOLDER`.

Input: job.json with the network and the videos. Output: a prediction for each video in the project's `TimelineStore`, and
progress.json as it goes. What is done already is skipped, so that a stopped job is resumed by running it again.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from muybridge.parsing import read_json_object
from muybridge.prediction.clip_outputs import ClipRunner
from muybridge.prediction.head_outputs import check_has_classes
from muybridge.prediction.recognizer import Recognizer, load
from muybridge.prediction.timeline import TimelineOptions
from muybridge.prediction.timeline_windows import ScoredWindows, compute_timeline
from muybridge.prediction.video_inputs import resolve_input
from muybridge.records import VideoError
from muybridge.studio.child_pool import limit_memory
from muybridge.studio.folders import compute_project_id
from muybridge.studio.job_command import JobProgress, run_command
from muybridge.studio.job_runner import JOB_FILE, find_project_folder
from muybridge.studio.recognition import find_weights_file, make_timeline_options
from muybridge.studio.timelines import TimelineArrays, TimelineStore, read_file_key
from muybridge.terminal import print_line


def run_job(folder: Path) -> int:
    """Run the job in a folder; returns its exit code: 0, 3 where some videos could not be read, 1 where none could."""
    job = read_json_object(folder / JOB_FILE)
    limit_memory(int(job["memory_bytes"]))
    project_folder = find_project_folder(folder)
    store = TimelineStore(compute_project_id(project_folder), project_folder)
    progress = JobProgress(folder, len(job["paths"]))
    progress.write(message=f"loading {job['model_name']}", force=True)
    weights = find_weights_file(job["model"])
    weights_key = read_file_key(weights)  # before they are read, so that a later change is noticed
    recognizer = load(job["model"])
    recognizer.card.check_classifier()
    check_has_classes(recognizer.card.head)
    names = ("step_frames", "minimum_probability", "minimum_seconds", "mode")
    options, progress.note = make_timeline_options(job["model"], recognizer.card, **{name: job[name] for name in names})
    if progress.note:
        print_line(progress.note)
    for path in job["paths"]:
        if path in progress.done:
            continue
        file = project_folder / path
        video_key = read_file_key(file)
        try:
            scored = _predict(recognizer, str(file), options, progress, path)
        except VideoError as error:
            print_line(f"{path}: {error.reason}", error=True)
            progress.done[path] = None
            continue
        if scored.reason:
            print_line(f"{path}: {scored.reason}", error=True)
        values = {
            "path": path,
            "model": job["model_name"],
            "classes": recognizer.classes,
            "duration_seconds": scored.windows[-1].end_seconds,
            "weights": str(weights),
            "weights_key": weights_key,
            "video_key": video_key,
            "head": recognizer.card.head,
        }
        progress.done[path] = store.write(
            values,
            TimelineArrays.from_windows(scored.windows, _list_gaps(scored)),
            scored.merge(recognizer.classes, options, recognizer.card.head),
        )
        progress.write(force=True)
    return progress.finish()


def _predict(
    recognizer: Recognizer, file: str, options: TimelineOptions, progress: JobProgress, path: str
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


def _list_gaps(scored: ScoredWindows) -> tuple[int, ...]:
    """The windows before which there is a gap."""
    return tuple(np.cumsum([len(run) for run in scored.runs[:-1]], dtype=np.int64).tolist())


if __name__ == "__main__":
    sys.exit(run_command(run_job, Path(sys.argv[1])))
