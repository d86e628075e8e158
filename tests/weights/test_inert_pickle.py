"""Pickles are read without running them, in memory that follows their size."""

import argparse
import io
import os
import pickle
import struct
import tracemalloc
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest

from muybridge.weights.inert_pickle import PICKLE_ERRORS, InertDict, InertObject, InertUnpickler, UnsafePickleError

KNOWN = {("collections", "OrderedDict"): InertDict}


def load(content: bytes, *, strict: bool = False) -> Any:
    return InertUnpickler(io.BytesIO(content), len(content), KNOWN, strict=strict).load()


@pytest.mark.parametrize("protocol", range(2, 6))
def test_plain_objects_are_what_pickle_reads(protocol: int) -> None:
    content = {"a": [1, 2.5, None, True, "text", (1, (2, 3))], "b": {3: -(1 << 70)}, "c": "x" * 70000}
    assert load(pickle.dumps(content, protocol=protocol), strict=True) == content


@pytest.mark.parametrize("protocol", range(2, 6))
def test_unknown_classes_are_inert_and_keep_their_state(protocol: int) -> None:
    pickled = pickle.dumps([argparse.Namespace(lr=0.1), OrderedDict(a=1), Path("x")], protocol=protocol)
    unpickler = InertUnpickler(io.BytesIO(pickled), len(pickled), KNOWN, strict=False)
    namespace, ordered, _ = unpickler.load()
    assert isinstance(namespace, InertObject)
    assert (namespace.global_name, namespace.state) == ("argparse.Namespace", {"lr": 0.1})
    assert ordered.complete() == {"a": 1}
    assert "argparse.Namespace" in unpickler.inert_globals
    with pytest.raises(UnsafePickleError, match=r"argparse\.Namespace"):
        load(pickled, strict=True)


def test_pairs_of_python_2_are_read_once() -> None:
    pickled = b"\x80\x02ccollections\nOrderedDict\n]](U\x01aK\x01eea\x85R.".replace(
        b"]](U\x01aK\x01eea", b"](](U\x01aK\x01ee"
    )
    assert load(pickled).complete() == {"a": 1}


@pytest.mark.parametrize(
    "pairs", [[("a", 1), ["b", 2], ("c", 3, 4), ("d",), "ef", 7, None], (("a", 1), ("b", 2)), "abcd", 5]
)
def test_what_is_no_pair_is_left_out(pairs: Any) -> None:
    expected = {"a": 1, "b": 2} if isinstance(pairs, list | tuple) else {}
    made = InertDict(pairs)
    assert made == {}
    assert made.complete() == made.complete() == expected


class Hostile:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", range(2, 6))
def test_what_acts_is_refused_by_name(tmp_path: Path, protocol: int) -> None:
    target = tmp_path / "it-ran"
    for call in ((os.mkdir, str(target)), (eval, f"__import__('os').mkdir({str(target)!r})")):
        with pytest.raises(UnsafePickleError, match=r"mkdir|eval"):
            load(pickle.dumps(Hostile(*call), protocol=protocol))
    assert not target.exists()


def test_stand_ins_cannot_be_changed_from_a_pickle() -> None:
    """BUILD on a class or function would set their attributes, for all later files."""
    for pickled in (
        b"\x80\x02ccollections\nOrderedDict\n}U\x08__init__K\x01sb.",
        b"\x80\x02ccollections\nOrderedDict\nN}U\x08__init__K\x01s\x86b.",
    ):
        with pytest.raises(PICKLE_ERRORS):
            load(pickled)
    assert InertDict() == {}


HUGE = struct.pack("<Q", 1 << 33)
CLAIMS = {
    "memo index": b"\x80\x02Nr\xff\xff\xff\x7f.",
    "bytes": b"\x80\x04\x8e" + HUGE + b".",
    "bytearray": b"\x80\x05\x96" + HUGE + b".",
    "text": b"\x80\x04\x8d" + HUGE + b".",
    "old text": b"\x80\x02X\xff\xff\xff\x7f.",
    "frame": b"\x80\x04\x95" + HUGE + b".",
    "integer": b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "bytearray call": b"\x80\x02c__builtin__\nbytearray\nJ\xff\xff\xff\x7f\x85R.",
    "lists": b"\x80\x02" + b"]" * 5_000_000 + b".",
    "deep tuple as key": b"\x80\x02}K\x01" + b"\x85" * 900_000 + b"Ns.",
    "deep tuple in a set": b"\x80\x04\x8f(K\x01" + b"\x85" * 900_000 + b"\x90.",
    "many arguments": b"\x80\x02ccollections\nOrderedDict\n(" + b"K\x01" * 1000 + b"tR.",
}


# Four million lists are read one by one until the limit.
@pytest.mark.parametrize("claim", [pytest.param(c, marks=pytest.mark.long) if c == "lists" else c for c in CLAIMS])
def test_a_claim_does_not_take_memory(claim: str) -> None:
    tracemalloc.start()
    try:
        content = load(CLAIMS[claim])
    except PICKLE_ERRORS:
        content = None
    finally:
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert content is None or isinstance(content, InertObject | dict)
    assert peak_bytes < 600_000_000
