# The words of the project: make demo, test, run, check, prove, bench, pages.
# Each makes .venv itself, and a second run finds it made.

PYTHON ?= python3.11
PYTHON := $(shell command -v $(PYTHON) 2>/dev/null || echo python3)
BIN := .venv/bin
# Tests wait more than they work, so one process more than there are processors; never more than four.
AT_ONCE := $(shell $(PYTHON) -c "import os; print(min(4, os.cpu_count() + 1))")
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test run check prove bench pages clean

demo: .venv/installed
	@$(BIN)/jumbe demo

run: .venv/installed
	@$(BIN)/jumbe db upgrade && $(BIN)/jumbe run

# ROOM=storage/messages for the tests of one room.
# A file of tests is one process's; those that take longest come first (tests/conftest.py).
# Whatever the shell says, compiled modules are kept: each of the many processes of a run would compile them again.
test: export PYTHONDONTWRITEBYTECODE :=
test: .venv/installed-dev
	$(if $(ROOM),room=$$($(BIN)/python -m tests.rooms) && )$(BIN)/pytest -n $(AT_ONCE) --dist loadfile --no-loadscope-reorder$(if $(ROOM), "$$room")

check: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# PROVE=night for the long form, PROVE_MINUTES=n to bound it, PROVE_SEED=n to repeat one.
prove: .venv/installed-dev
	$(BIN)/python -W ignore -m tests.proof

# BENCH=long for larger sizes, BENCH_SEED=n to repeat an order.
bench: .venv/installed-dev
	@$(BIN)/python -W ignore -m tests.benchmarks

pages: .venv/installed-dev
	$(BIN)/python -m tests.pages

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --editable . --constraint constraints.txt
	@touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install --quiet --editable ".[dev]" --constraint constraints.txt
	@touch $@

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache
