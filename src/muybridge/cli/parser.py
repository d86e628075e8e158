"""The argument parser of every verb: hyphenated options, help for people, and errors of one sentence."""

from __future__ import annotations

import argparse
import difflib
import json
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Annotated, Any, NoReturn, get_args, get_origin

from jsonargparse import ArgumentParser, DefaultHelpFormatter

from muybridge.bounds import MAX_SHOWN_CHARACTERS
from muybridge.text import sanitize_text, shorten

# How the parser names a type, and what an error message calls it.
TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "tuple": "a list such as [1,2]",
}
SHORT_OPTIONS = {"output": "-o", "k": "-k"}
SHORT_NAMES = {"lr": "learning-rate", "bs": "batch-size", "wd": "weight-decay", "pretrained": "init", "weights": "init"}


def show_option(name: str) -> str:
    """The displayed form of an option or setting: `--training.batch_size` -> `--training.batch-size`."""
    return f"--{name.removeprefix('--').replace('_', '-')}"


class HelpFormatter(argparse.RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Shows options with hyphens, types and defaults where they inform, and examples as they are written."""

    def _format_usage(self, usage: object, actions: Iterable[argparse.Action], *_: object) -> str:
        """One line: the arguments that must be given, and that there are options."""
        parts = [f"usage: {self._prog}"]
        for action in actions:
            name = action.dest.upper().replace("_", "-")
            shown = f"{name} ..." if action.nargs in ("+", "*") else name
            if not action.option_strings:
                parts.append(f"[{shown}]" if action.nargs in ("?", "*") else shown)
            elif action.required:
                parts.append(f"{SHORT_OPTIONS.get(action.dest, show_option(action.dest))} {shown}")
        return " ".join([*parts, "[OPTIONS]"]) + "\n\n"

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings:
            return super()._format_action_invocation(action)
        names = [name if name == "-h" else show_option(name) for name in action.option_strings]
        if action.dest in SHORT_OPTIONS:
            names.insert(0, SHORT_OPTIONS[action.dest])
        value = "" if action.nargs == 0 else f" {self._format_args(action, action.dest.rpartition('.')[2].upper())}"
        return ", ".join(names) + value

    def _expand_help(self, action: argparse.Action) -> str:
        text = super()._expand_help(action)
        text = re.sub(r"type: (?:Optional\[)?Literal\[.*?\]\]?(, )?", "", text)
        text = re.sub(r"type: (?:str|bool)(?: \| null)?(, )?", "", text)
        text = re.sub(r"(, )?default: (?:null|False|\[\]|\(\)|(?=\)))", "", text)
        text = re.sub(r"\(required(?:, )?", "(", text)
        return re.sub(r" \(\)$", "", text.replace(" | null", "").replace("type: ", ""))


class VerbParser(ArgumentParser):
    """An argument parser whose errors are one sentence."""

    def __init__(self, *, prog: str, description: str, epilog: str) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            formatter_class=HelpFormatter,
            exit_on_error=True,
            allow_abbrev=False,  # an abbreviation in a script breaks when an option is added
        )

    def normalize(self, argv: Sequence[str]) -> list[str]:
        """The arguments with option names as the parser has them: underscores, no short options, lists of texts quoted."""
        lists = {
            f"--{action.dest}" for action in self._actions if getattr(action, "_typehint", None) == tuple[str, ...]
        }
        normalized: list[str] = []
        for index, word in enumerate(argv):
            if word == "--":
                return [*normalized, *argv[index:]]
            if normalized and normalized[-1] in lists:
                word = _quote_texts(word)
            elif word.startswith("--"):
                name, equals, value = word[2:].partition("=")
                name = f"--{name.replace('-', '_')}"
                word = f"{name}{equals}{_quote_texts(value) if name in lists and equals else value}"
            else:
                word = _expand_short_option(word)
            normalized.append(word)
        return normalized

    def hide_options(self, names: Collection[str]) -> None:
        """Leaves options out of the help."""
        for action in self._actions:
            if action.dest in names:
                action.help = argparse.SUPPRESS

    def show_first(self, names: Sequence[str]) -> None:
        """Moves options into a group with which the help begins."""
        group = self.add_argument_group("the options that matter most")
        for name in names:
            action = next(action for action in self._actions if action.dest == name)
            for other in self._action_groups:
                if action in other._group_actions:
                    other._group_actions.remove(action)
            group._group_actions.append(action)
        positional, *others = self._action_groups
        self._action_groups = [positional, group, *(other for other in others if other is not group)]

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Exits with code 2 after one sentence on standard error."""
        sentence = self._describe_error(" ".join(message.split()))
        self.exit(2, f"{self.prog}: {sanitize_text(sentence)}; {self.prog} --help lists the options\n")

    def _describe_error(self, message: str) -> str:
        options = {action.dest: show_option(action.dest) for action in self._actions if action.option_strings}
        if missing := re.search(r"arguments are required: (.*)", message):
            names = [options.get(name, name.upper()) for name in missing[1].split(", ")]
            return f"{' and '.join(names)} must be given"
        if unknown := re.search(r"nrecognized arguments: (--[\w.-]+)", message):
            option = show_option(unknown[1])
            return f"there is no option {option}{_did_you_mean(option, options.values())}"
        if unknown := re.search(r"nrecognized arguments: (\S+)", message):
            remedy = f"; a data set is given as --data {unknown[1]}" if "data" in options else ""
            if unknown[1].startswith("-"):
                remedy = f"; a file of this name is given as ./{unknown[1]}"
            return f"{unknown[1]} belongs to no option{remedy}"
        if unknown := re.search(r"Group '([\w.]+)' does not accept option '([\w.]+)'", message):
            name = f"{unknown[1]}.{unknown[2]}"
            return f"there is no setting {name}{_did_you_mean(name, options)}"
        if unknown := re.search(r"Option '([\w.]+)' is not accepted", message):
            return f"there is no setting {unknown[1]}{_did_you_mean(unknown[1], options)}"
        if named := re.match(r"argument (--[\w.]+)", message):
            return message.replace(named[1], show_option(named[1]), 1)
        return self._describe_wrong_value(message) or message

    def _describe_wrong_value(self, message: str) -> str | None:
        """As the function, and what to do where a file follows an option that needs no value."""
        sentence = _describe_wrong_value(message)
        key = (sentence or "").partition(" ")[0]
        hints = [getattr(action, "_typehint", None) for action in self._actions if action.dest == key]
        if sentence and hints and get_origin(hints[0]) is tuple:
            sentence = sentence.replace(TYPES["tuple"], f"a list such as {_make_example(hints[0])}")
        if any(action.dest == key and action.nargs == "?" for action in self._actions):
            return f"{sentence}; write {show_option(key)} after the files"
        return sentence


def _make_example(hint: Any) -> str:
    """A value of a type as it is written in an option: `[[0.5,8,8]]` for lists of a share and two numbers."""
    if get_origin(hint) is Annotated:
        return _make_example(get_args(hint)[0])
    if get_origin(hint) is tuple:
        return f"[{','.join(_make_example(part) for part in get_args(hint) if part is not ...)}]"
    return {int: "8", float: "0.5"}.get(hint, "a")


def _expand_short_option(word: str) -> str:
    """`--output` for `-o` and `--output=FILE` for `-oFILE`; any other word as it is."""
    for name, short in SHORT_OPTIONS.items():
        if word.startswith(short):
            value = word.removeprefix(short).removeprefix("=")
            return f"--{name}={value}" if value else f"--{name}"
    return word


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint with the nearest known name; a name that lacks only its group, or is short in the field, counts as near."""
    known = list(known)
    bare = name.removeprefix("--")
    bare = SHORT_NAMES.get(bare, bare)
    same_end = [option for option in known if option.removeprefix("--") == bare or option.endswith(f".{bare}")]
    if len(same_end) > 1 and f"--training.{bare}" in same_end:
        same_end = [f"--training.{bare}"]
    names = {option.removeprefix("--"): option for option in known if option != "--help"}
    close = [names[key] for key in difflib.get_close_matches(name.removeprefix("--"), names, n=1)]
    near = same_end if len(same_end) == 1 else close
    return f" (did you mean {near[0]}?)" if near else ""


def _describe_wrong_value(message: str) -> str | None:
    """A value of the wrong type in words; None where the parser's message is about something else."""
    key = re.search(r'Parser key "([\w.]+)"', message)
    value = re.search(r".*(?:Got|Given) value: ?(.*)", message)  # the last one: that of the whole setting
    choices = re.search(r"Literal\[(.*?)\]", message)
    type_name = re.search(rf"[ \['](?P<name>{'|'.join(TYPES)})\b", message)
    if choices:
        expected = choices[1].replace("'", "").replace(", ", " or ")
    else:
        expected = TYPES[type_name["name"]] if type_name else ""
    if not key or not value or not expected:
        return None
    return f"{key[1]} is {shorten(value[1], MAX_SHOWN_CHARACTERS) or 'empty'}, expected {expected}"


def _quote_texts(value: str) -> str:
    """`[%,ml]` -> `["%", "ml"]`, since YAML refuses texts that begin with a sign; as it is where there are quotes."""
    match = re.fullmatch(r"\[([^\[\]\"']*)\]", value.strip())
    return json.dumps([part.strip() for part in match[1].split(",") if part.strip()]) if match else value
