"""What the documents show is there: commands parse, Python resolves, settings build, links lead somewhere."""

import ast
import importlib
import io
import json
import re
import shlex
from collections.abc import Iterator
from contextlib import redirect_stdout
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

import muybridge
from muybridge.cli.main import GROUPS, VERBS, main
from muybridge.cli.options import parse_settings
from muybridge.cli.parser import show_option
from muybridge.cli.train import train
from muybridge.models.family import list_models
from muybridge.settings import TrainSettings

ROOT = Path(__file__).parents[2]
PAGES = [path for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))] if path.exists()]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
TABLE = "muybridge models --depth 18"


def blocks(page: Path, *languages: str) -> list[str]:
    return [body for language, body in BLOCK.findall(page.read_text(encoding="utf-8")) if language in languages]


def in_pages(*languages: str) -> list[tuple[str, str]]:
    return [(page.name, body) for page in PAGES for body in blocks(page, *languages)]


def commands() -> Iterator[tuple[str, str]]:
    """Every line that runs muybridge, as (page, command); lines that end in a backslash go on. Also what starts services."""
    for page, body in in_pages("sh", "console", "bash"):
        for line in body.replace("\\\n", " ").splitlines():
            found = re.match(r"(?:\$ )?(?:\S*/)?(muybridge\b.*)", line.strip())
            if found:
                yield page, found[1]
    for page, body in in_pages("ini"):
        yield from ((page, command) for command in re.findall(r"^ExecStart=\S*/(muybridge\b.*)$", body, re.MULTILINE))
    started = (ROOT / "Dockerfile").read_text(encoding="utf-8").rpartition("\nCMD ")[2]
    yield "Dockerfile", shlex.join(json.loads(started))


@cache
def help_text(words: tuple[str, ...]) -> str:
    """What `muybridge WORDS --help` prints."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        assert main([*words, "--help"]) == 0
    return printed.getvalue()


def options_of(words: list[str]) -> set[str]:
    """The options of a verb, from its help; `--debug` is of every verb."""
    verb = words[:2] if words[0] in GROUPS else words[:1]
    return {"--debug", *re.findall(r"(?<![\w.])--?[a-z][\w.-]*", help_text(tuple(verb)))}


def slug(heading: str) -> str:
    """The anchor that a heading gets."""
    return re.sub(r"[^\w -]", "", heading.strip().lower()).replace(" ", "-")


def test_there_is_something_to_check() -> None:
    assert len(PAGES) >= 10
    assert {words.split()[1] for _, words in commands()} >= {
        "train",
        "evaluate",
        "predict",
        "extract",
        "weights",
        "models",
    }
    assert len(in_pages("python")) >= 5
    assert "--training.learning-rate" in options_of(["train"])
    assert "--training.learning" not in options_of(["train"])


@pytest.mark.parametrize(("page", "command"), list(commands()))
def test_commands_parse(page: str, command: str) -> None:
    words = shlex.split(re.split(r"\s[|>]\s", command, maxsplit=1)[0], comments=True)[1:]
    if words in (["--help"], ["--version"]):
        return
    assert words[0] in VERBS, f"{page}: no verb {words[0]}"
    options = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    assert options <= options_of(words) | {"--help"}, f"{page}: {options - options_of(words)} of `{command}`"
    for option, value in pairwise(words):
        if option == "--model" and "watch" not in words[:2]:  # there it is a run or a file
            assert value in list_models(), f"{page}: no network {value}"
        if option == "--config" and value.startswith("src/muybridge/recipes/"):
            assert (ROOT / value).is_file(), f"{page}: no recipe {value}"


@pytest.mark.parametrize(("page", "source"), in_pages("python"))
def test_python_compiles_and_its_names_exist(page: str, source: str) -> None:
    tree = ast.parse(source, page)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("muybridge"):
            module = importlib.import_module(str(node.module))
            for alias in node.names:
                assert hasattr(module, alias.name), f"{page}: {node.module} has no {alias.name}"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "muybridge":
            assert node.attr in muybridge.__all__, f"{page}: muybridge has no {node.attr}"


SETTINGS = [(page, text) for page, text in in_pages("yaml") if page not in ("live.md", "studio_api.md")]


@pytest.mark.parametrize(("page", "text"), SETTINGS)
def test_settings_are_those_of_training(page: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text(text, encoding="utf-8")
    parse_settings(train, TrainSettings, ["--data", "my_videos", "--config", str(tmp_path / "settings.yaml")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name} links to {target}, which is not there"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in map(slug, headings), f"{page.name} links to {target}, which has no such heading"


def test_pages_know_the_names_of_settings() -> None:
    """`training.epochs` and its like, in backticks or as the first word of a table's row."""
    known = options_of(["train"]) | options_of(["evaluate"])
    pattern = re.compile(
        r"(?:`|^\| )((?:network|clips|training|evaluation|loading|checkpoints)\.[a-z_0-9]+)", re.MULTILINE
    )
    named = {(page.name, name) for page in PAGES for name in pattern.findall(page.read_text(encoding="utf-8"))}
    assert len(named) > 10
    assert not {(page, name) for page, name in named if show_option(name) not in known}


def test_the_table_of_networks_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "family.md").read_text(encoding="utf-8")
    assert main(shlex.split(TABLE)[1:]) == 0
    assert f"```sh\n{TABLE}\n```\n\n```text\n{capsys.readouterr().out.rstrip()}\n```" in page


@pytest.mark.parametrize("page", ["reliability.md", "security.md"])
def test_every_promise_names_tests_that_exist(page: str) -> None:
    """The last column of a table with a heading `test` names files of tests, and functions that one of them defines."""
    num_promises = 0
    lines = (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines()
    for heading, *rows in split_tables(lines):
        if not heading.endswith("| test |"):
            continue
        for row in rows[1:]:
            names = re.findall(r"`([^`]+)`", row.strip("| ").rpartition(" | ")[2])
            files = [ROOT / name for name in names if name.startswith("tests/")]
            assert files, f"no test is named in: {row}"
            assert all(path.is_file() for path in files), row
            defined = {
                name for path in files for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
            }
            assert {name for name in names if not name.startswith("tests/")} <= defined, row
            num_promises += 1
    assert num_promises > 5


def split_tables(lines: list[str]) -> Iterator[list[str]]:
    """The tables of a page, as their lines."""
    table: list[str] = []
    for line in [*lines, ""]:
        if line.startswith("|"):
            table.append(line)
        elif table:
            yield table
            table = []
