# `make help` lists the targets. PYTHON= another interpreter, PORT= another port of the demo.

PYTHON ?= python3
PORT ?= 8000
FUZZ_SECONDS ?= 120
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# On every core, but each file in one process: what a file starts is started once. In the order of
# the files, which ends with short ones: no core waits long for the last.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help demo test coverage test-services test-engines test-newest test-history test-hosts test-browser fuzz bench lint docs schema build clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(READY) ## Serve the API and the admin with fresh data, on PORT (8000)
	@$(if $(DATABASE_URL),,rm -f demo.sqlite3 demo.sqlite3-wal demo.sqlite3-shm)
	@$(BIN)/python manage.py demo --port $(PORT)

test: $(READY) ## Run the tests that need no server
	$(PYTEST)

coverage: $(READY) ## Run them in both configurations, and print the coverage of branches
	@rm -f .coverage .coverage.*
	$(PYTEST) --cov --cov-report=
	$(PYTEST) --ds tests.settings_host -m "not demo" --cov --cov-append --cov-report=
	$(BIN)/python -m coverage report

test-services: $(READY) ## Run the suite on PostgreSQL, MariaDB and SQLite, with Redis and memcached
	$(BIN)/python -m pip install --quiet --requirement tests/services/requirements.txt
	$(BIN)/python -m tests.services.run $(if $(QUICK),--quick) $(SERVICES)

test-engines: $(READY) ## Race the app on PgBouncer, standbys, Galera and others it starts (SHORT=1 for CI)
	tests/engines/install.sh
	$(BIN)/python -m pip install --quiet --requirement tests/services/requirements.txt
	$(BIN)/python -m tests.engines $(if $(SHORT),--short) $(ENGINES)

test-newest: ## Run the suite on Debian unstable's Pythons and servers, in roots made for it
	tests/engines/install.sh
	tests/engines/newest.sh $(if $(QUICK),--quick)

test-history: $(READY) ## Check that the histories of concurrent operations are linearizable (SHORT=1 for CI)
	tests/engines/install.sh
	$(BIN)/python -m pip install --quiet --requirement tests/services/requirements.txt
	$(BIN)/python -m tests.history.proof $(if $(SHORT),--short)

test-hosts: build ## Follow the README, the tutorial and the guides in blank projects; needs Redis
	$(BIN)/python -m tests.hosts.readme dist/*.whl dist/*.tar.gz
	$(BIN)/python -m tests.hosts.tutorial
	$(BIN)/python -m tests.hosts dist/*.whl
	$(BIN)/python -m tests.hosts.workers dist/*.whl
	$(BIN)/python -m tests.hosts.contract dist/*.whl

test-browser: $(READY) ## Drive the pages in Debian's chromium, and take the README's screenshots
	$(BIN)/python -m pip install --quiet --requirement tests/browser/requirements.txt
	$(BIN)/python -m pytest --ds tests.browser.settings tests/browser

fuzz: $(READY) ## Fuzz a real server, for FUZZ_SECONDS (120)
	$(BIN)/python -m pip install --quiet --requirement tests/fuzz/requirements.txt
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS)

bench: $(READY) ## Measure what recording and requests cost, beside others (10 minutes)
	$(BIN)/python -m pip install --quiet --requirement benchmarks/requirements.txt
	$(BIN)/python -m benchmarks.bench_recording
	$(BIN)/python -m benchmarks.bench_http

lint: $(READY) ## Check style, format, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest --quiet tests/hosts/test_types.py

docs: $(READY) ## Build the site into docs/_build/html, with warnings as errors
	$(BIN)/python -m pip install --quiet --requirement docs/requirements.txt
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs docs/_build/html

schema: $(READY) ## Generate docs/openapi.yaml
	$(BIN)/python manage.py spectacular --validate --fail-on-warn --file docs/openapi.yaml

build: $(READY) ## Build the wheel and the source distribution into dist/
	@rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl
	$(BIN)/pyroma --min=10 --skip-tests AuthorEmail dist/*.tar.gz # no address is published

clean: ## Remove what the other targets made
	rm -rf $(VENV) .tox .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	rm -rf build dist docs/_build *.egg-info demo.sqlite3* test*.sqlite3*

# An environment that was left half-made is made anew.
$(READY): requirements.txt setup.cfg
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	@touch $@
