"""Records, JSON and YAML from outside, checked before use.

Input: the text of a file that anybody may have written. Output: plain values, or a record (`parse_record`) whose fields all
have their types and lie within the bounds of their annotations (`bounds`). What does not fit is one ValueError with all
problems, each with the name of its key. Sizes and nesting are bounded, YAML has no aliases, with which a short file fills the
memory, and no object has a key twice, the first of which would be lost. pydantic does the work; only modules that read files
from outside import this one.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_type_hints

import pydantic_core
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from muybridge.bounds import show_value
from muybridge.limits import TEXT_BYTES
from muybridge.text import join_names

RecordType = TypeVar("RecordType")
MAX_DEPTH = 64  # of nested lists and mappings in YAML; the JSON parser has a limit of about 200 of its own
MAX_LISTED_PROBLEMS = 10
RECORD_FIELD = "record"
_BOUND_ERRORS = ("less_than", "less_than_equal", "greater_than", "greater_than_equal")


def parse_json(text: str | bytes, name: str) -> Any:
    """The value of a JSON text. Raises ValueError with `name` where it is no JSON, too large or nested too deeply.

    Bytes that are not UTF-8 are no JSON, also as a text in which lone surrogates stand for them. Raises `RepeatedKeyError`
    where an object has a key twice.
    """
    _check_size(len(text), name)
    try:
        content = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
        value = pydantic_core.from_json(content)
    except ValueError as error:
        raise ValueError(f"{name} is not JSON, or damaged ({error})") from error
    try:
        json.loads(content, object_pairs_hook=_refuse_repeated_keys)
    except RepeatedKeyError as error:
        raise RepeatedKeyError(f"{name} has the key {error} twice in one object, expected it once") from error
    return value


class RepeatedKeyError(ValueError):
    """An object of a JSON text has a key twice."""


def _refuse_repeated_keys(pairs: list[tuple[str, Any]]) -> None:
    """For json.loads, in place of the object: pydantic's parser takes the last of equal keys, and cannot be asked to refuse."""
    if len(dict(pairs)) < len(pairs):
        key, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise RepeatedKeyError(show_value(key))


def parse_json_object(text: str | bytes, name: str) -> dict[str, Any]:
    """As `parse_json`, for a text that must be a JSON object."""
    value = parse_json(text, name)
    if not isinstance(value, dict):
        raise ValueError(f"{name} is {show_value(value)}, expected a JSON object")
    return value


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises ValueError where it holds something else, OSError where it cannot be read."""
    check_text_size(path)
    return parse_json_object(path.read_bytes(), str(path))


def read_yaml(path: Path) -> Any:
    """The value in a YAML file.

    Raises ValueError where it is not YAML, too large, nested too deeply, or has aliases or a key twice.
    """
    check_text_size(path)
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_BoundedLoader)
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # UnicodeDecodeError is a ValueError
        raise ValueError(f"{path} is not a YAML file: {' '.join(str(error).split())}") from error


class _BoundedLoader(yaml.SafeLoader):
    """A safe loader without aliases and repeated keys, and with a limit on nesting."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias (*name), expected the value itself")
        if self._depth == MAX_DEPTH:
            line = self.peek_event().start_mark.line + 1  # type: ignore[no-untyped-call]  # PyYAML
            raise yaml.YAMLError(f"it is nested more than {MAX_DEPTH} levels deep in line {line}")
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def compose_mapping_node(self, anchor: dict[Any, yaml.Node]) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                name, line = (key.tag, key.value), key.start_mark.line + 1
                if name in lines:
                    raise yaml.YAMLError(f"it has the key {key.value} in line {lines[name]} and again in line {line}")
                lines[name] = line
        return node


