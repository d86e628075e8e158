# Everything a newcomer or CI runs. Each target sets up what it needs.
PYTHON ?= python3
BIN = .venv/bin
# One thread a process: the tests are many small networks, and two of them run at once.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.PHONY: setup demo check test test-long docs clean

setup: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,flow,onnx]'
	touch $@

.venv/.ray: .venv/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,flow,onnx,ray]'
	touch $@

.venv/.docs: .venv/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	touch $@

demo: setup  ## the whole road on a generated data set
	$(BIN)/muybridge demo

check: setup  ## style, types, the rules of the structure
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTEST) tests/architecture

test: setup  ## what runs before every commit
	$(PYTEST) -n 2 --dist loadfile -m "not long"

test-long: .venv/.ray  ## what is too slow for every run, Ray clusters on this machine among it
	$(PYTEST) -n 2 --dist loadfile -m long

docs: .venv/.docs  ## the documentation site, in build/site; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf .venv build demo *.egg-info src/*.egg-info .mypy_cache .ruff_cache .pytest_cache
