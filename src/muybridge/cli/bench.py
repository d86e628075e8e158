"""`muybridge bench`: how fast this machine is at the parts of the work."""

from __future__ import annotations

from collections.abc import Sequence


def run(words: Sequence[str]) -> int:
    """Hands over to the part that the first word names."""
    from muybridge.cli import bench_data

    if words and words[0] in ("decode", "loader"):
        return bench_data.run(words)
    print(
        "usage: muybridge bench decode|loader ...\n\nexamples:\n"
        + "\n".join(f"  {line}" for line in bench_data.EXAMPLES)
    )
    return 0 if words and words[0] in ("-h", "--help") else 2
