# Thin on purpose: each target is one or two commands that you could type yourself.
# Without make (Windows): see "Without make" in README.md.

# The first of these that is new enough; PYTHON=… chooses another.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV   := .venv
BIN    := $(VENV)/bin
SIZE   ?= medium

.DEFAULT_GOAL := help
.PHONY: help lab test bench notebooks lint lock clean

help:  ## show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

lab: $(VENV)/.lab  ## set up, start both servers, open JupyterLab on your own copies of the lessons
	"$(BIN)/python" -m pglab lab

test: $(VENV)/.dev  ## set up, then run every test and every notebook on real servers
	"$(BIN)/python" -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

bench: $(VENV)/.lab  ## measure all of it on this machine (SIZE=tiny|small|medium|large)
	"$(BIN)/python" -m pglab.bench --size $(SIZE)

notebooks: $(VENV)/.dev  ## execute the lessons in order and keep their outputs
	"$(BIN)/python" -m tests.tools.execute_notebooks $(LESSONS)

lint: $(VENV)/.dev  ## ruff (lint and format) and mypy in strict mode
	"$(BIN)/ruff" check . && "$(BIN)/ruff" format --check . && "$(BIN)/mypy"

lock: $(VENV)/.dev  ## pin the newest versions that pyproject.toml allows (hashes, no index URLs)
	"$(BIN)/uv" pip compile $(LOCK_FLAGS) pyproject.toml -o requirements.lock
	"$(BIN)/uv" pip compile $(LOCK_FLAGS) --all-extras -c requirements.lock pyproject.toml -o requirements-dev.lock

clean:  ## remove the virtual environment and caches (never workspace/ nor the servers' data)
	rm -rf "$(VENV)" .mypy_cache .pytest_cache .ruff_cache .hypothesis artifacts

PIP_FLAGS := -qq --disable-pip-version-check
LOCK_FLAGS := -q --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header

$(VENV)/.python:
	@test -n "$(PYTHON)" || { echo "pglab needs Python 3.11 or later, and found none;" \
	  "install it, or name it: make lab PYTHON=/path/to/python3"; exit 1; }
	"$(PYTHON)" -m venv "$(VENV)"
	@touch $@

# The package is installed editable, so that a pull takes effect without another install.
$(VENV)/.lab: $(VENV)/.python requirements.lock pyproject.toml
	@echo "Installing what the lessons need into $(VENV): a minute or two, once …"
	@"$(BIN)/python" -m pip install $(PIP_FLAGS) --require-hashes -r requirements.lock
	@"$(BIN)/python" -m pip install $(PIP_FLAGS) --no-deps --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.lab requirements-dev.lock
	@echo "Installing what the tests need …"
	@"$(BIN)/python" -m pip install $(PIP_FLAGS) --require-hashes -r requirements-dev.lock
	@touch $@
