# Two commands do all of their own set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.8
# One file says that the environment is as the lock demands; it is remade only when the lock or the project changes.
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench soak lock format clean

help: ## Show what there is to make
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Create .venv with everything that the lock names

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "millstream needs Python 3.11 or later; this is " + sys.version.split()[0] + " (choose another with PYTHON=python3.12)")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Setting up $(VENV) (torch and its CUDA libraries are large: a minute or two the first time) ..."
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip sync --quiet --require-hashes requirements.lock
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m online_model.warm
	@touch $@

demo: $(READY) ## Broker, worker, a synthetic shop and a live view; Ctrl-C ends all of it
	@$(BIN)/millstream demo

test: $(READY) ## Every test, on a real Apache Kafka
	@$(BIN)/pytest

check: $(READY) ## Linters, types, layers: what CI runs
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python .ci/audit

bench: $(READY) ## The project's benchmarks
	@$(BIN)/millstream bench all

soak: $(READY) ## Half an hour of faults under load (SOAK_MINUTES, SOAK_SEED, SOAK_FAULTS), then a page: what was lost, and when it flowed again
	@$(BIN)/pytest -q -m long
	@$(BIN)/python -m tests.soak

format: $(READY) ## Rewrite the sources as the formatter wants them
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lock: $(READY) ## Resolve the dependencies anew: versions and hashes, no addresses
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --no-header \
		--all-extras --python-version 3.11 --upgrade pyproject.toml --output-file requirements.lock

clean: ## Remove the environment and what tests and builds left
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
