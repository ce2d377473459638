# Levada's workshop. `make help` lists what there is; CI calls the same targets.
SHELL := /bin/bash
# Tests and benchmarks start processes by the hundred: without compiled files each would compile the whole house again.
unexport PYTHONDONTWRITEBYTECODE
PYTHON ?= python3
VENV := .venv
BUILT_PAGES := .venv-node operator/levada/dashboard/static operator/levada/dashboard/pages/node_modules
BIN := $(VENV)/bin
# An environment may have no pip of its own (`uv venv` makes such ones).
PIP := $$([ -x $(BIN)/pip ] && echo $(BIN)/pip || echo $(PYTHON) -m pip --python $(BIN)/python) --disable-pip-version-check install --quiet --constraint constraints.txt
PYTEST := $(BIN)/python -m pytest
SDK_TESTS := tests/unit/engine tests/unit/sdk tests/unit/storage tests/unit/prefect tests/unit/runner tests/unit/flows tests/unit/cli

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
# What builds images: docker, podman or buildah. BASE: another image with Python.
CONTAINER ?= docker
BUILD = $(CONTAINER) build --build-arg VERSION=$(VERSION)$(if $(BASE), --build-arg BASE=$(BASE))

.DEFAULT_GOAL := help
.PHONY: help chromium demo demo-down install pages pages-check wheel check format docs docs-serve reference docs-metrics test test-browser test-unit test-chart test-apiserver test-chaos test-e2e images kind kind-run kind-down bench-operator bench-start bench-archive bench-dashboard bench-schedules bench-crashes soak bench-engine bench-cli coverage crds chart constraints sbom audit clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk 'BEGIN {FS = ":.*## "} {printf "  %-16s %s\n", $$1, $$2}'

# The virtual environment. Two stamps: the demo needs no test tools.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Levada needs Python 3.11 or newer: make PYTHON=/path/to/python3.11")'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "error: python3 -m venv failed: on Debian and Ubuntu, apt install python3-venv" >&2; exit 1; }

$(VENV)/.installed-demo: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing what the demo needs into $(VENV) …"
	@$(PIP) --no-compile --editable '.[dashboard,flows]'  # compiling all of pandas takes longer than the demo
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing the development tools into $(VENV) …"
	@$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.installed-demo

install: $(VENV)/.installed-dev ## Make .venv with everything that development needs

demo: ## Run the NYC taxi flow on a real Kubernetes control plane on this machine
	@start=$$SECONDS; $(MAKE) --no-print-directory $(VENV)/.installed-demo && $(BIN)/python demo/demo.py up --installed-seconds $$((SECONDS - start))

demo-down: ## Remove every process and file that `make demo` made
	@if [ -x $(BIN)/python ] && [ -d .demo ]; then $(BIN)/python demo/demo.py down; fi
	@rm -rf .demo; if [ ! -e $(VENV)/.installed-dev ]; then rm -rf $(VENV) $(BUILT_PAGES); fi

pages: ## Build the dashboard's pages; Node from PATH, else from PyPI
	@$(PYTHON) images/pages.py build

pages-check: ## Their types, lint, unit tests and lockfile
	@$(PYTHON) images/pages.py check

check: install pages-check ## Formatting, lint, types, import rules, generated files, the dashboard's pages
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/levada crds --check
	@$(BIN)/python -m levada.dashboard.openapi --check
	@$(BIN)/python charts/generate.py --check
	@$(BIN)/python docs/generate.py --check
	@$(BIN)/python -m levada.cli.reference --check docs/reference/cli.md
	@$(MAKE) --no-print-directory $(SITE)
	@test ! -e operator/__init__.py || { echo "error: operator/__init__.py shadows the standard library's operator module: remove it" >&2; exit 1; }

format: install ## Rewrite the code in the house's format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix-only --quiet .

crds: install ## Generate crds/ from the models
	@$(BIN)/levada crds

chart: install ## Generate what charts/levada has from the models and from its values
	@$(BIN)/python charts/generate.py

docs-cli: install ## Generate docs/reference/cli.md from the commands
	@$(BIN)/python -m levada.cli.reference docs/reference/cli.md

# The site is built again when a page of it has changed. Not with --quiet: that silences the warnings that --strict counts.
SITE := $(VENV)/.site-checked
PAGES := mkdocs.yml $(shell find docs -type f -not -path '*/__pycache__/*') $(wildcard CHANGELOG.md CONTRIBUTING.md CODE_OF_CONDUCT.md SECURITY.md bench/README.md charts/levada/README.md)

$(SITE): $(PAGES) | install
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --site-dir $(abspath $(VENV))/site 2>&1 | { grep -v '^INFO' || true; }; test $${PIPESTATUS[0]} -eq 0
	@touch $@

docs: install ## Build the site of docs/ into dist/docs; every link inside it must lead somewhere
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

docs-serve: install ## Show the site on http://127.0.0.1:8000, and build it anew at each change
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs serve

reference: install ## Generate the pages of docs/ that are made from the code
	@$(BIN)/python docs/generate.py

docs-metrics: install ## Generate the table of docs/reference/metrics.md from the code
	@{ sed '/^| metric /,$$d' docs/reference/metrics.md; $(BIN)/levada operator metrics; } > docs/metrics.new && mv docs/metrics.new docs/reference/metrics.md

test: install chromium ## The whole test suite: unit, then against a real control plane, then kill -9
	@$(PYTEST) -n 2 --dist loadfile tests/unit tests/chart
	@$(PYTEST) tests/apiserver --ignore tests/apiserver/browser -m "not chaos"
	@$(PYTEST) tests/apiserver/browser  # in a process of its own: Playwright leaves an event loop running in its thread
	@$(PYTEST) tests/apiserver -m chaos

