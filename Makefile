# Works in a fresh clone with Python 3.11 or newer, make, and a package index to install from.
#
#   make demo     the whole relay at work in one command; make demo ARGS="--seconds 10"
#   make test     the whole test suite;                   make test ARGS="-k selector"
#   make lint     ruff, mypy and cython-lint
#   make bench    the relay against vmagent, under five minutes; ARGS replaces the options
#   make peers    the newest vmagent, Prometheus and Collector, which some tests drive; needs Go
#   make build    a wheel in dist/
#   make venv     only the virtual environment, .venv
#   make clean    remove everything that these made

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Debian packages of the binaries that the tests marked `real` drive.
REAL_BINARIES := vmagent prometheus prometheus-node-exporter promtool
REAL_PACKAGES := victoria-metrics prometheus prometheus-node-exporter

.PHONY: help venv extensions demo test peers chaos lint bench build clean

help:
	@sed -n 's/^#   //p' $(firstword $(MAKEFILE_LIST))

venv: $(STAMP)

# The stamp is newer than pyproject.toml when everything that it asks for is installed.
$(STAMP): pyproject.toml
	@set -eu; \
	for python in python3.13 python3.12 python3.11 python3; do \
	    if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        found=$$python; break; \
	    fi; \
	done; \
	if [ -z "$${found:-}" ]; then \
	    echo "make: no Python 3.11 or newer found (tried python3.13, 3.12, 3.11 and python3)" >&2; \
	    exit 1; \
	fi; \
	if ! "$$found" -c 'import ensurepip, venv' 2>/dev/null; then \
	    echo "make: $$found cannot make virtual environments; on Debian: apt-get install python3-venv" >&2; \
	    exit 1; \
	fi; \
	echo "$$found -m venv $(VENV)"; \
	"$$found" -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

# The hot path's extension modules, beside their sources. setup.py compares contents and compiles
# what has changed; file times would miss what a change of branches brings.
extensions: $(STAMP)
	@$(BIN)/python -c 'import relay' 2>/dev/null || $(BIN)/python setup.py --quiet build_ext --inplace

demo: extensions
	$(BIN)/python -m relay demo $(ARGS)

# A test is never skipped silently: the tests that drive real binaries run wherever those are, and
# where one is missing this says so before it leaves them out.
test: extensions
	@set -eu; \
	missing=; \
	for binary in $(REAL_BINARIES); do \
	    command -v "$$binary" >/dev/null || missing="$$missing $$binary"; \
	done; \
	left_out=; \
	if [ -n "$$missing" ]; then \
	    echo "make test: NOT running the tests marked 'real': missing:$$missing"; \
	    echo "make test: to run them, apt-get install $(REAL_PACKAGES)"; \
	    left_out="not real"; \
	fi; \
	missing=$$($(BIN)/python -m bench.newest --missing); \
	if [ -n "$$missing" ]; then \
	    echo "make test: NOT running the tests marked 'newest': missing: $$missing"; \
	    echo "make test: to run them, make peers (once; minutes, and it needs Go)"; \
	    left_out="$${left_out:+$$left_out and }not newest"; \
	fi; \
	set --; \
	if [ -n "$$left_out" ]; then set -- -m "$$left_out"; fi; \
	$(BIN)/python -m pytest "$$@" $(ARGS)

# Built once into $RELAY_PEERS, by default ~/.cache/relay-peers; ARGS=--require fails where one
# cannot be built.
peers:
	python3 -m bench.newest $(ARGS)

# Minutes of deaths and faults; CHAOS_SEED=n repeats a run.
chaos: extensions
	$(BIN)/python -m pytest -m long -s tests/chaos $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PATH="$(BIN):$$PATH" cython-lint --max-line-length=100 relay

bench: ARGS ?= --short
bench: extensions
	$(BIN)/python -m bench $(ARGS)

build: $(STAMP)
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

clean:
	rm -rf $(VENV) build dist *.egg-info bench/results .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find relay -name '*.so' -delete
	rm -f relay/_build.json
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
