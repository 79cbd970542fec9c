PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo docs test lint faults fuzz bench bench-gpu clean

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(READY)  ## make .venv and install manyscale with all extras

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check --quiet --constraint constraints.txt \
		--editable '.[all,dev]'
	@touch $@

demo: $(READY)  ## make events, train, evaluate; writes runs/demo/report.html
	rm -rf runs/demo
	$(BIN)/manyscale demo --out runs/demo

docs: $(READY)  ## build the site of the docs, site/index.html; a broken link fails
	$(BIN)/python -m sphinx --fail-on-warning --keep-going -q -b html docs site

test: lint  ## lint, types and tests
	$(BIN)/pytest -n 2 --dist worksteal

lint: $(READY)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

faults: $(READY)  ## let each file operation of the commands fail, or be the last, in turn
	FAULTS_EACH=1 $(BIN)/pytest -q tests/faults

fuzz: $(READY)  ## read 10,000 spoiled files
	FUZZ_CASES=530 $(BIN)/pytest -q -n 2 tests/fuzz

bench: $(READY)  ## measure rates against their rivals
	$(BIN)/python benchmarks/table.py
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/generation.py
	$(BIN)/python benchmarks/conversion.py
	$(BIN)/python benchmarks/jet_frame.py
	$(BIN)/python benchmarks/memory.py data/memory --repeats 1

bench-gpu: $(READY)  ## measure training on a GPU against padding
	$(BIN)/python benchmarks/gpu.py

clean:  ## remove the environment, caches and runs/demo
	rm -rf $(VENV) runs/demo site .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	rm -rf src/*.egg-info
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
