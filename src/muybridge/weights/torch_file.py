"""Read files of torch.save without running them: the zip format, and the older one before torch 1.6.

Input: a file. Output: its objects, in which every tensor is a `TensorStandIn`: its shape, and where its numbers lie. Numbers
are read by `TensorStandIn.read`, for the tensors that are wanted. Objects of all other classes are inert (`inert_pickle.py`).

Everything a file claims is compared with its size before memory is taken: records, storages, and tensors, which must not have
more elements than their storage.
"""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from muybridge.limits import PICKLE_STEPS
from muybridge.weights.inert_pickle import (
    PICKLE_ERRORS,
    InertDict,
    InertObject,
    InertUnpickler,
    PickleLimitError,
    UnsafePickleError,
)

LEGACY_TORCH_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # start of a pickle in torch.save's old format
_DTYPES = {
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
}
# Of tensors on bytes, which name their dtype.
_DTYPES_WITHOUT_STORAGE = (
    torch.uint16,
    torch.uint32,
    torch.uint64,
    torch.float8_e4m3fn,
    torch.float8_e4m3fnuz,
    torch.float8_e5m2,
    torch.float8_e5m2fnuz,
    torch.float8_e8m0fnu,
    torch.float4_e2m1fn_x2,
)


@dataclass
class _Storage:
    """A run of numbers in the file: `num_bytes` from `offset` on, once it is known where."""

    dtype: torch.dtype
    num_bytes: int
    offset: int = -1


