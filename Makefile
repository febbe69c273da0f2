# crosstime: `make demo` runs a complete experiment, `make test` runs linters and tests.
# Both create .venv first. Extra pip flags: make demo PIP_FLAGS="--extra-index-url ..."
PYTHON ?= python3
PIP_FLAGS ?=
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test quick long newest lowest fuzz ndif-test docs bench bench-peers lint format clean help

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "crosstime needs Python 3.11 or newer; this is $$($(PYTHON) --version). Try: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.user: $(VENV)/.python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.user
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) -c constraints.txt wandb
	# It requires an older nnsight but works with this one; a test runs our trainers in its training loop.
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) --no-deps dictionary-learning==0.1.0
	@touch $@

$(VENV)/.docs: $(VENV)/.user
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) -c constraints.txt -e '.[docs]'
	@touch $@

demo: $(VENV)/.user  ## train a tiny suite and a crosscoder, attribute, ablate, write a report
	$(BIN)/crosstime demo

lint: $(VENV)/.dev  ## ruff (lint and format), mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy

# The tensors of the tests are tiny: one single-threaded process per core is faster than threads.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --maxprocesses 8 --dist loadfile

test: lint  ## lint, then all tests but the long ones
	$(PYTEST) -m 'not long'

quick: lint  ## lint, then the tests that take seconds
	$(PYTEST) -m 'not slow and not long'

long: $(VENV)/.dev  ## the long tests: whole runs, killed and sharded training, servers, a browser, the papers' recipes in their small form
	$(PYTEST) -m long

# The quick tests of what a wheel holds.
FROM_WHEEL := -q -o pythonpath= -n auto --maxprocesses 8 --dist loadfile -m 'not slow and not long' \
	tests/user_input tests/tasks tests/interventions tests/crosstime

# The wheel is installed, not the working tree, so that a file that is missing from the package is missed here. torch
# stays that of constraints.txt: its newest release on PyPI brings gigabytes of CUDA libraries.
NEWEST := .venv-newest

$(NEWEST)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(NEWEST)
	@grep '^torch==' constraints.txt > $(NEWEST)/torch.txt
	$(NEWEST)/bin/python -m pip install --quiet $(PIP_FLAGS) -r $(NEWEST)/torch.txt
	@touch $@

newest: $(NEWEST)/.installed  ## the demo and the quick tests from a wheel, with the newest versions that pyproject.toml allows
	rm -rf build/lib $(NEWEST)/wheel $(NEWEST)/demo && mkdir -p $(NEWEST)/demo
	$(NEWEST)/bin/python -m pip wheel --quiet $(PIP_FLAGS) --no-deps -w $(NEWEST)/wheel .
	$(NEWEST)/bin/python -m pip install --quiet $(PIP_FLAGS) --upgrade --upgrade-strategy eager -c $(NEWEST)/torch.txt \
		"$$(ls $(NEWEST)/wheel/*.whl)[dev]"
	$(NEWEST)/bin/python -m pip install --quiet --no-deps --force-reinstall $(NEWEST)/wheel/*.whl
	cd $(NEWEST)/demo && ../bin/crosstime demo
	OMP_NUM_THREADS=1 $(NEWEST)/bin/pytest $(FROM_WHEEL)

# uv chooses the lowest version of each direct dependency, and refuses a floor below what another package needs. Shapes
# are not checked here: the lowest jaxtyping can, but its pytest plugin comes too late for the packages of the tests.
LOWEST := .venv-lowest

$(LOWEST)/.installed: pyproject.toml
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet $(PIP_FLAGS) uv
	$(LOWEST)/bin/uv pip install --quiet $(PIP_FLAGS) --python $(LOWEST)/bin/python --resolution lowest-direct \
		-r pyproject.toml --extra dev
	@touch $@

lowest: $(LOWEST)/.installed  ## the demo and the quick tests from a wheel, with the lowest versions that pyproject.toml allows (5 GB)
	rm -rf build/lib $(LOWEST)/wheel $(LOWEST)/demo && mkdir -p $(LOWEST)/demo
	$(LOWEST)/bin/python -m pip wheel --quiet $(PIP_FLAGS) --no-deps -w $(LOWEST)/wheel .
	$(LOWEST)/bin/python -m pip install --quiet --no-deps --force-reinstall $(LOWEST)/wheel/*.whl
	cd $(LOWEST)/demo && ../bin/crosstime demo
	OMP_NUM_THREADS=1 $(LOWEST)/bin/pytest -o addopts= $(FROM_WHEEL)

fuzz: $(VENV)/.dev  ## feed thousands of broken inputs to every reader
	$(PYTEST) --dist load -m fuzz tests/fuzz

ndif-test: $(VENV)/.dev  ## test against a real NDIF server on this machine (installs 1.7 GB of packages once)
	PIP_FLAGS="$(PIP_FLAGS)" $(BIN)/python tests/ndif/run.py -q -s

docs: $(VENV)/.docs  ## build the documentation in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

bench: $(VENV)/.user  ## measure speed and memory against naive implementations, into benchmarks/results
	$(BIN)/python -m benchmarks --json benchmarks/results
	$(BIN)/python -m benchmarks.page > docs/benchmarks.md

bench-peers: $(VENV)/.user  ## install SAELens, llamascopium and lm-eval in an environment, for comparisons of `bench`
	$(BIN)/python -m benchmarks.peers.peer $(PIP_FLAGS)

format: $(VENV)/.dev  ## format the code with ruff
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

clean:  ## remove the environments, runs and build products
	rm -rf $(VENV) $(NEWEST) $(LOWEST) .venv-peers runs build site *.egg-info
