# The commands of this project; README.md says what each does.
SHELL := /bin/bash
PORT ?= 8000
MODEL ?= demo
VENV := .venv
# A bare machine (no .venv, no network) names its own interpreter: PYTHON=python3 make bench-gpu
PYTHON ?= $(VENV)/bin/python
UV := $(shell command -v uv 2>/dev/null || echo $(VENV)/bootstrap/bin/uv)
STAMP := $(VENV)/.installed
# Containers often forbid Python to keep bytecode. Then every replica compiles torch and Ray again: seconds each.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: agents install serve docs demo-voice test test-slow test-kills test-job-kills test-cluster test-abuse test-partitions audit sbom soak lint lock bench bench-gpu gpu-session bench-capacity bench-conversations bench-datapath bench-jobs bench-scaling bench-start bench-versus clean

install: $(STAMP)

# Without a card: PyTorch's CPU build where its index can be reached, else the locked one, which brings CUDA (BACKEND=locked).
BACKEND ?= $(if $(wildcard /dev/nvidia0),locked,cpu)
SYNC := $(UV) pip sync --python $(VENV)/bin/python
FROM_PYTORCH := UV_HTTP_TIMEOUT=10 UV_HTTP_RETRIES=1 $(UV) pip install --python $(VENV)/bin/python --torch-backend cpu --no-deps

# uv alone can resolve moshi's bounds (see [tool.uv] in pyproject.toml); where it is missing, it comes from pip. Where
# Python lacks ensurepip, as Debian's does without python3-venv, pip makes the environment of uv.
$(STAMP): requirements.lock pyproject.toml deploy/cpu_lock.py
	@echo "installing what requirements.lock names, once; docs/install.md says how much that is"
	@command -v $(UV) >/dev/null 2>&1 || $(MAKE) --no-print-directory bootstrap
	@test -x $(VENV)/bin/python || $(UV) venv --allow-existing --python 3.11 $(VENV)
	@if test $(BACKEND) = cpu && $(VENV)/bin/python deploy/cpu_lock.py requirements.lock >$(VENV)/cpu.lock \
	  && $(FROM_PYTORCH) --dry-run --reinstall --refresh $$(grep '^torch==' $(VENV)/cpu.lock) >/dev/null 2>&1; \
	then echo "torch comes as its CPU build"; $(SYNC) --torch-backend cpu $(VENV)/cpu.lock; \
	else echo "torch comes with CUDA"; $(SYNC) requirements.lock; fi
	$(UV) pip install --python $(VENV)/bin/python --no-deps --no-build-isolation -e .
	@touch $(STAMP)

.PHONY: bootstrap
bootstrap:
	@echo "fetching uv"
	@python3 -m venv $(VENV)/bootstrap 2>/dev/null || { rm -rf $(VENV)/bootstrap; \
	  python3 -m pip install --target $(VENV)/bootstrap/lib uv && mkdir -p $(VENV)/bootstrap/bin \
	  && ln -sf ../lib/bin/uv $(VENV)/bootstrap/bin/uv; } \
	  || { echo "uv is missing: install it, or python3-venv (Debian: apt install python3-venv)"; exit 1; }
	@test -x $(VENV)/bootstrap/bin/uv || $(VENV)/bootstrap/bin/pip install --progress-bar off uv

serve: install
	$(VENV)/bin/csm-serve serve --model $(MODEL) --port $(PORT)

# Rewrites the tables of settings and metrics in docs/.
docs: install
	$(PYTHON) -m docs.tables

# From nothing to serve_app/demo_voice, in a little over two hours; training/README.md says what it needs.
demo-voice: install
	$(PYTHON) -m training.codec
	$(PYTHON) -m training.corpus
	$(PYTHON) -m training.language_model
	$(PYTHON) -m training.export
	rm -rf serve_app/demo_voice && cp -r build/demo-voice/checkpoint serve_app/demo_voice

test: install
	$(VENV)/bin/python -m pytest -q -n 2 --durations=10

# What takes half a minute or more, or repeats a covered path at length: every way to start, autoscaling, rolling updates,
# a lost node, kernels interpreted, memory over ten thousand requests, the GPU benchmark rehearsed; and property tests with
# twenty times the examples.
test-slow: install
	HYPOTHESIS_PROFILE=thorough $(VENV)/bin/python -m pytest -q -n 2 -m "slow or hypothesis" --durations=10

