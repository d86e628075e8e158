"""Parsers for the verbs: one manner of help and of refusing, for settings dataclasses and for plain options alike."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Sequence
from typing import Any, NoReturn, TypeVar

from jsonargparse import ArgumentParser, set_parsing_settings

SettingsType = TypeVar("SettingsType")


class VerbParser(ArgumentParser):
    """An argument parser whose refusals are one sentence."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Ends the process with exit code 2 after one sentence on standard error."""
        sentence = " ".join(message.split())
        self.exit(2, f"{self.prog}: {self._with_nearest_option(sentence)}; {self.prog} --help lists the options\n")

    def _with_nearest_option(self, sentence: str) -> str:
        unknown = re.search(r"nrecognized arguments: (--[\w.]+)", sentence)
        known = [option for action in self._actions for option in action.option_strings]
        near = difflib.get_close_matches(unknown[1], known, n=1) if unknown else []
        return f"{sentence} (did you mean {near[0]}?)" if near else sentence


def verb_parser(verb: str, usage: str, description: str, examples: Sequence[str]) -> VerbParser:
    """A parser whose help shows a usage line made by hand, a description and examples that run."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    return VerbParser(
        prog=f"muybridge {verb}",
        usage=f"muybridge {verb} {usage}",
        description=description,
        epilog="examples:\n" + "\n".join(f"  {example}" for example in examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        exit_on_error=True,
    )


def parse_settings(
    parser: VerbParser, settings: type[SettingsType], words: Sequence[str]
) -> tuple[SettingsType, argparse.Namespace]:
    """Reads a settings dataclass from `--config FILE` and options; also the namespace with the parser's own options.

    `-o` is `--output`. A field's own check that fails is a ValueError with its sentence.
    """
    parser.add_argument("--config", action="config", help="a YAML file of settings, e.g. of recipes/")
    parser.add_class_arguments(settings, None)
    found = parser.parse_args(["--output" if word == "-o" else word for word in words])
    return _built(parser, settings, found), found


def _built(parser: VerbParser, settings: type[SettingsType], found: Any) -> SettingsType:
    groups = parser.instantiate(found)
    names = settings.__dataclass_fields__  # type: ignore[attr-defined]
    return settings(**{name: getattr(groups, name) for name in names})
