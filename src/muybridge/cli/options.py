"""A command line from a function's signature: parameters are arguments, the docstring is the help.

Positional parameters are positional arguments, keyword-only parameters are options; a trailing underscore is dropped
(`with_` is `--with`). A `bool` is a flag, `list[T]` takes several values, `tuple[T, T]` takes two. A parameter called
`settings` is a settings dataclass: its fields are options, those of groups with a dot, and `--config FILE` reads them from
YAML; one called `given` takes the same options and holds those that are named. Any other dataclass is a group of plain options.
The docstring's `Examples:` end the help.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from docstring_parser import Docstring, DocstringStyle, parse, parse_from_object
from jsonargparse import Namespace, set_parsing_settings

from muybridge.bounds import find_problems
from muybridge.cli.parser import VerbParser, show_option
from muybridge.training.given_settings import GivenSettings, build_settings

Verb = Callable[..., int]
SETTINGS_PARAMETERS = {"settings", "given"}
MAX_DIGITS = 300  # of an integer; a float has up to 308
LONG_NUMBER = re.compile(rf"(?<![\w./-])[-+]?\d{{{MAX_DIGITS},}}(?![\w./-])")
SettingsType = TypeVar("SettingsType")


@dataclass(frozen=True)
class WithoutValue:
    """Annotates an option that may be given without a value: what it is then."""

    value: str


@dataclass(frozen=True)
class ShownFirst:
    """Annotates settings: the options with which the help begins."""

    names: tuple[str, ...]


def run_verb(verb: Verb, prog: str, argv: Sequence[str]) -> int:
    """Calls a verb with the arguments of a command line; returns its exit code."""
    return verb(**parse_arguments(verb, prog, argv))


def parse_settings(verb: Verb, settings: type[SettingsType], argv: Sequence[str]) -> SettingsType:
    """The settings of a verb's command line."""
    arguments = parse_arguments(verb, f"muybridge {verb.__name__}", argv)
    if "given" in arguments:
        arguments["settings"] = build_settings(arguments["given"].values)
    parsed = arguments["settings"]
    assert isinstance(parsed, settings)
    return parsed


def parse_arguments(verb: Verb, prog: str, argv: Sequence[str]) -> dict[str, Any]:
    """The keyword arguments with which a command line calls a verb.

    Options take precedence over `--config FILE`, wherever they stand.

    Raises:
        ValueError: The settings refuse a value.
        SystemExit: After `--help`, or after one sentence about what cannot be parsed.
    """
    parser = build_parser(verb, prog)
    argv = parser.normalize(argv)
    _refuse_empty_values(parser, argv)
    hints = {name: hint for name, hint in get_type_hints(verb).items() if name != "return"}
    files, options = _split_config_files(argv) if SETTINGS_PARAMETERS & hints.keys() else ([], argv)
    for file in files:
        _check_config(parser, Path(file))
    _refuse_long_numbers(parser, options)
    config_argv = [*(f"--config={file}" for file in files), *options]
    parsed = parser.parse_args(config_argv)
    arguments = {
        name: _get_value(hint, name, parsed) for name, hint in hints.items() if name not in SETTINGS_PARAMETERS
    }
    if "settings" in hints:
        arguments["settings"] = _build_settings(parser, hints["settings"], parsed)
    if "given" in hints:
        settings = get_args(get_type_hints(verb, include_extras=True)["given"])[1]
        arguments["given"] = _collect_given(parser, settings, config_argv)
    _check_bounds(verb, arguments)
    return arguments


def _refuse_empty_values(parser: VerbParser, argv: Sequence[str]) -> None:
    """Refuses an argument without a character: as a path it would be the working folder."""
    for index, word in enumerate(argv):
        option = word[:-1] if word.startswith("--") and word.endswith("=") else None
        if not word.strip():
            option = argv[index - 1] if index > 0 and argv[index - 1].startswith("-") else "an argument"
        if option is not None:
            name = show_option(option) if option.startswith("--") else option
            parser.error(f"{name} is empty; give it a value, or leave it out")


def _collect_given(parser: VerbParser, settings: type, argv: Sequence[str]) -> GivenSettings:
    """The settings among the arguments, without defaults."""
    named = parser.parse_args(argv, defaults=False)
    _check_groups(parser, settings, named)
    names = {field.name for field in fields(settings)}
    return GivenSettings({name: value for name, value in named.as_dict().items() if name in names})


