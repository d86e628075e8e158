"""Read pickles without running them.

Input: the bytes of a pickle. Output: its objects, where every class and function that is not known here is an `InertObject`: it
keeps its state and its items for a look, and does nothing. A pickle is a program; nothing it names is imported or called.

Memory follows the bytes that are there: sizes are compared with what is left before anything is read, and the numbers of
instructions and of items that are copied are limited, since a pickle of ten bytes may claim gigabytes.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

from muybridge.limits import PICKLE_STEPS

_MAX_ARGUMENTS, _MAX_GLOBALS = 256, 10_000
# Modules whose functions act when others open the file: a pickle that names them is an attack and is not searched for weights.
_HOSTILE_MODULES = frozenset(
    ("os", "posix", "nt", "subprocess", "sys", "shutil", "socket", "importlib", "runpy", "ctypes", "pty", "code", "pdb")
)
_HOSTILE_BUILTINS = frozenset(("eval", "exec", "compile", "open", "__import__", "breakpoint", "input"))
# Instructions that allocate before they read, look classes up without `find_class`, or belong to protocol 0.
_REFUSED_INSTRUCTIONS = (
    pickle.DICT,
    pickle.BYTEARRAY8,
    pickle.NEXT_BUFFER,
    pickle.READONLY_BUFFER,
    pickle.EXT1,
    pickle.EXT2,
    pickle.EXT4,
)

PICKLE_ERRORS = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    MemoryError,
    OverflowError,
    RecursionError,
)


class UnsafePickleError(ValueError):
    """A pickle refers to something that would act if it were run, or to what its kind of file never holds."""


class PickleLimitError(ValueError):
    """A pickle is larger than a limit that can be raised."""


class InertObject:
    """Stands in for an object of an unknown class; calling it, or building it, does nothing."""

    global_name = ""  # module and name in the pickle

    def __new__(cls, *_: Any, **__: Any) -> InertObject:
        """An object; arguments are ignored."""
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        self.state: Any = None
        self.items: dict[Any, Any] = {}
        self.elements: list[Any] = []

    def __call__(self, *_: Any) -> InertObject:
        """Another inert object."""
        return InertObject()

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items[key] = value

    def append(self, element: Any) -> None:
        """Keep an element, as of a list."""
        self.elements.append(element)

    def extend(self, elements: Any) -> None:
        """Keep elements, as of a list."""
        self.elements.extend(elements)

    def add(self, element: Any) -> None:
        """Keep an element, as of a set."""
        self.elements.append(element)


class _CountingReader:
    """Reads bytes for an unpickler; each read is one instruction or one argument."""

    def __init__(self, stream: io.BufferedIOBase, num_bytes: int) -> None:
        self._stream, self._end = stream, num_bytes
        self._num_reads, self._max_reads = 0, 2 * PICKLE_STEPS.value  # an instruction, or its argument

    def read(self, size: int) -> bytes:
        self._count()
        if size > self._end - self._stream.tell():
            raise EOFError("the pickle ends too early")
        return self._stream.read(size)

    def readline(self) -> bytes:
        self._count()
        return self._stream.readline()

    def _count(self) -> None:
        self._num_reads += 1
        if self._num_reads > self._max_reads:
            raise PickleLimitError(f"reading it takes {PICKLE_STEPS.describe_excess()}")


class InertUnpickler(pickle._Unpickler):
    """An unpickler in Python, whose memo is a dictionary: the one in C allocates the highest index that a pickle names.

    `known` has the stand-ins of the globals that a kind of file consists of. `strict` refuses all others; else they are
    inert, and `inert_globals` has their names.
    """

    dispatch = pickle._Unpickler.dispatch  # replaced below the class
    read: Callable[[int], bytes]
    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]

    def __init__(
        self,
        stream: io.BufferedIOBase,
        num_bytes: int,
        known: dict[tuple[str, str], Any],
        *,
        strict: bool,
        persistent_load: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__(_CountingReader(stream, num_bytes), encoding="latin1")
        self._known, self._strict, self._persistent_load = known, strict, persistent_load
        self._classes: dict[tuple[str, str], type[InertObject]] = {}

    @property
    def inert_globals(self) -> list[str]:
        """The classes and functions that were replaced by inert ones, as module and name."""
        return [f"{module}.{name}" for module, name in self._classes]

    def load_frame(self) -> None:
        """Skip the length of a frame; its content is read as if there were no frame, so that it is counted."""
        self.read(8)

    def load_reduce(self) -> None:
        """Call a stand-in with its arguments."""
        arguments = self.stack.pop()
        self._check_arguments(arguments)
        self.stack[-1] = self.stack[-1](*arguments)

    def load_newobj(self) -> None:
        """Make an inert object."""
        arguments, stand_in = self.stack.pop(), self.stack.pop()
        self._check_arguments(arguments)
        self.append(stand_in(*arguments))

    def load_build(self) -> None:
        """Hand its state to an inert object, never to a class or function."""
        state, inert = self.stack.pop(), self.stack[-1]
        if isinstance(inert, type) or "__setstate__" not in dir(type(inert)):
            raise pickle.UnpicklingError(f"a state for a {type(inert).__name__}")
        inert.__setstate__(state)

    def load_setitems(self) -> None:
        """Fill a dictionary or an inert object."""
        entries, target = self.pop_mark(), self.stack[-1]
        for index in range(0, len(entries), 2):
            target[_make_key(entries[index])] = entries[index + 1]

    def load_setitem(self) -> None:
        """Fill one entry of a dictionary or an inert object."""
        value, key = self.stack.pop(), self.stack.pop()
        self.stack[-1][_make_key(key)] = value

    def load_empty_set(self) -> None:
        """An inert object in place of a set."""
        self.append(InertObject())

    def load_frozenset(self) -> None:
        """An inert object in place of a frozen set."""
        inert = InertObject()
        inert.extend(self.pop_mark())
        self.append(inert)

    def _check_arguments(self, arguments: Any) -> None:
        if not isinstance(arguments, tuple) or len(arguments) > _MAX_ARGUMENTS:
            raise pickle.UnpicklingError(f"a call without a tuple of at most {_MAX_ARGUMENTS} arguments")

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in of a global. UnsafePickleError for one that would act, and with `strict` for an unknown one."""
        key = (module, name)
        if key in self._known:
            return self._known[key]
        is_hostile = module.partition(".")[0] in _HOSTILE_MODULES or (
            module in ("builtins", "__builtin__") and name.partition(".")[0] in _HOSTILE_BUILTINS
        )
        if self._strict or is_hostile or len(self._classes) == _MAX_GLOBALS:
            raise UnsafePickleError(f"{module}.{name}")
        if key not in self._classes:
            self._classes[key] = type("InertGlobal", (InertObject,), {"global_name": f"{module}.{name}"})
        return self._classes[key]

    def persistent_load(self, pid: Any) -> Any:
        """What an external reference stands for. UnsafePickleError in a kind of file that has none."""
        if self._persistent_load is None:
            raise UnsafePickleError(f"a reference of type {type(pid).__name__}")
        return self._persistent_load(pid)


