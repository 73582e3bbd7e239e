# `make` lists what there is. Everything works with nothing installed but Python >= 3.11.

PYTHON ?= python3
VENV_PYTHON := .venv/bin/python
COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header --no-annotate
PYTEST := $(VENV_PYTHON) -m pytest

TALLYGATE_TEST_DATABASE_URL ?= postgresql://postgres@127.0.0.1:5432/postgres
TALLYGATE_TEST_REDIS_URL ?= redis://127.0.0.1:6379
EXTERNAL := TALLYGATE_TEST_DATABASE_URL=$(TALLYGATE_TEST_DATABASE_URL) TALLYGATE_TEST_REDIS_URL=$(TALLYGATE_TEST_REDIS_URL)

.DEFAULT_GOAL := help
.PHONY: help run test test-external test-gateways soak check bench lint format lock openapi wheel install clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

run: install ## Start Tallygate with everything it needs on http://127.0.0.1:4100 (Ctrl-C stops it all)
	@exec $(VENV_PYTHON) -m service.cli serve $(ARGS)

test: install ## Run the whole test suite on embedded engines (PYTEST_ARGS="-k name" for a part)
	$(PYTEST) -n 2 --dist worksteal $(PYTEST_ARGS)

# Beside tests/integration. One process after the other: each keeps its servers' connections, and a PostgreSQL usually
# takes 100.
EXTERNAL_TESTS ?= tests/api tests/faults

test-external: install ## Run the tests on PostgreSQL and Redis of your own (TALLYGATE_TEST_DATABASE_URL, TALLYGATE_TEST_REDIS_URL)
	$(EXTERNAL) $(PYTEST) -n 2 --dist worksteal $(PYTEST_ARGS) -m "not embedded" tests/integration
	for part in $(EXTERNAL_TESTS); do \
		$(EXTERNAL) $(PYTEST) $(PYTEST_ARGS) -m "not embedded" $$part || exit 1; done

# all: a gateway that cannot be had is a failure. installed: that is said, and its tests are skipped.
GATEWAYS ?= all

SOAK_MINUTES ?= 10

soak: install ## Let chance act on two replicas for SOAK_MINUTES (prints its seeds; TALLYGATE_TEST_SEED=… replays one)
	TALLYGATE_TEST_SOAK_MINUTES=$(SOAK_MINUTES) $(PYTEST) -s $(PYTEST_ARGS) tests/properties/service -k as_long_as

test-gateways: install ## Test deploy/gateways with real gateways (nginx, Caddy, Envoy, LiteLLM; gets them when it may)
	$(VENV_PYTHON) scripts/install_gateways.py $(GATEWAYS)
	if [ -x .gateways/litellm/bin/python ]; then $(VENV_PYTHON) -m mypy --strict --follow-imports=silent \
		--python-executable .gateways/litellm/bin/python deploy/gateways/litellm/tallygate_litellm.py; fi
	TALLYGATE_TEST_GATEWAYS=$(GATEWAYS) $(PYTEST) $(PYTEST_ARGS) tests/gateways

check: lint ## Everything that needs no test: style, types, layers, openapi.yaml, migrations
	$(VENV_PYTHON) -m mypy
	.venv/bin/lint-imports --no-cache
	$(VENV_PYTHON) -m service.cli openapi --check
	$(VENV_PYTHON) scripts/check_schema.py

lint: install ## Style only
	$(VENV_PYTHON) -m ruff check
	$(VENV_PYTHON) -m ruff format --check

format: install ## Put the code in form and repair what can be repaired safely
	$(VENV_PYTHON) -m ruff check --fix
	$(VENV_PYTHON) -m ruff format

bench: install ## Measure everything against floors of the same run (ARGS="ingest checks rating reprice" for parts; checks-matrix)
	$(VENV_PYTHON) -m benchmarks $(ARGS)

openapi: install ## Write openapi.yaml from the application
	$(VENV_PYTHON) -m service.cli openapi

wheel: install ## Build dist/tallygate-*.whl, migrations included
	$(VENV_PYTHON) -m hatchling build -t wheel -t sdist

lock: ## Write the locks anew from pyproject.toml and for the peers of benchmarks and tests (needs uv)
	$(COMPILE) --upgrade --all-extras --output-file requirements.lock pyproject.toml
	$(COMPILE) --constraint requirements.lock --output-file deploy/container/requirements.lock pyproject.toml
	$(COMPILE) --upgrade --output-file benchmarks/peers/requirements.lock benchmarks/peers/requirements.in
	$(COMPILE) --upgrade --output-file tests/gateways/requirements.lock tests/gateways/requirements.in
	$(COMPILE) --upgrade --output-file tests/gateways/litellm/requirements.lock tests/gateways/litellm/requirements.in

install: ## Make or refresh .venv (the other targets do it)
	@$(PYTHON) scripts/install.py

clean: ## Remove .venv and caches; data in .tallygate stays
	rm -rf .venv .venv-peers .gateways .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build dist
