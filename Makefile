# Needs Python 3.11 or later with venv, and nothing else. Everything is installed into .venv, from requirements.lock.
.DEFAULT_GOAL := help
.PHONY: help demo serve test audit fuzz soak check bench accuracy screens translations services services-stop venv lock lint clean

# The first interpreter that is new enough and can make a virtual environment; `make PYTHON=... demo` names another.
ifeq ($(origin PYTHON), undefined)
PYTHON := $(shell for name in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$name -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)
endif
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input --quiet
INSTALLED := .venv/.installed
# Tests commit to thousands of small databases: in memory where 8 GB are free, since none of them cuts the power.
ROOMY := $(shell df --output=avail -B1G /dev/shm 2>/dev/null | awk 'NR == 2 && $$1 >= 8 { print "/dev/shm" }')

help:  ## show the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

demo: $(INSTALLED)  ## the main job on real data: list, buy, ask, prove
	@$(BIN)/python examples/flights/demo.py

serve: $(INSTALLED)  ## the exchange at http://127.0.0.1:8000 with the demo's data and one login per role
	@$(BIN)/python examples/flights/demo.py --serve

test: lint  ## every check and the whole test suite (`make services` first for the tests on PostgreSQL, S3 and Chromium, with axe-core)
	$(if $(ROOMY),TMPDIR=$(ROOMY)) $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

audit: $(INSTALLED)  ## try to refute what answers promise: attacks at 99.9%, planted faults that must be caught; intervals
	@$(BIN)/python -m tests.statistics.audit
	@$(BIN)/python -m tests.statistics.coverage

fuzz: $(INSTALLED)  ## 100,000 mutated statements: each is planned or refused, and nothing else
	@$(BIN)/python -m tests.privacy.fuzz --count 100000 --processes 2

soak: $(INSTALLED)  ## for a night: 5,000 random programs on the books, 5,000 on a market, 10,000 webhooks, 300 hostile files, 50,000 requests, 1,000 kills, 1,000 persons erased, 10,000 tamperings with 1,000 logs; every law after each step
	@$(BIN)/python -m tests.soak

check: lint  ## format, lint, types, import contracts, rules of the house, docs compared with code
	$(BIN)/python -m pytest tests/house --durations=0 --quiet

lint: $(INSTALLED)
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/mypy -p bench -p services -p tests.house -p tests.privacy -p tests.statistics
	$(BIN)/lint-imports --no-cache --no-logo

bench: $(INSTALLED)  ## all benchmarks (20 minutes): tables on the screen, JSON and a chart in bench/results/
	@mkdir -p bench/results
	@set -e; for program in overhead atrest ingest growth concurrency bombs planning books search audit publishing load upload road pages; do echo "== $$program"; $(BIN)/python -m bench.$$program; done

accuracy: $(INSTALLED)  ## our errors beside those of five other engines, each in its own environment (about an hour)
	$(BIN)/python -m bench.accuracy

screens: $(INSTALLED)  ## take the pictures of pages in docs/screens/ again (`make services` first, for the browser)
	@EXCHANGE_SCREENS=1 $(BIN)/python -m pytest --quiet tests/browser

translations: $(INSTALLED)  ## take new texts of the pages over into exchange/web/translations, where they wait to be translated
	@$(BIN)/python -m tests.house.translations

services: .python-found  ## install (if missing) and start what the service tests use
	@$(PYTHON) -m services start

services-stop: .python-found  ## stop the services and remove their data
	@$(PYTHON) -m services stop

venv: $(INSTALLED)  ## create .venv and install requirements.lock and the project into it

$(INSTALLED): requirements.lock pyproject.toml | .python-found
	@test -x $(BIN)/python || { echo "installing into .venv (under two minutes)"; $(PYTHON) -m venv .venv; }
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

lock: $(INSTALLED)  ## resolve pyproject.toml again into requirements.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url \
		--no-emit-find-links --all-extras --python-version 3.11 --output-file requirements.lock pyproject.toml

clean:  ## remove .venv, the demo's data, services and caches
	@test -z "$(PYTHON)" || test ! -d .services || $(PYTHON) -m services stop
	rm -rf .venv .services .bench .demo .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: .python-found
.python-found:
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or later with venv found: install it (Debian: python3-venv)" >&2; exit 1; }