test-unit: install ## The tests that need nothing but Python
	@$(PYTEST) -n 2 --dist loadfile tests/unit

test-chart: install ## The chart, rendered and refused by Helm, its alerts by promtool (both built once, some minutes)
	@$(PYTEST) -n 2 --dist load tests/chart

test-apiserver: install ## The tests against a real control plane
	@$(PYTEST) tests/apiserver --ignore tests/apiserver/browser -m "not chaos"
	@$(PYTEST) tests/apiserver/browser  # in a process of its own: Playwright leaves an event loop running in its thread

# Chromium comes from Debian where that can be done; the tests say why they are skipped where not.
chromium:
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; } || true

test-browser: install chromium ## The dashboard in a real browser, against a real control plane. LEVADA_SCREENSHOTS=1 renews docs/images
	@$(PYTEST) tests/apiserver/browser

test-chaos: install ## The tests that kill real processes at seeded moments
	@$(PYTEST) tests/apiserver -m chaos

test-e2e: install ## On one real node: kubelet, containerd, images built here (root; a quarter of an hour the first time). E2E='tests/e2e -k name' chooses
	@$(BIN)/python tests/e2e/harness/session.py $(E2E)

wheel: pages ## Build the wheel, with the dashboard's pages, into dist/
	@$(PYTHON) -m pip --disable-pip-version-check wheel --quiet --no-deps --wheel-dir dist .

images: ## Build the images, with docker or CONTAINER=buildah
	$(BUILD) --file images/operator/Dockerfile --tag levada-operator:$(VERSION) .
	$(BUILD) --file images/flow/Dockerfile --tag levada-flow:$(VERSION) .
	$(BUILD) --file images/flow/Dockerfile --tag levada-flow:$(VERSION)-ml --build-arg WITH=ml,s3,dask .
	$(CONTAINER) build --file images/examples/Dockerfile --tag levada-examples:$(VERSION) --build-arg BASE=levada-flow:$(VERSION)-ml .

kind: ## A kind cluster with the images, the chart and the taxi Deployment (needs docker, kind, kubectl, helm)
	@demo/kind.sh up

kind-run: ## One run of the taxi Deployment on it
	@demo/kind.sh run

kind-down: ## Delete it
	@demo/kind.sh down

bench-operator: install ## FlowRuns beside bare Jobs on kwok nodes
	@$(BIN)/python bench/flow_runs.py

bench-start: install ## The operator's start beside 10,000 finished and 1,000 active runs (a quarter of an hour)
	@$(BIN)/python bench/operator_start.py

bench-crashes: install ## 10,000 runs while the operator is killed every few seconds: none lost, none doubled
	@$(BIN)/python bench/soak.py --runs 10000 --minutes 60 --faults operator,answers

soak: install ## Half an hour of load and faults of every kind; then every promise is checked
	@$(BIN)/python bench/soak.py

bench-dashboard: install pages chromium ## 10,000 runs in the dashboard: each list's p95, first paint, the server's memory (some minutes)
	@$(BIN)/python bench/dashboard_lists.py

bench-schedules: install ## Schedules on time, on kwok nodes (a quarter of an hour)
	@$(BIN)/python bench/schedules.py

bench-archive: install ## What archiving costs a run
	@$(BIN)/python bench/archive.py

bench-engine: install ## The engine beside Prefect, in one go
	@$(BIN)/python bench/engine.py

bench-cli: install ## How long small commands take beside a bare interpreter
	@$(BIN)/python bench/cli.py

coverage: install ## Branch coverage of the engine and the SDK by their unit tests, at least 95 %
	@rm -f .coverage .coverage.*
	@$(PYTEST) -n 2 --dist loadfile -q --cov --cov-report= $(SDK_TESTS)
	@$(BIN)/coverage report --include='operator/levada/*.py,operator/levada/engine/*,operator/levada/storage/*' --show-missing --skip-covered --fail-under=95

constraints: ## Renew constraints.txt from the newest versions that pyproject allows
	@rm -rf .venv-fresh && $(PYTHON) -m venv .venv-fresh
	@.venv-fresh/bin/pip --disable-pip-version-check install --quiet '.[dev,dashboard,s3,dask,otel]'
	@{ head -1 constraints.txt; .venv-fresh/bin/pip freeze --exclude levada | sort -f; } > constraints.new
	@mv constraints.new constraints.txt && rm -rf .venv-fresh

# Tools of their own environment: what they need must not change what they look at.
.venv-supply/.installed:
	@$(PYTHON) -m venv .venv-supply && .venv-supply/bin/pip --disable-pip-version-check install --quiet cyclonedx-bom==7.5.0 pip-audit==2.10.1
	@touch $@

sbom: install .venv-supply/.installed ## Write the bill of materials of the environment to dist/levada.cdx.json
	@mkdir -p dist && .venv-supply/bin/cyclonedx-py environment $(BIN)/python --output-reproducible --of JSON -o dist/levada.cdx.json
	@$(BIN)/python .ci/supply_chain.py sbom dist/levada.cdx.json

audit: .venv-supply/.installed ## Look for known vulnerabilities of the pinned dependencies
	@$(PYTHON) .ci/supply_chain.py audit .venv-supply/bin/pip-audit constraints.txt

clean: demo-down ## Remove the demo, the virtual environment and every cache of the tools
	@rm -rf $(VENV) .venv-supply $(BUILT_PAGES) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
