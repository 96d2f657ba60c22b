# Every command a developer or a newcomer needs. `make help` lists them.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
REGISTRY ?= ghcr.io/alignment-dev

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

.venv/.installed: constraints.txt pyproject.toml
	@test -x $(BIN)/alignctl || echo "setting up .venv: several gigabytes, torch with CUDA most of them, some minutes; then it stays"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep -o '^uv==[^ ]*' constraints.txt)"
	@$(BIN)/uv pip install $$(test -t 2 || echo --quiet) --compile-bytecode --python $(BIN)/python --require-hashes --build-constraints constraints.txt -r constraints.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: venv
venv: .venv/.installed ## the virtual environment with everything in it

.PHONY: quickstart
quickstart: venv ## one whole iteration on the tiny model, without a cluster
	@$(BIN)/alignctl run -f examples/quickstart/cycle.yaml

.PHONY: check
check: venv ## format, lint, types, import boundaries, fresh generated files
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy operator images/worker images/recorder tests benchmarks/scale
	@MYPYPATH=benchmarks $(BIN)/mypy benchmarks/*.py
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python -m alignment_operator.cli.crds --check
	@$(BIN)/python -m alignment_worker.trainer_fields --check

.PHONY: test
test: check ## everything: the checks, then all tests, on a real control plane
	@$(BIN)/python -m pytest --numprocesses=logical --dist=loadfile --no-loadscope-reorder

.PHONY: format
format: venv ## format and mend what can be mended
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

.PHONY: crds
crds: venv ## generate crds/ and the chart's copies from the models
	@$(BIN)/python -m alignment_operator.cli.crds --write

.PHONY: arguments
arguments: venv ## generate the list of training.arguments from the trainers' config classes
	@$(BIN)/python -m alignment_worker.trainer_fields --write

.PHONY: images
images: ## build the images with docker or podman (docs/install.md)
	@for engine in $(ENGINE) docker podman none; do $$engine info >/dev/null 2>&1 && break; done; \
	if [ $$engine = none ]; then \
	  echo "make images: neither docker nor podman answers; start one, or name another: make images ENGINE=nerdctl" >&2; exit 1; \
	fi; \
	for image in operator worker recorder; do \
	  $$engine build --file images/$$image/Dockerfile --tag $(REGISTRY)/$$image:$(VERSION) .; \
	done

.PHONY: constraints
constraints: ## pin the newest versions that fit pyproject.toml, with hashes
	$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --upgrade --quiet \
	  --generate-hashes --no-header --no-annotate -o constraints.txt

.PHONY: linters
linters: .venv/.installed ## pin the newest versions of the chart's linters, with hashes
	$(BIN)/uv pip compile tests/chart/linters.in --universal --python-version 3.11 --upgrade --quiet \
	  --generate-hashes --no-header --no-annotate -o tests/chart/linters.txt

.PHONY: faults
faults: venv ## every fault on a real control plane, and a table (docs/reconciliation.md)
	@$(BIN)/python -m tests.faults

.PHONY: scenarios
scenarios: venv ## candidates with a planted cause, what the gates make of each, and a table (docs/scenarios.md)
	@$(BIN)/python -m tests.scenarios

# --- the test bed (docs/test-bed.md)
.PHONY: cluster cluster-down
cluster: .venv/.installed ## a real Kubernetes cluster on this machine, and how to use it
	@$(BIN)/python -m tests.cluster up

cluster-down: .venv/.installed ## end that cluster
	@$(BIN)/python -m tests.cluster down
# --- end of the test bed
