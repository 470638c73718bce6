# make demo: from nothing to a picture of new digits.   make test: everything that must hold.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test lint types bench setup clean gpu-check
setup: $(STAMP)

# Every source the extension is made of: touching one rebuilds it (seconds), touching none costs nothing.
SOURCES := setup.py CMakeLists.txt pyproject.toml constraints.txt $(shell find csrc kernels -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh')

PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt

# torch first: the extension is built against it, and an isolated build would fetch another one. CUDA builds of torch bring their own
# triton; a CPU build needs one only to interpret and compile the Triton kernels in the tests.
$(STAMP): $(SOURCES)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the pinned dependencies (once) ..."
	@$(PIP) torch numpy pybind11 cmake ninja setuptools wheel
	@echo "Building genfast ..."
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(PIP) --no-build-isolation -e ".[dev,tensorboard]"
	@$(BIN)/python -c "import triton" 2>/dev/null || $(PIP) triton==3.6.0 || echo "No triton here: its tests will be skipped."
	@touch $@

demo: setup
	@$(BIN)/genfast demo

# A process a core, up to four; the tests of a file stay together, since they share what takes long to make.
test: setup
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

lint: setup
	$(BIN)/ruff check .

types: setup
	$(BIN)/mypy

bench: setup
	$(BIN)/genfast bench

# For a machine with a GPU, in the environment that has its torch (PYTHON=...; nothing is downloaded): builds the extension with its
# CUDA kernels, runs the whole suite, in which nothing may be skipped for want of a GPU, compute-sanitizer and the benchmarks, in nine
# minutes, and writes benchmarks/results/GPU/.
gpu-check:
	$(PYTHON) benchmarks/gpu_check.py

clean:
	rm -rf $(VENV) build *.egg-info genfast/*.so
