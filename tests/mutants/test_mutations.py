"""The tool behind `make test-mutants`: its mutants differ from the code, compile, and keep their names."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import muybridge
from mutants.mutations import apply_mutant, list_mutants, read_scope

CODE = """
def choose(values, limit=3):
    '''Not changed: a docstring, and what is raised.'''
    if limit < 0:
        raise ValueError(f"limit is {limit - 1}, expected 0 or more")
    report(min(values), end=True)
    return [value + 1 for value in values if not value == limit]
"""


def test_mutants_of_a_function() -> None:
    mutants = {mutant.name: apply_mutant(CODE, mutant) for mutant in list_mutants(CODE)}
    for name in ("choose: 3 -> 4", "choose: limit < 0 -> limit <= 0", "choose: min(values) -> max(values)"):
        assert name in mutants
    assert "choose: report(min(values), end=True) -> left out" in mutants
    assert "report(" not in mutants["choose: report(min(values), end=True) -> left out"]
    assert "value - 1" in mutants["choose: value + 1 -> value - 1"]
    assert not any("limit - 1" in name for name in mutants)
    plain = ast.unparse(ast.parse(CODE))
    assert all(text.strip() != plain.strip() for text in mutants.values())
    assert len(set(mutants.values())) == len(mutants) == len(list_mutants(CODE))


def test_what_asserts_or_only_shows_is_left_alone() -> None:
    code = "x = dict(zip(names, values, strict=True), title=1, limit=1)"
    assert [apply_mutant(code, mutant).strip() for mutant in list_mutants(code)] == [
        "x = dict(zip(names, values, strict=True), title=1)",
        "x = dict(zip(values, names, strict=True), title=1, limit=1)",
        "x = dict(zip(names, values, strict=True), title=1, limit=2)",
    ]


def test_names_survive_edits_elsewhere() -> None:
    moved = "import math\n\n\ndef other():\n    return 1 + 1\n" + CODE
    assert {mutant.name for mutant in list_mutants(CODE)} < {mutant.name for mutant in list_mutants(moved)}


def test_a_scope_is_the_code_of_its_outermost_function_or_class() -> None:
    code = "LIMIT = 1\n\nclass A:\n    def f(self):  # why\n        def g():\n            return 2\n        return g\n"
    assert (
        read_scope(code, "A.f.g")
        == read_scope(code, "A")
        == read_scope("import os\n" + code.replace("  # why", ""), "A")
    )
    assert read_scope(code, "A.f") != read_scope(code.replace("2", "3"), "A.f")
    assert "LIMIT" in read_scope(code, "module")
    assert "LIMIT" not in read_scope(code, "A")


@pytest.mark.parametrize("module", ["records.py", "video/sampling.py"])
def test_mutants_of_the_package_compile(module: str) -> None:
    text = (Path(str(muybridge.__file__)).parent / module).read_text(encoding="utf-8")
    mutants = list_mutants(text)
    assert len(mutants) > 30
    for mutant in mutants[::7]:
        compile(apply_mutant(text, mutant), module, "exec")
