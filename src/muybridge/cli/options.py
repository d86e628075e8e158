"""Parsers for the verbs: one manner of help and of refusing, for settings dataclasses and for plain options alike."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml
from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace, set_parsing_settings

SettingsType = TypeVar("SettingsType")

# How the parser names a type, and how people do.
TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "tuple": "a list such as [1,2]",
}


class HelpFormatter(argparse.RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Shows each setting's type and default, and leaves the examples as they are written."""


class VerbParser(ArgumentParser):
    """An argument parser whose refusals are one sentence."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Ends the process with exit code 2 after one sentence on standard error."""
        sentence = " ".join(message.split())
        self.exit(2, f"{self.prog}: {self._for_people(sentence)}; {self.prog} --help lists the options\n")

    def _for_people(self, sentence: str) -> str:
        options = {action.dest: action.option_strings[-1] for action in self._actions if action.option_strings}
        if lacking := re.search(r"arguments are required: (.*)", sentence):
            names = [options.get(name, name.upper()) for name in lacking[1].split(", ")]
            return f"{' and '.join(names)} must be given"
        if unknown := re.search(r"nrecognized arguments: (--[\w.-]+)", sentence):
            return f"there is no option {unknown[1]}{_did_you_mean(unknown[1], options.values())}"
        if unknown := re.search(r"Group '([\w.]+)' does not accept option '([\w.]+)'", sentence):
            name = f"{unknown[1]}.{unknown[2]}"
            return f"there is no setting {name}{_did_you_mean(name, options)}"
        if unknown := re.search(r"Option '([\w.]+)' is not accepted", sentence):
            return f"there is no setting {unknown[1]}{_did_you_mean(unknown[1], options)}"
        return _wrong_value(sentence) or sentence


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _wrong_value(sentence: str) -> str | None:
    """A value of the wrong type in words; None where the parser speaks of something else."""
    key = re.search(r'Parser key "([\w.]+)"', sentence)
    value = re.search(r".*(?:Got|Given) value: ?(.*)", sentence)  # the last one: that of the whole setting
    choices = re.search(r"Literal\[(.*?)\]", sentence)
    kind = re.search(rf"[ \['](?P<name>{'|'.join(TYPES)})\b", sentence)
    if choices:
        expected = choices[1].replace("'", "").replace(", ", " or ")
    else:
        expected = TYPES[kind["name"]] if kind else ""
    if not key or not value or not expected:
        return None
    return f"{key[1]} is {value[1] or 'empty'}, expected {expected}"


def verb_parser(verb: str, usage: str, description: str, examples: Sequence[str]) -> VerbParser:
    """A parser whose help shows a usage line made by hand, a description and examples that run."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    return VerbParser(
        prog=f"muybridge {verb}",
        usage=f"muybridge {verb} {usage}",
        description=description,
        epilog="examples:\n" + "\n".join(f"  {example}" for example in examples),
        formatter_class=HelpFormatter,
        exit_on_error=True,
    )


def parse_settings(
    parser: VerbParser, settings: type[SettingsType], words: Sequence[str]
) -> tuple[SettingsType, argparse.Namespace]:
    """Reads a settings dataclass from `--config FILE` and options; also the namespace with the parser's own options.

    Options count more than the file, wherever they stand. `-o` is `--output`. A field's own check that fails is a ValueError
    with its sentence.
    """
    parser.add_argument("--config", action="config", help="a YAML file of settings, e.g. of recipes/")
    parser.add_class_arguments(settings, None)
    files, options = _config_files(["--output" if word == "-o" else word for word in words])
    for file in files:
        _check_config(parser, Path(file))
    found = parser.parse_args([*(f"--config={file}" for file in files), *options])
    return _built(parser, settings, found), found


def _config_files(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The files behind `--config`, and the other words."""
    files, others = [], []
    waiting = iter(words)
    for word in waiting:
        if word == "--config" and (file := next(waiting, None)) is not None:
            files.append(file)
        elif word.startswith("--config="):
            files.append(word.removeprefix("--config="))
        else:
            others.append(word)
    return files, others


def _check_config(parser: VerbParser, file: Path) -> None:
    """Refuses what is no file of settings; which settings it holds is for the parser to judge."""
    if not file.is_file():
        parser.error(f"there is no file of settings {str(file)!r}")
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        parser.error(f"{file} is not a YAML file: {error}")
    if not isinstance(found, dict):
        parser.error(f"{file} holds no settings; expected lines such as `model: r2plus1d_18`")


def _built(parser: VerbParser, settings: type[SettingsType], found: Any) -> SettingsType:
    described = fields(settings)  # type: ignore[arg-type]
    for field in described:
        if is_dataclass(field.default_factory) and not isinstance(found[field.name], Namespace):
            parser.error(
                f"{field.name} is {found[field.name]!r}, expected a group of settings such as {field.name}.NAME"
            )
    built = parser.instantiate(found)
    return settings(**{field.name: getattr(built, field.name) for field in described})
