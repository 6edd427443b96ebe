# `make` alone lists the targets. The first one that needs it makes .venv, with all that is used here.

PYTHON ?= python3
VENV   := .venv
RUN    := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-long test-page test-agents lint bench bench-check kills crowd chaos docs pictures clean

help:   ## lists the targets
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/: .*##/\t/' | expand -t 14

venv: $(VENV)/ready   ## makes the virtual environment

$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: venv   ## the main job, for real: a plan of dependent tasks becomes merged work
	@$(RUN)/orchestrion demo

test: venv lint   ## lint, types and all tests, on SQLite and PostgreSQL
	$(RUN)/pytest -n auto

test-long: venv   ## the tests that take their time: chaos, crowds, kills
	$(RUN)/pytest -n auto -m long

test-page: venv   ## the page in a real browser; installs Debian's Chromium if there is none
	@command -v chromium google-chrome >/dev/null || (apt-get -qq update && apt-get -qq install --yes chromium >/dev/null)
	ORCHESTRION_TEST_PAGE=1 $(RUN)/pytest tests/interfaces/page -n 2

AGENTS ?= .agents
test-agents: venv   ## the real agent programs against a scripted model; installs them in .agents (1.9 GB)
	$(RUN)/python tests/programs/install.py $(AGENTS)
	ORCHESTRION_TEST_AGENTS=$(abspath $(AGENTS)) $(RUN)/pytest tests/programs -n 2

lint: venv   ## style and types
	$(RUN)/ruff format --check .
	$(RUN)/ruff check .
	$(RUN)/mypy

bench: venv   ## measures, and writes docs/benchmarks.md
	$(RUN)/python -m bench

bench-check: venv   ## measures, and fails where a ratio is 30 % worse than the stored one
	$(RUN)/python -m bench --check

kills: venv   ## 1,000 seeded kills of workers, supervisors and agents (some minutes)
	$(RUN)/python -m tests.runs.kills --kills 1000

crowd: venv   ## 50 agents that all work at the same moment (half a minute)
	$(RUN)/python -m tests.runs.crowd --agents 50 --workers 3

chaos: venv   ## trouble of every kind: broken agents, full disks, cut networks, databases that go away (some minutes)
	$(RUN)/python -m tests.chaos --long

pictures: venv   ## takes the pictures of docs/concepts/page.md anew; needs Chromium
	mkdir -p docs/pictures
	ORCHESTRION_TEST_PAGE=1 ORCHESTRION_PICTURES=$(abspath docs/pictures) $(RUN)/pytest tests/interfaces/page/test_page_pictures.py -k picture_of

docs: venv   ## writes the generated pages of docs/
	$(RUN)/python docs/generate.py

clean:   ## removes what make made
	rm -rf $(VENV) .agents .pytest_cache .mypy_cache .ruff_cache .hypothesis
