from __future__ import annotations

import csv
import io
import re

import pytest

from muybridge.report.tables import Column, Table, format_csv, format_latex, format_markdown, make_columns

TABLE = Table(
    "t",
    "Accuracy & more",
    (*make_columns("class"), Column("video@1, %", 1), *make_columns("videos", "taken for")),
    (("a|b_c", 41.456, 1200, "<script>"), ("50 % {x}\\y", None, 3, None)),
    note="95 % Wilson",
)


def test_markdown_keeps_its_columns_and_lets_nothing_through() -> None:
    lines = format_markdown(TABLE).splitlines()
    assert lines[0] == "**Accuracy &amp; more**"
    assert lines[2:4] == ["| class | video@1, % | videos | taken for |", "| --- | ---: | ---: | --- |"]
    assert lines[4] == r"| a\|b\_c | 41.5 | 1,200 | &lt;script&gt; |"
    assert lines[5].endswith("| - | 3 | - |")
    assert lines[-1] == "95 % Wilson"
    for line in lines[2:6]:
        assert len(re.findall(r"(?<!\\)\|", line)) == 5


def test_latex_has_no_sign_that_acts() -> None:
    text = format_latex(TABLE)
    assert r"\caption{Accuracy \& more. 95 \% Wilson}" in text
    assert r"\begin{tabular}{lrrl}" in text
    assert r"a\textbar{}b\_c & 41.5 & 1,200 & \textless{}script\textgreater{} \\" in text
    assert r"50 \% \{x\}\textbackslash{}y & - & 3 & - \\" in text
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")


def test_csv_has_the_numbers_in_full() -> None:
    rows = list(csv.reader(io.StringIO(format_csv(TABLE))))
    assert rows == [
        ["class", "video@1, %", "videos", "taken for"],
        ["a|b_c", "41.456", "1200", "<script>"],
        ["50 % {x}\\y", "", "3", ""],
    ]


def test_a_line_break_in_a_name_breaks_no_row() -> None:
    table = Table("t", "t", make_columns("name"), (("two\nlines",),))
    assert r"two\\nlines" in format_markdown(table)
    assert len(list(csv.reader(io.StringIO(format_csv(table))))) == 2


def test_what_is_shown_and_what_is_numeric() -> None:
    table = Table("t", "t", make_columns("a", "b", "c"), ((1, None, "x"), (2, None, 3)), num_shown=1)
    assert table.numeric == (True, False, False)
    assert table.format_rows(table.num_shown) == [["1", "-", "x"]]
    assert Table("t", "t", make_columns("a"), ()).numeric == (False,)


def test_rows_fit_their_columns() -> None:
    with pytest.raises(ValueError, match="'t' has a row of 1 cells under 2 columns"):
        Table("t", "t", make_columns("a", "b"), ((1,),))
