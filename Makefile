# What a developer does with yak, each with one word.  `make` alone lists them.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
DOCS   := $(VENV)/.docs-installed
# Tests and simulated runs use this many processes at a time.
JOBS   ?= 2
# make sim SEED=7 repeats one run, SEEDS=1000 tries that many.
SEED   ?=
SEEDS  ?= $(if $(SEED),1,200)
# make fault and make soak go on for so long (5 and 60 minutes, if nothing is said).
MINUTES ?=
# make fault and make soak: the brokers' --fsync.
FSYNC  ?=
# make fuzz: examples of each test by hypothesis, and seconds of each target of atheris.
EXAMPLES ?= 10000
SECONDS  ?= 60

# Compiling yak takes twice as long as starting it: once is enough, whatever a shell says.
unexport PYTHONDONTWRITEBYTECODE

OPTIONS = $(if $(SEED),--seed $(SEED)) $(if $(FSYNC),--fsync $(FSYNC))
SOURCES := yak tests scripts bench

.PHONY: help demo test check format sim model kills fault load fuzz exercises soak bench bench-peers docs docs-serve clean

help:
	@echo "make demo     a cluster, a real file, and the leader dies: under a minute"
	@echo "make test     every test"
	@echo "make check    format, lint, types, import directions"
	@echo "make format   what can be put right by itself"
	@echo "make sim      the simulator: SEED=7 repeats one run, SEEDS=1000 tries that many"
	@echo "make model    the rules of safety, searched: every run of a small cluster, half an hour"
	@echo "make kills    killed at every system call that changes the disk, restarted from each leftover"
	@echo "make fault    five minutes of faults on real processes (MINUTES, SEED, FSYNC): nothing lost"
	@echo "make load     twenty minutes of clients that mean harm, and what others feel of it"
	@echo "make fuzz     frames and data directories that nobody wrote (EXAMPLES, SECONDS)"
	@echo "make exercises  the teachers' page, typed command by command"
	@echo "make soak     an hour of a real cluster's life, then one of faults (MINUTES, SEED, FSYNC)"
	@echo "make bench    how fast it is here; make bench-peers: beside Kafka, Redis, NATS (bench/README.md)"
	@echo "make docs     the documentation as a site, in site/; make docs-serve: while it is written"
	@echo "make clean    removes what these made"

# Made anew whenever the dependencies change; --upgrade-deps is not needed, old pips will do.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else \
	  f"error: yak needs Python 3.11, and $(PYTHON) is {v[0]}.{v[1]}: make PYTHON=/path/to/python3.11")'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	  { echo "error: $(PYTHON) has no venv module: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(STAMP)
	$(BIN)/python -m scripts.demo

test: $(STAMP)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

check: $(STAMP)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy $(SOURCES)
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

sim: $(STAMP)
	$(BIN)/python -m tests.sim --seeds $(SEEDS) --jobs $(JOBS) $(if $(SEED),--seed $(SEED))

model: $(STAMP)
	$(BIN)/python -m tests.model --suite

kills: $(STAMP)
	$(BIN)/python -m tests.kills --members

fault: $(STAMP)
	$(BIN)/python -m tests.fault --minutes $(or $(MINUTES),5) $(OPTIONS)

load: $(STAMP)
	$(BIN)/python -m tests.load

# The second part is skipped without atheris, and says how to install it.
fuzz: $(STAMP)
	FUZZ_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest -n $(JOBS) --timeout 0 \
	  tests/unit/test_protocol.py tests/unit/storage/test_recovery_fuzz.py
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS)

exercises: $(STAMP)
	$(BIN)/python -m pytest -n 0 tests/docs/test_exercises.py

soak: $(STAMP)
	$(BIN)/python -m tests.soak --minutes $(or $(MINUTES),60) $(OPTIONS)
	$(BIN)/python -m tests.fault --minutes $(or $(MINUTES),60) $(OPTIONS)

bench: $(STAMP)
	$(BIN)/python -m bench
	$(BIN)/python -m bench.lives
	$(BIN)/python -m bench.growth

bench-peers: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	$(BIN)/python -m bench --peers
	$(BIN)/python -m bench.lives --peers
	$(BIN)/python -m bench.growth

$(DOCS): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@

# Every doubt about a link is a warning (mkdocs.yml), and --strict fails with any; with --quiet it
# would count none.  The notice that is turned off is about mkdocs 2, which pyproject.toml excludes.
docs docs-serve: export NO_MKDOCS_2_WARNING = 1

docs: $(DOCS)
	$(BIN)/mkdocs build --strict

docs-serve: $(DOCS)
	$(BIN)/mkdocs serve --strict

clean:
	rm -rf $(VENV) build site *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis \
	  .import_linter_cache .coverage* findings
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
