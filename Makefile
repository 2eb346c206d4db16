# Two commands: `make demo` (the main job) and `make test`. Each sets up what it needs, given Python 3.11 and a package index.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
EXTRAS := events,train,images,detect,viz,nir,text,gpu,dev

# One setting finds real data; a copy beside the project is used when nothing else is said.
ifndef SPIKEKIT_DATA
ifneq ($(wildcard ../shared/data/NMNIST),)
export SPIKEKIT_DATA := $(abspath ../shared/data)
endif
endif

.PHONY: demo test help test-slow check format folds bench bench-check docs setup clean

demo: setup
	$(BIN)/python examples/01_events_to_chip.py

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not slow"

test-slow: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal -m slow

help:
	@echo "make demo         train on real N-MNIST, quantise, run on Intel Lava, prove it equal"
	@echo "make test         the test suite"
	@echo "make test-slow    its second tier: sanitizers, Lava at length, compilers"
	@echo "make check        ruff and mypy;  make format  puts right what ruff can"
	@echo "make folds        five-fold cross-validation on N-MNIST"
	@echo "make bench        all benchmarks beside the peers;  make bench-check  the peers' equalities"
	@echo "make docs         this documentation as a site;  make clean  removes all that was made"

# mypy knows no package-dir mapping: give it the package as it is once installed.
check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf build/typed && mkdir -p build/typed/spikekit
	for part in spikekit/* models datasets; do ln -s "$(CURDIR)/$$part" build/typed/spikekit/; done
	cd build/typed && "$(CURDIR)/$(BIN)/mypy" --config-file "$(CURDIR)/pyproject.toml" -p spikekit

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Five-fold cross-validation over all 1,100 recordings of the N-MNIST subset.
folds: setup
	$(BIN)/python -m benchmarks.nmnist_folds

# All benchmarks at one thread and at two, and the table of goals in benchmarks/results/summary.md; half an hour or more.
# The peers are installed without their dependencies, which would pull other builds of torch.
bench: .venv-bench/ready
	.venv-bench/bin/python -m benchmarks.all

# The migration page's equalities, with the peers themselves.
bench-check: .venv-bench/ready
	.venv-bench/bin/python -m pytest -q tests/docs/test_migration.py tests/interop tests/measure/test_neurobench_peer.py tests/benchmarks

.venv-bench/ready: benchmarks/requirements.txt constraints.txt pyproject.toml
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip install -q -c constraints.txt torch
	.venv-bench/bin/pip install -q -c constraints.txt numpy safetensors matplotlib h5py pytest pytest-timeout hypothesis
	.venv-bench/bin/pip install -q -c constraints.txt --no-deps -e .
	.venv-bench/bin/pip install -q --no-deps -r benchmarks/requirements.txt
	touch $@

docs: setup
	$(BIN)/pip install -q -c constraints.txt -e '.[docs]'
	$(BIN)/mkdocs build --strict

setup: $(VENV)/ready

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt torch
	$(BIN)/pip install -q -c constraints.txt -e '.[$(EXTRAS)]'
	$(BIN)/spikekit lava install
	touch $@

clean:
	rm -rf $(VENV) .venv-bench build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
