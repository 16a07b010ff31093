# make study   sets everything up in .venv, then runs the study on the embedded corpus
# make test    sets everything up, then runs the tests
# make bench   sets everything up, then runs the benchmarks of docs/performance.md, which take an hour
PYTHON ?= python3
BIN := .venv/bin

.PHONY: study test test-all bench lint install clean

study: install
	$(BIN)/python study/run.py --space proselflc

test: install
	$(BIN)/python -m pytest -m "not slow"

test-all: install
	$(BIN)/python -m pytest

bench: install
	$(BIN)/python benchmarks/step.py
	$(BIN)/python benchmarks/epoch.py
	$(BIN)/python benchmarks/study.py
	$(BIN)/python benchmarks/features.py
	$(BIN)/python benchmarks/growth.py
	$(BIN)/python benchmarks/encoders.py

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: .venv/.installed

.venv/.installed: setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is required. Name one: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || \
	  { echo "$(PYTHON) cannot create a virtual environment. On Debian: apt install python3-venv"; rm -rf .venv; exit 2; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps crowd-kit
	@touch $@

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache
