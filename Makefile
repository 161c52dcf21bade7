# Two commands for users: `make quickstart` and `make test`. The rest serves those who change code.
# GNU make, Python 3.11 to 3.13 with its venv module. Another interpreter: make PYTHON=python3.12 ...

PYTHON ?= python3
VENV ?= .venv
FAST ?=

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DOCLINT := $(VENV)/pydoclint
SITE := $(VENV)/site
# The folders that are packages, and the files of the package itself.
ROOMS := hindsight_rl maths nets tasks policies planners training agents relabel logs datamodules diagnostics reports export envs cli
# mypy holds every room to its strict rules. It finds hindsight_rl.X in folder X through a folder of
# links: it does not follow the finder of an editable install.
TYPES := build/mypy/hindsight_rl

.PHONY: help quickstart robot demo test fuzz check lint types docstrings spelling wheel dist runners bench speed heart loop memory rows policies judging good imagined course logs results docs site hipi hipi-robots clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

quickstart: $(STAMP) ## collect, inspect, fit, test, export, run; FAST=1 shrinks it
	$(BIN)/python tools/quickstart.py $(if $(filter-out 0,$(FAST)),--fast)
	$(BIN)/python tools/showcase.py $(if $(filter-out 0,$(FAST)),--fast)

robot: $(STAMP) ## from a cut bag to a policy at 1 kHz and its recording; FAST=1 shrinks it
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[train,dev,ros]"
	$(BIN)/python tools/bag_to_robot.py $(if $(filter-out 0,$(FAST)),--fast)

demo: runners ## a policy walks to where the mouse points: build/demo; FAST=1 shrinks it
	$(BIN)/python tools/demo.py --ort build/runners/node_modules/onnxruntime-web/dist $(if $(filter-out 0,$(FAST)),--fast) $(ARGS)

# The networks of the tests are small: a second thread slows them down.
test: export OMP_NUM_THREADS ?= 1
test: $(STAMP) ## run the tests; ARGS="-k posterior" narrows them
	$(BIN)/pytest -n auto --maxprocesses 8 --dist worksteal $(ARGS)

runners: $(STAMP) ## install Node's and the browser's onnxruntime for tests, by npm
	PYTHONPATH=tests $(BIN)/python -c "import javascript; javascript.require()"

# Make reads it from its command line: bash, which runs the lines, counts seconds by this name.
fuzz: SECONDS ?= 600
fuzz: SEED ?= 0
fuzz: export OMP_NUM_THREADS ?= 1
fuzz: $(STAMP) ## read damaged and hostile files of every kind; SECONDS=600 SEED=0
	PYTHONPATH=tests $(BIN)/python -m fuzz.run --seconds $(SECONDS) --seed $(SEED)

check: lint types docstrings spelling wheel ## all that needs no run: style, types, docstrings, wheel

heart: $(STAMP) ## what inverse RL of transitions costs beside HER, and how far each saving is from it
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/heart.py cost distance $(ARGS)

loop: $(STAMP) ## how 1 kHz is kept, with and without real-time options; writes build/loop.json
	$(BIN)/python benchmarks/loop.py $(ARGS)

bench: $(STAMP) ## updates per second, sampling, latency: a table of docs/speed.md, build/bench.json
	$(BIN)/python benchmarks/bench.py $(ARGS)

speed: $(STAMP) logs ## all tables of docs/speed.md: an hour, and nothing else may run; HINDSIGHT_DATA names the folder of logs
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[train,dev,bench]"
	for part in bench starting where counts growth collecting bfloat16; do $(BIN)/python benchmarks/$$part.py || exit 1; done

memory: $(STAMP) ## policies that remember; HINDSIGHT_DATA names the folder of logs
	$(BIN)/python benchmarks/policies/memory.py $(ARGS)

rows: $(STAMP) ## memory and time of the commands at 20 million rows: half an hour, 20 GB of disk; writes build/rows.json
	$(BIN)/python benchmarks/rows_memory.py $(ARGS)

policies: $(STAMP) ## rerun the evidence of docs/policies.md: three hours; HINDSIGHT_DATA names the folder of logs
	for part in fork delay memory eyes robot cross against_robomimic meta_world; do \
	  $(BIN)/python benchmarks/policies/$$part.py $(ARGS) || exit 1; done
	$(BIN)/python benchmarks/policies/kinds.py
	$(BIN)/python benchmarks/policies/document.py

judging: $(STAMP) ## rerun the evidence of docs/judging.md: an hour; HINDSIGHT_DATA names the folder of logs
	for part in lqr policies checkpoints against_d3rlpy document; do \
	  $(BIN)/python benchmarks/judging/$$part.py || exit 1; done

