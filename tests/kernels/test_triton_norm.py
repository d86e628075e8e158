"""The kernels of fused batch norm in Triton's interpreter, in a process of its own (`norm_checks.py`)."""

import ast
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

import muybridge.kernels
from norm_checks import TOLERANCES, cases

TESTS = Path(__file__).parents[1]
KERNELS = Path(muybridge.kernels.__path__[0]) / "triton_norm.py"

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed: pip install 'muybridge[triton]'"
)


@needs_triton
@pytest.mark.long
def test_forward_and_backward_are_those_of_float64() -> None:
    printed = subprocess.run(
        [sys.executable, str(TESTS / "norm_checks.py")], capture_output=True, text=True, check=True, timeout=300
    ).stdout
    *results, last = map(json.loads, printed.splitlines())
    assert len(results) == len(cases())
    for result in results:
        tolerance = TOLERANCES[result["case"]["dtype"]]
        assert max(result["errors"].values()) < tolerance, result
    assert last == {"keeps_nan": True}


def kernels() -> list[ast.FunctionDef]:
    tree = ast.parse(KERNELS.read_text(encoding="utf-8"))
    return [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.decorator_list]


def test_every_load_of_activations_is_converted_before_anything_is_computed() -> None:
    """Triton's interpreter computes bfloat16 arithmetic wrongly without an error, so nothing may be computed in it."""
    assert len(kernels()) >= 4
    for kernel in kernels():
        converted = {
            id(node.func.value)
            for node in ast.walk(kernel)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "to"
        }
        for node in ast.walk(kernel):
            if not (isinstance(node, ast.Call) and ast.unparse(node.func) == "tl.load"):
                continue
            pointer = ast.unparse(node.args[0]).split(" ")[0]
            if pointer in ("x_ptr", "dy_ptr", "y_ptr", "residual_ptr"):
                assert id(node) in converted, f"{kernel.name} uses {ast.unparse(node)} unconverted"


def test_relu_is_no_maximum() -> None:
    assert "tl.maximum" not in KERNELS.read_text(encoding="utf-8")
