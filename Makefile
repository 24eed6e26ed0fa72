# `make demo` and `make test` work on a fresh machine with Python 3.11+.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-fast lint clean

demo: .venv/installed
	$(BIN)/icl run demo.yaml --out results/demo

test: .venv/installed
	$(BIN)/python -m pytest -n 2

# All but what is marked slow: under two minutes on two cores.
test-fast: .venv/installed
	$(BIN)/python -m pytest -n 2 -m "not slow"

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,gemini-legacy,local,ray]'
	touch $@

clean:
	rm -rf .venv results/demo
