# The only interface for people and CI. Needs Python 3.12+, make and a C library; the rest is set up here.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= $(shell command -v python3.12 || command -v python3)
BIN := .venv/bin
PY := $(BIN)/python
# A stamp is named after the content of its lock file: another lock is another stamp.
STAMP := .venv/.locked-$(shell cksum < requirements.lock | tr ' ' '-')
DEV_STAMP := .venv/.dev-locked-$(shell cat requirements.lock requirements-dev.lock | cksum | tr ' ' '-')
PIP := $(PY) -m pip install --disable-pip-version-check --no-deps --require-hashes -qq
COMPILE := $(BIN)/uv pip compile --quiet --python-version 3.12 --generate-hashes --no-emit-index-url --no-annotate --no-header
# Named here, because the patterns in it count from the repository only when it is.
RUFF := --config infra/lint/ruff.toml
PATHS := services shared infra loadtests tests
# Tests mostly wait for processes, so two files run at a time; `make test SPREAD=` for one. Hundreds of
# processes are started, so what is compiled is kept even where the environment says otherwise.
SPREAD := -n 2 --dist loadfile

.PHONY: help setup run demo cluster sites up down test chaos test-gpu bench load docs lint audit fmt lock clean

##@ Use it

help: ## show this list
	@awk 'BEGIN {FS = ":.*## "} /^##@ / {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile

setup: $(STAMP) ## create .venv and install the locked packages (the other targets call this)

run: setup ## run the whole system on this machine; Ctrl-C stops everything
	@exec $(PY) -m infra.local $(ARGS)

demo: $(DEV_STAMP) ## send real tasks, show every step, fail unless every answer is right
	@exec $(PY) -m infra.demo $(ARGS)

up: $(DEV_STAMP) ## the same in containers (compose.yaml), the demo against it; needs docker
	@exec $(PY) -m infra.containers up $(ARGS)

down: setup ## stop the containers; ARGS=--volumes forgets their data, too
	@exec $(PY) -m infra.containers down $(ARGS)

cluster: $(DEV_STAMP) ## three servers, two of each service, PostgreSQL: the demo, then the loss of a server
	@exec $(PY) -m infra.trial.cluster $(ARGS)

sites: $(DEV_STAMP) ## a hub and an edge that goes on without it: the link is cut, and both catch up
	@exec $(PY) -m infra.trial.sites $(ARGS)

##@ Develop it

test: $(DEV_STAMP) ## unit, contract, integration and end-to-end tests
	@PYTHONDONTWRITEBYTECODE= $(PY) -m pytest $(SPREAD) $(ARGS)

chaos: $(DEV_STAMP) ## kill, freeze, fill and repeat everything; fail unless every invariant holds
	@exec $(PY) -m tests.chaos $(ARGS)

test-gpu: ## TensorRT-LLM itself against the suites; needs a GPU and NVIDIA's image, says so if not
	@exec $(if $(wildcard $(PY)),$(PY),$(PYTHON)) -m tests.gpu $(ARGS)

bench: $(DEV_STAMP) ## what Millrace itself costs per step and completion, against floors of the same run
	@exec $(PY) -m tests.bench $(ARGS)

load: $(DEV_STAMP) ## clients of every kind on the running system, judged by a floor of the same run
	@exec $(PY) -m loadtests $(ARGS)

docs: setup ## OpenAPI of HTTP and AsyncAPI of the bus, into build/docs (ARGS="--to FOLDER")
	@exec $(PY) -m infra.docs $(ARGS)

lint: $(DEV_STAMP) ## ruff, mypy, import-linter, bandit
	@$(BIN)/ruff check $(RUFF) $(PATHS)
	@$(BIN)/ruff format --check $(RUFF) $(PATHS)
	@$(BIN)/mypy
	@$(BIN)/lint-imports --config infra/lint/importlinter.toml
	@$(BIN)/bandit -q -r services shared infra loadtests --severity-level medium

audit: $(DEV_STAMP) ## known vulnerabilities of the locked packages; says so where nobody can be asked
	@$(PY) -m infra.lint.audit

fmt: $(DEV_STAMP) ## format the code and apply safe fixes
	@$(BIN)/ruff check --fix $(RUFF) $(PATHS)
	@$(BIN)/ruff format $(RUFF) $(PATHS)

lock: $(DEV_STAMP) ## make the lock files again from the *.in files
	@test -x $(BIN)/uv || $(PY) -m pip install --disable-pip-version-check --quiet uv
	@$(COMPILE) requirements.in -o requirements.lock
	@$(COMPILE) --no-deps requirements-nodeps.in -o .venv/nodeps.lock && cat .venv/nodeps.lock >> requirements.lock
	@$(COMPILE) requirements-dev.in -o requirements-dev.lock

clean: ## remove the virtual environment, all caches and what `make docs` wrote (the data folder stays)
	@rm -rf build .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find $(PATHS) -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@test -n "$(PYTHON)" && "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 12))' || \
		{ echo "Millrace needs Python 3.12 or newer; found: $$("$(PYTHON)" --version 2>&1 || echo none). Name one: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; v = sys.version_info; v[:2] == (3, 12) or print(f"note: tested on Python 3.12, this is {v[0]}.{v[1]}")'
	@echo "creating .venv"
	@"$(PYTHON)" -m venv .venv

$(STAMP): .venv/bin/python
	@echo "installing the locked packages (once, a minute or two)"
	@$(PIP) -r requirements.lock
	@$(PY) -m infra.local.link
	@rm -f .venv/.locked-* && touch $@

$(DEV_STAMP): $(STAMP)
	@echo "installing the development packages (once)"
	@$(PIP) -r requirements-dev.lock
	@rm -f .venv/.dev-locked-* && touch $@
