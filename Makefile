# Everything runs in .venv, which any target builds if it is missing or older than the files it is made from.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=
WORKERS ?= 2  # processes that run the tests, a file at a time
COVERAGE := 85  # per cent of statements; what runs confined does not count (pyproject.toml)

.DEFAULT_GOAL := help
.PHONY: help run test test-full check format install pocket clean

help: ## show this help
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

run: $(STAMP) ## run the pocket campaign (ARGS="--set campaign.programs=50" changes it)
	$(BIN)/mergewright run $(ARGS)

test: $(STAMP) ## run the tests (ARGS="tests/merges" runs some of them, without the coverage floor)
	$(BIN)/python -m pytest -m "not full" -n $(WORKERS) --durations=25 $(or $(ARGS),--cov --cov-report= --cov-fail-under=$(COVERAGE))

test-full: $(STAMP) ## run the tests that need an environment or a server of their own; here a skip is a failure
	$(BIN)/python -m pytest -m full --no-skips -n $(WORKERS) --durations=25 $(ARGS)

check: $(STAMP) ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## format the sources
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: $(STAMP) ## make the environment alone

# torch first and by its constraint: otherwise plain pip resolves to the newest CUDA build, gigabytes that nothing here needs.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import platform, sys; ok = platform.system() == "Linux" and sys.version_info >= (3, 11); sys.exit(0 if ok else f"mergewright: expected Linux with Python 3.11 or newer, got {platform.system()} with {platform.python_version()}; use Linux, WSL2 or a Linux VM, or: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

pocket: $(STAMP) ## rebuild the pocket world from nothing (fixed seeds, about an hour on two cores)
	$(BIN)/python -m engine.pocket

clean: ## remove the environment and caches (runs/ stays)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage build dist
