# Fresh clone to a trained tree: make demo.   Fresh clone to a passed test suite: make test.   All targets: make help.
#
# Everything goes into .venv; only pip reaches for the network. PYTHON picks the interpreter that makes it.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
JOBS   ?= 2
ALONE  := tests/fleet tests/integration tests/crash# they start processes of their own; the others share the cores
HANGS  := 1200# seconds after which a test is taken to hang: it fails and the others run
NATIVE := CMakeLists.txt $(shell find csrc -type f 2>/dev/null)

.DEFAULT_GOAL := help
.PHONY: help demo fleet test test-full test-cpp test-tflite test-executorch test-install wheel-aarch64 test-arm64 test-arm64-full test-container test-jvm test-jvm-arm64 fuzz-wire soak lint bench clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

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

$(VENV)/.fleet: $(VENV)/.run
	$(PIP) install -q -c constraints.txt --no-build-isolation -e ".[sim,fleet]"
	touch $@

demo: $(VENV)/.run ## train a cloud, 3 edges and 12 devices on handwritten digits; pictures in runs/digits
	$(BIN)/fedagg simulate examples/digits.toml --overwrite

fleet: $(VENV)/.fleet ## a cloud, 2 edges and 6 devices as processes on this machine, over TLS; in runs/fleet-fleet
	$(BIN)/fedagg fleet up fleet --overwrite

test: $(VENV)/.dev test-cpp ## build, install, run the tests of C++ and Python
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" --timeout $(HANGS) -n $(JOBS) --dist loadfile $(patsubst %,--ignore=%,$(ALONE))
	$(BIN)/python -m pytest -m "not slow" --timeout $(HANGS) $(ALONE)

# docs/kills.json: what its kills came to, to be committed
test-full: $(VENV)/.dev test-cpp test-tflite test-executorch test-install test-arm64-full test-jvm test-jvm-arm64 ## all of it; tests marked data want FEDAGG_DATA
	FEDAGG_KILLS=docs/kills.json $(BIN)/python -m pytest --timeout 10000

# Debug, so that a wider instruction set's weak symbols would show (tests/cpp/no_weak_symbols.cmake)
test-cpp: $(VENV)/.tools ## the C++ tests alone
	$(BIN)/cmake -S . -B build/tests -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN)/ninja) -DCMAKE_BUILD_TYPE=Debug -DFEDAGG_TESTS=ON
	$(BIN)/cmake --build build/tests -j $(JOBS)
	$(BIN)/ctest --test-dir build/tests --output-on-failure -j $(JOBS)

# the older runtime wants numpy < 2, so it lives in an environment of its own, which has no torch either
test-tflite: $(VENV)/.dev ## golden training steps in tflite-runtime as well as in ai-edge-litert
	test -x .venv-tflite/bin/python || $(PYTHON) -m venv .venv-tflite
	.venv-tflite/bin/python -m pip install -q "scikit-build-core>=0.10" "pybind11>=2.13" cmake ninja
	.venv-tflite/bin/python -m pip install -q --no-build-isolation ".[tflite]"
	FEDAGG_TFLITE_PYTHON=$(CURDIR)/.venv-tflite/bin/python $(BIN)/python -m pytest tests/golden

# executorch brings 1.7 GB and its own torch requirement
test-executorch: $(NATIVE) ## the executorch engine, in an environment of its own
	test -x .venv-executorch/bin/python || $(PYTHON) -m venv .venv-executorch
	.venv-executorch/bin/python -m pip install -q -c constraints.txt torch
	.venv-executorch/bin/python -m pip install -q -c constraints.txt "scikit-build-core>=0.10" "pybind11>=2.13" cmake ninja
	.venv-executorch/bin/python -m pip install -q -c constraints.txt --no-build-isolation ".[executorch]" pytest hypothesis scikit-learn
	.venv-executorch/bin/python -m pytest tests/unit/export/test_executorch*.py tests/unit/learners/test_executorch*.py

