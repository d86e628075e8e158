"""Loads a script of benchmarks/ as a module; environments of Python processes that tests start."""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"


def make_environment(*folders: Path | str, **variables: str) -> dict[str, str]:
    """The environment of a process that imports from `folders` first, then from where this process was told to look."""
    given = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, folders), *([given] if given else [])]), **variables}


def load_script(name: str) -> ModuleType:
    """The module, in which a test may replace names; scripts import their neighbours."""
    if str(BENCHMARKS) not in sys.path:
        sys.path.append(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
