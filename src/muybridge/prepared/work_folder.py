"""DATA/work: what is done of a preparation that has not finished, so that it can resume after any interruption.

plan.json        a hash of source and options, written first
videos/          finished videos whose shard is not written yet
results.jsonl    a line for each finished or failed video
packed.jsonl     a line for each written shard
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from muybridge.files.atomic import atomic_write
from muybridge.files.run_folder import append_json_line, read_json_lines
from muybridge.prepared.tar_shards import PackedShard
from muybridge.prepared.transcode import StoredVideo
from muybridge.prepared.worker_pool import TranscodeResult

_TRIED_AGAIN = ("missing", "timed_out")
_SUFFIXES = {"num_bytes": ".mp4", "flow_num_bytes": ".flow.mp4"}  # of what is stored of a video, by the key of its size


class WorkFolder:
    """Results by row index and packed shards by shard index, on disk as soon as they are recorded."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.plan_path = path / "plan.json"
        self.results: dict[int, dict[str, Any]] = {}
        self.packed_shards: dict[int, dict[str, Any]] = {}

    def load(self, videos_per_shard: int) -> None:
        """Read what an earlier run recorded, but for results to be had again.

        These are stored videos that are lost, and files that were missing or took too long, unless their shard is written.
        """
        self.packed_shards = {line["shard"]: line for line in read_json_lines(self.path / "packed.jsonl")}
        for line in read_json_lines(self.path / "results.jsonl"):
            is_packed = line["row"] // videos_per_shard in self.packed_shards
            is_lost = line["status"] in _TRIED_AGAIN or not all(map(Path.exists, self._list_video_paths(line)))
            if is_packed or not is_lost:
                self.results[line["row"]] = line
            else:
                self.results.pop(line["row"], None)

    def record_result(self, row_index: int, result: TranscodeResult) -> None:
        """Store a video, or the reason why there is none."""
        line: dict[str, Any] = {"row": row_index, "status": "ok", "reason": ""}
        if isinstance(result, StoredVideo):
            properties = {
                name: value for name, value in result.__dict__.items() if name not in ("content", "flow_content")
            }
            line |= properties
            contents = {"num_bytes": result.content, "flow_num_bytes": result.flow_content}
            stored = {name: content for name, content in contents.items() if content is not None}
            line |= {name: len(content) for name, content in stored.items()}
            for path, content in zip(self._list_video_paths(line), stored.values(), strict=True):
                with atomic_write(path) as temporary:
                    temporary.write_bytes(content)
        else:
            line |= {"status": result.status, "reason": result.reason}
        append_json_line(self.path / "results.jsonl", line)
        self.results[row_index] = line

    def read_video(self, row_index: int) -> tuple[bytes | None, bytes | None]:
        """The stored file of a video, and that of its flow; None for what is not stored."""
        line = self.results[row_index]
        contents = (path.read_bytes() for path in self._list_video_paths(line))
        frames, flow = (next(contents) if name in line else None for name in _SUFFIXES)
        return frames, flow

    def record_shard(self, shard_index: int, shard: PackedShard, row_indices: Sequence[int]) -> None:
        """Record a written shard and delete the separate copies of its videos."""
        line = {
            "shard": shard_index,
            "num_bytes": shard.num_bytes,
            "sha256": shard.sha256,
            "offsets": [shard.offsets.get(row_index) for row_index in row_indices],
            "flow_offsets": [shard.flow_offsets.get(row_index) for row_index in row_indices],
        }
        append_json_line(self.path / "packed.jsonl", line)
        self.packed_shards[shard_index] = line
        for row_index in row_indices:
            for path in self._list_video_paths(self.results[row_index]):
                path.unlink()

    def iterate_locations(self, videos_per_shard: int) -> Iterator[tuple[int, int, int | None, int | None]]:
        """(row index, shard, offset, flow offset) of all packed videos."""
        for shard_index, line in self.packed_shards.items():
            first = shard_index * videos_per_shard
            row_indices = [
                row_index
                for row_index in range(first, first + videos_per_shard)
                if row_index in self.results and self.results[row_index]["status"] == "ok"
            ]
            for row_index, offset, flow_offset in zip(row_indices, line["offsets"], line["flow_offsets"], strict=True):
                yield row_index, shard_index, offset, flow_offset

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.path)

    def _list_video_paths(self, line: dict[str, Any]) -> list[Path]:
        suffixes = [suffix for name, suffix in _SUFFIXES.items() if name in line]
        return [self.path / "videos" / f"{line['row']:09d}{suffix}" for suffix in suffixes]
