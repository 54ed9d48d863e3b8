# Two commands: `make curves` and `make test`. Both set up `.venv` by themselves.
# `make test-peers` compares with torch and transformers in an environment of its own.

PYTHON ?= python3
BIN := .venv/bin
WORKDIR ?= results/quickstart
# the python of the benchmarks' torch rows, made by `make torch` unless another is named
TORCH_PYTHON ?= .venv-torch/bin/python
TORCH_READY := $(if $(filter .venv-torch/bin/python,$(TORCH_PYTHON)),.venv-torch/ready)

.PHONY: curves test test-peers lint types check format bench bench-full torch clean

curves: .venv/ready
	$(BIN)/scaling curves --config=configs/quickstart.py --workdir=$(WORKDIR)

test: .venv/ready-dev
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist worksteal

# Apart from `make test`, which needs no download of this size.
test-peers: .venv-peers/ready
	.venv-peers/bin/python -m pytest tests/peers

check: lint types test

lint: .venv/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/ready-dev
	$(BIN)/mypy

format: .venv/ready-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The quick set, under five minutes on two idle cores once torch is there, a large download.
bench: .venv/ready-dev $(TORCH_READY)
	$(BIN)/python -m benchmarks.training_step --ways=quick --rounds=2 --seconds=2 --torch_python=$(TORCH_PYTHON)
	$(BIN)/python -m benchmarks.start --repeats=1

# All that compares speed, about an hour and a half.
bench-full: .venv/ready-dev $(TORCH_READY)
	$(BIN)/python -m benchmarks.training_step --torch_python=$(TORCH_PYTHON)
	$(BIN)/python -m benchmarks.start
	$(BIN)/python -m benchmarks.data_overhead
	$(BIN)/python -m benchmarks.sweep --torch_python=$(TORCH_PYTHON)
	$(BIN)/python -m benchmarks.sweep --size=S --ways=quick --torch_python=$(TORCH_PYTHON)
	$(BIN)/python -m benchmarks.cost_scaling
	$(BIN)/python -m benchmarks.fit_speed

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

.venv-peers/ready: pyproject.toml constraints.txt constraints-peers.txt
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check \
		-c constraints.txt -c constraints-peers.txt -e '.[peers]'
	touch $@

clean:
	rm -rf .venv .venv-torch .venv-peers build *.egg-info .pytest_cache .ruff_cache .mypy_cache
