"""`-o -`: a table alone on standard output, from every verb that writes one."""

from __future__ import annotations

import csv
import io
import shutil
from pathlib import Path

import pytest

from muybridge.cli.main import main
from muybridge.cli.output import resolve_output


def test_a_dash_is_standard_output_and_not_beside_json() -> None:
    assert resolve_output("-") == Path("/dev/stdout")
    assert resolve_output("a.csv", prints_json=True) == Path("a.csv")
    with pytest.raises(ValueError, match="-o - and --json both write to standard output"):
        resolve_output("-", prints_json=True)


def test_tables_are_printed_alone(
    finished_run: Path, motions: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def read_table(*words: object) -> list[dict[str, str]]:
        capfd.readouterr()
        assert main([str(word) for word in words]) == 0
        return list(csv.DictReader(io.StringIO(capfd.readouterr().out)))

    scores = tmp_path / "scores.parquet"
    data = ("--data", motions, "--evaluation.clips", 2)
    assert main(["evaluate", str(finished_run), *map(str, data), "-o", str(scores)]) == 0
    other = shutil.copy(scores, tmp_path / "other.parquet")
    fused = read_table("fuse", scores, other, "-o", "-")
    evaluated = read_table("evaluate", finished_run, *data, "-o", "-")
    assert [row["video"] for row in fused] == [row["video"] for row in evaluated]
    assert len(evaluated) == 6
    videos = motions / "test" / "left"
    features = read_table("extract", finished_run, videos, "--clips", 2, "-o", "-")
    assert [row["view"] for row in features] == ["0", "1"] * 3
    assert float(features[0]["feature_31"]) == float(features[0]["feature_31"])