good: $(STAMP) ## rerun the evidence of docs/good.md: two and a half hours
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[train,dev,mujoco]"
	for part in dagger preferences overoptimised gridworld inverse_rl against_imitation; do $(BIN)/python benchmarks/good/$$part.py || exit 1; done

course: $(STAMP) logs ## rerun the evidence of exploration, transfer, meta-learning, on-policy and Q-learning; writes build/course_*.json
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[train,dev,mujoco,evidence]"
	for part in exploration deep_sea meta q_learning failures on_policy transfer teacher frozen_actor sensors narrow asymmetric delayed; do $(BIN)/python benchmarks/course/$$part.py $(ARGS) || exit 1; done

imagined: $(STAMP) logs ## rerun the evidence of docs/imagined.md, docs/planning.md, and of models in docs/judging.md
	for part in offline robots against_mbrl rooms online successor c_learning judging planning; do $(BIN)/python benchmarks/imagined/$$part.py || exit 1; done

logs: $(STAMP) ## write logs of our own below build/logs: about an hour, mostly two trainings
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[train,dev,mujoco]"
	$(BIN)/python benchmarks/logs.py $(ARGS)

results: $(STAMP) ## refit all of docs/results.md; HINDSIGHT_DATA names the folder of logs
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[train,dev,mujoco]"
	$(BIN)/python benchmarks/results.py $(ARGS)
	$(if $(ARGS),,$(BIN)/python benchmarks/against_d3rlpy.py)

docs: $(STAMP) ## rewrite what pages say of code, and the pages on the deadly triad and the bound
	$(BIN)/python tools/documents.py
	$(BIN)/python benchmarks/deadly_triad.py
	$(BIN)/python benchmarks/bound.py

site: $(SITE) ## build the documentation as a site, build/site/out, and check its links; ARGS=--serve
	PYTHONPATH=$(abspath $(SITE)) $(BIN)/python tools/build_site.py $(ARGS)

hipi: $(STAMP) ## rerun the evidence of docs/hipi.md: about two hours
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[train,dev,mujoco,evidence]"
	for part in four_rooms fig4 online cloning strength supported annotators gcsl her rcp document; do \
	  $(BIN)/python benchmarks/hipi/$$part.py; done

hipi-robots: $(STAMP) ## relabeling on the paper's robots, part of docs/hipi.md: three hours
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[train,dev,robots,evidence]"
	$(BIN)/python benchmarks/hipi/robots.py $(ARGS)
	$(BIN)/python benchmarks/hipi/meta_world_tasks.py
	$(BIN)/python benchmarks/hipi/robot_cloning.py
	$(BIN)/python benchmarks/hipi/document.py

clean: ## remove everything that is made again, except the environment
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis hindsight_rl.egg-info
	find $(ROOMS) configs tests benchmarks tools -name __pycache__ -type d -prune -exec rm -rf {} +

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	@rm -rf $(TYPES) && mkdir -p $(TYPES)
	@for room in $(filter-out hindsight_rl,$(ROOMS)) configs; do ln -s ../../../$$room $(TYPES)/$$room; done
	@for file in hindsight_rl/*.py; do ln -s ../../../$$file $(TYPES)/; done
	MYPYPATH=build/mypy $(BIN)/mypy -p hindsight_rl | sed 's#^$(TYPES)/##'

docstrings: $(DOCLINT)
	PYTHONPATH=$(DOCLINT) $(BIN)/python $(DOCLINT)/bin/pydoclint --quiet $(ROOMS)

spelling: $(STAMP)
	$(BIN)/codespell *.md docs $(ROOMS) configs tests benchmarks tools .ci Makefile pyproject.toml

wheel: $(STAMP)
	$(BIN)/python .ci/wheel.py

dist: $(STAMP) ## build and check source archive and wheel of a release, in dist/
	$(BIN)/python .ci/wheel.py --output dist

# Made when absent and brought up to date when what it is made from changes.
$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { \
	  echo "$(PYTHON) not found. Install Python 3.11 to 3.13, or name it: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "Python 3.11 to 3.13 is needed; $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
	    "Name another: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) has no venv module. On Debian or Ubuntu: sudo apt install python3-venv" >&2; exit 1; }
	@echo "Installing into $(VENV): once, about a minute plus the download (mostly PyTorch)."
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[train,dev]"
	@touch $@

$(DOCLINT): $(STAMP)
	@rm -rf $@
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt --target $@ pydoclint
	@touch $@

$(SITE): $(STAMP)
	@rm -rf $@
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt --target $@ zensical mkdocstrings-python
	@touch $@
