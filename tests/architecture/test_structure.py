"""The rules of the structure, checked on the source itself: imports go upward only, and a few habits."""

import ast
import importlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "muybridge"
# The data's journey: a module imports only from the lines above its own. Modules of one line do not form cycles.
LAYERS = (
    {
        "bounds",
        "console",
        "limits",
        "memory",
        "parsing",
        "randomness",
        "records",
        "settings",
        "augmentation_settings",
        "task_settings",
        "training_settings",
        "terminal",
        "text",
    },
    {"files"},
    {"distributed"},
    {"video"},
    {"datasets"},
    {"prepared"},
    {"synthetic"},
    {"loading"},
    {"kernels"},
    {"models"},
    {"weights"},
    {"inference"},
    {"evaluation"},
    {"training"},
    {"prediction"},
    {"report"},
    {"bench"},
    {"studies"},
    {"studio"},
    {"cli"},
)
LAYER = {part: number for number, parts in enumerate(LAYERS) for part in parts}
WITHOUT_TORCH = (
    "bounds",
    "limits",
    "records",
    "settings",
    "augmentation_settings",
    "task_settings",
    "training_settings",
    "distributed.rank",
    "distributed.stop",
    "memory",
    "text",
    "randomness",
    "models.family",
    "cli.main",
    "studio.app",
    "studio.browser_video",
    "studio.examine",
    "cli.options",
    "cli.parser",
)
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "base", "misc"}
OPTIONAL = {
    "cv2",
    "huggingface_hub",
    "ray",
    "onnx",
    "google",
    "onnxruntime",
    "onnxscript",
    "torchcodec",
    "decord",
    "websockets",
}
MAX_LINES, MAX_FUNCTION_LINES = 400, 60
# Words of an older, private vocabulary: the field has a name for each of these things.
PRIVATE_WORDS = {
    *(
        "told",
        "tell",
        "seen",
        "held_back",
        "everyones",
        "first_ones",
        "put_in_place",
        "take_over",
        "ahead",
        "meeting",
        "moments",
    ),
    *(
        "surgery",
        "keeper",
        "keeping",
        "watch_out",
        "own_device",
        "fetch_in_turn",
        "learning_mode",
        "written_whole",
    ),
    *("journal", "batched", "examination", "workplace", "words", "found"),
}
# Names that several modules may define: entry points. Verbs of cli/ are also called like what they run.
SHARED_NAMES = {"main", "train", "create_model"}  # the last two: also the library's entry points


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()
NAMES = [name for name in MODULES if name and name != "__main__"]


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def imports(node: ast.AST) -> Iterator[str]:
    """Full names of everything imported below `node`, in functions too."""
    for child in ast.walk(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute"
            yield str(child.module)
            yield from (f"{child.module}.{alias.name}" for alias in child.names)


@cache
def own_imports(name: str) -> set[str]:
    """The modules of this package that a module imports."""
    wanted = {found.removeprefix("muybridge.") for found in imports(tree(name)) if found.startswith("muybridge.")}
    return {found for found in wanted if found in MODULES and found != name}


def test_there_is_something_to_check() -> None:
    assert {"records", "loading.loader", "models.network", "training.fit", "cli.main"} <= set(NAMES)
    assert "video.views" in own_imports("loading.clip_reader")


def test_imports_go_upward_only() -> None:
    layers = {name: LAYER[name.split(".")[0]] for name in NAMES}
    edges = [(name, imported) for name in NAMES for imported in own_imports(name)]
    downward = [f"{name} imports {imported}" for name, imported in edges if layers[imported] > layers[name]]
    assert not downward, "what they import lies below them"


def test_video_and_models_do_not_meet_below_inference() -> None:
    for name in NAMES:
        if LAYER[name.split(".")[0]] < LAYER["inference"]:
            packages = {name.split(".")[0], *(imported.split(".")[0] for imported in own_imports(name))}
            assert not {"video", "models"} <= packages, f"{name} brings video and models together"


def test_no_import_cycles() -> None:
    edges = {name: own_imports(name) for name in NAMES}
    while edges:
        leaves = {name for name, imported in edges.items() if not imported & edges.keys()}
        assert leaves, f"these modules import each other in a circle: {sorted(edges)}"
        edges = {name: imported for name, imported in edges.items() if name not in leaves}


def test_imports_stand_at_the_top() -> None:
    hidden = [
        f"{name}.{node.name} imports {imported}"
        for name in NAMES
        if not name.startswith("cli") and MODULES[name].name != "__init__.py"
        for node in definitions(name)
        if not isinstance(node, ast.ClassDef)
        for imported in {found.split(".")[0] for found in imports(node)} - OPTIONAL
    ]
    assert not hidden


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_the_vocabulary_and_the_door_are_quick(name: str) -> None:
    seen, waiting = set(), {name}
    while waiting:
        current = waiting.pop()
        seen.add(current)
        at_the_top = [node for node in tree(current).body if isinstance(node, ast.Import | ast.ImportFrom)]
        found = {imported for node in at_the_top for imported in imports(node)}
        assert not {imported for imported in found if imported.split(".")[0] == "torch"}, f"{current} imports torch"
        waiting |= {imported.removeprefix("muybridge.") for imported in found} & MODULES.keys() - seen


def test_names_and_sizes() -> None:
    assert not [name for name in NAMES if set(name.split(".")) & VAGUE_NAMES], "they say nothing about what they hold"
    num_lines = {name: len(MODULES[name].read_text(encoding="utf-8").splitlines()) for name in NAMES}
    assert not {name: number for name, number in num_lines.items() if number > MAX_LINES}


def test_nothing_is_swallowed() -> None:
    handlers = [(name, node) for name in NAMES for node in ast.walk(tree(name)) if isinstance(node, ast.ExceptHandler)]
    assert not [f"{name}:{node.lineno} catches everything" for name, node in handlers if node.type is None]


def test_no_python_process_imports_from_the_working_folder() -> None:
    """A folder of videos that somebody else made may hold a `json.py`: `-P` keeps it out."""
    starts = re.compile(r'\bsys\.executable\b(?!, "-P"|, "-m", \*)')  # the latter is stored, and run by the job runner
    assert not [path.name for path in PACKAGE.rglob("*.py") if starts.search(path.read_text(encoding="utf-8"))]


def test_every_module_says_what_it_is_for() -> None:
    silent = [name for name in NAMES if not ast.get_docstring(tree(name))]
    assert not silent


def test_ci_runs_what_the_readme_says() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = [
        line for line in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines() if line.startswith("make")
    ]
    assert commands
    for command in commands:
        assert re.search(rf"^\s*{re.escape(command)}\b", readme, re.MULTILINE), f"README does not show `{command}`"


def definitions(name: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """Functions and classes of a module, methods and nested functions among them."""
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    return (node for node in ast.walk(tree(name)) if isinstance(node, kinds))


def public_names(name: str, *kinds: type[ast.AST]) -> list[str]:
    """What a module defines at its top for others: functions and classes, or those of `kinds`."""
    wanted = kinds or (ast.FunctionDef, ast.ClassDef)
    return [node.name for node in tree(name).body if isinstance(node, wanted) and not node.name.startswith("_")]


def test_functions_are_short() -> None:
    num_lines = {}
    for name in NAMES:
        for node in definitions(name):
            if not isinstance(node, ast.ClassDef):
                first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
                num_lines[f"{name}.{node.name}"] = (node.end_lineno or 0) - first.lineno + 1
    assert not {name: number for name, number in num_lines.items() if number > MAX_FUNCTION_LINES}


def test_names_are_the_fields() -> None:
    private = {}
    for name in NAMES:
        used = {node.name for node in definitions(name)}
        used |= {node.id for node in ast.walk(tree(name)) if isinstance(node, ast.Name)}
        used |= {node.arg for node in ast.walk(tree(name)) if isinstance(node, ast.arg)}
        private[name] = {word for word in used if word.lstrip("_").lower() in PRIVATE_WORDS}
    assert not {name: sorted(refused) for name, refused in private.items() if refused}


def test_a_public_name_is_defined_once() -> None:
    homes: dict[str, list[str]] = {}
    for name in NAMES:
        if not name.startswith("cli"):
            for defined in public_names(name):
                homes.setdefault(defined, []).append(name)
    assert not {defined: where for defined, where in homes.items() if len(where) > 1 and defined not in SHARED_NAMES}


def test_what_only_its_module_uses_is_private() -> None:
    """Functions that no other module, test or benchmark uses. Classes are types of what functions return and raise."""
    used: dict[str, set[Path]] = {}
    for path in [path for part in ("src", "tests", "benchmarks") for path in (ROOT / part).rglob("*.py")]:
        for word in set(re.findall(r"[A-Za-z_]\w*", path.read_text(encoding="utf-8"))):
            used.setdefault(word, set()).add(path)
    exported = set(importlib.import_module("muybridge").__all__)
    lonely = [
        f"{name}.{defined}"
        for name in NAMES
        if not name.startswith("cli")
        for defined in public_names(name, ast.FunctionDef)
        if defined not in exported and not used[defined] - {MODULES[name]}
    ]
    assert not lonely, f"used by nothing but their own module: {lonely}"
