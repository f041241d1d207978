# Every target that runs something calls `setup` first: a fresh clone needs Python 3.11+, make, git and bash.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BENCH_VENV := .venv-bench
CDK_VENV := .venv-cdk
DOCS_VENV := .venv-docs
BIN := $(VENV)/bin
UV := $(BIN)/uv
LOCK_DIR := requirements
SITE ?= build/site
DIST ?= dist
# Tests of one file run on one worker, which starts what they share once. tests/conftest.py orders the files.
PYTEST = $(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-header --no-annotate

# Some build images set it. Then every process would compile its imports again.
unexport PYTHONDONTWRITEBYTECODE
# The caller's environment must not change which packages are imported.
unexport PYTHONPATH
# A configured proxy cannot reach this machine's loopback interface.
export NO_PROXY := 127.0.0.1,localhost,$(NO_PROXY)
export no_proxy := $(NO_PROXY)

.DEFAULT_GOAL := help
.PHONY: help setup environments cdk lock lint check check-types check-rest check-locks bench synth deploy-local demo dev test test-full \
	test-all drill up down status token pictures docs dist

help: ## List the targets.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(VENV)/.installed environments ## Create the virtual environments from the lock files.

$(UV): requirements/uv.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mlpipe needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/uv.lock
	@touch $@

$(VENV)/.installed: $(UV) requirements/dev.lock pyproject.toml examples/flights/pyproject.toml
	$(UV) pip sync --quiet --python $(BIN)/python --compile-bytecode requirements/dev.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable . --editable examples/flights
	@touch $@

$(BENCH_VENV)/.installed: $(UV) requirements/wrangler.lock
	$(UV) venv --quiet --allow-existing --python $(BIN)/python $(BENCH_VENV)
	$(UV) pip sync --quiet --python $(BENCH_VENV)/bin/python --compile-bytecode requirements/wrangler.lock
	@touch $@

$(DOCS_VENV)/.installed: $(UV) requirements/docs.lock
	$(UV) venv --quiet --allow-existing --python $(BIN)/python $(DOCS_VENV)
	$(UV) pip sync --quiet --python $(DOCS_VENV)/bin/python --compile-bytecode requirements/docs.lock
	@touch $@

# The environments of the local stack and of jobs, created once for all clones of a user.
environments: $(VENV)/.installed
	@$(BIN)/python -m infra.environments stack base >/dev/null

cdk: environments
	@test -L $(CDK_VENV) || rm -rf $(CDK_VENV)
	@# The type checker reads packages from this folder.
	@ln -sfn "$$($(BIN)/python -m infra.environments --folder cdk)" $(CDK_VENV)

$(VENV)/.spark-installed: $(VENV)/.installed requirements/spark.lock
	$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements/spark.lock
	@touch $@

lock: $(UV) ## Compile pyproject.toml into requirements/*.lock (adds and removes, does not upgrade).
	$(COMPILE) --group uv -o $(LOCK_DIR)/uv.lock
	$(COMPILE) pyproject.toml --extra production --group scoring --group api --group codecs --group dev --group bench --group uv -o $(LOCK_DIR)/dev.lock
	$(COMPILE) --group api -o $(LOCK_DIR)/api.lock
	$(COMPILE) --group glue --no-universal --python-platform x86_64-manylinux_2_28 --constraints $(LOCK_DIR)/dev.lock -o $(LOCK_DIR)/glue.lock
	$(COMPILE) --group scoring -o $(LOCK_DIR)/scoring.lock
	$(COMPILE) --group pytest -o $(LOCK_DIR)/pytest.lock
	$(COMPILE) --group wrangler -o $(LOCK_DIR)/wrangler.lock
	$(COMPILE) --group cdk -o $(LOCK_DIR)/cdk.lock
	$(COMPILE) --group docs -o $(LOCK_DIR)/docs.lock
	$(COMPILE) --group sagemaker -o $(LOCK_DIR)/sagemaker.lock
	$(COMPILE) --group spark -o $(LOCK_DIR)/spark.lock
	$(COMPILE) --group stack -o $(LOCK_DIR)/stack.lock
	$(COMPILE) pyproject.toml --extra production -o $(LOCK_DIR)/runtime.lock

check: lint $(DOCS_VENV)/.installed ## Run `make lint` and the tests that compare definitions, templates and documents.
	$(PYTEST) -q tests/wiring

# The type checker takes as long as all other checks together.
lint: setup cdk ## Check format, lint rules, types, imports, definitions and lock files.
	@$(MAKE) --no-print-directory --jobs 2 check-types check-rest

check-types:
	$(BIN)/pyright --warnings

check-rest:
	$(BIN)/ruff format --check --quiet
	$(BIN)/ruff check --quiet
	$(BIN)/lint-imports --no-logo
	cd examples/flights && $(abspath $(BIN))/dg check yaml
	@# `dg check defs`, which Dagster recommends instead, does not read workspace.yaml.
	PYTHONWARNINGS='ignore:Function `definitions_validate_command` is superseded' \
		$(BIN)/dagster definitions validate --workspace workspace.yaml --log-level error
	$(MAKE) --no-print-directory check-locks

check-locks: $(UV) ## Fail if a lock file does not match pyproject.toml.
	@rm -rf build/locks && mkdir -p build && cp -r requirements build/locks
	@$(MAKE) --no-print-directory lock LOCK_DIR=build/locks
	@diff -r -q requirements build/locks || { echo "The lock files are stale. Run 'make lock' and commit."; exit 1; }

test: setup cdk ## Run the test suite, about 16 minutes on 2 cores.
	$(PYTEST) -m "not slow and not drill"

test-full: setup $(VENV)/.spark-installed $(DOCS_VENV)/.installed cdk ## Run the slow tests: fresh clones, the demo, roles, Spark.
	$(PYTEST) -m "slow and not drill"

test-all: setup $(VENV)/.spark-installed $(DOCS_VENV)/.installed cdk ## Run `test` and `test-full` in one run.
	$(PYTEST) -m "not drill"

drill: setup $(VENV)/.spark-installed ## Run the longest tests, before a release: kills, ten million rows, a backfill, mutated rules.
	$(PYTEST) -m drill

bench: setup $(BENCH_VENV)/.installed $(VENV)/.spark-installed ## Run all benchmarks; writes benchmarks/results.
	@for name in serve score load spark_scaling sensor_tick long_history load_definitions warehouse_load; do $(BIN)/python -m benchmarks.$$name || exit 1; done

demo: setup ## Run the whole path, from real flights to live predictions; fails if a check fails.
	@$(BIN)/mlpipe demo

dev: setup ## Run the local stack with Dagster's UI and daemon until Ctrl-C; PORT=3001 sets the UI's port.
	@$(BIN)/mlpipe dev $(if $(findstring command,$(origin PORT)),--port $(PORT))

synth: setup cdk ## Write all CloudFormation templates to .mlpipe/cdk/<stage> and check them with cdk-nag and cfn-lint.
	@$(BIN)/mlpipe synth

deploy-local: setup cdk ## Deploy the CDK app to a temporary AWS emulator, test it and destroy it.
	@$(BIN)/mlpipe deploy-local

docs: $(DOCS_VENV)/.installed ## Render the documents as a searchable site in build/site; fails on a broken link.
	@# All pages are rendered again: Sphinx reports no warnings about pages that have not changed.
	$(DOCS_VENV)/bin/python -m sphinx --quiet --fail-on-warning --fresh-env -c docs -d build/site-pages . $(SITE)
	@echo "$(abspath $(SITE))/index.html"

dist: $(VENV)/.installed ## Build wheel and source archive in dist/ (the same commit gives the same bytes); test the wheel.
	@mkdir -p $(DIST) && rm -f $(DIST)/mlpipe-*
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/python -m hatchling build --directory $(DIST) >/dev/null
	$(UV) venv --quiet --clear --python $(BIN)/python build/installed
	$(UV) pip sync --quiet --python build/installed/bin/python --require-hashes requirements/runtime.lock
	$(UV) pip install --quiet --python build/installed/bin/python --no-index --no-deps $(DIST)/mlpipe-*.whl
	$(UV) pip check --quiet --python build/installed/bin/python
	@# Not in the checkout, because its packages would be imported instead of the wheel's.
	@cd build && installed/bin/mlpipe --help >/dev/null && installed/bin/mlpipe --version

pictures: setup ## Retake the documents' screenshots of Dagster's UI.
	$(BIN)/pytest -q --numprocesses 0 -m slow tests/end_to_end/test_dagster_ui.py
	mkdir -p docs/images && cp build/pictures/*.png docs/images/

up: setup ## Start the local stack and write .env.
	@$(BIN)/mlpipe up

down: setup ## Stop the local stack; its data stays.
	@$(BIN)/mlpipe down

status: setup ## Show the state of the local stack; fails unless every part is ready.
	@$(BIN)/mlpipe status

token: setup ## Print a bearer token for the local API.
	@$(BIN)/mlpipe token
