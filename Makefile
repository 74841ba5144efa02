# heteromics: `make demo` and `make test` set everything up on a fresh machine with Python 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
NAME ?=
WORKERS ?= 2
export MPLBACKEND := Agg
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo test bench notebooks lint format clean

help:
	@echo "make setup   create $(VENV) and install heteromics with its pinned dependencies"
	@echo "make demo    run the main job on real and synthetic data, write runs/demo/report.html"
	@echo "make test    run the test suite with coverage, in two processes (WORKERS=0 for one)"
	@echo "make bench   run the benchmarks (NAME=spmm for one) and write their rows of tests/benchmarks/RESULTS.md"
	@echo "make notebooks  run notebooks/*.py and write the notebooks beside them"
	@echo "make lint    ruff and mypy"

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 13) else "heteromics needs Python 3.11 or 3.12, found %d.%d. Fix: make setup PYTHON=python3.11" % v)'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

$(VENV)/.bench: $(VENV)/.installed
	$(PIP) install --quiet --constraint constraints.txt --editable '.[bench]'
	touch $@

demo: setup
	$(BIN)/heteromics demo --out runs/demo

test: setup
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --cov --cov-report=term $(ARGS)

bench: $(VENV)/.bench
	$(BIN)/python -m tests.benchmarks $(NAME)

$(VENV)/.notebooks: $(VENV)/.installed
	$(PIP) install --quiet --constraint constraints.txt --editable '.[notebooks]'
	$(BIN)/python -m ipykernel install --prefix $(VENV) --name python3
	touch $@

notebooks: $(VENV)/.notebooks
	cd notebooks && for text in *.py; do ../$(BIN)/jupytext --to ipynb --execute $$text || exit 1; done

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .coverage
