# Two commands: `make curves` and `make test`. Both set up `.venv` by themselves.

PYTHON ?= python3
BIN := .venv/bin
WORKDIR ?= results/quickstart
# the python of the benchmarks' torch rows: that of `make torch` where it is, else ours, which may lack torch
TORCH_PYTHON ?= $$(test -e .venv-torch/ready && echo .venv-torch/bin/python || echo $(BIN)/python)

.PHONY: curves test lint types check format bench bench-full torch clean

curves: .venv/ready
	$(BIN)/scaling curves --config=configs/quickstart.py --workdir=$(WORKDIR)

test: .venv/ready-dev
	$(BIN)/python -m pytest -m "not slow"

check: lint types test

lint: .venv/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/ready-dev
	$(BIN)/mypy

format: .venv/ready-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The quick set, under five minutes on two idle cores. `make torch bench` has the torch rows, too.
bench: .venv/ready-dev
	$(BIN)/python -m benchmarks.training_step --ways=quick --rounds=3 --seconds=2 --torch_python=$(TORCH_PYTHON)
	$(BIN)/python -m benchmarks.start --repeats=2

bench-full: .venv/ready-dev
	$(BIN)/python -m benchmarks.training_step --torch_python=$(TORCH_PYTHON)
	$(BIN)/python -m benchmarks.start
	$(BIN)/python -m benchmarks.sweep --torch_python=$(TORCH_PYTHON)
	$(BIN)/python -m benchmarks.sweep --size=S --ways=quick --torch_python=$(TORCH_PYTHON)
	$(BIN)/python -m benchmarks.cost_scaling
	$(BIN)/python -m benchmarks.data_overhead

torch: .venv-torch/ready

.venv-torch/ready:
	$(PYTHON) -m venv .venv-torch
	.venv-torch/bin/python -m pip install --quiet --disable-pip-version-check numpy torch
	touch $@

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: Python 3.11 or newer is needed, $$($(PYTHON) --version) found; set PYTHON=..."; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

.venv/ready-dev: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv .venv-torch build *.egg-info .pytest_cache .ruff_cache .mypy_cache
