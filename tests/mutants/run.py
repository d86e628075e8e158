"""`make test-mutants`: a sample of small changes to the code, each of which some test has to notice.

    python tests/mutants/run.py [--count 400] [--seed 0] [--jobs 2] [--module video.sampling files] [--minutes 90]

A mutant (`mutations`) is drawn from all packages that compute, in proportion to the places they have. Every mutant is written
into a copy of the tree, and the tests that run its function run there until one fails, quick ones first. Which tests those are
is measured once (`measurement`) and again for test modules that change. Results are appended to build/mutants/results.jsonl as
they come; a second run goes on where the first ended, and takes those mutants again whose function has changed, or which
survived and whose tests have changed. `survivors.json` lists the mutants that may survive, each with the reason. The exit code
is 0 if at least 97 % of the others die.
"""

from __future__ import annotations

import argparse
import hashlib
import json
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
from typing import Any, NamedTuple

from measurement import TestMap, get_file
from mutations import Mutant, apply_mutant, list_mutants, read_scope

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "build" / "mutants" / "results.jsonl"
MEASUREMENTS = RESULTS.with_name("measurements.jsonl")
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
BATCH = 12  # test modules that are measured in one process
MIN_SHARE = 0.97
MEMORY_BYTES = 6 << 30  # of one test process: a mutant may ask for any amount


class Verdict(NamedTuple):
    """Whether a mutant `died` or `survived`, how its last tests ended, and the seconds that all took."""

    outcome: str
    tests: str
    seconds: float


@dataclass(frozen=True)
class Task:
    """One mutant of the sample. `identity` names it in results and in survivors.json."""

    module: str
    mutant: Mutant

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
            os.environ,
            # Workers that tests start import tests.
            PYTHONPATH=f"{self.folder}/tree/src:{self.folder}/tree:{os.environ.get('PYTHONPATH', '')}".rstrip(":"),
            PYTHONDONTWRITEBYTECODE="1",
            OMP_NUM_THREADS="1",
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

    def run_tests(
        self, tests: list[str], limit_seconds: float, limit_of_test: float, measured: Path | None = None
    ) -> tuple[str, float]:
        """`passed`, `failed`, `timed out` or `empty`, and the seconds that it took."""
        if not tests:
            return "empty", 0.0
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        temporary = self.folder / "tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        request = [tests, str(temporary), limit_seconds, limit_of_test, measured and str(measured)]
        print(json.dumps(request), file=self._server.stdin, flush=True)
        outcome, seconds = json.loads(self._server.stdout.readline())
        return outcome, seconds

    def measure(self, names: list[str]) -> dict[str, Any]:
        """Of each test module its tests, their seconds and the functions that they run; see `measurement`."""
        measured = self.folder / "measured.json"
        measured.unlink(missing_ok=True)
        outcome, _ = self.run_tests(names, 3600, 600, measured)
        if not measured.exists():
            raise RuntimeError(f"{' '.join(names)} {outcome} without a mutant:\n{self.read_output()}")
        return dict(json.loads(measured.read_text(encoding="utf-8")))

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
    """What earlier runs found. A result holds while the function, and for a survivor its tests, have not changed."""

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


def hash_contents(*contents: bytes) -> str:
    """A hash of the contents of files."""
    return hashlib.sha256(b"\0".join(contents)).hexdigest()[:16]


def list_test_modules() -> list[str]:
    """The test modules that can notice a mutant."""
    names = [str(path.relative_to(ROOT)) for path in sorted((ROOT / "tests").rglob("test_*.py"))]
    return [name for name in names if not name.startswith(NOT_RUN)]


def measure_tests(trees: SimpleQueue[Tree], num_jobs: int) -> TestMap:
    """Run the test modules that are new or have changed without a mutant, some at a time."""
    known = Results(MEASUREMENTS)
    keys = {name: f"{name} {hash_contents((ROOT / name).read_bytes())}" for name in list_test_modules()}
    wanted = [name for name, key in keys.items() if known.get(key) is None]

    def measure(names: list[str]) -> None:
        tree = trees.get()
        try:
            start = time.monotonic()
            measured = tree.measure(names)
            print(f"measured {len(names)} test modules, {time.monotonic() - start:.0f} s: {names[0]} ...", flush=True)
        finally:
            trees.put(tree)
        for name in names:
            entry = measured.get(name, {"tests": {}, "functions": [], "failed": []})
            for test in entry.pop("failed"):
                print(f"{test} fails without a mutant and is left out:\n{tree.read_output()}", flush=True)
            known.add(keys[name], **entry)

    with ThreadPoolExecutor(num_jobs) as pool:
        list(pool.map(measure, [wanted[start : start + BATCH] for start in range(0, len(wanted), BATCH)]))
    return TestMap({name: entry for name, key in keys.items() if (entry := known.get(key))})


