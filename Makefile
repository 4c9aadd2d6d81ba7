# `make demo` and `make test` need Python 3.10 or later and make; they set up everything else in .venv, once.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PROTO := src/breve/proto

.PHONY: help venv demo test check lint format types proto docs clean

help:
	@echo 'make demo    train LeNet on real handwritten digits (DEMO="--data FOLDER" for the whole of MNIST)'
	@echo 'make test    run all tests (TEST="tests/solvers -x" for some)'
	@echo 'make check   what CI runs: format, lint, types, tests'
	@echo 'make format  rewrite the source in the project'\''s format'
	@echo 'make proto   compile the schema after a change to $(PROTO)/*.proto'
	@echo 'make docs    write docs/layers.md from the docstrings of the layers'
	@echo 'make clean   remove what was built, .venv included'

venv: $(READY)

$(READY): pyproject.toml
	@scripts/setup $(VENV)

demo: venv
	@$(BIN)/breve demo --output build/demo $(DEMO)

test: venv
	$(BIN)/pytest $(TEST)

check: lint types test

lint: venv
	$(BIN)/ruff format --check
	$(BIN)/ruff check

format: venv
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

types: venv
	$(BIN)/mypy

proto: venv
	$(BIN)/python scripts/make_proto.py

docs: venv
	$(BIN)/python scripts/make_layer_docs.py

clean:
	rm -rf $(VENV) build dist src/breve.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -prune -exec rm -rf {} +
