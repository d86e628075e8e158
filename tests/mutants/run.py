"""`make test-mutants`: a sample of small changes to the code, each of which some test has to notice.

    python tests/mutants/run.py [--count 400] [--seed 0] [--jobs 2] [--module video.sampling] [--minutes 90]

A mutant (`mutations`) is drawn from all packages that compute, in proportion to the places they have. Every mutant is written
into a copy of the tree, and the tests of its module run there until one fails: the module's mirror first, then test modules
that import it. Results are appended to build/mutants/results.jsonl as they come; a second run goes on where the first ended,
and takes those mutants again whose module has changed, or which survived and whose tests have changed. `survivors.json` lists
the mutants that may survive, each with the reason. The exit code is 0 if at least 97 % of the others die.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import math
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from mutations import Mutant, apply_mutant, list_mutants

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "build" / "mutants" / "results.jsonl"
SURVIVORS = Path(__file__).with_name("survivors.json")
# Verbs, pages and benchmarks compute little of their own; a kernel for CUDA runs nowhere else.
NOT_SAMPLED = ("cli", "bench", "studio", "__main__", "kernels.cuda", "kernels.triton_norm")
NOT_RUN = (
    "tests/gpu",
    "tests/bench",
    "tests/mutants",
    "tests/agreement",
    "tests/architecture",
    "tests/fuzz",
    "tests/faults/test_soak",
)
MAX_TEST_MODULES = 5
MIN_SHARE = 0.97
MEMORY_BYTES = 6 << 30  # of one test process: a mutant may ask for any amount


@dataclass(frozen=True)
class Task:
    """One mutant of the sample. `identity` names it in results and in survivors.json."""

    module: str
    mutant: Mutant
    tests: tuple[str, ...]

    @property
    def identity(self) -> str:
        return f"{self.module}.{self.mutant.name}"


def list_modules() -> dict[str, Path]:
    """The modules that compute, by name without the package's."""
    package = ROOT / "src" / "muybridge"
    modules = {}
    for path in sorted(package.rglob("*.py")):
        name = ".".join(path.relative_to(package).with_suffix("").parts)
        if path.name != "__init__.py" and not name.startswith(NOT_SAMPLED):
            modules[name] = path
    return modules


def draw_sample(modules: dict[str, Path], count: int, seed: int) -> list[tuple[str, Mutant]]:
    """`count` mutants, each package in proportion to the number that it has and with one at least.

    A mutant's rank is a hash of its name: an edit changes the sample only where it changes the code.
    """

    def rank(entry: tuple[str, Mutant]) -> str:
        return hashlib.sha256(f"{seed} {entry[0]}.{entry[1].name}".encode()).hexdigest()

    by_package: dict[str, list[tuple[str, Mutant]]] = defaultdict(list)
    for name, path in modules.items():
        for mutant in list_mutants(path.read_text(encoding="utf-8")):
            by_package[name.split(".")[0] if "." in name else "muybridge"].append((name, mutant))
    total = sum(map(len, by_package.values()))
    sample = []
    for _, entries in sorted(by_package.items()):
        sample += sorted(entries, key=rank)[: max(1, round(count * len(entries) / total))]
    return sorted(sample, key=rank)[:count]


def find_tests(modules: dict[str, Path]) -> dict[str, tuple[str, ...]]:
    """The test modules of each module, nearest first: its mirror, then those that import it, of its own folder first.

    A module that no test imports is tested through the modules that import it.
    """
    imported_by_tests = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        name = str(path.relative_to(ROOT))
        if not name.startswith(NOT_RUN):
            imported_by_tests[name] = _read_imports(path)
    importers = defaultdict(set)
    for path in (ROOT / "src" / "muybridge").rglob("*.py"):
        for imported in _read_imports(path):
            importers[imported].add(".".join(path.relative_to(ROOT / "src" / "muybridge").with_suffix("").parts))
    return {module: _choose_tests(module, imported_by_tests, importers) for module in modules}


