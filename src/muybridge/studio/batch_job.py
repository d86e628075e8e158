"""The command of a batch: `python -m muybridge.studio.batch_job JOB_FOLDER`.

Input: job.json with the network and the files. Output: results.jsonl with a line for each file, in their order. Lines that are
there already are kept, so that a stopped batch is resumed by running it again.
"""

from __future__ import annotations

import sys
from pathlib import Path

from muybridge.files.atomic import write_json
from muybridge.files.run_folder import append_json_line, read_json_lines
from muybridge.parsing import read_json_object
from muybridge.studio.child_pool import limit_memory
from muybridge.studio.job_command import run_command
from muybridge.studio.job_runner import JOB_FILE, PROGRESS_FILE, RESULTS_FILE
from muybridge.studio.recognition import predict_file


def _run_batch(folder: Path) -> int:
    """Run the batch in a folder; returns its exit code: 0, 3 where some files failed, 1 where all did."""
    job = read_json_object(folder / JOB_FILE)
    limit_memory(int(job["memory_bytes"]))
    results = read_json_lines(folder / RESULTS_FILE)
    num_failed = sum(result["status"] != "ok" for result in results)
    files = list(zip(job["paths"], job["files"], strict=True))
    for position, (path, file) in enumerate(files):
        if position >= len(results):
            result = {**predict_file(job["model"], file, job["top"], job["clips"], job["timeline"]), "video": path}
            append_json_line(folder / RESULTS_FILE, result)
            num_failed += result["status"] != "ok"
        values = {"progress": (position + 1) / len(files), "num_done": position + 1, "num_failed": num_failed}
        write_json(folder / PROGRESS_FILE, {**values, "message": path if position + 1 < len(files) else ""})
    return 1 if num_failed == len(files) else 3 if num_failed else 0


if __name__ == "__main__":
    sys.exit(run_command(_run_batch, Path(sys.argv[1])))
