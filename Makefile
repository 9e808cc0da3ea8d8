# `make demo` and `make test` need nothing but Python >= 3.11: each creates the environment first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# A file's tests share their fixtures and compilations, so a worker takes whole files, the longest ones not last.
SPREAD := -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-fast test-oldest docs benchmarks lint format clean

demo: $(VENV)/.installed
	$(BIN)/jaxprune run configs/digits.py --out runs/digits

test: $(VENV)/.installed lint
	$(BIN)/python -m pytest $(SPREAD) -m "not gpu"

test-fast: $(VENV)/.installed
	$(BIN)/python -m pytest $(SPREAD) -m "not gpu and not slow"

# The oldest versions that pyproject.toml admits. `make test` takes the newest that the Python has:
# `make test VENV=.venv-new PYTHON=python3.13`.
test-oldest:
	$(PYTHON) -m venv $(VENV)-oldest
	$(VENV)-oldest/bin/python -m pip install --quiet --editable '.[study,test]' --constraint tests/oldest.txt
	$(VENV)-oldest/bin/python -m pytest $(SPREAD) -m "not gpu and not slow"

docs: $(VENV)/.installed
	$(BIN)/python -m sphinx -W --keep-going -q docs build/docs

# On an idle machine. Installs what it compares with, PyTorch among it.
benchmarks: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[study,test,docs,bench]'
	$(BIN)/python benchmarks/page.py --out docs/benchmarks.md

lint: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

format: $(VENV)/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[study,test,docs]'
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-oldest runs
