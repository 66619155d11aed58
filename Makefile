# `make help` lists the targets. PYTHON= another interpreter, PORT= another port of the demo.

PYTHON ?= python3
PORT ?= 8000
FUZZ_SECONDS ?= 120
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# On every core, but each file in one process: what a file starts is started once.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help demo test test-services test-hosts test-browser fuzz bench lint schema build clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(READY) ## Serve the API and the admin with fresh data, on PORT (8000)
	@$(if $(DATABASE_URL),,rm -f demo.sqlite3 demo.sqlite3-wal demo.sqlite3-shm)
	@$(BIN)/python manage.py demo --port $(PORT)

test: $(READY) ## Run the test suite in both configurations, and print its coverage
	@rm -f .coverage .coverage.*
	$(PYTEST) --cov --cov-report=
	$(PYTEST) --ds tests.settings_host -m "not demo" --cov --cov-append --cov-report=
	$(BIN)/python -m coverage report

test-services: $(READY) ## Run the suite on PostgreSQL, MariaDB and SQLite, with Redis and memcached
	$(BIN)/python -m pip install --quiet --requirement tests/services/requirements.txt
	$(BIN)/python -m tests.services.run $(if $(QUICK),--quick)

test-hosts: build ## Install the wheel into blank projects with other kinds of tokens
	$(BIN)/python -m tests.hosts dist/*.whl

test-browser: $(READY) ## Drive the pages in Debian's chromium, and take the README's screenshots
	$(BIN)/python -m pip install --quiet --requirement tests/browser/requirements.txt
	$(BIN)/python -m pytest --ds tests.browser.settings tests/browser

fuzz: $(READY) ## Send a real server what nobody would, for FUZZ_SECONDS (120)
	$(BIN)/python -m pip install --quiet --requirement tests/fuzz/requirements.txt
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS)

bench: $(READY) ## Measure what a request costs, beside what a team would write (8 minutes)
	$(BIN)/python -m pip install --quiet --requirement benchmarks/requirements.txt
	$(BIN)/python -m benchmarks.bench_http

lint: $(READY) ## Check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

schema: $(READY) ## Write docs/openapi.yaml anew
	$(BIN)/python manage.py spectacular --validate --fail-on-warn --file docs/openapi.yaml

build: $(READY) ## Build the wheel and the source distribution into dist/
	@rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

clean: ## Remove what the other targets made
	rm -rf $(VENV) .tox .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	rm -rf build dist *.egg-info demo.sqlite3* test*.sqlite3*

# An environment that was left half-made is made anew.
$(READY): requirements.txt setup.cfg
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	@touch $@
