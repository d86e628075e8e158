"""Every number of every verb, settings class and record: what it cannot mean is refused in a sentence with its name.

The cases are generated from the annotations themselves, so that a new option is tested, or fails here for want of bounds.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest
import yaml
from annotated_types import Interval

from muybridge import settings as settings_module
from muybridge.bounds import find_problems
from muybridge.cli.main import GROUPS, VERBS, find_verb
from muybridge.cli.options import parse_arguments
from muybridge.evaluation.protocol import EvaluationProtocol
from muybridge.models.family import Specification
from muybridge.prediction.timeline import TimelineOptions
from muybridge.prepared.prepare import PreparationOptions
from muybridge.records import Preprocessing
from muybridge.settings import EvaluateSettings, TrainSettings
from muybridge.weights.importing import ImportOptions

NOT_NUMBERS = ["nan", "inf", "-inf", "1e309", "-1e309", "", "3 s", "ten", "1e400", "9" * 400]
RECORDS = (EvaluationProtocol, ImportOptions, PreparationOptions, Preprocessing, Specification, TimelineOptions)
SETTINGS = [
    kind
    for kind in vars(settings_module).values()
    if isinstance(kind, type) and is_dataclass(kind) and kind.__module__ == settings_module.__name__
]


def is_number(hint: Any) -> bool:
    return hint in (int, float) or any(is_number(part) for part in get_args(hint) if not isinstance(part, Interval))


def find_interval(hint: Any) -> Interval | None:
    own = [entry for entry in getattr(hint, "__metadata__", ()) if isinstance(entry, Interval)]
    return own[0] if own else next(filter(None, map(find_interval, get_args(hint))), None)


def list_wrong_numbers(hint: Any) -> list[float]:
    """Numbers outside the bounds, and others that are none."""
    interval = find_interval(hint)
    assert interval is not None
    # By a step that a float of this size shows.
    low = interval.gt if interval.gt is not None else interval.ge - max(1, abs(interval.ge))
    high = interval.lt if interval.lt is not None else interval.le + max(1, abs(interval.le))
    return [low, -low - 10**9, high, 2**63, 10**400, math.nan, math.inf, -math.inf, 1e308]


def list_verbs() -> list[tuple[str, Callable[..., int]]]:
    found = [(name, find_verb(name)) for name in VERBS if name not in GROUPS]
    return found + [(f"{group} {name}", verb) for group in GROUPS for name, verb in find_verb(group).items()]


def list_options(verb: Callable[..., int]) -> Iterator[tuple[str, Any]]:
    """The options of a verb that are numbers, with their annotations; those of settings are tested as settings."""
    for name, hint in get_type_hints(verb, include_extras=True).items():
        if is_dataclass(hint):
            yield from get_type_hints(hint, include_extras=True).items()
        elif name not in ("return", "settings"):
            yield name, hint


OPTIONS = [
    pytest.param(title, verb, name, hint, id=f"{title} --{name}")
    for title, verb in list_verbs()
    for name, hint in list_options(verb)
    if is_number(hint)
]
FIELDS = [
    pytest.param(kind, name, hint, id=f"{kind.__name__}.{name}")
    for kind in (*SETTINGS, *RECORDS)
    for name, hint in get_type_hints(kind, include_extras=True).items()
    if is_number(hint)
]


def test_there_are_cases() -> None:
    assert len(OPTIONS) >= 25
    assert len(FIELDS) >= 60


@pytest.mark.parametrize(("title", "verb", "name", "hint"), OPTIONS)
def test_options_of_verbs(
    title: str, verb: Callable[..., int], name: str, hint: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    required = [
        "x"
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY
        else f"--{option}=onnx"
        if option == "to"
        else f"--{option}=x"
        for option, parameter in inspect.signature(verb).parameters.items()
        if parameter.default is inspect.Parameter.empty and not is_dataclass(get_type_hints(verb)[option])
    ]
    if "settings" in inspect.signature(verb).parameters:
        required.append("--data=x")
    # Written first, so that a list of values is not taken for more of the option's.
    for value in (*map(repr, list_wrong_numbers(hint)), *NOT_NUMBERS):
        inner = (
            hint
            if get_origin(hint) in (list, tuple)
            else next((p for p in get_args(hint) if get_origin(p) in (list, tuple)), None)
        )
        count = len(get_args(inner)) if get_origin(inner) is tuple else 1
        option = f"--{name.rstrip('_').replace('_', '-')}"
        words = [f"{option}={value}"] if count == 1 else [option, *[value] * count]
        with pytest.raises((ValueError, SystemExit)) as refused:
            parse_arguments(verb, f"muybridge {title}", [*required, *words])
        sentence = capsys.readouterr().err if isinstance(refused.value, SystemExit) else str(refused.value)
        assert name.rstrip("_").replace("_", "-") in sentence.replace("_", "-"), (value, sentence)
        assert sentence.strip().count("\n") == 0
        assert len(sentence) < 1500


@pytest.mark.parametrize(("kind", "name", "hint"), FIELDS)
def test_fields_from_python(kind: type, name: str, hint: Any) -> None:
    """Built in Python with one wrong number: refused by name."""
    for value in (*list_wrong_numbers(hint), True, "3", "", [], {}):
        wrong = (value,) * 6 if _takes_tuple(hint) else value
        arguments = {field.name: None for field in fields(kind)} | {name: wrong}
        record = object.__new__(kind)
        for key, entry in arguments.items():
            object.__setattr__(record, key, entry)
        problems = find_problems(name, wrong, hint)
        assert problems, (name, value)
        assert all(problem.startswith(name) for problem in problems)
    if kind in SETTINGS:
        with pytest.raises(ValueError, match=name):
            kind(**({"data": "d"} if kind in (TrainSettings, EvaluateSettings) else {}) | {name: wrong})


def _takes_tuple(hint: Any) -> bool:
    return get_origin(hint) is tuple or any(get_origin(part) is tuple for part in get_args(hint))


@pytest.mark.parametrize("kind", [pytest.param(TrainSettings, marks=pytest.mark.long), EvaluateSettings])
def test_settings_from_yaml_and_from_the_command_line(
    kind: type, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verb = find_verb("train" if kind is TrainSettings else "evaluate")
    assert callable(verb)
    for group in [None, *(field.name for field in fields(kind) if is_dataclass(field.default_factory))]:
        owner = kind if group is None else next(f.default_factory for f in fields(kind) if f.name == group)
        for name, hint in get_type_hints(owner, include_extras=True).items():
            if not is_number(hint) or _takes_tuple(hint):
                continue
            key = name if group is None else f"{group}.{name}"
            wrong = list_wrong_numbers(hint)[0]
            settings = {name: wrong} if group is None else {group: {name: wrong}}
            (tmp_path / "s.yaml").write_text(yaml.safe_dump(settings))
            for words in (["--config", str(tmp_path / "s.yaml")], [f"--{key}=nan"]):
                run = ["x"] if kind is EvaluateSettings else []
                with pytest.raises((ValueError, SystemExit)) as refused:
                    parse_arguments(verb, "muybridge x", [*run, "--data", "d", *words])
                error = capsys.readouterr().err
                sentence = error if isinstance(refused.value, SystemExit) else str(refused.value)
                assert key in sentence.replace("-", "_"), (key, words, sentence)
