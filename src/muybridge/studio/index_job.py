"""The command of an index job: `python -m muybridge.studio.index_job JOB_FOLDER`.

Input: job.json with the network and the videos. Output: the features of their windows in the project's `FeatureStore`. Videos
that are in it already are skipped.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from muybridge.loading.datasets import Failure
from muybridge.parsing import read_json_object
from muybridge.prediction.clip_outputs import ClipPlan
from muybridge.prediction.recognizer import Recognizer, load
from muybridge.prediction.video_inputs import resolve_input
from muybridge.studio.annotation_records import current_time
from muybridge.studio.child_pool import limit_memory
from muybridge.studio.feature_store import FeatureStore, IndexSettings, VideoFeatures
from muybridge.studio.job_command import JobProgress, run_command
from muybridge.studio.job_runner import JOB_FILE, find_project_folder
from muybridge.studio.recognition import find_weights_file
from muybridge.studio.timelines import read_file_key
from muybridge.terminal import print_line


def run_index_job(folder: Path) -> int:
    """Run the job in a folder; returns its exit code: 0, 3 where some videos could not be read, 1 where none could."""
    job = read_json_object(folder / JOB_FILE)
    limit_memory(int(job["memory_bytes"]))
    store = FeatureStore(find_project_folder(folder))
    progress = JobProgress(folder, len(job["paths"]))
    progress.write(message=f"loading {job['model_name']}", force=True)
    recognizer = load(job["model"])
    weights = find_weights_file(job["model"])
    step_frames = job["step_frames"] or max(1, recognizer.card.preprocessing.clip_span // 2)
    created = current_time().isoformat()
    store.prepare(IndexSettings(job["model_name"], str(weights), read_file_key(weights), step_frames, created))
    for path in job["paths"]:
        if path in progress.done:
            continue
        progress.done[path] = _index_video(store, _report(recognizer, progress, path), path, step_frames)
        progress.write(force=True)
    return progress.finish()


def _report(recognizer: Recognizer, progress: JobProgress, path: str) -> Recognizer:
    """The recognizer that writes the progress along a video."""
    return replace(recognizer, on_progress=lambda share: progress.write(share, path))


def _index_video(store: FeatureStore, recognizer: Recognizer, path: str, step_frames: int) -> str | None:
    """Store the windows of a video, unless it is in the index. None where it cannot be read, which is printed."""
    if store.has(path):
        return ""
    file = str(store.project_folder / path)
    key = read_file_key(Path(file))
    (features,) = recognizer.features_each([file], step_frames=step_frames)
    if isinstance(features, Failure):
        print_line(f"{path}: {features.reason}", error=True)
        return None
    if features.reason:
        print_line(f"{path}: {features.reason}", error=True)
    preprocessing = recognizer.card.preprocessing
    video = resolve_input(file, preprocessing, recognizer.source)
    clips = ClipPlan(1, step_frames).place_clips(video.source.read_frame_times(video.name), preprocessing)
    ends = np.array([clips[view].end_seconds for view in features.views.tolist()]) + video.compute_offset()
    if read_file_key(Path(file)) != key:
        print_line(f"{path}: the file changed while it was read; make the index again", error=True)
        return None
    store.write(VideoFeatures(path, features.start_seconds, ends, features.features))
    return ""


if __name__ == "__main__":
    sys.exit(run_command(run_index_job, Path(sys.argv[1])))
