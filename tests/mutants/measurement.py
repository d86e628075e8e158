"""Which functions of the package a test runs and how long it takes: plugins of pytest that measure it, and what follows.

Coverage is recorded under the name of the test, or of the fixture: what a shared fixture runs counts for every test that
uses it, not only for the first.
"""

from __future__ import annotations

import ast
import json
import time
from collections import defaultdict
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import coverage
import pytest

# Of the tests of one mutant, as measured: of those that run first, and of those that run where these notice nothing.
QUICK_SECONDS, MAX_SECONDS = 60.0, 600.0


def list_bodies(tree: ast.AST, scope: tuple[str, ...] = ()) -> Iterator[tuple[int, int, str]]:
    """The first and last line and the name of every function, without its `def`, which runs at import."""
    for node in ast.iter_child_nodes(tree):
        inner = scope
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = (*scope, node.name)
            if not isinstance(node, ast.ClassDef):
                yield node.body[0].lineno, node.end_lineno or 0, ".".join(inner)
        yield from list_bodies(node, inner)


class Measurement:
    """Runs whole test modules and writes, for each, its tests with their seconds and the functions that they run."""

    def __init__(self, package: Path, output: Path) -> None:
        self._package, self._output = package, output
        self._coverage = coverage.Coverage(data_file=None, config_file=False, source=[str(package)])
        self._contexts: list[str] = []
        self._seconds: dict[str, float] = defaultdict(float)
        self._fixtures: dict[str, list[str]] = {}
        self._failed: set[str] = set()

    def start(self) -> None:
        """Measure from here on."""
        self._coverage.start()

    def _enter(self, context: str) -> float:
        self._contexts.append(context)
        self._coverage.switch_context(context)
        return time.monotonic()

    def _leave(self, start: float | None = None) -> None:
        context = self._contexts.pop()
        if start is not None:
            self._seconds[context] += time.monotonic() - start
        self._coverage.switch_context(self._contexts[-1] if self._contexts else "")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: Any) -> Generator[None, Any, Any]:
        """Record a test under its name."""
        definitions = item._fixtureinfo.name2fixturedefs.values()
        self._fixtures[item.nodeid] = [_name_fixture(fixture) for fixtures in definitions for fixture in fixtures]
        self._enter(item.nodeid)
        try:
            return (yield)
        finally:
            self._leave()

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Generator[None, Any, Any]:
        """Record a fixture under its own name."""
        start = self._enter(_name_fixture(fixturedef))
        try:
            return (yield)
        finally:
            self._leave(start)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add up the seconds of a test."""
        if report.when == "call":
            self._seconds[report.nodeid] += report.duration
        if report.failed:
            self._failed.add(report.nodeid)

    def finish(self) -> None:
        """Write what was measured."""
        self._coverage.stop()
        functions = self._list_functions()
        modules: dict[str, dict[str, Any]] = defaultdict(lambda: {"tests": {}, "functions": {}, "failed": []})
        for test, fixtures in self._fixtures.items():
            module = modules[test.partition("::")[0]]
            if test in self._failed:
                module["failed"].append(test)
                continue
            contexts = (test, *fixtures)
            reached = sorted(set().union(*(functions[context] for context in contexts)))
            numbers = [module["functions"].setdefault(name, len(module["functions"])) for name in reached]
            module["tests"][test] = [round(sum(self._seconds.get(context, 0) for context in contexts), 3), numbers]
        for module in modules.values():
            module["functions"] = list(module["functions"])
        self._output.write_text(json.dumps(modules), encoding="utf-8")

    def _list_functions(self) -> dict[str, set[str]]:
        """`package.module:Class.method` of what every context runs."""
        functions: dict[str, set[str]] = defaultdict(set)
        data = self._coverage.get_data()
        for path in map(Path, data.measured_files()):
            if path.suffix != ".py":  # a template of reports, whose code Jinja makes
                continue
            module = ".".join(path.relative_to(self._package).with_suffix("").parts)
            bodies = sorted(list_bodies(ast.parse(path.read_text(encoding="utf-8"))))
            for line, contexts in data.contexts_by_lineno(str(path)).items():
                names = [name for first, last, name in bodies if first <= line <= last]
                for context in contexts if names else ():
                    functions[context].add(f"{module}:{names[-1]}")
        return functions


def _name_fixture(fixture: Any) -> str:
    return f"fixture {fixture.baseid} {fixture.argname}"


class Choice:
    """Runs the named tests, or whole modules, in their order; a test whose name the mutant has changed is left out."""

    def __init__(self, tests: list[str]) -> None:
        self._order = {test: index for index, test in enumerate(tests)}

    def _get_order(self, item: pytest.Item) -> int | None:
        return self._order.get(item.nodeid, self._order.get(get_file(item.nodeid)))

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave out and sort."""
        numbered = [(number, item) for item in items if (number := self._get_order(item)) is not None]
        items[:] = [item for _, item in sorted(numbered, key=lambda pair: pair[0])]


class TestMap:
    """Which tests run a function, and how long each takes, as measured without a mutant."""

    __test__ = False  # pytest: not a class of tests

    def __init__(self, measurements: dict[str, dict[str, Any]]) -> None:
        self._seconds: dict[str, float] = {}
        self._reached: dict[str, set[str]] = {}
        for measured in measurements.values():
            for test, (seconds, numbers) in measured["tests"].items():
                self._seconds[test] = seconds
                self._reached[test] = {measured["functions"][number] for number in numbers}

    def choose(self, module: str, scope: str) -> tuple[list[str], list[str]]:
        """Those that run the function, the module's mirror and quick ones of near modules, and the others.

        What is computed at import, or only in a child process, is left to the tests of the whole mirror and to those that run
        anything of the module. These are among the others for every function: it may have got its name since the measurement.
        """
        mirror = _get_mirror(module)
        own = {test for test in self._seconds if test.startswith(f"{mirror}::")}
        touching = {test for test, reached in self._reached.items() if f"{module}:{scope}" in reached}
        prefix = f"{module}:"
        near = {test for test, reached in self._reached.items() if any(name.startswith(prefix) for name in reached)}
        touching = touching or near
        folder = mirror.rpartition("/")[0] + "/"

        def rank(test: str) -> tuple[bool, bool, bool, float, str]:
            return (test not in own, test not in touching, not test.startswith(folder), self._seconds[test], test)

        quick: list[str] = []
        others: list[str] = []
        total = 0.0
        for test in sorted(own | near, key=rank):
            total += self._seconds[test]
            if test in own or (test in touching and total <= QUICK_SECONDS):
                quick.append(test)
            elif total <= MAX_SECONDS:
                others.append(test)
        return self._sort(quick, touching), self._sort(others, touching)

    def _sort(self, tests: list[str], touching: set[str]) -> list[str]:
        """Tests of a file one after another, since they share fixtures."""
        order = {name: index for index, name in reversed(list(enumerate(map(get_file, tests))))}
        return sorted(tests, key=lambda test: (order[get_file(test)], test not in touching, self._seconds[test]))

    def get_sum_and_slowest(self, tests: list[str]) -> tuple[float, float]:
        """The seconds of tests, each with its fixtures, in all and of the slowest."""
        seconds = [self._seconds[test] for test in tests]
        return sum(seconds), max(seconds, default=0.0)


def _get_mirror(module: str) -> str:
    folder, _, stem = module.rpartition(".")
    return f"tests/{folder.replace('.', '/') or 'vocabulary'}/test_{stem}.py"


def get_file(test: str) -> str:
    return test.partition("::")[0]
