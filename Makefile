# Two commands on a fresh machine: `make run` and `make test`. Both set up .venv first; what a run wants is less.
PYTHON ?= python3
BIN := .venv/bin

# TORCH=cpu: no CUDA. A +cpu wheel of PyTorch's own index fulfils the lock's version and is preferred to PyPI's.
CPU_INDEX ?= https://download.pytorch.org/whl/cpu
CUDA := $(if $(filter cpu,$(TORCH)),^(cuda-|nvidia-|triton=),^$$)
INDEX := $(if $(filter cpu,$(TORCH)),--extra-index-url $(CPU_INDEX))

# The oldest libraries call what the newest, which they bring along, are about to drop.
OLD_AND_NEW := -W ignore::DeprecationWarning -W ignore::FutureWarning

# As many processes as there are cores, with one thread each; a file's tests share what its fixtures have made.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help run run-actions test test-slow test-lowest lint types docs wheel bench tensorboard clean

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z.-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv: .venv/ready  ## install what a run wants into .venv (torch comes with CUDA: TORCH=cpu takes it without)

.venv/ready: requirements-run.lock
.venv/all: requirements.lock
.venv-lowest/ready: requirements-lowest.lock
.venv/ready .venv/all .venv-lowest/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "prunekit needs Python 3.11 or newer; try make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(@D)
	grep -vE '$(CUDA)' $(filter %.lock,$^) > $(@D)/locked
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --require-virtualenv $(INDEX) -r $(@D)/locked
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --require-virtualenv --no-deps --editable .
	@touch $@ $(@D)/ready

run: .venv  ## train and prune on embedded data, no download; figures in runs/
	$(BIN)/prunekit train experiment=digits_region

run-actions: .venv  ## train, prune and repair an action recogniser on videos written by a program, no download
	$(BIN)/prunekit train experiment=synthetic_te criterion=reconstruction callbacks.unit_mask.order=ascending \
		callbacks.unit_mask.compensation=closed_loop

# The stand-in for a GPU is in all of a process that has loaded it: its tests have processes of their own.
test: .venv/all  ## the quick tests, offline
	$(PYTEST) -m "not slow and not standin"
	$(PYTEST) -m "not slow and standin"

test-slow: .venv/all  ## the slow tests: whole runs, kills, several processes
	$(PYTEST) -m "slow and not standin"
	$(PYTEST) -m "slow and standin"

test-lowest: .venv-lowest/ready  ## the quick tests with the lowest versions that pyproject.toml names
	$(PYTEST:.venv/%=.venv-lowest/%) $(OLD_AND_NEW) -m "not slow and not standin"

lint: .venv/all  ## style, formatting and who imports whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

types: .venv/all  ## strict type check
	$(BIN)/mypy

docs: .venv/all  ## the site, in site/html; a link or an anchor that leads nowhere ends it
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet --fresh-env -c docs -d site/doctrees . site/html

wheel: .venv  ## dist/*.whl, of this tree alone
	rm -rf build  # setuptools would pack what older trees left there
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

bench: .venv/all  ## side-by-side measurements, printed as tables
	$(BIN)/python -m benchmarks.run

tensorboard: .venv  ## open runs/ in TensorBoard
	$(BIN)/tensorboard --logdir runs

clean:  ## delete environments, builds and caches; runs/, data/ and cache/ stay
	rm -rf .venv .venv-lowest build dist site .*_cache .hypothesis *.egg-info
