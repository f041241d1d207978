# Every target calls `setup` first, so a fresh clone needs nothing but Python 3.11+, make and git.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
STACK_VENV := .venv-stack
BIN := $(VENV)/bin
UV := $(BIN)/uv
LOCKS := requirements/uv.lock requirements/dev.lock requirements/stack.lock requirements/runtime.lock requirements/sagemaker.lock
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-header --no-annotate

# Some build images set it, and then every process compiles all it imports, again and again.
unexport PYTHONDONTWRITEBYTECODE
# A caller's own environment must not decide which packages the project's programs see.
unexport PYTHONPATH
export UV_PROJECT_ENVIRONMENT := $(VENV)

.DEFAULT_GOAL := help
.PHONY: help setup lock check test test-full up down status token clean

help: ## List the targets.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(VENV)/.installed $(STACK_VENV)/.installed ## Create the virtual environments from the lock files.

$(UV): requirements/uv.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mlpipe needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/uv.lock
	@touch $@

$(VENV)/.installed: $(UV) requirements/dev.lock pyproject.toml
	$(UV) pip sync --quiet --python $(BIN)/python --compile-bytecode requirements/dev.lock requirements/uv.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

$(STACK_VENV)/.installed: $(UV) requirements/stack.lock
	$(UV) venv --quiet --allow-existing --python $(BIN)/python $(STACK_VENV)
	$(UV) pip sync --quiet --python $(STACK_VENV)/bin/python --compile-bytecode requirements/stack.lock
	@touch $@

lock: $(UV) ## Compile pyproject.toml into requirements/*.lock (adds and removes, does not upgrade).
	$(COMPILE) --group uv -o requirements/uv.lock
	$(COMPILE) pyproject.toml --group dev -o requirements/dev.lock
	$(COMPILE) --group stack -o requirements/stack.lock
	$(COMPILE) pyproject.toml --extra production -o requirements/runtime.lock
	$(COMPILE) pyproject.toml --extra production --extra sagemaker -o requirements/sagemaker.lock

up: setup ## Start the local stack and write .env.
	@$(BIN)/python -m infra.local up

down: setup ## Stop the local stack; its data stays.
	@$(BIN)/python -m infra.local down

status: setup ## Tell how the local stack is; fails unless every part is ready.
	@$(BIN)/python -m infra.local status

token: setup ## Print a bearer token for the local API.
	@$(BIN)/python -m infra.local.access_token
