# The commands of this project; README.md says what each does.
SHELL := /bin/bash
PORT ?= 8000
MODEL ?= demo
VENV := .venv
# A bare machine (no .venv, no network) names its own interpreter: PYTHON=python3 make bench-gpu
PYTHON ?= $(VENV)/bin/python
UV := $(shell command -v uv 2>/dev/null || echo $(VENV)/bootstrap/bin/uv)
STAMP := $(VENV)/.installed

.PHONY: install serve test lint lock bench bench-datapath bench-versus clean

install: $(STAMP)

# uv alone can resolve moshi's bounds (see [tool.uv] in pyproject.toml); where it is missing, it comes from pip.
$(STAMP): requirements.lock pyproject.toml
	@command -v $(UV) >/dev/null 2>&1 || { python3 -m venv $(VENV)/bootstrap && $(VENV)/bootstrap/bin/pip install -q uv; }
	@test -x $(VENV)/bin/python || $(UV) venv -q --allow-existing --python 3.11 $(VENV)
	$(UV) pip sync -q --python $(VENV)/bin/python requirements.lock
	$(UV) pip install -q --python $(VENV)/bin/python --no-deps --no-build-isolation -e .
	@touch $(STAMP)

serve: install
	$(VENV)/bin/csm-serve serve --model $(MODEL) --port $(PORT)

test: install
	$(VENV)/bin/python -m pytest -q

lint: install
	$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/pyright

bench: install
	$(PYTHON) -m benchmarks.engine_step --presets tiny,demo
	$(PYTHON) -m benchmarks.engine_step --presets csm-1b --threads $$(nproc)
	$(PYTHON) -m benchmarks.first_audio
	$(PYTHON) -m benchmarks.regression

# The graph with stand-ins for its models, beside a bare FastAPI process; under five minutes.
bench-datapath: install
	$(PYTHON) -m benchmarks.datapath

# Beside transformers' generate behind a minimal server, under the same load.
bench-versus: install
	$(PYTHON) -m benchmarks.versus

# Rewrites requirements.lock; holds no index address.
lock:
	$(UV) pip compile --universal --generate-hashes --no-emit-index-url --python-version 3.11 --group dev \
	  pyproject.toml -o requirements.lock --upgrade -q

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache
