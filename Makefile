# Thin on purpose: each target is one or two commands that you could type yourself.
# Without make (Windows): see "Without make" in README.md.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
SIZE   ?= medium

.DEFAULT_GOAL := help
.PHONY: help lab test bench notebooks lint lock clean

help:  ## show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

lab: $(VENV)/.lab  ## set up, start both servers, open JupyterLab on your own copies of the lessons
	"$(BIN)/pglab" lab

test: $(VENV)/.dev  ## set up, then run every test and every notebook on real servers
	"$(BIN)/python" -m pytest -n 2 --dist loadgroup $(PYTEST_ARGS)

bench: $(VENV)/.lab  ## print the numbers this machine reaches (SIZE=tiny|small|medium|large)
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

LOCK_FLAGS := -q --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header

$(VENV)/.python:
	$(PYTHON) -m venv "$(VENV)"
	touch $@

# The package is installed editable, so that a pull takes effect without another install.
$(VENV)/.lab: $(VENV)/.python requirements.lock pyproject.toml
	"$(BIN)/python" -m pip install -qq --disable-pip-version-check --require-hashes -r requirements.lock
	"$(BIN)/python" -m pip install -qq --disable-pip-version-check --no-deps --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.lab requirements-dev.lock
	"$(BIN)/python" -m pip install -qq --disable-pip-version-check --require-hashes -r requirements-dev.lock
	touch $@
