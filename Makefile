# Needs Python 3.11 or newer and pip; everything else is installed, each target what it needs and no more:
# .venv grows from `run` to `test` to `dev`, .envs/tools builds images and packages, .envs/train has TensorFlow.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
RATE ?= 10
BUS ?=
PYTEST := $(BIN)/python -m pytest
TOOLS := .envs/tools/bin
TRAIN := .envs/train/bin
INSTALL := -m pip install --quiet --disable-pip-version-check
# Tests run in several processes. Those that compute have one thread each: pools of threads wait for each other where
# there are as many processes as cores. Those that wait, for brokers and for what was killed, are more than cores.
WORKERS ?= logical
WAITING ?= 3
COMPUTE := OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(PYTEST) --numprocesses $(WORKERS) --dist
WAIT := $(PYTEST) --numprocesses $(WAITING) --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help run install check test test-train test-integration test-browser test-accuracy test-platforms test-e2e test-all \
	bench mutants docs reports render images images-test lock sbom audit release lambda lambda-measure clean

help: ## print this
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "%-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: .venv/.run-stamp $(if $(filter kafka,$(BUS)),.venv/.broker-stamp) ## stream plant readings through everything: RATE=10 BUS=kafka|kafka://host:port
	@exec $(BIN)/kappawatt run --rate $(RATE) $(if $(BUS),--bus $(BUS))

install: .venv/.dev-stamp ## make .venv with all that development needs, but TensorFlow

check: .venv/.test-stamp ## lint and types, workflows too where actionlint or Go is
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m tools.lint_workflows

test: .venv/.test-stamp ## unit and contract tests, and the chart's where helm is on PATH: WORKERS=2
	$(COMPUTE) worksteal tests/unit tests/contract tests/charts

test-train: .envs/train/.stamp ## what trains with TensorFlow, in an environment of its own
	$(TRAIN)/python -m pytest tests/train

test-integration: .venv/.dev-stamp ## real Kafka (KAPPAWATT_TEST_KAFKA, else one is started), PostgreSQL, killed processes
	$(WAIT) tests/integration

test-browser: .venv/.dev-stamp ## the dashboard in headless Chromium
	$(PYTEST) tests/browser

test-accuracy: .venv/.test-stamp ## models against their published baselines (KAPPAWATT_DATA)
	$(COMPUTE) loadgroup tests/accuracy

test-platforms: .venv/.dev-stamp images ## images, compose, Marathon; needs docker
	$(WAIT) tests/images tests/compose tests/marathon

test-e2e: .venv/.dev-stamp images ## the chart and the plain manifests on the cluster of KUBECONFIG; KAPPAWATT_LOAD_IMAGES='kind load docker-image'
	$(PYTEST) tests/e2e

test-all: check test test-train test-integration test-browser test-accuracy ## all of the above that need no docker

bench: .venv/.dev-stamp ## every figure of docs/performance.md, measured again
	$(BIN)/python -m bench all

mutants: .venv/.mutants-stamp ## small faults in the modules that matter most, each to be noticed: TARGETS='history gaps' SAMPLE=90 SURVIVORS=1 JOBS=2
	$(BIN)/python -m tools.mutants run $(TARGETS) $(if $(SAMPLE),--sample $(SAMPLE)) $(if $(SURVIVORS),--survivors) --jobs $(or $(JOBS),1)

docs: .venv/.run-stamp ## write the pages made from code
	$(BIN)/python -m tools.render_docs docs

reports: .venv/.dev-stamp ## dist/reports: the HTML of every run of docs/results, run again (KAPPAWATT_DATA): RUNS=plant-power
	$(BIN)/python -m tools.reports $(RUNS)

render: .envs/tools/.stamp ## write k8s/, marathon/ and the chart's page from the chart's values; needs helm
	$(TOOLS)/python -m tools.render_chart_page
	$(TOOLS)/python -m tools.render_kubernetes
	$(TOOLS)/python -m tools.render_marathon

images: .envs/tools/.stamp ## build all container images: PYTHON_IMAGE=python:3.13-slim@sha256:...
	$(TOOLS)/python -m tools.images build $(IMAGES)

images-test: .venv/.dev-stamp images ## the images, run as platforms run them; needs docker
	$(PYTEST) tests/images

lock: .envs/tools/.stamp ## write docker/requirements from pyproject.toml; UPGRADE=1 takes newer versions
	$(TOOLS)/python -m tools.images lock $(if $(UPGRADE),--upgrade)

sbom: images ## dist/sbom/NAME.cdx.json: what is in each image, CycloneDX
	$(TOOLS)/python -m tools.images sbom

audit: .envs/tools/.stamp ## ask for known vulnerabilities of what images install
	$(TOOLS)/python -m tools.images audit

release: .envs/tools/.stamp ## dist/release: wheel, images, bills, chart: VERSION=x refuses another, RELEASE_PARTS='python chart'
	$(TOOLS)/python -m tools.release build $(if $(VERSION),--version $(VERSION)) $(RELEASE_PARTS)

lambda: .envs/tools/.stamp ## dist/lambda/plant-power.zip and its model for S3: SERVICE=smart-meter
	$(TOOLS)/python -m serverless.build $(or $(SERVICE),plant-power)

lambda-measure: .venv/.dev-stamp lambda ## cold starts of that package under AWS's own runtime client
	$(BIN)/python -m serverless.measure $(or $(SERVICE),plant-power)

clean: ## remove what was made here
	rm -rf .venv .envs .run .bench .mutants dist .hypothesis .mypy_cache .pytest_cache .ruff_cache

.venv/bin/python .envs/tools/bin/python .envs/train/bin/python:
	@test -n "$(PYTHON)" || { echo "kappawatt needs Python 3.11 or newer, none found; set PYTHON=" >&2; exit 1; }
	$(PYTHON) -m venv $(@:/bin/python=)

.venv/.run-stamp: pyproject.toml | .venv/bin/python
	$(BIN)/python $(INSTALL) -e '.[run]'
	@touch $@

.venv/.broker-stamp: pyproject.toml | .venv/.run-stamp
	$(BIN)/python $(INSTALL) -e '.[run,broker]'
	@touch $@

.venv/.test-stamp: pyproject.toml | .venv/bin/python
	$(BIN)/python $(INSTALL) -e '.[test]'
	@touch $@ .venv/.run-stamp

.venv/.dev-stamp: pyproject.toml | .venv/bin/python
	$(BIN)/python $(INSTALL) -e '.[dev]'
	@touch $@ .venv/.run-stamp .venv/.broker-stamp .venv/.test-stamp

.venv/.mutants-stamp: pyproject.toml | .venv/bin/python
	$(BIN)/python $(INSTALL) -e '.[mutants]'
	@touch $@ .venv/.run-stamp .venv/.test-stamp

.envs/tools/.stamp: pyproject.toml | .envs/tools/bin/python
	$(TOOLS)/python $(INSTALL) -e '.[tools]'
	@touch $@

.envs/train/.stamp: pyproject.toml | .envs/train/bin/python
	$(TRAIN)/python $(INSTALL) -e '.[test-training]'
	@touch $@
