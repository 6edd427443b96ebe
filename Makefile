# `make` alone lists the targets. The first one that needs it makes .venv, with all that is used here.

PYTHON ?= python3
VENV   := .venv
RUN    := $(VENV)/bin
OLDEST := .venv-oldest
# Without npm and a compiler the machine's SQLite must do.
OLDEST_SQLITE := $(if $(and $(shell command -v npm),$(shell command -v $(CC))),$(OLDEST)/sqlite/libsqlite3.so.0)
LOCK   := requirements/lock.txt

# Root may lack this on its path; there is useradd, for PostgreSQL does not run as root.
export PATH := $(PATH):/usr/sbin:/sbin

# What is installed, and what builds it, has the versions of a file; pip before 25.3 takes the first word for both.
locked  = PIP_CONSTRAINT=$(1) PIP_BUILD_CONSTRAINT=$(1)
install = -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-all test-oldest test-page test-agents lint lock bench bench-check soak kills crowd chaos docs pictures clean

help:   ## lists the targets
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/: .*##/\t/' | expand -t 14

venv: $(VENV)/ready   ## makes the virtual environment

# What the program itself needs is enough for the demo; the tools for everything else come on top.
$(VENV)/installed: pyproject.toml $(LOCK)
	$(PYTHON) -m venv $(VENV)
	$(call locked,$(LOCK)) $(RUN)/python $(install) --editable .
	@touch $@

$(VENV)/ready: $(VENV)/installed
	$(call locked,$(LOCK)) $(RUN)/python $(install) --editable '.[dev]'
	@touch $@

demo: $(VENV)/installed   ## the main job, for real: a plan of dependent tasks becomes merged work
	@$(RUN)/orchestrion demo

# Of the tests that take their time (chaos, crowds, kills, restarts) so many percent of each file.
PART ?= 10
test: venv lint   ## lint, types and the tests, on SQLite and PostgreSQL; of the long ones a part
	$(RUN)/pytest -n auto --part $(PART)

test-all: venv lint   ## lint, types and all tests
	$(RUN)/pytest -n auto

# What touches our libraries: PyYAML, psutil, click, rich; psycopg; mcp, uvicorn, FastAPI, Jinja; ACP and OpenTelemetry.
OLDEST_TESTS := $(addprefix tests/, \
	core/test_documents.py plans/test_structured.py runs/test_processes.py demo/test_live.py \
	$(addprefix interfaces/cli/test_cli_, app.py mcp.py stats.py) \
	store/test_store.py store/test_versions.py orchestrator/test_bending.py orchestrator/test_checking.py \
	interfaces/mcp/test_connections.py interfaces/mcp/test_mcp_catalogue.py interfaces/mcp/test_mcp_reading.py \
	interfaces/web/test_web_routes.py interfaces/web/test_web_serving.py interfaces/page/test_page_parts.py \
	runs/agents/test_acp.py ops/test_traces.py)
test-oldest: $(OLDEST)/ready $(OLDEST_SQLITE)   ## a part of the tests, with the oldest libraries that pyproject.toml allows, and SQLite
	$(if $(OLDEST_SQLITE),LD_LIBRARY_PATH=$(abspath $(dir $(OLDEST_SQLITE)))) $(OLDEST)/bin/pytest -n auto --part $(PART) $(OLDEST_TESTS)

# The oldest SQLite is built from its source, which an old package of npm has.
$(OLDEST)/sqlite/libsqlite3.so.0: $(OLDEST)/ready
	mkdir -p $(@D)
	cd $(@D) && npm pack --silent better-sqlite3@7.5.1 >/dev/null \
	  && tar xzf better-sqlite3-7.5.1.tgz --strip-components=3 package/deps/sqlite3/sqlite3.c
	$(CC) -O1 -shared -fPIC -DSQLITE_ENABLE_FTS5 -DSQLITE_ENABLE_JSON1 -DSQLITE_ENABLE_MATH_FUNCTIONS \
	  -DSQLITE_ENABLE_DESERIALIZE -DSQLITE_ENABLE_COLUMN_METADATA -Wl,-soname,libsqlite3.so.0 \
	  -o $@ $(@D)/sqlite3.c -lm -lpthread -ldl
	LD_LIBRARY_PATH=$(@D) $(OLDEST)/bin/python -c "import sqlite3 as s; assert s.sqlite_version == '3.38.2', s.sqlite_version"

$(OLDEST)/ready: pyproject.toml requirements/oldest.txt
	$(PYTHON) -m venv --clear $(OLDEST)
	$(call locked,requirements/oldest.txt) $(OLDEST)/bin/python $(install) --requirement requirements/oldest.txt --editable .
	@touch $@

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

HOURS ?= 2
DATABASE ?= sqlite
soak: venv   ## whether anything grows while all is in use for HOURS=2 on DATABASE=sqlite (or postgres)
	$(RUN)/python -m bench.soak --hours $(HOURS) --database $(DATABASE)

KILLS ?= 1000
UNTOUCHED ?= 2000
kills: venv   ## 1,000 seeded kills of workers, supervisors and agents, beside 2,000 runs left alone (half an hour)
	$(RUN)/python -m tests.runs.kills --kills $(KILLS) --untouched $(UNTOUCHED)

CROWD ?= 50
crowd: venv   ## 50 agents that all work at the same moment (half a minute)
	$(RUN)/python -m tests.runs.crowd --agents $(CROWD) --workers 3

CHAOS ?= --long
chaos: venv   ## trouble of every kind: broken agents, full disks, cut networks, databases that go away (some minutes)
	$(RUN)/python -m tests.chaos $(CHAOS)

pictures: venv   ## takes the pictures of docs/concepts/page.md anew; needs Chromium
	mkdir -p docs/pictures
	ORCHESTRION_TEST_PAGE=1 ORCHESTRION_PICTURES=$(abspath docs/pictures) $(RUN)/pytest tests/interfaces/page/test_page_pictures.py -k picture_of

lock:   ## chooses the versions that make installs anew: the newest of everything, and the oldest for test-oldest
	$(PYTHON) requirements/lock.py

docs: venv   ## writes the generated pages of docs/
	$(RUN)/python docs/generate.py

clean:   ## removes what make made
	rm -rf $(VENV) $(OLDEST) .agents .pytest_cache .mypy_cache .ruff_cache .hypothesis
