from __future__ import annotations

from muybridge.prediction.bouts import Bouts, format_bouts, summarize_bouts
from muybridge.prediction.timeline import Segment

SEGMENTS = [Segment("rest", 4.0, 5.5, 0.9), Segment("rest", 1.0, 2.0, 0.8), Segment("=run", 2.0, 4.0, 0.7)]


def test_count_duration_and_latency_of_each_class() -> None:
    assert summarize_bouts(SEGMENTS, ("rest", "=run", "jump")) == [
        Bouts("rest", 2, 2.5, 1.0),
        Bouts("=run", 1, 2.0, 2.0),
        Bouts("jump", 0, 0, None),
    ]


def test_rows_are_safe_in_a_spreadsheet_and_empty_where_there_is_no_bout() -> None:
    assert format_bouts(SEGMENTS, ("rest", "=run", "jump")) == [
        ["rest", "2", "2.500", "1.250", "1.000"],
        ["'=run", "1", "2.000", "2.000", "2.000"],
        ["jump", "0", "0.000", "", ""],
    ]
