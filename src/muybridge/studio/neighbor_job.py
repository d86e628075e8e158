"""The command of a job of labels by nearest neighbours: `python -m muybridge.studio.neighbor_job JOB_FOLDER`.

Input: the project's index and its marks. Output: a prediction for each video of the index, whose probabilities are the shares
of the classes among the nearest marked windows. Time that was watched and has no mark is the class `background`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from muybridge.datasets.background import BACKGROUND, find_gaps
from muybridge.datasets.rows import VideoRow
from muybridge.parsing import read_json_object
from muybridge.prediction.feature_index import FeatureIndex, vote_labels
from muybridge.prediction.timeline import Segment, merge_windows
from muybridge.studio.annotation_files import read_annotation_files
from muybridge.studio.annotation_records import VideoMarks
from muybridge.studio.child_pool import limit_memory
from muybridge.studio.feature_store import FeatureStore
from muybridge.studio.folders import compute_project_id
from muybridge.studio.job_command import JobProgress, run_command
from muybridge.studio.job_runner import JOB_FILE, find_project_folder
from muybridge.studio.timelines import TimelineArrays, TimelineStore, read_file_key

_DEFAULT_NEIGHBORS = 5
_MINIMUM_SHARE = 0.5


def run_neighbor_job(folder: Path) -> int:
    """Run the job in a folder; returns its exit code."""
    job = read_json_object(folder / JOB_FILE)
    limit_memory(int(job["memory_bytes"]))
    project_folder = find_project_folder(folder)
    features = FeatureStore(project_folder)
    index = features.read_index()
    labeled = _list_labeled(index, read_annotation_files(project_folder))
    if len({segment.label for _, segment in labeled}) < 2:
        raise ValueError(
            "marks of at least two classes are needed in videos of the index, such as one and background; mark more"
        )
    votes = vote_labels(index, labeled, num_neighbors=job["neighbors"] or _DEFAULT_NEIGHBORS)
    store = TimelineStore(compute_project_id(project_folder), project_folder)
    progress = JobProgress(folder, len(index.videos))
    for path, windows in votes.windows:
        if path in progress.done:
            continue
        values = {
            "path": path,
            "model": job["model_name"],
            "classes": votes.classes,
            "duration_seconds": windows[-1].end_seconds,
            "weights": str(features.settings_path),
            "weights_key": read_file_key(features.settings_path),
            "video_key": read_file_key(project_folder / path),
        }
        span_seconds = windows[0].end_seconds - windows[0].start_seconds  # what is shorter is one window's vote
        segments = merge_windows(
            windows, votes.classes, minimum_probability=_MINIMUM_SHARE, minimum_seconds=span_seconds
        )
        progress.done[path] = store.write(values, TimelineArrays.from_windows(windows), segments)
        progress.write(message=path)
    return progress.finish()


def _list_labeled(index: FeatureIndex, marks_by_path: Mapping[str, VideoMarks]) -> list[tuple[str, Segment]]:
    """What is marked in the videos of the index, and what was watched and has no mark."""
    labeled = []
    for path in index.videos:
        marks = marks_by_path.get(path, VideoMarks())
        rows = [
            VideoRow(path, (mark.label,), start_seconds=mark.start_seconds, end_seconds=mark.end_seconds)
            for mark in marks.segments
        ]
        gaps = find_gaps([part.bounds for part in marks.reviewed], rows)
        labeled += [(path, Segment(mark.label, *mark.bounds, 1.0)) for mark in marks.segments]
        labeled += [(path, Segment(BACKGROUND, start, end, 1.0)) for start, end in gaps]
    return labeled


if __name__ == "__main__":
    sys.exit(run_command(run_neighbor_job, Path(sys.argv[1])))
