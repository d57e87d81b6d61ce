# The two commands of the README; each does all the set-up on a fresh machine.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test test-mlflow lint clean

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "plankter needs Python 3.11 or later; name one with: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "python3-venv is missing; on Debian: apt-get install python3-venv"; exit 1; }

$(VENV)/.installed: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: $(VENV)/.installed
	@rm -rf plankter-demo
	@$(BIN)/plankter demo plankter-demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest -q

# A server of MLflow's own, which is 850 MB: not part of `make test`.
test-mlflow: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'mlflow>=2.19'
	$(BIN)/python -m pytest -q tests/workflow/test_mlflow_registry.py

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) plankter-demo .mypy_cache .ruff_cache .pytest_cache
