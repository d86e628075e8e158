"""The file of a live stream: one process writes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from muybridge.prediction.live_outputs import LiveFile

HEADER = "label,start_seconds,end_seconds,mean_probability\n"


def test_a_second_process_is_refused_and_leaves_the_file_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "new" / "events.jsonl"
    with LiveFile(path) as file:
        file.add({"type": "window"})
        with pytest.raises(ValueError, match=r"events\.jsonl is being written by process \d+"):
            LiveFile(path)
        file.add({"type": "summary"})
    assert path.read_text() == '{"type": "window"}\n{"type": "summary"}\n'
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(("ending", "begun"), [("jsonl", '{"type": "window"}\n'), ("csv", HEADER), ("srt", "")])
def test_a_file_stays_as_it_was_until_the_first_line(tmp_path: Path, ending: str, begun: str) -> None:
    path = tmp_path / f"events.{ending}"
    path.write_text("of yesterday")
    with LiveFile(path):
        pass
    assert path.read_text() == "of yesterday"
    with LiveFile(path) as file:
        file.add({"type": "window"})
        assert path.read_text() == begun