class TensorStandIn:
    """A tensor of a file: its shape and dtype, and where its numbers lie."""

    def __init__(
        self, storage: _Storage, dtype: torch.dtype, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
    ) -> None:
        self._storage, self.dtype, self._offset = storage, dtype, offset
        self.shape, self._strides = shape, strides

    @property
    def num_bytes(self) -> int:
        """The bytes that `read` takes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self, file: Path) -> Tensor:
        """The tensor, read from `file`."""
        if 0 in self.shape:
            return torch.empty(self.shape, dtype=self.dtype)
        count = 1 + sum((size - 1) * stride for size, stride in zip(self.shape, self._strides, strict=True))
        with file.open("rb") as opened:
            opened.seek(self._storage.offset + self._offset * self.dtype.itemsize)
            content = bytearray(opened.read(count * self.dtype.itemsize))
        flat = torch.frombuffer(content, dtype=self.dtype)
        return torch.as_strided(flat, self.shape, self._strides).clone(memory_format=torch.contiguous_format)


@dataclass(frozen=True)
class TorchFile:
    """The content of a file of torch.save, and the names of classes and functions in it that were not run."""

    content: Any
    inert_globals: tuple[str, ...]


def read_torch_file(file: Path) -> TorchFile:
    """Read the objects of a file of torch.save. ValueError if it is damaged, claims more than it has, or would act."""
    try:
        if zipfile.is_zipfile(file):
            return _read_zip(file)
        return _read_legacy(file)
    except UnsafePickleError as error:
        raise ValueError(
            f"{file} holds more than tensors ({error}), and reading it could run code; it was not run. "
            "Save network.state_dict() alone"
        ) from error
    except (_ClaimError, PickleLimitError) as error:
        raise ValueError(f"{file} is not read: {error}") from error
    except (*PICKLE_ERRORS, OSError, RuntimeError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise ValueError(f"{file} is damaged, or not a state dict written by torch.save; download it again") from error


class _ClaimError(Exception):
    """A file claims sizes that it does not have."""


def _read_zip(file: Path) -> TorchFile:
    with zipfile.ZipFile(file) as archive:
        records = {record.filename: record for record in archive.infolist()}
        if sum(record.file_size for record in records.values()) > file.stat().st_size:
            raise _ClaimError(
                "its records claim more bytes than it has, as compressed ones do; write it again with torch.save"
            )
        _check_kind(records)
        pickles = [name for name in records if name.endswith("/data.pkl") or name == "data.pkl"]
        if len(pickles) != 1:
            raise ValueError(f"{len(pickles)} records data.pkl")
        folder = pickles[0].removesuffix("data.pkl")
        byte_order = records.get(f"{folder}byteorder")
        if byte_order is not None and archive.read(byte_order) != b"little":
            raise _ClaimError(
                "its numbers are big-endian, expected little-endian; write it again on this kind of machine"
            )
        content = archive.read(pickles[0])

        def find_storage(key: str, dtype: torch.dtype, num_bytes: int) -> _Storage:
            record = records[f"{folder}data/{key}"]
            if record.compress_type != zipfile.ZIP_STORED or num_bytes > record.file_size:
                raise _ClaimError(f"the storage {key} claims {num_bytes} bytes, but its record has {record.file_size}")
            return _Storage(dtype, num_bytes, _find_content(file, record))

        return _unpickle(io.BytesIO(content), len(content), _StorageTable(find_storage))


def _find_content(file: Path, record: zipfile.ZipInfo) -> int:
    """Where the bytes of a record begin: after its local header of 30 bytes, a name and an extra field."""
    with file.open("rb") as opened:
        opened.seek(record.header_offset)
        header = opened.read(30)
    start = (
        record.header_offset + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    )
    if not header.startswith(b"PK\x03\x04") or start + record.file_size > file.stat().st_size:
        raise ValueError("a record lies outside the file")
    return start


def _check_kind(records: dict[str, zipfile.ZipInfo]) -> None:
    names = {name.rpartition("/")[2] for name in records}
    if "constants.pkl" in names:
        raise _ClaimError(
            "it is a TorchScript program, expected tensors; save network.state_dict() where the program was made"
        )
    if "serialized_exported_program.json" in names or "archive_format" in names:
        raise _ClaimError(
            "it is a program of torch.export, expected tensors; save network.state_dict() where it was made"
        )


def _read_legacy(file: Path) -> TorchFile:
    """A magic number, a version, facts of the machine, the object, the keys of its storages; then count and numbers of each."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        storages: dict[str, _Storage] = {}

        def add_storage(key: str, dtype: torch.dtype, num_bytes: int) -> _Storage:
            if num_bytes > size:
                raise EOFError(f"the storage {key} claims {num_bytes} bytes, but the file has {size}")
            return storages.setdefault(key, _Storage(dtype, num_bytes))

        if _unpickle(opened, size).content != 0x1950A86A20F9469CFC6C or _unpickle(opened, size).content != 1001:
            raise ValueError("another magic number or version")
        machine = _unpickle(opened, size).content
        if not isinstance(machine, dict) or machine.get("little_endian") is False:
            raise ValueError("a big-endian file")
        result = _unpickle(opened, size, _StorageTable(add_storage))
        for key in _unpickle(opened, size).content:
            storage = storages[str(key)]
            count = int.from_bytes(opened.read(8), "little")
            if count * storage.dtype.itemsize != storage.num_bytes or opened.tell() + storage.num_bytes > size:
                raise EOFError(f"the storage {key} ends too early")
            storage.offset = opened.tell()
            opened.seek(storage.num_bytes, io.SEEK_CUR)
        if any(storage.offset < 0 for storage in storages.values()):
            raise ValueError("a storage is missing")
    return result


class _StorageTable:
    """Resolves the references of a pickle to its storages, each once."""

    def __init__(self, find: Callable[[str, torch.dtype, int], _Storage]) -> None:
        self._find = find
        self._by_key: dict[tuple[str, torch.dtype], _Storage] = {}

    def load(self, reference: Any) -> Any:
        """A storage from ("storage", type, key, device, number of elements, ...), a class from ("module", class, ...)."""
        kind, dtype, key, *rest = reference
        if kind == "module":  # of the older format, with the source of the class
            return dtype
        if isinstance(dtype, type):  # of quantized numbers, which no weights are
            return InertObject()
        count = rest[1]
        is_plain = isinstance(dtype, torch.dtype) and isinstance(key, str | int) and _is_size(count)
        if kind != "storage" or not is_plain:
            raise ValueError("a reference to something other than a storage")
        name = (str(key), dtype)
        if name not in self._by_key:
            self._by_key[name] = self._find(str(key), dtype, count * dtype.itemsize)
        return self._by_key[name]


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 62


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> TensorStandIn:
    """Replaces torch._utils._rebuild_tensor_v2, and v3, whose last but one argument is a dtype."""
    dtype = next((part for part in rest if isinstance(part, torch.dtype)), storage.dtype)
    sizes = [offset, *shape, *strides]
    if not all(map(_is_size, sizes)) or len(shape) != len(strides) or len(shape) > 8:
        raise ValueError("a shape that is not a few numbers")
    count, capacity = math.prod(shape), storage.num_bytes // dtype.itemsize
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True)) if count else 0
    if count > capacity or (count and last >= capacity):
        raise _ClaimError(
            f"a tensor of shape {tuple(shape)} has {count} numbers, but {capacity} lie in the file, as those of an expanded "
            "tensor do; save tensor.contiguous()"
        )
    return TensorStandIn(storage, dtype, offset, tuple(shape), tuple(strides))


