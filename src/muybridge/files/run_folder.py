"""Run folders: reading their settings and logs, and recording the environment.

A run folder holds settings.yaml, network.json, environment.json, log.jsonl, failures.jsonl, tensorboard/, checkpoints/,
last.safetensors, best.safetensors and scores/<split>.parquet (docs/training.md).
"""

from __future__ import annotations

import codecs
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, TypeGuard

from muybridge.bounds import find_nested_problems
from muybridge.parsing import MAX_LISTED_PROBLEMS, check_text_size, parse_json, read_yaml
from muybridge.settings import TrainSettings
from muybridge.text import join_names

_MAX_FLOAT = sys.float_info.max
RECORDED_PACKAGES = ("muybridge", "torch", "numpy", "av", "pyarrow", "safetensors")


def read_settings(path: Path) -> dict[str, Any]:
    """The settings.yaml of a run folder, as nested dicts. Raises ValueError where it is damaged, or a value cannot be.

    Settings of another version are left as they are.
    """
    try:
        settings = read_yaml(path)
    except ValueError as error:
        raise ValueError(f"{error}; restore it, or start a new run with another -o") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{path} does not contain settings; restore it, or start a new run with another -o")
    if problems := list(find_nested_problems(settings, TrainSettings)):
        raise ValueError(f"{path} cannot be used: {join_names(problems, '; ', max_names=MAX_LISTED_PROBLEMS)}")
    return settings


def make_addresses(folder: Path, settings: TrainSettings) -> dict[str, str]:
    """The absolute places of `data` and `init` for environment.json, those that are files or folders on this machine.

    `init` cannot be changed when a run is resumed, so that it stays where it was, whatever the current folder is then.
    """
    init = find_address(folder, "init", settings.init) if settings.init else None
    places = {"data": settings.data, "init": init}
    return {name: str(Path(place).absolute()) for name, place in places.items() if place and Path(place).exists()}


def read_addresses(folder: Path) -> dict[str, str]:
    """Where `data` and `init` of a run were when it was last trained, absolute; empty for runs that do not record it."""
    try:
        addresses = parse_json((folder / "environment.json").read_bytes(), "environment.json")["addresses"]
    except (OSError, ValueError, KeyError, TypeError):  # of an older version, or damaged: nothing else needs it
        return {}
    items = addresses.items() if isinstance(addresses, Mapping) else ()
    return {name: place for name, place in items if isinstance(place, str)}


def find_address(folder: Path, name: Literal["data", "init"], address: str) -> str:
    """The place of what the settings of a run call `address`: a relative one is where it was in training, if it still is.

    Else, and where that is the same place, it is `address` as it is, which counts from the current folder.
    """
    place = None if Path(address).is_absolute() else read_addresses(folder).get(name)
    if place is None or not Path(place).exists() or Path(place).resolve() == Path(address).resolve():
        return address
    return place


def append_json_line(path: Path, record: Mapping[str, Any]) -> None:
    """Appends one line to a .jsonl file. A line that a crash left incomplete is ended; `read_json_lines` skips it."""
    line = json.dumps(record).encode() + b"\n"
    with path.open("ab+") as file:
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else b"\n" + line
        file.write(line)


def read_json_lines(path: Path, offset: int = 0) -> list[dict[str, Any]]:
    """The complete lines of a .jsonl file, from a byte on; an empty list where the file is absent."""
    if not path.exists():
        return []
    check_text_size(path)
    records = []
    with path.open("rb") as file:
        file.seek(offset)
        lines = file.read().removeprefix(codecs.BOM_UTF8).splitlines()  # which some editors begin a file with
    for line in lines:
        try:
            record = parse_json(line, str(path))
        except ValueError:
            continue  # the process died while it was writing this line
        if isinstance(record, dict):
            records.append(record)
    return records


def read_run_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of log.jsonl in a run folder that have a kind and a step, each with its finite numbers alone."""
    lines = read_json_lines(folder / "log.jsonl")
    return [
        {name: value for name, value in line.items() if name == "kind" or is_finite_number(value)}
        for line in lines
        if isinstance(line.get("kind"), str) and isinstance(line.get("step"), int) and is_finite_number(line["step"])
    ]


def is_finite_number(value: Any) -> TypeGuard[int | float]:
    """Whether a value of JSON or YAML is a number, neither NaN nor infinite nor too large for a float."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -_MAX_FLOAT <= value <= _MAX_FLOAT


def describe_unfinished_run(settings: Mapping[str, Any], log: Sequence[Mapping[str, Any]]) -> str | None:
    """`stopped at epoch 3.2 of 45`; None for a run that has finished or whose log or settings do not say."""
    steps = [(line["step"], line["epoch"]) for line in log if line.get("kind") == "train" and line.get("epoch")]
    total_epochs = _count_epochs(settings.get("training"))
    if total_epochs is None or not steps:
        return None
    step, epoch = steps[-1]
    if step >= round(total_epochs * step / epoch):
        return None
    return f"stopped at epoch {epoch:.1f} of {total_epochs:g}"


def _count_epochs(training: Any) -> float | None:
    """The epochs of all phases; None where the settings, which may be of any version, do not say."""
    try:
        epochs = [training["epochs"], *(epochs for epochs, _ in training.get("phases") or ())]
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    return float(sum(epochs)) if all(map(is_finite_number, epochs)) else None


UNFINISHED_REMARK = "the weights are of an unfinished run"  # true for ever of scores that it stands beside


def read_unfinished(folder: Path) -> str | None:
    """As `describe_unfinished_run`, of the settings and the log in a run folder."""
    settings = folder / "settings.yaml"
    if not settings.is_file():
        return None
    return describe_unfinished_run(read_settings(settings), read_run_log(folder))


def collect_environment() -> dict[str, Any]:
    """What a result depends on besides its settings: package versions, machine, command line."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": get_processor_name(),
        "cores": os.cpu_count(),
        "command": sys.argv,
        "packages": {name: _get_version(name) for name in RECORDED_PACKAGES},
    }


@cache
def _get_version(package: str) -> str | None:
    """The version of an installed package; None for one that is only on the import path, such as a source tree."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def get_processor_name() -> str:
    """The name of the processor, as the operating system reports it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