# Twenty replicas killed, one after the other, while people listen; and how long listeners wait for the next frame.
test-kills: install
	$(VENV)/bin/python -m pytest -q -s -m kills tests/integration

# Hundreds of runners and ingresses killed while jobs are submitted, on SQLite and on PostgreSQL.
test-job-kills: install
	$(VENV)/bin/python -m pytest -q -s -m job_kills tests/integration

# Nodes with cards that come on demand and go, and a head that is lost and comes back; on this machine.
test-cluster: install
	$(VENV)/bin/python -m pytest -q -s -m fake_cluster tests/integration

# Fifty agents that talk over one another for ten minutes.
agents: install
	CSM_TESTS_AGENTS=50 CSM_TESTS_AGENT_SECONDS=600 $(VENV)/bin/python -m pytest -q tests/unit/demo/test_agents.py

# Seventeen attacks, one after the other, while somebody listens who has nothing to do with them.
test-abuse: install
	$(VENV)/bin/python -m pytest -q -s -m abuse tests/integration/abuse

# Nodes that are cut off and join again, lossy networks, paused processes; as root, in network namespaces of this machine.
test-partitions: install
	$(VENV)/bin/python -m pytest -q -s -m partitions tests/integration

# Known vulnerabilities of what is locked. Asks PyPI's advisory service, and says so where it cannot.
audit: install
	$(PYTHON) .ci/audit

# What is in the lock, as an SBOM in CycloneDX: build/sbom.json. The tool has an environment of its own: among its packages is one
# that jsonschema then loads too, and with it Ray, in each of its processes, for more than a second.
sbom: install
	@mkdir -p build
	$(UV) tool run --from cyclonedx-bom==7.5.0 cyclonedx-py requirements requirements.lock --pyproject pyproject.toml --output-reproducible \
	  --of JSON -o build/sbom.json

# Half an hour of listeners of whom three in ten leave.
soak: install
	$(VENV)/bin/python -m pytest -q -s -m soak tests/integration

lint: install
	$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/pyright

bench: install
	$(PYTHON) -m benchmarks.engine.step --preset tiny,small
	$(PYTHON) -m benchmarks.engine.step --preset csm-1b --batch 1,4 --dtype bf16,int8
	$(PYTHON) -m benchmarks.load.first_audio
	$(PYTHON) -m benchmarks.common.regression

# Everything that wants a GPU, in under nine minutes. Installs nothing, so that PYTHON=python3 runs it on a bare machine;
# there COMMIT says what was measured.
bench-gpu: $(if $(filter $(VENV)/%,$(PYTHON)),install)
	$(PYTHON) -m benchmarks.gpu $(if $(COMMIT),--commit $(COMMIT))

# A borrowed card: are the kernels right, how fast are they, what is next; one page in nine minutes. DRY=1 rehearses on a CPU.
gpu-session: $(if $(filter $(VENV)/%,$(PYTHON)),install)
	$(PYTHON) -m benchmarks.gpu.session $(if $(COMMIT),--commit $(COMMIT)) $(if $(DRY),--dry-run)

# The graph with stand-ins for its models, beside a bare FastAPI process; under five minutes.
bench-datapath: install
	$(PYTHON) -m benchmarks.datapath

# The capacity model beside a served graph with a stand-in for its model; in three minutes.
bench-capacity: install
	$(PYTHON) -m benchmarks.capacity

# More generators for more listeners, and how soon an autoscaled one comes; in four minutes.
bench-scaling: install
	$(PYTHON) -m benchmarks.scaling
	$(PYTHON) -m benchmarks.scaling.load_step

# Jobs taken, asked for and ended a second; in one minute.
bench-jobs: install
	$(PYTHON) -m benchmarks.jobs

# From the command to the first word, three times; in two minutes.
bench-start: install
	$(PYTHON) -m benchmarks.load.cold_start

# Turns with growing context: prefill, first audio, and what the prefix cache saves; in two minutes.
bench-conversations: install
	$(PYTHON) -m benchmarks.conversations

# Beside transformers' generate behind a minimal server, under the same load.
bench-versus: install
	$(PYTHON) -m benchmarks.peers.versus

# Rewrites requirements.lock; holds no index address.
lock:
	$(UV) pip compile --universal --generate-hashes --no-emit-index-url --python-version 3.11 --group dev \
	  pyproject.toml -o requirements.lock --upgrade -q

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache
