"""Which tests `make test-mutants` runs for a mutant."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

from mutants.measurement import TestMap, list_bodies


def _make_map(**tests: tuple[float, list[str]]) -> TestMap:
    measured: dict[str, dict[str, object]] = {}
    for name, (seconds, functions) in tests.items():
        file = f"tests/{name.replace('__', '/')}.py"
        measured[file] = {"tests": {f"{file}::test": [seconds, list(range(len(functions)))]}, "functions": functions}
    return TestMap(measured)


def test_the_mirror_and_then_quick_tests_that_run_the_function() -> None:
    test_map = _make_map(
        video__test_views=(2.0, ["video.views:other"]),
        video__test_flow=(5.0, ["video.views:crop"]),
        loading__test_loader=(1.0, ["video.views:crop"]),
        video__test_clips=(1.0, ["video.views:rotate"]),
        cli__test_main=(0.5, ["video.views:crop"]),
        cli__test_slow=(90.0, ["video.views:crop"]),
        cli__test_train=(0.1, ["training.fit:fit"]),
    )
    chosen, others = test_map.choose("video.views", "crop")
    names = ["video/test_views", "video/test_flow", "cli/test_main", "loading/test_loader"]
    assert chosen == [f"tests/{name}.py::test" for name in names]
    # Where these notice nothing: slow ones, and those that run other functions of the module.
    assert others == ["tests/cli/test_slow.py::test", "tests/video/test_clips.py::test"]
    assert test_map.get_sum_and_slowest(chosen) == (8.5, 5.0)
    assert test_map.choose("training.fit", "module") == (["tests/cli/test_train.py::test"], [])
    assert test_map.choose("training.job", "module") == ([], [])


def test_lines_of_functions_leave_out_what_runs_at_import() -> None:
    code = "class A:\n    x = 1\n\n    def f(self, y=2):\n        def g():\n            return 1\n        return g\n"
    assert sorted(list_bodies(ast.parse(code))) == [(5, 7, "A.f"), (6, 6, "A.f.g")]


def test_fixtures_count_for_every_test_that_uses_them(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "sums.py").write_text("def one():\n    return 1\n\n\ndef two():\n    return 2\n")
    (tmp_path / "test_sums.py").write_text(
        "import pytest, sys\nsys.path.insert(0, 'package')\nimport sums\n"
        "@pytest.fixture(scope='module')\ndef number():\n    return sums.one()\n"
        "def test_a(number): assert sums.two() == 2\ndef test_b(number): assert number == 1\n"
        "def test_c(): assert sums.two() == 3\n"
    )
    script = (
        "import sys, pytest; from pathlib import Path; from measurement import Measurement\n"
        "measurement = Measurement(Path.cwd() / 'package', Path('out.json'))\nmeasurement.start()\n"
        "pytest.main(['-q', '-p', 'no:cacheprovider', '.'], plugins=[measurement])\nmeasurement.finish()\n"
    )
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n{script}"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    module = json.loads((tmp_path / "out.json").read_text())["test_sums.py"]
    reached = {
        test: {module["functions"][index] for index in indices} for test, (_, indices) in module["tests"].items()
    }
    assert reached == {"test_sums.py::test_a": {"sums:one", "sums:two"}, "test_sums.py::test_b": {"sums:one"}}
    assert module["failed"] == ["test_sums.py::test_c"]
