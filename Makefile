# Everything a newcomer or CI runs. Each target installs what it needs.
PYTHON ?= python3
# Where this is set, every process compiles the library anew, and every process of the tests all of them.
unexport PYTHONDONTWRITEBYTECODE
BIN = .venv/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable
# One thread a process: the tests are many small networks, and several of them run at once.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.PHONY: setup demo studio check test test-long test-browser test-soak test-mutants test-gpu test-oldest audit release docs clean

setup: .venv/.ready  ## the library and the command in .venv

.venv/.ready: pyproject.toml constraints.txt
	@echo "installing the library and what it needs, PyTorch among them, into .venv: a minute or more without a word"
	$(PYTHON) -m venv .venv
	$(INSTALL) .
	touch $@

.venv/.studio: .venv/.ready
	$(INSTALL) '.[studio]'
	touch $@

.venv/.dev: .venv/.ready
	$(INSTALL) '.[dev,flow,onnx,hub,studio]'
	touch $@

.venv/.long: .venv/.dev
	$(INSTALL) '.[ray,triton,fuzz,test-long]'
	touch $@

.venv/.browser: .venv/.dev
	$(INSTALL) '.[browser]'
	touch $@

.venv/.notebooks: .venv/.dev
	$(INSTALL) '.[notebooks]'
	touch $@

.venv/.docs: .venv/.ready
	$(INSTALL) '.[docs]'
	touch $@

studio: .venv/.studio  ## the page for watching, annotating and training; FOLDER=my_videos
	$(BIN)/muybridge studio $(or $(FOLDER),.)

demo: setup  ## generate videos, train, score, predict and report, in minutes
	$(BIN)/muybridge demo

check: .venv/.dev  ## style, types, the rules of the structure
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTEST) tests/architecture

test: .venv/.dev  ## what runs before every commit
	$(PYTEST) -n 3 --dist worksteal -m "not long"

test-long: .venv/.long .venv/.notebooks .venv/.browser  ## what is too slow for every run: Ray clusters, GPU kernels in an interpreter, notebooks
	$(PYTEST) -n 2 --dist loadfile -m "long and not soak"

test-browser: .venv/.browser  ## the studio's page in Chromium (Debian: apt-get install chromium)
	$(PYTEST) -m "long and not soak" -rs tests/studio_page

test-soak: .venv/.long  ## what takes hours: every reader is fuzzed for ten minutes, ten thousand opens, marked soak
	$(PYTEST) -n 2 -m soak

test-mutants: .venv/.dev  ## 400 small changes to the code, each of which some test has to notice; goes on where it was stopped
	OMP_NUM_THREADS=1 $(BIN)/python tests/mutants/run.py

test-gpu:  ## tests that need CUDA, with PYTHON as it is: installs nothing, and names what it skips
	PYTHONPATH=src$${PYTHONPATH:+:$$PYTHONPATH} $(PYTHON) -m pytest --confcutdir tests/gpu -o filterwarnings=default -m gpu -rs tests/gpu

# The lower bounds of pyproject.toml, but for torch and what only long tests, documentation, notebooks and releases need.
build/oldest.txt: pyproject.toml
	mkdir -p build
	grep -oE '"[a-z][a-z0-9-]*>=[0-9.]+"' $< | tr -d '"' | sed 's/>=/==/' | \
	  grep -vE '^(torch|setuptools|mkdocs-material|mkdocstrings|ray|triton|atheris|playwright|axe-playwright-python|ipykernel|lightning|nbclient|build|cyclonedx-bom|pip-audit)==' > $@

build/oldest/.ready: build/oldest.txt
	$(PYTHON) -m venv build/oldest
	build/oldest/bin/python -m pip install --quiet --disable-pip-version-check --constraint $< \
	  $$(grep '^torch==' constraints.txt) --editable '.[dev,flow,onnx,hub,studio]'
	touch $@

test-oldest: build/oldest/.ready  ## as test, with the oldest versions that pyproject.toml allows of all but torch
	OMP_NUM_THREADS=1 build/oldest/bin/python -m pytest -n 2 --dist worksteal -m "not long" -W default

.venv/.release: .venv/.ready
	$(INSTALL) '.[release]'
	touch $@

audit: .venv/.release  ## known vulnerabilities of the pinned dependencies, where the network reaches PyPI's database
	@mkdir -p build
	@$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip --progress-spinner off > build/audit.txt 2>&1; \
	  code=$$?; num_left_out=$$(grep -c 'could not be audited' build/audit.txt); \
	  if [ $$num_left_out -gt 0 ]; then \
	    echo "$$num_left_out dependencies were not looked up: PyPI's database cannot be reached; run this where it can" >&2; \
	    exit 1; fi; \
	  grep -v '^WARNING' build/audit.txt; exit $$code

release: .venv/.release  ## wheel, source archive, list of components (CycloneDX) and SHA-256 of each, in build/release
	rm -rf build/release
	$(BIN)/pyproject-build --outdir build/release
	PYTHONWARNINGS=ignore $(BIN)/cyclonedx-py requirements constraints.txt --pyproject pyproject.toml --output-reproducible \
	  --output-format JSON --output-file build/release/muybridge.cdx.json
	cd build/release && sha256sum *.whl *.tar.gz muybridge.cdx.json > SHA256SUMS

docs: .venv/.docs  ## the documentation site, in build/site; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf .venv build demo *.egg-info src/*.egg-info .mypy_cache .ruff_cache .pytest_cache
