# `make demo` and `make test` work on a fresh clone: each sets up .venv first. PYTHON chooses the interpreter.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slow lint format clean

demo: .venv/demo.done
	$(BIN)/limbeck run ladder-vae-digits $(ARGS)

test: lint
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -m "not slow" $(ARGS)

test-slow: .venv/test.done
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -m slow -n 0 $(ARGS)

lint: .venv/test.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/test.done
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv build src/*.egg-info

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/demo.done: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/test.done: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $@ .venv/demo.done
