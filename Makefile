# Two commands do everything on a fresh machine: `make demo` and `make test`.
# PYTHON chooses the interpreter (3.11 or newer); everything is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LINKS := core indexer retriever reranker api

.PHONY: demo serve test check bench trust audit links format clean

demo: $(STAMP)
	$(BIN)/longleaf demo $(if $(DOCS),--docs "$(DOCS)")

serve: $(STAMP)
	$(BIN)/longleaf serve $(if $(wildcard .demo/catalog.sqlite3),--home .demo)

# A file's tests stay together, because they share what is slow to start; in the order of their names, so
# that no long file comes last and alone.
test: $(STAMP)
	$(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)
	$(BIN)/python benchmarks/run.py

trust: $(STAMP)
	$(BIN)/python -m benchmarks.trust.run $(GOALS)

# ADVISORIES: a copy of OSV's files of PyPI (folder or zip). SBOM: where to write one.
audit: $(STAMP)
	$(BIN)/python -m benchmarks.trust.dependencies $(if $(ADVISORIES),--advisories "$(ADVISORIES)") $(if $(SBOM),--sbom "$(SBOM)")

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Where git could not make symbolic links (Windows with core.symlinks=false), say so at once.
links:
	@for name in $(LINKS); do \
	  test -d src/longleaf/$$name/. || { \
	    echo "src/longleaf/$$name is not a link to ../../$$name. Your git made a text file of it:"; \
	    echo "run 'git config core.symlinks true' and 'git checkout -- src/longleaf'."; exit 1; }; \
	done

$(STAMP): pyproject.toml | links
	$(PYTHON) -c 'import sys; sys.exit("Longleaf needs Python 3.11 or newer: make PYTHON=python3.12") if sys.version_info < (3, 11) else 0'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[dev,clients]"
	touch $(STAMP)

clean:
	rm -rf $(VENV) .demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
