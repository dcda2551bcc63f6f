# A fresh machine needs Python 3.11 with venv, and make. Each target makes what it needs on its first use.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: setup demo test check bench format clean

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(INSTALLED)  ## the whole road on the embedded sample, offline; then what it made tags a sentence in six languages
	HF_HUB_OFFLINE=1 $(BIN)/halfling run recipes/demo.yaml
	$(BIN)/halfling predict runs/demo/export/student-uniform-exits-wikiann-0/int8-exits --in-text --file recipes/demo.txt

test: $(INSTALLED)  ## every test that needs nothing from outside
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

check: $(INSTALLED)  ## what CI runs: format, lint, types, layers, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) test

bench: $(INSTALLED)  ## time and quality beside peers, on the model that `make demo` trained
	$(BIN)/python benchmarks/peers.py runs/demo/exits/student-uniform-wikiann-0 --policy runs/demo/calibrate/student-uniform-wikiann-0

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) runs .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
