# setup · demo · test-all · test-<project> · lint · bench · lock · clean
SHELL  := /bin/bash
# Tests and demos start dozens of processes: each would compile torch's Python files again, for 3 seconds.
unexport PYTHONDONTWRITEBYTECODE
ALL    := core keypoint_nvs vpog handvit smil_regressor
DIRS   := $(patsubst %/pyproject.toml,%,$(wildcard $(ALL:%=%/pyproject.toml)))
DISTS  := posecore keypoint-nvs vpog handvit smil-regressor
COMMAND_keypoint_nvs := keypoint-nvs
COMMAND_vpog := vpog
COMMAND_handvit := handvit
COMMAND_smil_regressor := smil
PYTHON ?= python3
UV     := .venv/bin/uv
BIN    := .venv/bin

.PHONY: setup lock schemas demo test-all $(ALL:%=test-%) test-slow lint isolated bench clean

setup: .venv/.done

.venv/bin/uv:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install -q "uv==0.13.8"

.venv/.done: .venv/bin/uv requirements.lock pyproject.toml $(DIRS:%=%/pyproject.toml)
	$(UV) pip install -q --python .venv/bin/python --no-sources -c requirements.lock --group dev $(DIRS:%=-e "./%[test]")
	$(UV) pip check --python .venv/bin/python
	touch $@

# Keeps the pins that stand; `make lock UPGRADE="-P name"` lifts one.
lock: .venv/bin/uv
	$(UV) pip compile -q $(DIRS:%=%/pyproject.toml) --all-extras --group dev --universal --python-version 3.11 --no-annotate \
	  --custom-compile-command "make lock" $(DISTS:%=--no-emit-package %) $(UPGRADE) -o requirements.lock

# Regenerates the committed JSON Schemas.
schemas: setup
	@$(foreach d,$(filter-out core,$(DIRS)),$(BIN)/python -P -m $(d).cli config schema --output $(d)/src/$(d)/configs/$(COMMAND_$(d)).schema.json;)

demo: setup
	$(BIN)/python -P -m posecore.demo --output runs/demo $(foreach d,$(filter-out core,$(DIRS)),$(COMMAND_$(d)))
	@echo "Open runs/demo/index.html"

TEST_ENV := OMP_WAIT_POLICY=PASSIVE

test-all: setup
	@set -e; $(foreach d,$(DIRS),echo "== $(d)"; (cd $(d) && $(TEST_ENV) ../$(BIN)/python -P -m pytest -q -m "not slow" --durations=5);)

$(DIRS:%=test-%): test-%: setup
	cd $* && $(TEST_ENV) ../$(BIN)/python -P -m pytest -q -m "not slow" --durations=10

test-slow: setup
	@set -e; $(foreach d,$(DIRS),(cd $(d) && $(TEST_ENV) ../$(BIN)/python -P -m pytest -q -m slow) || [ $$? -eq 5 ];)

lint: setup
	$(BIN)/pre-commit run --all-files --show-diff-on-failure

# Each package alone with core in an empty environment: siblings must not lean on each other.
isolated: setup
	@set -e; $(foreach d,$(DIRS),echo "== $(d) alone"; rm -rf build/alone; \
	  $(UV) venv -q --python .venv/bin/python build/alone; \
	  $(UV) pip install -q --python build/alone/bin/python --no-sources -c requirements.lock $(if $(filter core,$(d)),,./core) "./$(d)[test]"; \
	  (cd $(d) && $(TEST_ENV) ../build/alone/bin/python -P -m pytest -q -m "not slow");)

bench: setup
	@mkdir -p build/bench
	@set -e; for file in $(wildcard $(DIRS:%=%/bench/bench_*.py)); do \
	  echo "== $$file"; PYTHONPATH=core/bench $(BIN)/python -P $$file --json build/bench/$$(basename $$file .py).json; done

clean:
	rm -rf build runs/demo .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
