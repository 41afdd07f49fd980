# Works in a fresh clone with Python 3.11 or newer, make, and a package index to install from.
#
#   make venv     .venv: locked packages installed, extension modules compiled in place; what most
#                 others begin with
#   make extensions   compile the extension modules whose sources have changed, after an edit
#   make demo     the whole relay at work in one command; make demo ARGS="--seconds 10"
#   make test     the whole test suite, what computes beside what waits;
#                 make test ARGS="-k selector"
#   make test-fast   unit and property tests, few examples each, without the slow ones: under a
#                 minute, for between two edits; what they leave out is in make test
#   make lint     ruff, mypy and cython-lint
#   make bench    the relay against vmagent, under five minutes; ARGS replaces the options
#   make chaos    hundreds of kill -9 and stops under load, and a reload storm; about half an hour
#   make peers    the newest vmagent, Prometheus, Collector and Kubernetes, which some tests drive;
#                 needs Go
#   make build    sdist and wheel in dist/
#   make wheels   manylinux wheels in dist/, one for each supported Python that is here
#   make test-newest   the suite from the sdist, with the newest dependencies that are allowed
#   make test-lowest   the same with the lowest
#   make schema   write the CRD, editors' schemas and reference pages from relay/config/schema, and
#                 what the next one writes
#   make deployments  write roles, rules and definitions into config/kubernetes and config/helm
#   make lock     renew requirements/ (what make installs, with hashes)
#   make clean    remove everything that these made
#
# PYTHON=python3.12 chooses the Python; RELAY_CC=zig compiles with the package index's compiler, as
# happens by itself where the machine has none.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

VENV := .venv
BIN := $(VENV)/bin
RELEASE := build/release-venv
PIP_INSTALL := -m pip install --disable-pip-version-check
LOCKED := $(PIP_INSTALL) --require-hashes
PYTHON ?=

# Debian packages of the binaries that the tests marked `real` drive.
REAL_BINARIES := vmagent prometheus prometheus-node-exporter promtool etcd curl chromium
REAL_PACKAGES := victoria-metrics prometheus prometheus-node-exporter etcd-server curl chromium

.PHONY: help venv extensions demo test test-fast peers chaos lint bench build wheels test-newest test-lowest schema deployments lock clean

help:
	@sed -n 's/^#   //p' $(firstword $(MAKEFILE_LIST))

venv: extensions $(VENV)/.dev

$(VENV)/bin/python:
	@set -eu; \
	for python in $(or $(PYTHON),python3.13 python3.12 python3.11 python3); do \
	    if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        found=$$python; break; \
	    fi; \
	done; \
	if [ -z "$${found:-}" ]; then \
	    echo "make: no Python 3.11 or newer found (tried $(or $(PYTHON),python3.13, 3.12, 3.11 and python3))" >&2; \
	    exit 1; \
	fi; \
	if ! "$$found" -c 'import ensurepip, venv' 2>/dev/null; then \
	    echo "make: $$found cannot make virtual environments; on Debian: apt-get install python3-venv" >&2; \
	    exit 1; \
	fi; \
	echo "$$found -m venv $(VENV)"; \
	"$$found" -m venv --clear $(VENV)

# $(call install_build,PYTHON): what a build needs, and a C compiler where the machine has none.
define install_build
	$(1) $(LOCKED) -r requirements/build.txt
	@set -eu; missing=$$($(1) -m build_support.compiler); if [ -n "$$missing" ]; then \
	    echo "make: no C compiler works here: taking one from the package index (ziglang, 100 MB)"; \
	    $(1) $(LOCKED) -r requirements/compiler.txt; \
	fi
endef

# Each stamp is newer than the locks that its packages are of.
$(VENV)/.run: $(VENV)/bin/python requirements/run.txt requirements/build.txt requirements/compiler.txt pyproject.toml
	$(BIN)/python $(LOCKED) -r requirements/run.txt
	$(call install_build,$(BIN)/python)
	$(BIN)/python setup.py --quiet build_ext --inplace
	$(BIN)/python $(PIP_INSTALL) --quiet --no-deps --no-index --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements/dev.txt
	$(BIN)/python $(LOCKED) -r requirements/dev.txt
	@touch $@

$(RELEASE)/.installed: $(VENV)/bin/python requirements/release.txt requirements/build.txt
	$(BIN)/python -m venv --clear $(RELEASE)
	$(RELEASE)/bin/python $(LOCKED) --quiet -r requirements/release.txt
	$(call install_build,$(RELEASE)/bin/python)
	@touch $@

# The hot path's extension modules, beside their sources. setup.py compares contents and compiles
# what has changed; file times would miss what a change of branches brings.
extensions: $(VENV)/.run
	@$(BIN)/python -c 'import relay' 2>/dev/null || $(BIN)/python setup.py --quiet build_ext --inplace

