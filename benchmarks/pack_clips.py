"""Real clips as small planes in one file, for a machine without av:

    python benchmarks/pack_clips.py --data ut_interaction.csv -o clips.npz

Sixteen frames of every training and test video or segment, evenly spread, as 4:2:0 planes of equal size: the largest with which
all of them fit into 20 MiB. `gpu_studies.py --clips` reads the file. It holds what the videos show, and so has their licence.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from muybridge.datasets.splits import ValidationSplit
from muybridge.loading.clip_reader import open_clip_reader
from muybridge.loading.datasets import read_segment_times
from muybridge.loading.open_data import open_data
from muybridge.records import ClipTimes, Preprocessing, VideoError
from muybridge.video.views import ViewBatch, collate_views

NUM_FRAMES = 16
MAX_PACKED_BYTES = 20 * 2**20
MAX_SIDE = 112
BYTES_PER_PIXEL = 1.5  # 4:2:0


def pack_clips(address: str, output: Path) -> None:
    """Writes luma (N, T, H, W), chroma (N, 2, T, H / 2, W / 2), labels and is_test (N,). VideoError for what is unreadable."""
    data = open_data(address, validation=ValidationSplit(rule="none"))
    splits = data.table["split"].to_pylist()
    rows = [row for row, split in enumerate(splits) if split in ("train", "test")]
    side = int((0.95 * MAX_PACKED_BYTES / (len(rows) * NUM_FRAMES * BYTES_PER_PIXEL)) ** 0.5) // 2 * 2
    side = min(side, MAX_SIDE)
    clips = Preprocessing(clip_length=NUM_FRAMES, scale_height=side, scale_width=side, crop=side)
    reader = open_clip_reader(data.root, clips, data.time_origin)
    views = []
    for row in rows:
        times = read_segment_times(reader.source, data, row).ticks
        ticks = times[np.linspace(0, len(times) - 1, NUM_FRAMES).round().astype(np.int64)]
        (view,) = reader.read_evaluation_views(data.get_path(row), [ClipTimes(ticks, 0.0, 0.0, looped=False)])
        if isinstance(view, VideoError):
            raise view
        views.append(view)
    batch = collate_views(views)
    assert isinstance(batch, ViewBatch)
    np.savez(
        output,
        luma=batch.luma_nthw.numpy(),
        chroma=batch.chroma_ncthw.numpy(),
        labels=np.array([data.get_labels(row)[0] for row in rows]),
        is_test=np.array([splits[row] == "test" for row in rows]),
    )
    print(f"{len(rows)} clips of {NUM_FRAMES}x{side}x{side} of {len(data.classes)} classes in {output}")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="an address of videos with a training and a test split")
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args(argv)
    try:
        pack_clips(args.data, args.output)
    except (ValueError, OSError, VideoError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
