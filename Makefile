# crosstime: `make demo` runs the whole job, `make test` holds it to its tests.
# Both set up .venv first. Extra pip flags: make demo PIP_FLAGS="--extra-index-url ..."
PYTHON ?= python3
PIP_FLAGS ?=
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test quick fuzz ndif-test docs bench bench-peers lint format clean help

help:  ## what there is
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
	# It pins an older nnsight, but runs beside this one; one test lets its loop drive our trainers.
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) -c constraints.txt wandb
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) --no-deps dictionary-learning==0.1.0
	@touch $@

$(VENV)/.docs: $(VENV)/.user
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) -c constraints.txt -e '.[docs]'
	@touch $@

demo: $(VENV)/.user  ## train a tiny suite and a crosscoder, attribute, ablate, report
	$(BIN)/crosstime demo

lint: $(VENV)/.dev  ## ruff: lint and format check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The tests' tensors are tiny: a process for each core, with one thread, is faster than threads.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --maxprocesses 8 --dist loadfile

test: lint  ## lint, then every test
	$(PYTEST)

quick: lint  ## lint, then the tests that take seconds
	$(PYTEST) -m 'not slow'

fuzz: $(VENV)/.dev  ## ten thousand broken inputs for every reader
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m fuzz tests/fuzz

ndif-test: $(VENV)/.dev  ## against a real NDIF server on this machine (1.7 GB of packages, once)
	PIP_FLAGS="$(PIP_FLAGS)" $(BIN)/python tests/ndif/run.py -q -s

docs: $(VENV)/.docs  ## the documentation as pages, in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

bench: $(VENV)/.user  ## speed and memory against the plain way; results go to benchmarks/results
	$(BIN)/python -m benchmarks --json benchmarks/results
	$(BIN)/python -m benchmarks.page > docs/benchmarks.md

bench-peers: $(VENV)/.user  ## an environment for SAELens and llamascopium, which `bench` then compares training with
	$(BIN)/python -m benchmarks.peers.running $(PIP_FLAGS)

format: $(VENV)/.dev  ## rewrite the code the way ruff wants it
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

clean:  ## remove the environment and what runs left behind
	rm -rf $(VENV) .venv-peers runs build site *.egg-info
