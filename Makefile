# Needs Python >= 3.11 with venv, pip and make; everything else goes into .venv, and no server of the machine is used.
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
DATA_DIR ?=
NODES ?=
REPLICAS ?=
PORT ?= 8080
URL ?= http://127.0.0.1:$(PORT)
USERS ?= 200
EVE_S ?= 90
LOAD_OPTIONS ?=
INPUTS ?= 200000
OPERATIONS ?= 1000000
KILLS ?= 25
ACK ?= memory
CHAOS_OPTIONS ?=
NODES ?=
FAULTS ?= 30
SEED ?= 1
# Where a shell or an image says to write no bytecode, each of the hundreds of processes would compile everything again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo serve check format client texts vendor test test-long test-browser test-hostile fuzz model bench bench-quick load chaos lock clean

help: ## these lines
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r target text; do printf '  make %-12s %s\n' "$$target" "$$text"; done

$(READY): pyproject.toml requirements.lock requirements-dev.lock requirements-tools.lock clients/python/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "hongbao needs Python 3.11 or newer; set PYTHON=/path/to/one" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement requirements-tools.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable . --editable clients/python
	@touch $@

setup: $(READY) ## only the environment

demo: $(READY) ## a storm over real HTTP on embedded servers, persisted and audited; NODES (3) of a Redis Cluster
	@$(BIN)/python -m loadtest.demo $(if $(NODES),--nodes $(NODES))

serve: $(READY) ## up and stay up, on PORT (8080); DATA_DIR keeps the data elsewhere; NODES (3) of a Redis Cluster, REPLICAS
	@exec $(BIN)/hongbao up --port $(PORT) $(if $(DATA_DIR),--data-dir '$(DATA_DIR)') $(if $(NODES),--redis-nodes $(NODES)) $(if $(REPLICAS),--replicas $(REPLICAS))

check: $(READY) ## lint, types, import rules
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(READY) ## write the code as `make check` wants it
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

client: $(READY) ## write the Python client's models and methods anew, after a change of the API
	@$(BIN)/python -m clients.generator

texts: $(READY) ## find the console's texts, and compile their translations
	@$(BIN)/python -m tests.support.catalogues

vendor: $(READY) ## fetch the console's vendored files again by npm, as vendor.json lists them; needs node
	@$(BIN)/python -m tests.support.vendored

test: $(READY) ## every test but the long ones (about 5 minutes on two cores)
	@$(BIN)/python -m pytest -n auto --dist worksteal -m "not long"
	@echo "The long ones (whole installations, storms, chaos, models, random requests): make test-long. CI runs both."

test-long: $(READY) ## the tests that take seconds, or start whole installations (about 18 minutes)
	@$(BIN)/python -m pytest -n auto --dist worksteal -m long

test-browser: $(READY) ## the tests in a real Chromium, the long ones as well; PICTURES (a folder) keeps pictures of the pages
	@$(BIN)/python -m pytest -n auto --dist worksteal -m browser $(if $(PICTURES),--take-pictures '$(PICTURES)')

test-hostile: $(READY) ## the tests that depend on the machine, on difficult ones: just booted, at midnight, without root, busy; ONLY (names)
	@$(BIN)/python -m tests.hostile $(if $(ONLY),--only $(ONLY))

fuzz: $(READY) ## INPUTS (200000) changed bodies by SEED, 20,000 of XML, and more of schemathesis's examples than `make test-long` tries
	@$(BIN)/python -m pytest -s tests/api/test_api_fuzz.py tests/api/test_api_schema.py tests/wechatpay/test_wechatpay_fuzz.py --fuzz-inputs $(INPUTS) --fuzz-seed $(SEED) --schema-examples 200

model: $(READY) ## OPERATIONS (1000000) on the whole engine, each held against a model of a hundred lines
	@$(BIN)/python -m pytest -s tests/whole/test_engine_model.py --model-operations $(OPERATIONS)

bench: $(READY) ## the whole benchmark report (about 45 minutes); INSTALL=1 gets wrk, redis-server and the peers first
	@$(BIN)/python -m benchmarks $(if $(INSTALL),--install) $(if $(OUT),--out $(OUT))

bench-quick: $(READY) ## the same with fewer and shorter runs (under 4 minutes)
	@$(BIN)/python -m benchmarks --quick $(if $(INSTALL),--install) $(if $(OUT),--out $(OUT))

load: $(READY) ## the festival's eve, by locust, on the server at URL (`make serve`); USERS, EVE_S, DATA_DIR, LOAD_OPTIONS
	@exec $(BIN)/python -m loadtest.load --url $(URL) --users $(USERS) --eve-s $(EVE_S) $(if $(DATA_DIR),--data-dir '$(DATA_DIR)') $(LOAD_OPTIONS)

chaos: $(READY) ## faults from a SEED (1), 25 KILLS (or 1000), then every answer held against the books; ACK, CHAOS_OPTIONS; NODES=3: a cluster, FAULTS (30)
	@exec $(BIN)/python -m loadtest.chaos --seed $(SEED) $(if $(NODES),--nodes $(NODES) --faults $(FAULTS),--kills $(KILLS)) --ack $(ACK) $(CHAOS_OPTIONS)

lock: ## pin what pyproject.toml allows, newest first, in the lock files
	@$(PYTHON) -m venv .venv-lock
	@.venv-lock/bin/python -m pip install --quiet --disable-pip-version-check .
	@.venv-lock/bin/python -m pip freeze --disable-pip-version-check --exclude hongbao > requirements.lock
	@.venv-lock/bin/python -m pip install --quiet --disable-pip-version-check '.[dev]'
	@.venv-lock/bin/python -m pip freeze --disable-pip-version-check --exclude hongbao > requirements-dev.lock
	@rm -r .venv-lock

clean: ## remove the environment and what the tools left
	@rm -rf .venv .venv-lock .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist *.egg-info
