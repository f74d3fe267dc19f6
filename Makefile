# Two targets do everything on a fresh machine: `make quickstart` and `make test`.
SHELL := /bin/bash
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
HEAVY := .venv-heavy
# Arguments for pytest, such as `make test ARGS='tests/cli -x'`.
ARGS ?=
# Processes that run the default tests side by side, a file at a time; most tests wait for others.
PROCESSES ?= 2

.PHONY: quickstart test lint format slow soak heavy wheel clean system

quickstart: $(INSTALLED) system
	$(BIN)/python -m fluidpy.quickstart

test: $(INSTALLED) system
	$(BIN)/python -m pytest -n $(PROCESSES) --dist loadfile $(ARGS)
	$(BIN)/ruff check --quiet .

# All static checks; CONTRIBUTING.md says what each one guards.
lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Tests that take long: faults, kills, read modes. About a quarter of an hour in all on two cores.
slow: $(INSTALLED) system
	$(BIN)/python -m pytest -m slow $(ARGS)

# The same at length, for a quiet machine: hundreds of kills, long runs of the models. Not part of
# the full check.
soak: $(INSTALLED) system
	HYPOTHESIS_PROFILE=random $(BIN)/python -m pytest -m soak -s $(ARGS)

# Tests with libraries that are heavy to install, in an environment of their own.
heavy: $(HEAVY)/.installed system
	$(HEAVY)/bin/python -m pytest -m heavy tests/ecosystem $(ARGS)

wheel: $(INSTALLED)
	$(BIN)/python -m pip wheel --no-deps --wheel-dir dist .

clean:
	rm -rf $(VENV) $(HEAVY) dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

# fusermount3 lets an unprivileged user mount, fio verifies what a mount shows; tests that need them
# say so when they are missing.
system:
	@command -v fusermount3 >/dev/null || tools/install_system_package.sh fuse3
	@command -v fio >/dev/null || tools/install_system_package.sh fio

$(BIN)/python:
	tools/create_environment.sh $(VENV)

$(INSTALLED): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

$(HEAVY)/bin/python:
	tools/create_environment.sh $(HEAVY)

$(HEAVY)/.installed: pyproject.toml tests/ecosystem/requirements.txt | $(HEAVY)/bin/python
	$(HEAVY)/bin/python -m pip install --quiet --disable-pip-version-check \
		--requirement tests/ecosystem/requirements.txt --editable '.[test]'
	@touch $@
