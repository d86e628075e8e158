"""The cache folder follows the environment, then the platform."""

from __future__ import annotations

from pathlib import Path

import pytest

from muybridge.files.cache import get_cache_folder


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUYBRIDGE_CACHE", "/a")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert get_cache_folder() == Path("/a")
    monkeypatch.delenv("MUYBRIDGE_CACHE")
    assert get_cache_folder() == Path("/b/muybridge")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert get_cache_folder() == Path.home() / ".cache" / "muybridge"
