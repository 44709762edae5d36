.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3.11
BIN := .venv/bin
IMAGES ?=
ARGS ?=

.venv/.installed: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --require-hashes -r requirements.txt
	$(BIN)/pip install --quiet --no-deps --editable .
	touch $@

.PHONY: install
install: .venv/.installed ## Make .venv with everything in it

.PHONY: demo
demo: .venv/.installed ## The main job, start to end. IMAGES=<folder|zip|s3://...> for your own, ARGS=--once to end by itself
	$(BIN)/python -m bench.demo $(if $(IMAGES),--images '$(IMAGES)') $(ARGS)

.PHONY: test
test: .venv/.installed ## Lint, type-check and test, on real servers. ARGS='-k name' for some
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest $(ARGS)

.PHONY: up
up: .venv/.installed ## Start the local servers; a second time changes nothing
	$(BIN)/python -m devstack up

.PHONY: down
down: .venv/.installed ## Stop what `make up` started; the data stays
	$(BIN)/python -m devstack down

.PHONY: bench
bench: .venv/.installed ## Throughput through the DAGs against bare SIFT. ARGS='--images 20000'
	$(BIN)/sleeve bench ingest $(ARGS)

.PHONY: quality
quality: .venv/.installed ## Recall and false accepts on sample covers, with a plot. SET=<folder> for your own set
	$(if $(SET),,$(BIN)/sleeve bench covers .devstack/covers-set)
	$(BIN)/sleeve bench quality --set '$(or $(SET),.devstack/covers-set)' --plot .devstack/quality.png --json $(ARGS)

.PHONY: growth
growth: .venv/.installed ## A million images: building, memory, queries. ARGS='--images 50000'
	INDEX_MEMORY_MB=$${INDEX_MEMORY_MB:-8192} $(BIN)/sleeve bench growth --work .devstack/growth --plot .devstack/growth.png --json $(ARGS)

.PHONY: format
format: .venv/.installed ## Let ruff rewrite the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: requirements
requirements: .venv/.installed ## Compile requirements.txt from pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --extra dev --generate-hashes --no-emit-index-url --no-annotate \
		--python-version 3.11 --quiet --custom-compile-command 'make requirements' --output-file requirements.txt

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'