# needs a JDK, Debian's junit5, CMake and g++ (.ci/run has the packages)
test-jvm: $(VENV)/.dev ## the JVM bridge of android_bridge/: JNI, wire and a device beside a real edge, in JUnit
	REQUIRE_FLEET=1 REQUIRE_LITERT=1 PATH="$(abspath $(BIN)):$$PATH" android_bridge/test.sh build/jvm

test-jvm-arm64: $(VENV)/.dev ## the same on a 64-bit ARM Java under qemu, with the NEON library
	REQUIRE_FLEET=1 PATH="$(abspath $(BIN)):$$PATH" android_bridge/test-arm64.sh build/jvm-arm64

fuzz-wire: $(VENV)/.dev ## what reads a neighbour's bytes, fuzzed with atheris for SECONDS
	$(PIP) install -q -c constraints.txt atheris
	mkdir -p build/fuzz/found-wire
	$(BIN)/python tests/wire/fuzz_wire.py --seconds $(SECONDS) --corpus build/fuzz/found-wire
SECONDS ?= 60

soak: $(VENV)/.dev ## two thousand simulated devices at one gateway: its memory must stay where it is
	$(BIN)/python tests/fleet/soak.py --clients 2000 --rounds 24 $(JSON)

# needs g++-aarch64-linux-gnu, or WITH=zig for a manylinux2014 wheel; another ARM_PYTHON wants an ARM_HOST of that version
WITH ?= gnu
ARM_PYTHON ?= 3.11
ARM_HOST ?= $(PYTHON)
ARM_WHEEL = $$(ls -t dist/fedagg_edge-*-cp$(subst .,,$(ARM_PYTHON))-*aarch64.whl | head -1)
wheel-aarch64: ## the wheel for 64-bit ARM Linux, in dist/
	PYTHON=$(ARM_HOST) tools/build-wheel-aarch64 --with $(WITH) --python $(ARM_PYTHON) --out dist

# needs Linux 6.7, mmdebstrap and qemu-user-static beside the compiler; under ten minutes
test-arm64: $(VENV)/.dev wheel-aarch64 ## the wheel in a Debian root of arm64 under qemu: pip, kernels on NEON, an agent in a fleet
	PYTHON=$(abspath $(BIN)/python) tests/arm64/userland.sh "$(ARM_WHEEL)"

test-arm64-full: $(VENV)/.dev wheel-aarch64 ## the same with more rounds, and the tests of all that an agent stands on
	PYTHON=$(abspath $(BIN)/python) tests/arm64/userland.sh --full "$(ARM_WHEEL)"

test-container: $(VENV)/.dev ## the image of deploy/Containerfile built by buildah on a stand-in for its base, a cloud in it started and stopped
	tests/container/image.sh build/container

# a board's environment: one TFLite runtime, no torch; the training file comes from the environment that has it
test-install: $(VENV)/.dev ## fedagg-edge[litert] alone in a new environment: what it brings, how fast it imports, a step
	rm -rf .venv-litert && $(PYTHON) -m venv .venv-litert
	.venv-litert/bin/python -m pip install -q -c constraints.txt ".[litert]"
	mkdir -p build && $(BIN)/fedagg export mlp --sample-shape 1 8 8 --classes 10 --out build/install.tflite
	.venv-litert/bin/python tools/check_install.py build/install.tflite

lint: $(VENV)/.dev ## ruff and mypy --strict
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/.dev ## the benchmarks, a minute each; QUICK= for the full ones, JSON=--json for rows
	@for b in benchmarks/*.py; do echo "== $$b"; $(BIN)/python $$b $(QUICK) $(JSON) || exit 1; done
QUICK ?= --quick

clean: ## remove what the targets above made, but not runs/
	rm -rf $(VENV) .venv-litert .venv-tflite .venv-executorch build dist
