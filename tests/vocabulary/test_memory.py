"""What is asked of glibc; that it acts is tested with page faults (tests/distributed/test_rank.py)."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace

import pytest

from muybridge.memory import keep_freed_memory

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h


def test_both_thresholds_are_raised_and_fit_an_int(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace(mallopt=lambda *values: calls.append(values)))
    keep_freed_memory(1 << 30)  # twice as much would be one more than the largest int
    assert calls == [(M_TRIM_THRESHOLD, 2**31 - 1), (M_MMAP_THRESHOLD, 2**30)]


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace())
    keep_freed_memory(1 << 20)