demo: extensions
	$(BIN)/python -m relay demo --directory build/demo $(ARGS)

# A test is never skipped silently: the tests that drive real binaries run wherever those are, and
# where one is missing this says so before it leaves them out.
test: extensions $(VENV)/.dev
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
	$(BIN)/python -m tests "$$@" $(ARGS)

test-fast: extensions $(VENV)/.dev
	HYPOTHESIS_PROFILE=fast $(BIN)/python -m pytest -q \
	    -m "not slow and not real and not newest" tests/unit tests/property $(ARGS)

# Built once into $RELAY_PEERS, by default ~/.cache/relay-peers; ARGS=--require fails where one
# cannot be built.
peers:
	python3 -m bench.newest $(ARGS)

# Minutes of deaths and faults; CHAOS_SEED=n repeats a run.
chaos: extensions $(VENV)/.dev
	$(BIN)/python -m pytest -m long -s tests/chaos $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PATH="$(BIN):$$PATH" cython-lint --max-line-length=100 relay

bench: ARGS ?= --short
bench: extensions $(VENV)/.dev
	$(BIN)/python -m bench $(ARGS)

# The wheel is built from the sdist: what is missing there fails here.
build: $(RELEASE)/.installed
	$(RELEASE)/bin/python -m build --no-isolation --outdir dist .

wheels: $(RELEASE)/.installed
	$(RELEASE)/bin/python -m build --no-isolation --sdist --outdir dist .
	$(RELEASE)/bin/python -m build_support.wheels

# Dependencies and build tools in another choice than the lock's, on the sources of the sdist in an
# environment of their own. Development tools are the lock's with the lowest, the newest otherwise.
# What the tools share with the relay is not constrained by them where its lowest version works.
# What the lowest Cython makes is compiled for these tests alone, and with less optimization.
test-newest: RESOLUTION := --resolution highest --group dev
test-newest: VERSIONS := 3.13 3.12 3.11
test-lowest: RESOLUTION := --resolution lowest-direct --constraint build/test-lowest/tools.txt
test-lowest: VERSIONS := 3.11 3.12 3.13
test-lowest: export RELAY_OPTIMIZE ?= -O1
test-newest test-lowest: $(RELEASE)/.installed
	@set -eu; \
	python=$(PYTHON); \
	python=$${python:-$$($(RELEASE)/bin/python -m build_support.interpreters $(VERSIONS))}; \
	place=build/$@; uv="$(CURDIR)/$(RELEASE)/bin/uv"; \
	rm -rf "$$place"; mkdir -p "$$place"; \
	$(RELEASE)/bin/python -m build --no-isolation --sdist --outdir "$$place" . >"$$place/sdist.log"; \
	tar -xzf "$$place"/*.tar.gz -C "$$place"; \
	sed -n 's/ *\\$$//; /^cython==/d; /^cryptography==/d; /^[a-z0-9].*==/p' requirements/dev.txt >"$$place/tools.txt"; \
	"$$python" -m venv "$$place/venv"; \
	tested="$$(pwd)/$$place/venv/bin/python"; \
	"$$uv" pip compile --quiet --no-header --no-annotate --python "$$tested" --group build \
	    $(RESOLUTION) --output-file "$$place/versions.txt" pyproject.toml; \
	echo "$@: $$("$$tested" --version): $$(tr '\n' ' ' <"$$place/versions.txt")"; \
	"$$uv" pip install --quiet --python "$$tested" -r "$$place/versions.txt"; \
	if [ $@ = test-lowest ]; then \
	    "$$uv" pip install --quiet --python "$$tested" --constraint "$$place/versions.txt" \
	        -r "$$place/tools.txt"; \
	fi; \
	cd "$$place"/telemetry_relay-*/; \
	"$$tested" setup.py --quiet build_ext --inplace; \
	"$$tested" -m pytest $(ARGS)

schema: extensions
	$(BIN)/python -m relay.config.schema.generate .
	$(BIN)/python -m build_support.deployments .

deployments: extensions
	$(BIN)/python -m build_support.deployments .

# One file for each purpose. Without a host of the package index: every machine has its own.
LOCK = $(RELEASE)/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
    --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

lock: $(RELEASE)/.installed
	$(LOCK) --output-file requirements/run.txt pyproject.toml
	$(LOCK) --output-file requirements/build.txt --group pyproject.toml:build
	$(LOCK) --output-file requirements/compiler.txt --group pyproject.toml:compiler
	$(LOCK) --output-file requirements/dev.txt --group pyproject.toml:dev \
	    --constraint requirements/run.txt --constraint requirements/build.txt
	$(LOCK) --output-file requirements/release.txt --group pyproject.toml:release \
	    --constraint requirements/run.txt --constraint requirements/build.txt

clean:
	rm -rf $(VENV) build dist *.egg-info bench/results .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find relay -name '*.so' -delete
	rm -f relay/_build.json
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
