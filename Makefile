# The ops portal. `make help` lists what there is.
SHELL := bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STACK := $(BIN)/python -m opsportal.stack
SERVICES := $(STACK) with-services --
BOOTSTRAP := $(PYTHON) opsportal/stack/bootstrap.py $(VENV)
TEMPLATES := find . -name '*.html' -not -path './$(VENV)/*' -not -path './var/*'
PYTEST_ARGS ?=
RUN ?=

.PHONY: help run with-database test check fuzz bench chaos screenshots clean
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## start the portal (PORT=8800, HOST=127.0.0.1, DATA_DIR=./var)
	@$(BOOTSTRAP) requirements.txt
	@exec $(STACK) run

with-database: ## run a command beside the portal's own database, with the portal stopped (RUN='pg_restore ...')
	@$(BOOTSTRAP) requirements.txt
	@exec $(STACK) with-database -- sh -c '$(RUN)'

test: ## run the test suite (PYTEST_ARGS="-k restore")
	@$(BOOTSTRAP) requirements-dev.txt --system-packages
	@exec $(SERVICES) python -m pytest -n 2 --dist loadgroup $(PYTEST_ARGS)

# Static checks need settings that load, not a secret.
check: export SECRET_KEY := only-for-static-checks-0123456789-abcdefghijklmnopqrstuvwxyz
check: ## lint, types, layers, templates, deployment settings, migrations
	@$(BOOTSTRAP) requirements-dev.txt
	@status=0; \
	try() { echo "+ $${*:1:3}"; "$$@" || status=1; }; \
	try $(BIN)/ruff check --output-format concise .; \
	try $(BIN)/ruff format --check --output-format concise .; \
	try $(BIN)/mypy; \
	try $(BIN)/lint-imports; \
	try $(BIN)/djade --target-version 5.2 --check $$($(TEMPLATES)); \
	try $(BIN)/python manage.py check --deploy --fail-level WARNING; \
	try $(BIN)/python -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run; \
	exit $$status

fuzz: ## send the API many more requests made from its own document than `make test` does
	@$(BOOTSTRAP) requirements-dev.txt
	@FUZZ_EXAMPLES=300 $(SERVICES) python -m pytest -n 2 --dist loadgroup -q tests/opsportal/test_api_fuzz.py

bench: ## measure backup, restore and click-to-first-step
	@$(BOOTSTRAP) requirements-dev.txt
	@exec $(SERVICES) python -m opsportal.bench

chaos: ## the long fault-injection run
	@$(BOOTSTRAP) requirements-dev.txt
	@exec $(SERVICES) python -m tests.chaos

screenshots: ## pictures of the main pages, in ./screenshots
	@$(BOOTSTRAP) requirements-dev.txt --system-packages
	@exec $(SERVICES) python -m tests.browser.screenshots

clean: ## remove what can be made again; data in ./var stays
	rm -rf $(VENV) screenshots staticfiles .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -not -path './var/*' -prune -exec rm -rf {} +