def judge(
    task: Task, path: Path, rounds: tuple[list[str], ...], test_map: TestMap, trees: SimpleQueue[Tree]
) -> Verdict:
    """Run the tests of one round after another until one notices the mutant."""
    tree = trees.get()
    seconds = 0.0
    try:
        with tree.hold_mutant(task.mutant, path):
            for tests in rounds:
                limits = [3 * one + 20 for one in test_map.get_sum_and_slowest(tests)]
                outcome, taken = tree.run_tests(tests, *limits)
                seconds += taken
                if outcome not in ("passed", "empty"):
                    return Verdict("died", outcome, seconds)
    finally:
        trees.put(tree)
    return Verdict("survived", "passed" if any(rounds) else "empty", seconds)


def make_key(task: Task, path: Path, tests: list[str]) -> str:
    """Under what a result is kept: the mutant, the code of its function or class, and the contents of test modules."""
    code = read_scope(path.read_text(encoding="utf-8"), task.mutant.scope)
    files = sorted(set(map(get_file, tests)))
    return f"{task.identity} {hash_contents(code.encode(), *((ROOT / name).read_bytes() for name in files))}"


def run_all(tasks: list[Task], modules: dict[str, Path], num_jobs: int, stop_at: float) -> dict[str, str]:
    """The outcome of every mutant, by its name; `not run` where it is not known and the time is over."""
    results, trees, allowed = Results(RESULTS), SimpleQueue[Tree](), read_allowed()
    own = [Tree() for _ in range(num_jobs)]
    for tree in own:
        trees.put(tree)

    def get_outcome(task: Task) -> str:
        path = modules[task.module]
        rounds = test_map.choose(task.module, task.mutant.scope)
        if task.identity in allowed:  # whether quick tests do notice it
            rounds = (rounds[0], [])
        keys = {"died": make_key(task, path, []), "survived": make_key(task, path, [*rounds[0], *rounds[1]])}
        for key in keys.values():
            if known := results.get(key):
                return str(known["outcome"])
        if time.monotonic() > stop_at:
            return "not run"
        verdict = judge(task, path, rounds, test_map, trees)
        results.add(keys[verdict.outcome], **verdict._asdict())
        print(f"{verdict.outcome:9}{verdict.seconds:6.1f} s  {task.identity}", flush=True)
        return verdict.outcome

    outcomes = {}
    try:
        test_map = measure_tests(trees, num_jobs)
        with ThreadPoolExecutor(num_jobs) as pool:
            futures = {pool.submit(get_outcome, task): task for task in tasks}
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


def read_allowed() -> dict[str, dict[str, Any]]:
    """The mutants that may survive, by name."""
    return {entry["mutant"]: entry for entry in json.loads(SURVIVORS.read_text(encoding="utf-8"))}


def report(tasks: list[Task], outcomes: dict[str, str]) -> Iterator[str]:
    """The table of packages, the survivors that nobody has explained, and the share."""
    allowed = read_allowed()
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
        yield f"not in survivors.json: {task.identity}"
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
    parser.add_argument(
        "--module", nargs="+", default=[""], help="only modules whose names begin so, such as video.sampling"
    )
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no mutant after so many minutes")
    args = parser.parse_args()
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # ends as Ctrl-C does: what runs is finished, and cleaned up
    start = time.monotonic()
    modules = list_modules()
    sample = draw_sample(modules, args.count, args.seed)
    tasks = [Task(name, mutant) for name, mutant in sample if name.startswith(tuple(args.module))]
    outcomes = run_all(tasks, modules, args.jobs, start + 60 * args.minutes)
    lines = list(report(tasks, outcomes))
    print(*lines, f"{(time.monotonic() - start) / 60:.0f} minutes", sep="\n")
    return 1 if lines[-1].startswith("expected") else 0


if __name__ == "__main__":
    sys.exit(main())