def _check_bounds(verb: Verb, arguments: Mapping[str, Any]) -> None:
    """ValueError for all numbers that are out of the bounds of their annotations; settings have checked themselves."""
    problems: list[str] = []
    for name, hint in get_type_hints(verb, include_extras=True).items():
        if name in SETTINGS_PARAMETERS:
            continue
        if is_dataclass(hint) and isinstance(hint, type):
            for field_name, field_hint in get_type_hints(hint, include_extras=True).items():
                option = show_option(_option_name(field_name))
                problems += find_problems(option, getattr(arguments[name], field_name), field_hint)
        elif name in arguments:
            positional = inspect.signature(verb).parameters[name].kind is not inspect.Parameter.KEYWORD_ONLY
            shown = name.upper() if positional else show_option(_option_name(name))
            problems += find_problems(shown, arguments[name], hint)
    if problems:
        raise ValueError("; ".join(problems))


def describe_verb(verb: Verb) -> tuple[str, list[str]]:
    """The first line of a verb's docstring, and its examples."""
    doc = _parse_docstring(verb)
    return doc.short_description or "", [
        line for example in doc.examples for line in (example.description or "").splitlines()
    ]


def _parse_docstring(verb: Verb) -> Docstring:
    return parse(inspect.getdoc(verb) or "", DocstringStyle.GOOGLE)


@cache
def build_parser(verb: Verb, prog: str) -> VerbParser:
    """The parser of a verb, made once; `prog` is what precedes the arguments, such as `muybridge train`."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    doc = _parse_docstring(verb)
    description = "\n\n".join(text for text in (doc.short_description, doc.long_description) if text)
    examples = "\n".join(f"  {line}" for line in describe_verb(verb)[1])
    parser = VerbParser(prog=prog, description=description, epilog=f"examples:\n{examples}")
    helps = {param.arg_name: param.description for param in doc.params}
    hints, annotated = get_type_hints(verb), get_type_hints(verb, include_extras=True)
    for name, parameter in inspect.signature(verb).parameters.items():
        hint = hints[name]
        if name in SETTINGS_PARAMETERS:
            *_, settings, first = get_args(annotated[name])
            _add_settings(parser, settings)
        elif is_dataclass(hint) and isinstance(hint, type):
            _add_group(parser, hint)
        else:
            positional = parameter.kind is not inspect.Parameter.KEYWORD_ONLY
            _add_argument(parser, parameter, hint, description=helps.get(name), positional=positional)
    if SETTINGS_PARAMETERS & hints.keys():
        parser.show_first(first.names)
    return parser


def _add_settings(parser: VerbParser, settings: type) -> None:
    """Adds the fields of a settings dataclass, and `--config`."""
    parser.add_argument("--config", action="config", help="A YAML file of settings, such as those in recipes/.")
    parser.add_class_arguments(settings, None)
    parser.hide_options({field.name for field in fields(settings) if is_dataclass(field.default_factory)})


def _add_group(parser: VerbParser, record: type) -> None:
    """Adds the fields of a dataclass as plain options under its first line."""
    doc = parse_from_object(record)
    helps = {param.arg_name: param.description for param in doc.params}
    hints, annotated = get_type_hints(record), get_type_hints(record, include_extras=True)
    group = parser.add_argument_group(doc.short_description)
    for name, parameter in inspect.signature(record).parameters.items():
        extras = [extra.value for extra in get_args(annotated[name])[1:] if isinstance(extra, WithoutValue)]
        _add_argument(group, parameter, hints[name], description=helps.get(name), value=extras[0] if extras else None)


def _add_argument(
    target: Any,
    parameter: inspect.Parameter,
    hint: Any,
    *,
    description: str | None,
    positional: bool = False,
    value: str | None = None,
) -> None:
    """Adds one plain argument to a parser or a group; its type and default decide how many values it takes.

    `value` is what an option is that is given without a value; None: it needs one.
    """
    name, default = parameter.name, parameter.default
    required = default is inspect.Parameter.empty
    keywords: dict[str, Any] = {"help": (description or "").replace("\n", " ").replace("%", "%%")}
    if not required:
        keywords["default"] = list(default) if isinstance(default, tuple) else default
    if value is not None:
        keywords |= {"nargs": "?", "const": value}
    elif positional and not required:
        keywords["nargs"] = "?"
    if NoneType in get_args(hint):
        (hint,) = (choice for choice in get_args(hint) if choice is not NoneType)
    if get_origin(hint) is list:
        keywords["nargs"] = "+" if required or not positional else "*"
        (hint,) = get_args(hint)
    elif get_origin(hint) is tuple:
        keywords["nargs"] = len(get_args(hint))
        hint = get_args(hint)[0]
    keywords |= {"action": "store_true"} if hint is bool else {"type": hint}
    if positional:
        target.add_argument(name, **keywords)
    else:
        target.add_argument(f"--{_option_name(name)}", **keywords, **({"required": True} if required else {}))


def _option_name(name: str) -> str:
    return name.rstrip("_")


def _get_value(hint: Any, name: str, parsed: Namespace) -> Any:
    """The parsed value of one parameter; a dataclass is built from its fields."""
    if is_dataclass(hint) and isinstance(hint, type):
        hints = get_type_hints(hint)
        return hint(**{field.name: _get_value(hints[field.name], field.name, parsed) for field in fields(hint)})
    value = parsed[_option_name(name)]
    several_of_one_type = isinstance(value, list) and any(get_origin(part) is tuple for part in (hint, *get_args(hint)))
    return tuple(value) if several_of_one_type else value


def _build_settings(parser: VerbParser, settings: type[SettingsType], parsed: Namespace) -> SettingsType:
    _check_groups(parser, settings, parsed)
    built = parser.instantiate(parsed)
    return settings(**{field.name: getattr(built, field.name) for field in fields(settings)})  # type: ignore[arg-type]


def _check_groups(parser: VerbParser, settings: type, parsed: Namespace) -> None:
    """Refuses another value where a group of settings belongs."""
    for field in fields(settings):
        value = parsed.get(field.name, Namespace())  # type: ignore[no-untyped-call]
        if is_dataclass(field.default_factory) and not isinstance(value, Namespace):
            parser.error(f"{field.name} is {value!r}, expected a group of settings such as {field.name}.NAME")


def _split_config_files(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The files of `--config`, and the other arguments."""
    files, others = [], []
    remaining = iter(argv)
    for word in remaining:
        if word == "--config" and (file := next(remaining, None)) is not None:
            files.append(file)
        elif word.startswith("--config="):
            files.append(word.removeprefix("--config="))
        else:
            others.append(word)
    return files, others


