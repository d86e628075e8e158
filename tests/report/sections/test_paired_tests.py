from __future__ import annotations

from typing import Any, cast

import pytest

from muybridge.evaluation.statistics import PairedTest
from muybridge.report.comparison import ComparedRun
from muybridge.report.document import Paragraph
from muybridge.report.sections.paired_tests import build_paired_test_blocks, summarize_tests
from muybridge.report.tables import Table


def make_test(num_first_only: int, num_second_only: int, low: float, high: float, p_value: float) -> PairedTest:
    return PairedTest("a", "b", 100, 50, num_first_only, num_second_only, low, high, None, p_value)


def test_the_sentence_of_a_single_test_is_told_once_and_has_the_sign_of_the_table() -> None:
    test = make_test(12, 2, -0.17, -0.03, 0.01)
    runs = [ComparedRun(name, cast("Any", None), cast("Any", None), {}, {}) for name in "ab"]
    blocks = build_paired_test_blocks(runs, [test])
    [table] = [block for block in blocks if isinstance(block, Table)]
    assert table.rows[0][:5] == ("a", "b", 10.0, 3.0, 17.0)
    assert [column.title for column in table.columns][-1] == "p"
    assert "Holm" not in table.note
    assert not any("is right more often" in block.text for block in blocks if isinstance(block, Paragraph))


@pytest.mark.parametrize(
    ("test", "sentence"),
    [
        (make_test(4, 0, -0.17, 0.0, 0.1), "the difference of 4.0 points (95 % interval 0.0 to 17.0) between a and b"),
        (make_test(2, 12, 0.03, 0.17, 0.01), "b is right more often than a by 10.0 points (95 % interval 3.0 to 17.0)"),
        (
            make_test(12, 2, -0.17, -0.03, 0.01),
            "a is right more often than b by 10.0 points (95 % interval 3.0 to 17.0)",
        ),
        (
            make_test(7, 5, -0.09, 0.05, 0.8),
            "the difference of 2.0 points (95 % interval -5.0 to 9.0) between a and b is not significant",
        ),
        (make_test(5, 5, -0.06, 0.07, 1.0), "b and a are right equally often (95 % interval -6.0 to 7.0 points)"),
    ],
)
def test_the_better_run_comes_first_and_its_advantage_is_positive(test: PairedTest, sentence: str) -> None:
    text = summarize_tests([test])
    assert sentence in text
    assert ("is right more often" in text) == (test.p_value < 0.05)