def _choose_tests(
    module: str, imported_by_tests: dict[str, set[str]], importers: dict[str, set[str]]
) -> tuple[str, ...]:
    """Mirrors and importers of a module; where there are none, those of the modules that import it, and so on."""
    names, reached = {module}, {module}
    while reached:
        mirrors = {_get_mirror(name) for name in reached} & imported_by_tests.keys()
        wanted = mirrors | {name for name, imports in imported_by_tests.items() if imports & reached}
        if wanted:
            mirror = _get_mirror(module)
            folder = mirror.rpartition("/")[0] + "/"
            order = sorted(wanted, key=lambda name: (name != mirror, not name.startswith(folder), name))
            return tuple(order[:MAX_TEST_MODULES])
        reached = {importer for name in reached for importer in importers.get(name, ())} - names
        names |= reached
    folder = _get_mirror(module).rpartition("/")[0]  # reached by name only, as the package's own functions are
    return tuple(sorted(name for name in imported_by_tests if name.startswith(f"{folder}/"))[:MAX_TEST_MODULES])


def _get_mirror(module: str) -> str:
    folder, _, stem = module.rpartition(".")
    return f"tests/{folder.replace('.', '/') or 'vocabulary'}/test_{stem}.py"


def _read_imports(path: Path) -> set[str]:
    """The modules of the package that a file imports, without the package's name."""
    imports = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("muybridge"):
            imports.add(node.module.removeprefix("muybridge").lstrip("."))
            imports |= {f"{node.module}.{alias.name}".removeprefix("muybridge.") for alias in node.names}
    return imports


