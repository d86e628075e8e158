"""The command of a job that explains: `python -m muybridge.studio.explain_job JOB_FOLDER`.

Input: job.json with the network, the video, the bounds of a part of it and the class, null for the one that the network finds.
Output: the explanation in the folder of the job.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from muybridge.inference.explain import color_evidence
from muybridge.parsing import read_json_object
from muybridge.prediction.explanation import PartEvidence, explain_part
from muybridge.prediction.recognizer import load
from muybridge.records import VideoError
from muybridge.studio.child_pool import limit_memory
from muybridge.studio.explanations import TILE_PIXELS, StoredExplanation, write_explanation
from muybridge.studio.job_command import JobProgress, run_command
from muybridge.studio.job_runner import JOB_FILE, find_project_folder
from muybridge.text import format_percent


def run_explain_job(folder: Path) -> int:
    """Run the job in a folder; returns its exit code, 0. Raises ValueError where the network or the video does not allow it."""
    job = read_json_object(folder / JOB_FILE)
    limit_memory(int(job["memory_bytes"]))
    (path,) = job["paths"]
    progress = JobProgress(folder, 1)
    progress.write(message=f"loading {job['model_name']}", force=True)
    recognizer = load(job["model"])
    bounds = job["start_seconds"], job["end_seconds"]
    try:
        part = explain_part(
            recognizer,
            str(find_project_folder(folder) / path),
            bounds,
            job["label"],
            on_progress=lambda done, total: progress.write(done / (total + 1), path),
        )
    except VideoError as error:
        raise ValueError(f"{path}: {error.reason}") from error
    _write(folder, job, part)
    progress.note = f"{part.label}: {format_percent(float(np.mean(part.probabilities)))}"
    progress.done[path] = ""
    return progress.finish()


def _write(folder: Path, job: Mapping[str, Any], part: PartEvidence) -> None:
    evidence = torch.from_numpy(part.evidence)
    tiles = functional.adaptive_avg_pool2d(evidence, TILE_PIXELS).numpy()
    importance = part.evidence.mean(axis=(1, 2), dtype=np.float64)
    importance /= importance.max() or 1.0
    stored = StoredExplanation(
        job["paths"][0],
        job["model_name"],
        job["model"],
        job["model_change_time"],
        None if job["video_key"] is None else tuple(job["video_key"]),
        part.label,
        job["label"] is None,
        tuple(
            (round(clip.start_seconds, 6), round(clip.end_seconds, 6), round(probability, 5))
            for clip, probability in zip(part.clips, part.probabilities, strict=True)
        ),
        tuple(part.seconds.round(6).tolist()),
        tuple(importance.round(4).tolist()),
        part.box,
    )
    write_explanation(folder, stored, color_evidence(tiles))


if __name__ == "__main__":
    sys.exit(run_command(run_explain_job, Path(sys.argv[1])))
