"""The entry point: what is set before torch is imported."""

import os
import subprocess
import sys

import pytest

PRINT_SETTING = """
import os, sys
from muybridge.cli import entry
assert "torch" not in sys.modules
sys.argv = ["muybridge", "--version"]
try:
    entry.run()
finally:
    print(os.environ.get("PYTORCH_CUDA_ALLOC_CONF"))
"""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "expandable_segments:True"),
        ({"PYTORCH_CUDA_ALLOC_CONF": "backend:native"}, "backend:native"),
        ({"PYTORCH_ALLOC_CONF": "backend:native"}, "None"),
    ],
)
def test_the_allocator_of_a_gpu_has_segments_that_grow_unless_somebody_chose(
    given: dict[str, str], expected: str
) -> None:
    names = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
    environment = {name: value for name, value in os.environ.items() if name not in names} | given
    ended = subprocess.run(
        [sys.executable, "-c", PRINT_SETTING], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.stdout.splitlines()[-1] == expected, ended.stderr
