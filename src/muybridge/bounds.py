"""Bounds of numbers: `Annotated[int, Interval(ge=1, le=10_000)]` beside a field or parameter, checked here. No torch.

The annotation is the only place where a bound stands. Settings and records call `check_fields` when they are made, so that a
number is refused from the command line, from YAML and from Python alike. The command line checks the parameters of verbs with
`find_problems`, functions of the Python interface are decorated with `check_arguments`, and `parsing` hands the same
annotations to pydantic for what is read from files. A number that is not finite is never within bounds.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from enum import Enum
from functools import cache, wraps
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from annotated_types import Interval

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

# Bounds that several settings, records and verbs share. The upper ones are far above what is of use, and below what hangs.
NumClips = Annotated[int, Interval(ge=1, le=10_000)]
"""Clips a video."""
ClipLength = Annotated[int, Interval(ge=1, le=65_536)]
"""Frames in a clip."""
FrameStep = Annotated[int, Interval(ge=1, le=1_000_000)]
"""Frames from one to the next."""
FramesPerSecond = Annotated[float, Interval(ge=1e-6, le=1000)]
FrameSize = Annotated[int, Interval(ge=1, le=8192)]
"""Height or width in pixels."""
NumClasses = Annotated[int, Interval(ge=1, le=1_000_000)]
NetworkWidth = Annotated[int, Interval(ge=1, le=4096)]
"""Channels of the first stage."""
InputChannels = Annotated[int, Interval(ge=1, le=1024)]
StemMidChannels = Annotated[int, Interval(ge=1, le=65_536)]
StemFrames = Annotated[int, Interval(ge=1, le=31)]
FlowGap = Annotated[int, Interval(ge=1, le=1000)]
NormEpsilon = Annotated[float, Interval(gt=0, lt=1)]
Epochs = Annotated[float, Interval(gt=0, le=1_000_000)]
BatchSize = Annotated[int, Interval(ge=1, le=1_000_000)]
NumWorkers = Annotated[int, Interval(ge=0, le=1024)]
Minutes = Annotated[float, Interval(gt=0, le=1_000_000)]
"""Two years at most: far longer times overflow what a thread can wait."""
Seconds = Annotated[float, Interval(ge=0, le=1_000_000_000)]
Share = Annotated[float, Interval(ge=0, le=1)]
Percent = Annotated[float, Interval(ge=0, le=100)]
NumVideos = Annotated[int, Interval(ge=0, le=1_000_000_000)]
Statistic = Annotated[float, Interval(ge=-1e30, le=1e30)]
"""The mean of a target."""
Deviation = Annotated[float, Interval(gt=0, le=1e30)]
"""The standard deviation of a target."""
Weight = Annotated[float, Interval(ge=0, le=1_000_000)]
Seed = Annotated[int, Interval(ge=0, le=2**63 - 1)]
Fold = Annotated[int, Interval(ge=1, le=1000)]
NumFolds = Annotated[int, Interval(ge=2, le=1000)]

LARGEST_NUMBER = 1e15
"""Of weights and clips. Trained networks stay far below; above it a sum overflows within one layer, where none can see it."""

MAX_SHOWN_CHARACTERS = 60  # of a wrong value


def check_fields(record: Any, group: str = "") -> None:
    """Raise ValueError for all fields of a dataclass whose values do not have their type or are out of bounds.

    `group` precedes the names of the fields in the message, such as `training.`.
    """
    record_type: Any = type(record)
    problems = [
        problem
        for name, hint in _get_hints(record_type).items()
        for problem in find_problems(f"{group}{name}", getattr(record, name), hint)
    ]
    if problems:
        raise ValueError("; ".join(problems))


def find_nested_problems(values: Mapping[str, Any], owner: type, group: str = "") -> Iterator[str]:
    """What is wrong with values by the annotations of a dataclass and those in it. Names that it does not have are left out."""
    hints = _get_hints(owner)
    for name, value in values.items():
        hint = hints.get(name)
        if not (isinstance(hint, type) and is_dataclass(hint)):
            yield from find_problems(f"{group}{name}", value, hint)
        elif isinstance(value, Mapping):
            yield from find_nested_problems(value, hint, f"{group}{name}.")
        else:
            yield f"{group}{name} is {show_value(value)}, expected an object with named values"


def check_values(values: Mapping[str, Any], owner: type) -> None:
    """Raise ValueError for all values that do not suit the annotation of the same name in `owner`, such as a TypedDict."""
    hints = get_type_hints(owner, include_extras=True)
    problems = [p for name, value in values.items() if name in hints for p in find_problems(name, value, hints[name])]
    if problems:
        raise ValueError("; ".join(problems))


def check_arguments(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Decorate a function: ValueError for arguments that are out of the bounds of its annotations."""
    signature = inspect.signature(function)

    @wraps(function)
    def checked(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        hints = _get_hints(function)
        problems = [
            problem
            for name, value in signature.bind(*args, **kwargs).arguments.items()
            if _has_bounds(hints.get(name))
            for problem in find_problems(name, value, hints[name])
        ]
        if problems:
            raise ValueError("; ".join(problems))
        return function(*args, **kwargs)

    return checked


def find_problems(name: str, value: Any, hint: Any) -> list[str]:
    """What is wrong with a value by its annotation, a clause each: `training.epochs is nan, expected a number above 0`."""
    inner, intervals = _split_annotation(hint)
    origin, choices = get_origin(inner), get_args(inner)
    if origin in (Union, UnionType):
        if value is None and NoneType in choices:
            return []
        others = [choice for choice in choices if choice is not NoneType]
        return find_problems(name, value, others[0]) if len(others) == 1 else []
    if origin in (tuple, list, Sequence):
        return _find_sequence_problems(name, value, origin, choices)
    return [] if _is_valid(value, inner, intervals) else [f"{name} is {show_value(value)}, expected {describe(hint)}"]


def describe(hint: Any) -> str:
    """What a value of an annotation is, in words: `a whole number from 1 to 10,000`."""
    inner, intervals = _split_annotation(hint)
    if get_origin(inner) is Literal:
        return " or ".join(map(str, get_args(inner)))
    names = {int: "a whole number", float: "a finite number", bool: "true or false", str: "text"}
    noun = names.get(inner, getattr(inner, "__name__", str(inner)))
    return " and ".join([noun + _describe_interval(intervals[0]) if intervals else noun])


def show_value(value: object) -> str:
    """A wrong value as it is shown in an error message, shortened."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 200:
        return f"a number of {int(value.bit_length() * math.log10(2)) + 1} digits"
    text = repr(value)
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[: MAX_SHOWN_CHARACTERS - 1]}…"


def _split_annotation(hint: Any) -> tuple[Any, list[Interval]]:
    if get_origin(hint) is not Annotated:
        return hint, []
    inner, *metadata = get_args(hint)
    return inner, [entry for entry in metadata if isinstance(entry, Interval)]


def _describe_interval(interval: Interval) -> str:
    low = f"from {_format(interval.ge)}" if interval.ge is not None else f"above {_format(interval.gt)}"
    if interval.ge is not None and interval.le is not None:
        return f" {low} to {_format(interval.le)}"
    high = f"at most {_format(interval.le)}" if interval.le is not None else f"below {_format(interval.lt)}"
    return f" {low} and {high}"


def _format(bound: Any) -> str:
    return f"{bound:,}" if isinstance(bound, int) else f"{bound:g}"


def _find_sequence_problems(name: str, value: Any, origin: Any, choices: tuple[Any, ...]) -> list[str]:
    is_open = origin is not tuple or choices[-1] is Ellipsis
    if not isinstance(value, tuple | list) or not (is_open or len(value) == len(choices)):
        expected = "a list" if is_open else f"a list of {len(choices)} values"
        return [f"{name} is {show_value(value)}, expected {expected}"]
    hints = [choices[0]] * len(value) if is_open else choices
    return [
        problem
        for index, (entry, hint) in enumerate(zip(value, hints, strict=True))
        for problem in find_problems(f"{name}[{index}]", entry, hint)
    ]


def _is_valid(value: Any, inner: Any, intervals: list[Interval]) -> bool:
    if get_origin(inner) is Literal:
        return any(value == choice and type(value) is type(choice) for choice in get_args(inner))
    if inner is int:
        return isinstance(value, Integral) and not isinstance(value, bool) and _is_within(value, intervals)
    if inner is float:
        return isinstance(value, Real) and not isinstance(value, bool) and _is_within(value, intervals)
    if inner in (bool, str) or is_dataclass(inner) or (isinstance(inner, type) and issubclass(inner, Enum)):
        return isinstance(value, inner)
    return True  # of no type that is checked here


def _is_within(value: Any, intervals: list[Interval]) -> bool:
    try:
        if not math.isfinite(value):
            return False
    except OverflowError:  # an integer beyond all floats
        return False
    return all(
        (interval.ge is None or value >= interval.ge)
        and (interval.gt is None or value > interval.gt)
        and (interval.le is None or value <= interval.le)
        and (interval.lt is None or value < interval.lt)
        for interval in intervals
    )


def _has_bounds(hint: Any) -> bool:
    return bool(_split_annotation(hint)[1]) or any(_has_bounds(part) for part in get_args(hint))


@cache
def _get_hints(owner: Any) -> dict[str, Any]:
    """Annotations with their bounds; of a dataclass those of its fields."""
    return get_type_hints(owner, include_extras=True)
