# Two commands on a fresh machine: `make run` and `make test`. Both set up .venv first.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help run run-actions test test-slow lint types bench tensorboard clean

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z.-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv: .venv/ready  ## install the locked versions into .venv (about 5 GB: torch comes with CUDA)

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "prunekit needs Python 3.11 or newer; try make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-virtualenv -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-virtualenv --no-deps --editable .
	@touch $@

run: .venv  ## train and prune on embedded data, no download; figures in runs/
	$(BIN)/prunekit train experiment=digits_region

run-actions: .venv  ## train and prune an action recogniser on videos written by a program, no download
	$(BIN)/prunekit train experiment=synthetic_te

test: .venv  ## the quick tests, offline
	$(BIN)/python -m pytest

test-slow: .venv  ## the slow tests: whole runs, kills, several processes
	$(BIN)/python -m pytest -m slow

lint: .venv  ## style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv  ## strict type check
	$(BIN)/mypy

bench: .venv  ## side-by-side measurements, printed as tables
	$(BIN)/python -m benchmarks.run

tensorboard: .venv  ## open runs/ in TensorBoard
	$(BIN)/tensorboard --logdir runs

clean:  ## delete .venv and caches; runs/, data/ and cache/ stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
