# Everything a newcomer or CI runs. Each target installs what it needs.
PYTHON ?= python3
BIN = .venv/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable
# One thread a process: the tests are many small networks, and two of them run at once.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.PHONY: setup demo check test test-long test-soak test-mutants test-gpu docs clean

setup: .venv/.ready  ## the library and the command in .venv

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(INSTALL) .
	touch $@

.venv/.dev: .venv/.ready
	$(INSTALL) '.[dev,flow,onnx,hub,studio]'
	touch $@

.venv/.long: .venv/.dev
	$(INSTALL) '.[ray,triton,fuzz]'
	touch $@

.venv/.docs: .venv/.ready
	$(INSTALL) '.[docs]'
	touch $@

demo: setup  ## generate videos, train, score, predict and report, in minutes
	$(BIN)/muybridge demo

check: .venv/.dev  ## style, types, the rules of the structure
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTEST) tests/architecture

test: .venv/.dev  ## what runs before every commit
	$(PYTEST) -n 2 --dist loadfile -m "not long"

test-long: .venv/.long  ## what is too slow for every run: Ray clusters on this machine, GPU kernels in an interpreter
	$(PYTEST) -n 2 --dist loadfile -m "long and not soak"

test-soak: .venv/.long  ## what takes hours: every reader is fuzzed for ten minutes, ten thousand opens, marked soak
	$(PYTEST) -n 2 -m soak

test-mutants: .venv/.dev  ## 400 small changes to the code, each of which some test has to notice; goes on where it was stopped
	OMP_NUM_THREADS=1 $(BIN)/python tests/mutants/run.py

test-gpu:  ## tests that need CUDA, with PYTHON as it is: installs nothing, and names what it skips
	PYTHONPATH=src $(PYTHON) -m pytest --confcutdir tests/gpu -o filterwarnings=default -m gpu -rs tests/gpu

docs: .venv/.docs  ## the documentation site, in build/site; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf .venv build demo *.egg-info src/*.egg-info .mypy_cache .ruff_cache .pytest_cache