def _refuse_long_numbers(parser: VerbParser, argv: Sequence[str]) -> None:
    """Refuses integers beyond all floats, which the parser fails to convert."""
    option = "an argument"
    for word in argv:
        name, _, value = word.partition("=")
        option = show_option(name) if word.startswith("--") else option
        if LONG_NUMBER.search(value or word):
            parser.error(f"{option} has a number of more than {MAX_DIGITS} digits, expected a smaller one")


def _find_long_numbers(content: Any, name: str = "") -> list[str]:
    """The keys of a file of settings that hold integers beyond all floats."""
    if isinstance(content, dict):
        return [key for inner in content for key in _find_long_numbers(content[inner], f"{name}.{inner}".strip("."))]
    if isinstance(content, list):
        return [key for inner in content for key in _find_long_numbers(inner, name)]
    return [name] if isinstance(content, int) and content.bit_length() > 1000 else []


def _check_config(parser: VerbParser, file: Path) -> None:
    """Refuses a file that holds no settings; which settings it holds is for the parser to judge."""
    from muybridge.parsing import read_yaml

    if not file.is_file():
        parser.error(f"there is no file of settings {str(file)!r}")
    try:
        content = read_yaml(file)
    except ValueError as error:
        parser.error(str(error))
    for key in _find_long_numbers(content):
        parser.error(f"{key} in {file} is a number of more than {MAX_DIGITS} digits, expected a smaller one")
    if not isinstance(content, dict):
        parser.error(f"{file} holds no settings; expected lines such as `model: r2plus1d_18`")
    for name in map(str, content):
        group = name.partition(".")[0]
        if group != name and group in content:
            parser.error(
                f"{file} has both {group} and {name}, of which one would be lost; write all of it below {group}"
            )
