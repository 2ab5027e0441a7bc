# VectorKeep: every task has one command. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# What is slow to make lies outside the checkout, so that a second checkout starts warm.
export VECTORKEEP_CACHE ?= $(HOME)/.cache/vectorkeep
export CARGO_TARGET_DIR ?= $(VECTORKEEP_CACHE)/target
export CARGO_TERM_COLOR ?= never

BIN := $(CARGO_TARGET_DIR)/debug
LAB := e2e/lab/lab
PYTHON3 := $(VECTORKEEP_CACHE)/venv-pymilvus-3.0/bin/python
PYTHON26 := $(VECTORKEEP_CACHE)/venv-pymilvus-2.6/bin/python
step = @printf '\n=== %s  (%s)\n' "$(1)" "$$(date +%T)"

.PHONY: help
help: ## List the tasks
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.PHONY: setup
setup: ## Install what the other tasks need (Debian packages, Python wheels)
	$(call step,setup)
	@e2e/setup

.PHONY: generate
generate: ## Write the generated files: crds/*.yaml and the chart's copy
	cargo build -q --workspace --example generate
	$(BIN)/examples/generate

.PHONY: build
build: setup ## Compile everything with the profile that images, demo and tests share
	$(call step,compiling the workspace (the first time takes minutes))
	# All targets at once: binaries alone would be built with other features of some dependencies, and those twice.
	cargo build --workspace --all-targets

.PHONY: programs
programs: setup ## Compile the programs alone, with the same profile and the same features
	$(call step,compiling the programs (the first time takes minutes))
	cargo build --workspace --bins --examples

.PHONY: lab
lab: setup ## Build what the local Kubernetes consists of
	$(call step,building the local Kubernetes (the first time takes about 12 minutes))
	$(LAB) build

.PHONY: cluster
cluster: setup ## Build what the chosen cluster (VECTORKEEP_CLUSTER) needs here: the local Kubernetes, or beside another its clients
	$(call step,building what the cluster needs (the local Kubernetes takes about 12 minutes the first time))
	python3 -m e2e.harness.cluster build

.PHONY: demo
demo: setup ## Build everything, start a cluster, install, use it, disable the key, enable it again, patch it
	@$(MAKE) --no-print-directory -j2 programs cluster  # together: neither keeps two cores busy to its end
	$(PYTHON3) -m e2e.demo

.PHONY: bench-operations
bench-operations: programs cluster ## Measure creation, cut-off, return and patch (docs/figures.md)
	$(PYTHON3) -m e2e.bench.operations

.PHONY: down
down: ## Take the cluster down, leaving nothing behind
	python3 -m e2e.harness.cluster down

.PHONY: test
test: check ## Everything: format, lints, unit, integration and end-to-end tests
	@$(MAKE) --no-print-directory -j2 test-rust test-engine  # together: the one waits for most of its time, the other computes
	@$(MAKE) --no-print-directory test-lab test-e2e

.PHONY: check
check: setup ## Formatting and lints
	$(call step,format and lints)
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

.PHONY: test-rust
test-rust: build lab ## Unit and integration tests of the Rust crates
	$(call step,tests of the Rust crates)
	cargo test --workspace

.PHONY: test-lab
test-lab: lab ## Tests of the test equipment itself (as root; takes a running lab down)
	$(call step,tests of the lab)
	$(LAB) down
	VECTORKEEP_LAB_LIFECYCLE=1 python3 -m unittest discover -q -s e2e/lab/tests -t e2e
	cd e2e/lab/go/netpol && CGO_ENABLED=0 GOFLAGS='-buildvcs=false -trimpath' go test ./...  # the lab's flags: its build cache serves

.PHONY: test-engine
test-engine: build ## The engine as a process under real pymilvus, both supported lines
	$(call step,engine under pymilvus 3.0 and 2.6)
	# Each line says whose it is: something else may run beside it.
	PYTHONUNBUFFERED=1 $(PYTHON3) -m pytest engine/tests 2>&1 | sed -u 's/^/pymilvus 3.0: /'
	PYTHONUNBUFFERED=1 $(PYTHON26) -m pytest engine/tests 2>&1 | sed -u 's/^/pymilvus 2.6: /'

.PHONY: test-e2e
test-e2e: build cluster ## The whole product on a real cluster
	$(call step,building what only these tests install)
	$(LAB) build --for tests
	$(call step,end-to-end tests)
	$(PYTHON3) -m pytest -q e2e/tests

.PHONY: conformance
conformance: lab ## Kubernetes' own NetworkPolicy suite against the lab
	$(LAB) conformance
