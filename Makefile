# setup · demo · test-all · test-<project> · lint · bench · lock · clean
SHELL  := /bin/bash
ALL    := core keypoint_nvs vpog handvit smil_regressor
DIRS   := $(patsubst %/pyproject.toml,%,$(wildcard $(ALL:%=%/pyproject.toml)))
DISTS  := posecore keypoint-nvs vpog handvit smil-regressor
PYTHON ?= python3
UV     := .venv/bin/uv
BIN    := .venv/bin

.PHONY: setup lock demo test-all $(ALL:%=test-%) test-slow lint bench clean isolated

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
