# make demo    the main job on simulated cells, or on yours: make demo DATA=cells.h5ad
# make test    the default test suite
# Both make the environment first, once. It needs Python 3.11 or later, pip and a C compiler, and nothing else.

PYTHON ?= python3
VENV ?= .venv
DATA ?=
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DOCS_INSTALLED := $(VENV)/.installed-docs
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: help venv docs-venv demo test coverage lint benchmark tutorials docs clean
.DEFAULT_GOAL := help

help:
	@echo "make demo [DATA=cells.h5ad]   embed simulated cells (or yours) into demo/: UMAP, .h5ad, table"
	@echo "make test                     run the default tests, one process a core"
	@echo "make coverage                 run them with the share of lines that they reach, into htmlcov/"
	@echo "make lint                     run ruff and mypy"
	@echo "make benchmark                run the programs of benchmarks/"
	@echo "make tutorials                run the code of the tutorials"
	@echo "make docs                     run the tutorials and build the documentation into docs/_build/html"
	@echo "make venv                     only make the environment in $(VENV)"
	@echo "PYTHON=python3.12 chooses the interpreter (3.11 or later)"

venv: $(INSTALLED)

# torch comes first: installed by itself it is the build that pip finds best here, and nothing after it brings another.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit(f"scatacformer needs Python 3.11 or later; $(PYTHON) is {v[0]}.{v[1]}. Choose another: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade 'pip>=25.1'
	$(PIP) install --quiet --constraint constraints.txt torch==2.13.0
	$(PIP) install --quiet --constraint constraints.txt --editable . --group test --group dev
	@touch $@

docs-venv: $(DOCS_INSTALLED)

$(DOCS_INSTALLED): $(INSTALLED)
	$(PIP) install --quiet --constraint constraints.txt --group doc
	@touch $@

demo: $(INSTALLED)
	$(BIN)/python -m scatacformer demo $(if $(DATA),--data '$(DATA)') --output demo

test: $(INSTALLED)
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile $(ARGS)

coverage: $(INSTALLED)
	$(PIP) install --quiet --constraint constraints.txt --group coverage
	$(BIN)/python -m coverage run -m pytest $(ARGS)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report --format=total
	$(BIN)/python -m coverage html --quiet

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

benchmark: $(INSTALLED)
	$(PIP) install --quiet --constraint constraints.txt --editable '.[benchmark]'
	set -e; for program in benchmarks/[a-z]*.py; do $(BIN)/python "$$program"; done

tutorials: $(INSTALLED)
	$(BIN)/python docs/run_tutorials.py $(ARGS)

docs: $(DOCS_INSTALLED)
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

clean:
	rm -rf demo docs/_build docs/generated docs/tutorials htmlcov
