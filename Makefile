# Needs Python 3.11 or newer and pip; everything else is installed into .venv.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
RATE ?= 10
BUS ?=
PYTEST := $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help run install check test test-integration test-browser test-accuracy test-all bench docs clean

help: ## print this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: .venv/.run-stamp $(if $(filter kafka,$(BUS)),.venv/.broker-stamp) ## stream plant readings through everything: RATE=10 BUS=kafka|kafka://host:port
	@exec $(BIN)/kappawatt run --rate $(RATE) $(if $(BUS),--bus $(BUS))

install: .venv/.dev-stamp ## make .venv with all that development needs

check: .venv/.dev-stamp ## lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: .venv/.dev-stamp ## unit and contract tests
	$(PYTEST) tests/unit tests/contract

test-integration: .venv/.dev-stamp ## real Kafka (KAPPAWATT_TEST_KAFKA, else one is started), PostgreSQL, killed processes
	$(PYTEST) tests/integration

test-browser: .venv/.dev-stamp ## the dashboard in headless Chromium
	$(PYTEST) tests/browser

test-accuracy: .venv/.dev-stamp ## models against their published baselines (KAPPAWATT_DATA)
	$(PYTEST) tests/accuracy

test-all: check test test-integration test-browser test-accuracy ## all of the above

bench: .venv/.dev-stamp ## every figure of docs/performance.md, measured again
	$(BIN)/python -m bench all

docs: .venv/.dev-stamp ## write the pages made from code
	$(BIN)/python -m kappawatt.docs docs

clean: ## remove what was made here
	rm -rf .venv .run .bench .mypy_cache .pytest_cache .ruff_cache

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "kappawatt needs Python 3.11 or newer, none found; set PYTHON=" >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.run-stamp: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[run]'
	@touch $@

.venv/.broker-stamp: pyproject.toml | .venv/.run-stamp
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[run,broker]'
	@touch $@

.venv/.dev-stamp: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ .venv/.run-stamp .venv/.broker-stamp
