# `make run` and `make test` work on a fresh machine that has Python 3.11 and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := $(VENV)/.run-installed
DEV := $(VENV)/.dev-installed
PORT ?= 8080
DATA ?= .rookery
ENGINES ?=
PARTS ?=
NODES ?= 1
REQUESTS ?= 20000

.PHONY: help run test test-engines test-fast fuzz-rest engines engines-down lint gen breaking lock clean

help:  ## Says what there is.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(RUN)  ## Installs what is needed, starts the whole mesh and prints where it listens (PORT=8080 DATA=.rookery).
	@exec $(BIN)/rookery up --port $(PORT) --data $(DATA)

test: $(DEV)  ## Runs all tests on the embedded profile.
	$(BIN)/python -m pytest -n $${TEST_WORKERS:-3} --dist loadfile --no-loadscope-reorder --ignore tests/engines

test-engines: $(DEV)  ## Runs the stores' tests on real engines, and the mesh's on them (PARTS="kafka mesh" for some).
	$(BIN)/python scripts/test_engines.py $(PARTS)

fuzz-rest: $(DEV)  ## Sends generated requests to a mesh of its own and compares answers with the document (REQUESTS=20000).
	REQUESTS=$(REQUESTS) $(BIN)/python -m pytest -p no:xdist -s --timeout 3600 tests/e2e/test_generated_requests.py

engines: $(RUN)  ## Installs and starts real stores of the cluster profile (ENGINES="postgresql ..." for some, NODES=1).
	$(BIN)/rookery engines up $(ENGINES) --nodes $(NODES)

engines-down: $(RUN)  ## Stops them.
	$(BIN)/rookery engines down $(ENGINES)

lint: $(DEV)  ## Formats are checked, types too, and the contracts' style.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy mesh views services cli bench scripts
	$(BIN)/python scripts/gen.py --image $(VENV)/contracts.binpb
	$(BIN)/buf lint $(VENV)/contracts.binpb --config proto/buf.yaml

gen: $(DEV)  ## Makes gen/ from proto/, and the table of operations in docs/rest.md.
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python scripts/gen.py
	$(BIN)/python scripts/operations.py

breaking: $(DEV)  ## Checks that the contracts changed only in compatible ways since what landed last (AGAINST=ref).
	PATH="$(CURDIR)/$(BIN):$$PATH" sh scripts/breaking.sh $(AGAINST)

lock: $(DEV)  ## Pins the newest versions that pyproject.toml allows, with hashes.
	$(BIN)/python -m pip install --quiet pip-tools==7.6.2
	$(BIN)/python scripts/lock.py

clean:  ## Removes the environment and what tools left; never data.
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build *.egg-info

# An environment is made anew when Python changed or the pins did.
$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit("Rookery needs Python 3.11 or newer; set PYTHON=...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

$(RUN): $(VENV)/pyvenv.cfg requirements/run.txt pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/run.txt
	$(BIN)/python scripts/link.py
	$(BIN)/python -m services.tweet.language_model
	@touch $@

$(DEV): $(RUN) requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/dev.txt
	@touch $@
