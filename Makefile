# Every target does its own set-up; nothing has to be installed by hand but Python 3.11+ and make.
SHELL := /bin/bash
PYTHON ?= $(shell scripts/interpreter)
VENV := .venv
STAMP := $(VENV)/.installed-$(shell cat requirements/dev.txt pyproject.toml 2>/dev/null | cksum | cut -d' ' -f1)
LEGACY := examples/legacy
NODE_STAMP := $(LEGACY)/node_modules/.installed-$(shell cat $(LEGACY)/package-lock.json 2>/dev/null | cksum | cut -d' ' -f1)
TEST_ARGS ?= -n 2 --dist loadgroup

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-wire soak bench check lock clean

help: ## show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(STAMP) $(NODE_STAMP) ## install everything into .venv and node_modules

$(STAMP): requirements/dev.txt pyproject.toml
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(VENV)/bin/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	rm -f $(VENV)/.installed-* && touch $@

$(NODE_STAMP): $(LEGACY)/package-lock.json $(STAMP)
	scripts/with-node npm ci --prefix $(LEGACY) --no-audit --no-fund --loglevel=error
	touch $@

demo: setup ## the main job, told on one screen (KEEP=1 stays up)
	$(VENV)/bin/python -m changeover demo $(if $(KEEP),--keep)

test: setup ## every test
	scripts/with-node $(VENV)/bin/python -m pytest $(TEST_ARGS)

test-wire: setup ## captured tRPC exchanges decode as expected (TRPC_SAMPLES=DIR for others)
	TRPC_SAMPLES="$(TRPC_SAMPLES)" $(VENV)/bin/python -m pytest $(TEST_ARGS) tests/unit/proxy/trpc/test_samples.py

soak: setup ## kill proxy and legacy in the middle of everything, seed by seed (SEEDS=200 FIRST= SEED= TIMES= LANES=)
	@scripts/with-node $(VENV)/bin/python -m tests.crash.soak $(if $(SEEDS),--seeds $(SEEDS)) $(if $(FIRST),--first $(FIRST)) \
		$(if $(SEED),--seed $(SEED)) $(if $(TIMES),--times $(TIMES)) $(if $(LANES),--lanes $(LANES))

bench: setup ## measure everything beside nginx and nchan (ROUNDS= SECONDS= FULL=1 ONLY=http,log JSON=FILE)
	scripts/bench-tools
	scripts/with-node $(VENV)/bin/python -m bench $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SECONDS),--seconds $(SECONDS)) \
		$(if $(FULL),--full) $(if $(ONLY),--only $(ONLY),--results bench/RESULTS.md) $(if $(JSON),--json $(JSON))

check: setup ## lint, types and the direction of the imports
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

lock: ## resolve the pinned dependencies anew
	uv pip compile -q pyproject.toml --extra postgres --group dev --generate-hashes --no-header --no-annotate --python-version 3.11 -o requirements/dev.txt

clean: ## remove what make made
	rm -rf $(VENV) $(LEGACY)/node_modules build dist *.egg-info
