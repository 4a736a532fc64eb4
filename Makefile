# `make` lists the targets. Each does its own set-up; without changes that takes a moment.
#
#   VENV=DIR           the virtual environment (.venv)
#   PYTHON=python3.12  the Python to make it with
#   SUITES="forky"     whose RabbitMQ test-matrix tries (installed trixie forky)
#   RABBITMQ_SUITES=D  where the unpacked suites are kept (~/.cache/attune-mq/rabbitmq)
#   KILLS=3            at how many points of each step `migrations` kills; `all` takes hours
#   ARGS="..."         further arguments for the program of the target: make test ARGS="-k retry -x"
#   JOBS=1             how many processes share the tests, each with brokers of its own (3)

.DEFAULT_GOAL := help
VENV ?= .venv
export VENV SUITES RABBITMQ_SUITES DURATION
JOBS ?= 3
KILLS ?= 3
RUN := "$(VENV)/bin/python"

# In a read-only checkout the tools keep no caches.
ifneq ($(shell test -w . && echo yes),yes)
export RUFF_NO_CACHE := true
export MYPY_CACHE_DIR := /dev/null
export PYTEST_ADDOPTS := $(PYTEST_ADDOPTS) -p no:cacheprovider
endif

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: setup
setup: ## create the virtual environment with the pinned versions
	@sh scripts/setup-python.sh

.PHONY: demo
demo: setup ## turn enforcements into finished executions over a real RabbitMQ
	@sh scripts/setup-rabbitmq.sh --or-url
	@$(RUN) -m attune_executor demo $(ARGS)

.PHONY: test
test: setup ## run the tests
	@sh scripts/setup-rabbitmq.sh
	@sh scripts/setup-postgresql.sh
	@sh scripts/setup-promtool.sh
	@sh scripts/setup-faketime.sh
	@$(RUN) -m pytest -n $(JOBS) --dist loadfile $(ARGS)

.PHONY: test-matrix
test-matrix: setup ## run the tests on each RabbitMQ of SUITES: the installed one, 4.0 (trixie), 4.3 (forky)
	@sh scripts/setup-rabbitmq.sh
	@sh scripts/setup-postgresql.sh
	@sh scripts/setup-promtool.sh
	@sh scripts/setup-faketime.sh
	@sh scripts/test-matrix.sh -n $(JOBS) --dist loadfile $(ARGS)

.PHONY: test-deployment
test-deployment: setup ## build the image and run the unit under systemd, in a Debian of their own (as root)
	@sh scripts/setup-rabbitmq.sh
	@DEBIAN_SYSTEM=$$(sh scripts/debian-system.sh) && export DEBIAN_SYSTEM && $(RUN) -m pytest tests/deployment $(ARGS)

.PHONY: fuzz
fuzz: setup ## fuzz loader, envelope, headers and importer, DURATION=60 seconds each
	@sh scripts/fuzz.sh $(ARGS)

.PHONY: lint
lint: setup ## check formatting, style, types and import contracts
	@$(RUN) -m ruff format --check
	@$(RUN) -m ruff check
	@$(RUN) -m mypy --strict
	@"$(VENV)/bin/lint-imports" --no-cache --no-logo

.PHONY: check
check: lint test ## everything that has to pass before a commit: lint, then test

.PHONY: format
format: setup ## format the code and apply automatic fixes
	@$(RUN) -m ruff format
	@$(RUN) -m ruff check --fix

.PHONY: properties
properties: setup ## compare simulation and prediction with a real broker on many random topologies
	@sh scripts/setup-rabbitmq.sh
	@ATTUNE_PROPERTY_EXAMPLES=$${ATTUNE_PROPERTY_EXAMPLES:-1000} $(RUN) -m pytest tests/topology tests/lint -k against_broker $(ARGS)

.PHONY: migrations
migrations: setup ## kill migrations in each step while messages flow; KILLS=all: before every operation
	@sh scripts/setup-rabbitmq.sh
	@ATTUNE_MIGRATION_KILLS="$(KILLS)" $(RUN) -m pytest -n 2 --dist worksteal tests/migration/kills.py $(ARGS)

.PHONY: soak
soak: setup ## inject faults at random for ten minutes and count lost messages: ARGS="--seed 7 --seconds 3600"
	@sh scripts/setup-rabbitmq.sh
	@sh scripts/setup-postgresql.sh
	@sh scripts/setup-faketime.sh
	@$(RUN) -m tests.faults $(ARGS)

.PHONY: bench
bench: setup ## compare the library with other clients on a real broker; results in docs/performance.md
	@sh scripts/setup-rabbitmq.sh
	@sh scripts/setup-bench.sh
	@test -e .cache/bench/first && first="--first .cache/bench/first"; .venv-bench/bin/python -m benchmarks --write $$first $(ARGS)

.PHONY: pictures
pictures: setup ## redraw docs/topology.svg and the other diagrams, after a change of topology.yaml
	@$(RUN) scripts/pictures.py

.PHONY: lock
lock: ## resolve the newest versions and write them to constraints.txt
	@sh scripts/lock.sh

.PHONY: clean
clean: ## remove caches and build products; the virtual environment stays
	@rm -rf .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache build dist
	@find attune_mq attune_executor examples tests -name __pycache__ -type d -prune -exec rm -rf {} +