class Tree:
    """A copy of the repository in which one module at a time is changed, and a process that runs tests there.

    The process has imported torch and the other libraries, and forks for every run, which saves seconds each.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="muybridge-mutants-"))
        ignored = shutil.ignore_patterns(
            ".git", ".venv", "build", "__pycache__", "*.egg-info", ".*_cache", "demo", "runs"
        )
        shutil.copytree(ROOT, self.folder / "tree", ignore=ignored, symlinks=True)
        environment = dict(
            os.environ, PYTHONPATH=str(self.folder / "tree" / "src"), PYTHONDONTWRITEBYTECODE="1", OMP_NUM_THREADS="1"
        )
        self._server = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("fork_server.py"))],
            cwd=self.folder / "tree",
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES)),
        )

    def run_tests(self, tests: tuple[str, ...], limit_seconds: float) -> tuple[str, float]:
        """`passed`, `failed`, `timed out` or `empty`, and the seconds that it took."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        temporary = self.folder / "tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        print(json.dumps([list(tests), str(temporary), limit_seconds]), file=self._server.stdin, flush=True)
        outcome, seconds = json.loads(self._server.stdout.readline())
        return outcome, seconds

    def read_output(self) -> str:
        """The end of what the last tests wrote."""
        return (self.folder / "tmp" / "output.txt").read_text(encoding="utf-8", errors="replace")[-1500:]

    @contextmanager
    def hold_mutant(self, mutant: Mutant, path: Path) -> Iterator[None]:
        """The mutant stands in the place of its module."""
        text = path.read_text(encoding="utf-8")
        target = self.folder / "tree" / path.relative_to(ROOT)
        target.write_text(apply_mutant(text, mutant), encoding="utf-8")
        try:
            yield
        finally:
            target.write_text(text, encoding="utf-8")

    def close(self) -> None:
        if self._server.stdin is not None:
            self._server.stdin.close()
        self._server.send_signal(signal.SIGTERM)
        self._server.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Results:
    """What earlier runs found. A result holds while the module, and for a survivor its tests, have not changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self._entries = {entry["key"]: entry for entry in map(json.loads, lines)}

    def get(self, key: str) -> dict[str, object] | None:
        return self._entries.get(key)

    def add(self, key: str, **values: object) -> None:
        self._entries[key] = {"key": key, **values}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(self._entries[key]) + "\n")


def hash_files(*paths: Path) -> str:
    """A hash of the contents of files."""
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in paths)).hexdigest()[:16]


def measure_tests(tree: Tree, results: Results, test: str) -> float | None:
    """The seconds that a test module takes without a mutant; None where it fails: it cannot tell anything then."""
    key = f"{test} {hash_files(ROOT / test)}"
    known = results.get(key)
    if known is None:
        outcome, seconds = tree.run_tests((test,), 1200)
        if outcome == "empty":  # all of its tests are long
            seconds = math.nan
        elif outcome != "passed":
            print(f"{test} has {outcome} without a mutant and is left out:\n{tree.read_output()}", flush=True)
            return None
        results.add(key, seconds=round(seconds, 1))
        known = {"seconds": seconds}
    seconds = float(str(known["seconds"]))
    return None if math.isnan(seconds) else seconds


def judge(task: Task, path: Path, trees: SimpleQueue[Tree], results: Results, stop_at: float) -> str:
    """The result of one mutant, known or found now; `not run` where it is not known after `stop_at`."""
    tests = [ROOT / test for test in task.tests]
    died, survived = f"{task.identity} {hash_files(path)}", f"{task.identity} {hash_files(path, *tests)}"
    for key in (died, survived):
        if known := results.get(key):
            return str(known["outcome"])
    if time.monotonic() > stop_at:
        return "not run"
    tree, outcome, seconds, num_run = trees.get(), "passed", 0.0, 0
    try:
        for stage in (task.tests[:1], task.tests[1:]):  # most die of their mirror; the others need not be waited for
            known = {test: measure_tests(tree, results, test) for test in stage if outcome == "passed"}
            usable = {test: test_seconds for test, test_seconds in known.items() if test_seconds is not None}
            if usable:
                crowd = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))  # others may use the machine
                with tree.hold_mutant(task.mutant, path):
                    outcome, more = tree.run_tests(tuple(usable), crowd * (3 * sum(usable.values()) + 60))
                seconds, num_run = seconds + more, num_run + len(usable)
    finally:
        trees.put(tree)
    if num_run == 0:
        return "not run"
    verdict = "survived" if outcome == "passed" else "died"
    results.add(survived if outcome == "passed" else died, outcome=verdict, tests=outcome, seconds=round(seconds, 1))
    print(f"{verdict:9}{seconds:6.1f} s  {task.identity}", flush=True)
    return verdict


def run_all(tasks: list[Task], modules: dict[str, Path], num_jobs: int, stop_at: float) -> dict[str, str]:
    """The outcome of every mutant, by its name."""
    results, trees = Results(RESULTS), SimpleQueue[Tree]()
    own = [Tree() for _ in range(num_jobs)]
    for tree in own:
        trees.put(tree)
    outcomes = {}
    try:
        with ThreadPoolExecutor(num_jobs) as pool:
            futures = {pool.submit(judge, task, modules[task.module], trees, results, stop_at): task for task in tasks}
            try:
                for future in as_completed(futures):
                    outcomes[futures[future].identity] = future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    finally:
        for tree in own:
            tree.close()
    return outcomes


def report(tasks: list[Task], outcomes: dict[str, str]) -> Iterator[str]:
    """The table of packages, the survivors that nobody has explained, and the share."""
    allowed = {entry["mutant"]: entry for entry in json.loads(SURVIVORS.read_text(encoding="utf-8"))}
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for task in tasks:
        outcome = outcomes[task.identity]
        if outcome == "survived" and allowed.get(task.identity, {}).get("equivalent"):
            outcome = "equivalent"
        counts[task.module.split(".")[0] if "." in task.module else "muybridge"][outcome] += 1
    for package, counter in sorted(counts.items()):
        yield f"{package:12} {counter['died']:4} died {counter['survived']:4} survived {counter['equivalent']:4} equivalent"
    total = sum(counts.values(), Counter[str]())
    unexplained = [task for task in tasks if outcomes[task.identity] == "survived" and task.identity not in allowed]
    for task in unexplained:
        yield f"not in survivors.json: {task.identity}\n    tests: {' '.join(task.tests)}"
    if total["not run"]:
        yield f"{total['not run']} have not run yet: the same line goes on with them"
    share = total["died"] / max(1, total["died"] + total["survived"])
    yield f"{total['died']} of {total['died'] + total['survived']} mutants died: {share:.1%} (seeded sample)"
    if share < MIN_SHARE or unexplained:
        yield f"expected at least {MIN_SHARE:.0%}, and every survivor in {SURVIVORS.relative_to(ROOT)}"


def main() -> int:
    """Run the sample and print what it found; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--module", help="all mutants of the sample in one module, such as video.sampling")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no mutant after so many minutes")
    args = parser.parse_args()
    start = time.monotonic()
    modules = list_modules()
    tests = find_tests(modules)
    sample = draw_sample(modules, args.count, args.seed)
    tasks = [Task(name, mutant, tests[name]) for name, mutant in sample if args.module in (None, name)]
    outcomes = run_all(tasks, modules, args.jobs, start + 60 * args.minutes)
    lines = list(report(tasks, outcomes))
    print(*lines, f"{(time.monotonic() - start) / 60:.0f} minutes", sep="\n")
    return 1 if lines[-1].startswith("expected") else 0


if __name__ == "__main__":
    sys.exit(main())
