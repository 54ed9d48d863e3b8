# Two commands: `make curves` and `make test`. Both set up `.venv` by themselves.

PYTHON ?= python3
BIN := .venv/bin
WORKDIR ?= results/quickstart

.PHONY: curves test lint types check format bench clean

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

bench: .venv/ready-dev
	$(BIN)/python -m benchmarks.data_overhead

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
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache .mypy_cache
