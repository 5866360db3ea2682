# Fresh clone to a trained tree: make demo.   Fresh clone to a passed test suite: make test.   All targets: make help.
#
# Everything goes into .venv; only pip reaches for the network. PYTHON picks the interpreter that makes it.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
JOBS   ?= 2
NATIVE := CMakeLists.txt $(shell find csrc -type f 2>/dev/null)

.DEFAULT_GOAL := help
.PHONY: help demo test test-full test-cpp lint bench clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.tools: constraints.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@# torch first: what depends on it would otherwise draw an unpinned one
	$(PIP) install -q -c constraints.txt torch
	$(PIP) install -q -c constraints.txt "scikit-build-core>=0.10" "pybind11>=2.13" cmake ninja
	touch $@

$(VENV)/.run: $(VENV)/.tools $(NATIVE)
	$(PIP) install -q -c constraints.txt --no-build-isolation -e ".[sim]"
	touch $@

$(VENV)/.dev: $(VENV)/.run
	$(PIP) install -q -c constraints.txt --no-build-isolation -e ".[sim,dev]"
	touch $@

demo: $(VENV)/.run ## train a cloud, 3 edges and 12 devices on handwritten digits; pictures in runs/digits
	$(BIN)/fedagg simulate examples/digits.toml --overwrite

test: $(VENV)/.dev test-cpp ## build, install, run the tests of C++ and Python
	$(BIN)/python -m pytest -m "not slow"

test-full: $(VENV)/.dev test-cpp ## the slow tests too; those marked data want FEDAGG_DATA
	$(BIN)/python -m pytest

# Debug, so that a wider instruction set's weak symbols would show (tests/cpp/no_weak_symbols.cmake)
test-cpp: $(VENV)/.tools ## the C++ tests alone
	$(BIN)/cmake -S . -B build/tests -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN)/ninja) -DCMAKE_BUILD_TYPE=Debug -DFEDAGG_TESTS=ON
	$(BIN)/cmake --build build/tests -j $(JOBS)
	$(BIN)/ctest --test-dir build/tests --output-on-failure -j $(JOBS)

lint: $(VENV)/.dev ## ruff and mypy --strict
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/.dev ## the benchmarks, a minute each; QUICK= for the full ones, JSON=--json for rows
	@for b in benchmarks/*.py; do echo "== $$b"; $(BIN)/python $$b $(QUICK) $(JSON) || exit 1; done
QUICK ?= --quick

clean: ## remove what the targets above made, but not runs/
	rm -rf $(VENV) build dist
