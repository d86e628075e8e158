"""The file of a live stream: one process writes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from muybridge.prediction.live_outputs import LiveFile


def test_a_second_process_is_refused_and_leaves_the_file_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "new" / "events.jsonl"
    with LiveFile(path) as file:
        file.add({"type": "window"})
        with pytest.raises(ValueError, match=r"events\.jsonl is being written by process \d+"):
            LiveFile(path)
        file.add({"type": "summary"})
    assert path.read_text() == '{"type": "window"}\n{"type": "summary"}\n'
    assert list(path.parent.iterdir()) == [path]
    with LiveFile(path):
        pass
    assert path.read_text() == ""