def parse_record(
    record_type: type[RecordType],
    values: Mapping[str, Any],
    name: str,
    *,
    optional: Collection[str] | None = (),
    unknown: Literal["forbid", "ignore"] = "forbid",
) -> RecordType:
    """A dataclass from JSON values, its nested dataclasses too.

    `name` says in messages what it is, such as "the card"; keys of `optional` may be absent at any level,
    None: all that have a default. Keys that the record does not have are an error, or ignored at every level.

    Raises:
        ValueError: All problems in one sentence: missing and unknown keys, wrong types, numbers that are not finite or out of
            bounds, and what the record itself refuses.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{name} is {show_value(values)}, expected an object with named values")
    problems = [] if optional is None else _find_missing_keys(record_type, values, set(optional))
    untyped: Any = record_type
    model = _make_model(untyped, unknown)
    try:
        # As JSON text: pydantic's strict mode then takes lists for tuples, and nothing for what it is not.
        record = model.model_validate_json(json.dumps({RECORD_FIELD: values}, default=str))
    except ValidationError as error:
        problems += [describe_problem(entry, entry["loc"][1:]) for entry in error.errors(include_url=False)]
    except (RecursionError, ValueError) as error:
        problems.append(f"it is nested too deeply, or refers to itself ({error})")
    else:
        if not problems:
            result: RecordType = getattr(record, RECORD_FIELD)
            return result
    problems = list(dict.fromkeys(problems))
    raise ValueError(f"{name} cannot be used: {join_names(problems, '; ', max_names=MAX_LISTED_PROBLEMS)}")


@cache
def _make_model(record_type: Any, unknown: Literal["forbid", "ignore"]) -> type[BaseModel]:
    """A model with one field, the record: its strict configuration holds for all dataclasses within."""
    config = ConfigDict(strict=True, extra=unknown, allow_inf_nan=False)
    field: Any = {RECORD_FIELD: (record_type, ...)}
    model: type[BaseModel] = create_model(f"Strict{record_type.__name__}", __config__=config, **field)
    return model


def _find_missing_keys(record_type: type, values: Mapping[str, Any], optional: set[str], prefix: str = "") -> list[str]:
    """Keys that are absent, although a field may have a default: a file states everything that decides a result."""
    problems, hints = [], get_type_hints(record_type)
    for field in fields(record_type):
        if field.name not in values:
            problems += [] if field.name in optional else [f"{prefix}{field.name} is missing"]
            continue
        inner = [hint for hint in (hints[field.name], *get_args(hints[field.name])) if hint is not NoneType]
        nested = next((hint for hint in inner if isinstance(hint, type) and is_dataclass(hint)), None)
        if nested and isinstance(values[field.name], Mapping):
            problems += _find_missing_keys(nested, values[field.name], optional, f"{prefix}{field.name}.")
    return problems


def describe_problem(problem: Any, keys: Sequence[str | int], whole: str = "it") -> str:
    """One of pydantic's errors, at these keys of what is called `whole`: `crop is 'big', expected a valid integer`."""
    key = ".".join(map(str, keys)) or whole
    kind, message = problem["type"], problem["msg"]
    match kind:
        case "value_error":
            return str(problem["ctx"]["error"])
        case "missing" | "missing_argument":
            return f"{key} is missing"
        case "unexpected_keyword_argument" | "extra_forbidden":
            return f"{key} is not known"
        case "json_invalid":
            return f"{whole} is nested too deeply or damaged ({problem['ctx']['error']})"
        case "dataclass_type" | "model_type" | "model_attributes_type":
            expected = "an object with named values"
        case "tuple_type" | "list_type":
            expected = "a list"
        case _:
            expected = (
                message.partition(" should ")[2].removeprefix("be ").removeprefix("have ").replace("'", "") or message
            )
            expected = f"a number {expected}" if kind in _BOUND_ERRORS else expected
            expected = expected.replace("match pattern", "a text of the form")
    return f"{key} is {show_value(problem['input'])}, expected {expected}"


def check_text_size(path: Path) -> None:
    """Raise ValueError for a text file above the limit."""
    _check_size(path.stat().st_size, str(path))


def _check_size(num_bytes: int, name: str) -> None:
    if problem := TEXT_BYTES.exceed(num_bytes):
        raise ValueError(f"{name} has {problem}")
