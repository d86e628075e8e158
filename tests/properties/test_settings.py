"""Settings for any values: what they accept comes back from YAML, and what they refuse they refuse with a sentence."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from muybridge.parsing import parse_json, read_yaml
from muybridge.settings import (
    CheckpointSettings,
    ClipSettings,
    EvaluationSettings,
    LoadingSettings,
    NetworkSettings,
    TimeoutSettings,
    settings_to_dict,
)
from muybridge.training.given_settings import build_settings
from muybridge.training_settings import TrainingSettings

GROUPS = (
    CheckpointSettings,
    ClipSettings,
    EvaluationSettings,
    LoadingSettings,
    NetworkSettings,
    TimeoutSettings,
    TrainingSettings,
)
FIELDS = [(group, field.name) for group in GROUPS for field in fields(group)]
NUMBERS = st.integers(-3, 300) | st.integers() | st.floats() | st.sampled_from([0.5, 1e-3, 1e308, -0.0, math.inf])
VALUES = NUMBERS | st.none() | st.booleans() | st.text(max_size=5) | st.lists(NUMBERS, max_size=4).map(tuple)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
NESTED = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


def is_finite(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


@pytest.mark.parametrize(("group", "name"), FIELDS, ids=lambda part: getattr(part, "__name__", part))
@given(value=VALUES)
@settings(max_examples=25)
def test_a_value_is_kept_or_refused_by_name(group: Any, name: str, value: Any) -> None:
    try:
        accepted = group(**{name: value})
    except (ValueError, TypeError) as error:
        assert name in str(error), "the sentence names the setting"
        return
    assert getattr(accepted, name) == value
    assert is_finite(value)
    text = yaml.safe_dump(settings_to_dict(accepted))
    read = {key: tuple(inner) if isinstance(inner, list) else inner for key, inner in yaml.safe_load(text).items()}
    assert group(**read) == accepted


@given(st.dictionaries(st.text(max_size=6), NESTED, max_size=4))
def test_a_file_of_anything_is_no_traceback(values: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        build_settings({"no such setting": 1, **values})


@given(value=NESTED)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_yaml_and_json_come_back(tmp_path: Path, value: Any) -> None:
    def same(left: Any, right: Any) -> bool:
        if isinstance(left, float) and isinstance(right, float):
            return left == right or (math.isnan(left) and math.isnan(right))
        if isinstance(left, list) and isinstance(right, list):
            return len(left) == len(right) and all(map(same, left, right))
        if isinstance(left, dict) and isinstance(right, dict):
            return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
        return bool(left == right)

    (tmp_path / "a.yaml").write_text(yaml.safe_dump(value), encoding="utf-8")
    assert same(read_yaml(tmp_path / "a.yaml"), value)


@given(st.text(max_size=60) | st.binary(max_size=60))
def test_json_of_anything_is_a_value_or_a_sentence(text: str | bytes) -> None:
    try:
        parse_json(text, "the file")
    except ValueError as error:
        assert str(error).startswith(("the file is not JSON, or damaged (", "the file has the key "))


def test_every_group_is_here() -> None:
    assert all(is_dataclass(group) for group in GROUPS)
    assert len(FIELDS) > 30