def _make_key(key: Any) -> Any:
    """The key of an entry; a new inert object for one that is not plain: hashing a deeply nested tuple ends the process."""
    return key if isinstance(key, str | bytes | int | float | None | InertObject) else InertObject()


def _build_dispatch() -> dict[int, Any]:
    """The function of each instruction that is allowed."""
    table: dict[int, Any] = {
        code: load
        for code, load in pickle._Unpickler.dispatch.items()
        if code not in {instruction[0] for instruction in _REFUSED_INSTRUCTIONS}
    }
    return table | {
        pickle.FRAME[0]: InertUnpickler.load_frame,
        pickle.REDUCE[0]: InertUnpickler.load_reduce,
        pickle.NEWOBJ[0]: InertUnpickler.load_newobj,
        pickle.BUILD[0]: InertUnpickler.load_build,
        pickle.SETITEMS[0]: InertUnpickler.load_setitems,
        pickle.SETITEM[0]: InertUnpickler.load_setitem,
        pickle.EMPTY_SET[0]: InertUnpickler.load_empty_set,
        pickle.FROZENSET[0]: InertUnpickler.load_frozenset,
    }


InertUnpickler.dispatch = _build_dispatch()


class InertDict(dict[Any, Any]):
    """Stands in for OrderedDict; without arguments, or with one list of pairs, as Python 2 wrote them."""

    def __init__(self, pairs: Any = (), *_: Any) -> None:
        super().__init__()
        self._pairs = pairs  # not copied here: a pickle of few bytes may pass the same long list often

    def __setstate__(self, state: Any) -> None:
        """Ignored: `_metadata` of a state dict."""

    def complete(self) -> InertDict:
        """Add the pairs it was made from, and return itself."""
        pairs, self._pairs = self._pairs, ()
        if isinstance(pairs, list | tuple):
            self.update(
                (_make_key(pair[0]), pair[1]) for pair in pairs if isinstance(pair, list | tuple) and len(pair) == 2
            )
        return self
