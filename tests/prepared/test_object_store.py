"""An object store that fails: a few times it costs pauses, for good it is one sentence, and never a broken video."""

from __future__ import annotations

from itertools import pairwise

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from muybridge.prepared import object_store
from muybridge.prepared.object_store import ObjectStoreError, read_bytes


class Failing(MemoryFileSystem):
    """A file of nine bytes; the first `num_failures` reads time out."""

    cachable = False

    def __init__(self, num_failures: int) -> None:
        super().__init__()
        self.num_failures = num_failures

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: object) -> bytes:
        if path != "there":
            raise FileNotFoundError(path)
        self.num_failures -= 1
        if self.num_failures >= 0:
            raise TimeoutError("the store is busy\nwith a request")
        return b"123456789"[start:end]


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    taken: list[float] = []
    monkeypatch.setattr(object_store, "sleep", taken.append)
    return taken


@pytest.mark.parametrize("num_failures", [0, 1, 7])
def test_it_is_asked_again_after_longer_and_longer_pauses(num_failures: int, pauses: list[float]) -> None:
    assert read_bytes(Failing(num_failures), "there", 2, 5) == b"345"
    assert len(pauses) == num_failures
    for pause, following in pairwise(pauses):
        assert following == 2 * pause


def test_in_the_end_it_is_a_sentence(pauses: list[float]) -> None:
    with pytest.raises(
        ObjectStoreError, match=r"^there could not be read in 8 attempts \(the store is busy\); check .*$"
    ):
        read_bytes(Failing(8), "there")
    assert 60 < sum(pauses) < 130
    assert 0.5 <= pauses[0] < 1.0


def test_what_is_not_there_is_known_at_once(pauses: list[float]) -> None:
    with pytest.raises(FileNotFoundError):
        read_bytes(Failing(0), "elsewhere")
    assert pauses == []
