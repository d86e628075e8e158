"""`muybridge bench`: how fast this machine is at the parts of the work, beside other libraries."""

from __future__ import annotations

from collections.abc import Sequence


def run(words: Sequence[str]) -> int:
    """Hands over to the part that the first word names."""
    from muybridge.cli import bench_data, bench_networks

    match words:
        case ["decode" | "loader", *_]:
            return bench_data.run(words)
        case ["model" | "train", *_]:
            return bench_networks.run(words)
    examples = "\n".join(f"  {line}" for line in (*bench_data.EXAMPLES, *bench_networks.EXAMPLES))
    print(f"usage: muybridge bench decode|loader|model|train ...\n\nexamples:\n{examples}")
    return 0 if words and words[0] in ("-h", "--help") else 2