def _rebuild_parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def _rebuild_from_type(_: Any, __: Any, arguments: Any, ___: Any = None) -> TensorStandIn:
    return _rebuild_tensor(*arguments)


def _return_argument(argument: Any = (), *_: Any) -> Any:
    """Replaces torch.Size."""
    return argument


_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): InertDict,
    ("torch", "Size"): _return_argument,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _rebuild_parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): _rebuild_from_type,
    ("torch.storage", "UntypedStorage"): torch.uint8,
    ("torch", "UntypedStorage"): torch.uint8,
    **{("torch", f"{name}Storage"): dtype for name, dtype in _DTYPES.items()},
    **{("torch.cuda", f"{name}Storage"): dtype for name, dtype in _DTYPES.items()},
    **{("torch", str(dtype).removeprefix("torch.")): dtype for dtype in (*_DTYPES.values(), *_DTYPES_WITHOUT_STORAGE)},
}


def _unpickle(stream: Any, num_bytes: int, storages: _StorageTable | None = None) -> TorchFile:
    unpickler = InertUnpickler(
        stream, num_bytes, _KNOWN, strict=False, persistent_load=None if storages is None else storages.load
    )
    content = unpickler.load()
    return TorchFile(content, tuple(unpickler.inert_globals))


def flatten_tensors(content: Any, max_depth: int = 24) -> dict[str, TensorStandIn | InertObject]:
    """All tensors of nested dictionaries, lists and inert objects by path, `state_dict.module.fc.weight`.

    A tensor that is not plain (sparse, quantized) is an inert object. Whatever stands in several places is in the first only.
    """
    tensors: dict[str, TensorStandIn | InertObject] = {}
    visited: set[int] = set()
    level: list[tuple[str, Any]] = [("", content)]
    for _ in range(max_depth):
        below: list[tuple[str, Any]] = []
        for path, value in level:
            is_other_tensor = isinstance(value, InertObject) and value.global_name.startswith("torch._utils._rebuild")
            if isinstance(value, TensorStandIn) or is_other_tensor:
                tensors[path] = value
            elif id(value) not in visited and isinstance(value, dict | list | tuple | InertObject):
                visited.add(id(value))
                below += [
                    (f"{path}.{key}" if path and key else f"{path}{key}", child) for key, child in _list_children(value)
                ]
                if problem := PICKLE_STEPS.exceed(len(below) + len(visited)):
                    raise ValueError(f"searching it for tensors takes {problem}, or save network.state_dict() alone")
        level = below
    return tensors


def _list_children(value: Any) -> list[tuple[str, Any]]:
    """The entries of a container; those of a pickled module are its parameters, buffers and modules, under their own names."""
    if isinstance(value, list | tuple):
        return [(str(index), child) for index, child in enumerate(value)]
    if isinstance(value, InertObject):
        children = [*_list_children(value.items), *_list_children(value.elements)]
        state = value.state if isinstance(value.state, dict) else {}
        if "_modules" in state:
            return children + [("", state[part]) for part in ("_parameters", "_buffers", "_modules") if part in state]
        return [*children, ("", value.state)]
    if isinstance(value, InertDict):
        value.complete()
    return [(str(key)[:256], child) for key, child in value.items()]
