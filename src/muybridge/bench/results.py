"""Benchmark results as a table and as JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from muybridge.files.atomic import write_text
from muybridge.terminal import print_lines


@dataclass(frozen=True)
class BenchmarkRow:
    """One variant: the seconds of every repeat, and the arithmetic of one repeat in GFLOP."""

    name: str
    seconds: list[float]
    gflop: float
    peak_bytes: int | None = None
    difference: float | None = None  # largest from the expected output, relative to its largest value

    @property
    def median_seconds(self) -> float:
        """Median over the repeats."""
        return statistics.median(self.seconds)

    @property
    def gflops(self) -> float:
        """GFLOP/s of direct convolution, also where a faster algorithm ran."""
        return self.gflop / self.median_seconds


@dataclass(frozen=True)
class BenchmarkResult:
    """Result of one benchmark. Ratios are relative to the row named `reference`."""

    title: str
    machine: Mapping[str, object]
    gemm_gflops: float
    reference: str
    rows: Sequence[BenchmarkRow]
    absent: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """The result as JSON values, with medians and ratios."""
        reference_seconds = self._get_reference_seconds()
        rows = [
            {
                **asdict(row),
                "median_seconds": row.median_seconds,
                "gflops": row.gflops,
                "fraction_of_gemm": row.gflops / self.gemm_gflops,
                "times_as_long_as_reference": row.median_seconds / reference_seconds,
            }
            for row in self.rows
        ]
        return {
            "title": self.title,
            "machine": dict(self.machine),
            "gemm_gflops": self.gemm_gflops,
            "reference": self.reference,
            "rows": rows,
            "absent": dict(self.absent),
        }

    def _get_reference_seconds(self) -> float:
        return next(row.median_seconds for row in self.rows if row.name == self.reference)

    def format_lines(self) -> list[str]:
        """The result as a table, one string for each line."""
        reference_seconds = self._get_reference_seconds()
        lines = [
            f"{self.title}; {self.machine['name']}, {self.machine['threads']} thread(s), torch {self.machine['torch']}",
            f"{'':34}{'seconds':>9}{'GFLOP/s':>9}{'of GEMM':>9}{'ratio':>7}{'memory':>9}{'difference':>12}",
        ]
        for row in self.rows:
            memory = "-" if row.peak_bytes is None else f"{row.peak_bytes / 2**20:.0f} MiB"
            difference = "-" if row.difference is None else f"{row.difference:.1e}"
            lines.append(
                f"{row.name:34}{row.median_seconds:9.3f}{row.gflops:9.1f}{row.gflops / self.gemm_gflops:9.0%}"
                f"{row.median_seconds / reference_seconds:7.2f}{memory:>9}{difference:>12}"
            )
        lines.append(f"{'matrix product, 1024 or 8192 square':43}{self.gemm_gflops:9.1f}")
        lines += [f"absent: {name}, {reason}" for name, reason in self.absent.items()]
        return lines


def print_results(results: Sequence[BenchmarkResult], *, as_json: bool, output: str | None) -> None:
    """Print results and, with `output`, write them to that file as JSON."""
    text = json.dumps([result.to_json() for result in results], indent=1)
    if as_json:
        print_lines(text.splitlines())
    else:
        for index, result in enumerate(results):
            print_lines(["", *result.format_lines()] if index else result.format_lines())
    if output:
        write_text(Path(output), text + "\n")
