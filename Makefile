# make demo: from nothing to a board in one command.   make test: the tests.   make check: lint and types.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PLUGINS := $(sort $(wildcard plugins/*/pyproject.toml))
PLUGIN_DIRS := $(patsubst %/pyproject.toml,%,$(PLUGINS))
STAMP  := $(VENV)/.installed

DEMO_RUNS := runs/demo
DEMO_SITE := site

.PHONY: demo test check format findings wheels clean install

install: $(STAMP)

# Exact versions for development come from constraints.txt; the ranges users get are in pyproject.toml
$(STAMP): pyproject.toml constraints.txt $(PLUGINS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]" $(addprefix -e ./,$(PLUGIN_DIRS))
	@touch $@

demo: $(STAMP)
	$(BIN)/vcorr run --model tiny --probe qk,feature,feature-fair --data sprites --limit 16 --out $(DEMO_RUNS)
	$(BIN)/vcorr run --model token-patches --data sprites --limit 16 --out $(DEMO_RUNS)
	$(BIN)/vcorr board build --results $(DEMO_RUNS) --out $(DEMO_SITE)

test: $(STAMP)
	$(BIN)/python -m pytest

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The tables of docs/findings.md, measured again
findings: $(STAMP)
	$(BIN)/python -m vcorr_tiny.findings --out runs/findings --docs docs

wheels: $(STAMP)
	$(BIN)/python -m build --wheel --outdir dist .
	for dir in $(PLUGIN_DIRS); do $(BIN)/python -m build --wheel --outdir dist $$dir; done

clean:
	rm -rf $(VENV) dist build
