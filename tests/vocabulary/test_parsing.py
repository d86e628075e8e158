"""What is read from files: every problem at once, with its key; nothing nested without end, nothing that grows."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from muybridge.limits import TEXT_BYTES
from muybridge.parsing import parse_json, parse_json_object, parse_record, read_json_object, read_yaml
from muybridge.records import Preprocessing
from muybridge.settings import TrainSettings


def test_all_problems_are_named_at_once() -> None:
    values = {
        **asdict(Preprocessing()),
        "crop": "big",
        "std": [1e-320, float("nan"), 1],
        "frame_stride": 1.0,
        "extra": 0,
    }
    del values["scale_width"]
    with pytest.raises(ValueError, match="the card cannot be used") as refused:
        parse_record(Preprocessing, values, "the card")
    for clause in (
        "scale_width is missing",
        "crop is 'big', expected a valid integer",
        "std.0 is 1e-320, expected a number greater than or equal to 0.001",
        "std.1 is nan, expected a finite number",
        "frame_stride is 1.0, expected a valid integer",
        "extra is not known",
    ):
        assert clause in str(refused.value)


@dataclass(frozen=True)
class Shard:
    num_bytes: int


@dataclass(frozen=True)
class Description:
    shards: tuple[Shard, ...]
    names: tuple[str, ...]


def test_what_a_record_in_a_list_lacks_is_named() -> None:
    with pytest.raises(ValueError, match=r"^it cannot be used: shards\.0\.num_bytes is missing$"):
        parse_record(Description, {"shards": [{}], "names": []}, "it")
    with pytest.raises(ValueError, match=r"^it cannot be used: names is missing; shards\.0\.num_bytes is missing$"):
        parse_record(Description, {"shards": [{}]}, "it")


def test_nested_settings_are_read_with_their_keys() -> None:
    settings = parse_record(TrainSettings, {"data": "d", "clips": {"scale": [64, 80], "crop": 56}}, "it", optional=None)
    assert (settings.clips.scale, settings.clips.crop, settings.training.epochs) == ((64, 80), 56, 45.0)
    with pytest.raises(ValueError, match=r"clips\.scale\.1 is None, .*training\.batch_size is 0, "):
        parse_record(
            TrainSettings,
            {"data": "d", "training": {"batch_size": 0}, "clips": {"scale": [64, None]}},
            "it",
            optional=None,
        )


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "{", "", "nope", "1" * 10_000, '"\udcff"', '"\ud800"', b'"\xff"']
)
def test_what_is_no_json_is_a_sentence(text: str | bytes, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"x\.json is not JSON, or damaged") as refused:
        parse_json(text, "x.json")
    assert len(str(refused.value)) < 200
    with pytest.raises(ValueError, match="expected a JSON object"):
        parse_json_object("[1]", "x.json")


@pytest.mark.parametrize(
    "text", ['{"a": 1, "b": 2, "a": 3}', '[{"b": {"a": {}, "\\u0061": []}}]', b'{"b": NaN, "a": {"a": 1}, "a": 1}']
)
def test_json_with_a_key_twice_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"^x\.json has the key 'a' twice in one object, expected it once$"):
        parse_json(text, "x.json")
    assert parse_json('[{"a": 1, "b": {"a": 2}}, {"a": 3}]', "x.json") == [{"a": 1, "b": {"a": 2}}, {"a": 3}]


def test_values_nested_too_deeply_for_a_record() -> None:
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_record(Preprocessing, {**asdict(Preprocessing()), "mean": deep}, "the card")


ALIASES = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (ALIASES, "it has an alias"),
        ("a: 1\nb: " + "[" * 10_000, "nested more than 64 levels deep in line 2"),
        ("a: !!python/object/apply:os.system [true]", "could not determine a constructor"),
        ("[1", "expected"),
        ("\udcff", "utf-8"),
        ("a: 2026-99-99", "month must be in"),
        ("a:\n  b: 1\nc: 2\na:\n  d: 3", "it has the key a in line 1 and again in line 4"),
        ("c: {a: 1, b: [{x: 1, 'x': 2}]}", "it has the key x in line 1 and again in line 1"),
        ('{"a": 1,\n"b": 2, "a": 3}', "it has the key a in line 1 and again in line 2"),
    ],
)
def test_yaml_that_is_refused(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(ValueError, match=f"s.yaml is not a YAML file: .*{reason}"):
        read_yaml(path)


def test_equal_keys_of_different_mappings_are_read(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("a: {b: 1, c: {a: 2}}\nd: [{b: 1}, {b: 2}]\n1: x\n'1': y\n")
    assert read_yaml(path) == {"a": {"b": 1, "c": {"a": 2}}, "d": [{"b": 1}, {"b": 2}], 1: "x", "1": "y"}


def test_a_text_above_the_limit_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"a": "b" * 100}))
    monkeypatch.setenv(TEXT_BYTES.variable, "50")
    with pytest.raises(
        ValueError, match=r"has 109 bytes, above the limit of 50; set MUYBRIDGE_MAX_TEXT_BYTES to raise it"
    ):
        read_json_object(path)
    with pytest.raises(ValueError, match="MUYBRIDGE_MAX_TEXT_BYTES"):
        read_yaml(path)
    monkeypatch.setenv(TEXT_BYTES.variable, "109")
    assert read_json_object(path) == {"a": "b" * 100}
    monkeypatch.setenv(TEXT_BYTES.variable, "-5")
    with pytest.raises(ValueError, match="MUYBRIDGE_MAX_TEXT_BYTES is '-5', expected a whole number above 0"):
        read_json_object(path)
