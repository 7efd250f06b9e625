# The README's commands. Everything installs into .venv, once, and only what the target needs: the gateway by the hashes in
# requirements/, the rest in the versions of constraints.txt.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
# What is the same artefact everywhere is installed by its hash, and never built here.
LOCKED := install --quiet --disable-pip-version-check --require-hashes --only-binary :all:
SUPPLY := .venv-supply

MODEL ?= demo
PRECISION ?= fp32
DEVICE ?= auto
REPLICAS ?= 1
TARGET ?= wheel
FORMAT ?= torchscript
export MODEL PRECISION DEVICE REPLICAS TARGET FORMAT

.PHONY: serve s3-server chart-tools test test-all mutate faults fuzz fuzz-pixels fuzz-api flood rolling lint lint-console vendor-console docs format bench loadtest loadtest-mix soak lock audit wheel sbom train-demo evaluate demo-figures study clean
.DEFAULT_GOAL := serve

$(VENV)/.venv-made:
	$(PYTHON) -m venv $(VENV)
	@touch $@

# torch, transformers and a Triton server without Docker. Triton's wheel asks for an old numpy and more that only its own
# Python client needs: it lies in a folder of its own, without them, where pip compares it with nothing.
$(VENV)/.serve-installed: pyproject.toml constraints.txt requirements/gateway.txt requirements/build.txt | $(VENV)/.venv-made
	@echo "Installing the gateway, the exporter and Triton into $(VENV) (once) ..."
	$(BIN)/pip $(LOCKED) --requirement requirements/gateway.txt --requirement requirements/build.txt
	$(PIP) --no-build-isolation --editable '.[export,evaluate]'
	$(PIP) --no-deps --upgrade --target $(VENV)/triton nvidia-pytriton
	@touch $@

$(VENV)/.dev-installed: $(VENV)/.serve-installed
	@echo "Installing what tests and lint need (once) ..."
	$(PIP) --no-build-isolation --editable '.[export,evaluate,openvino,loadtest,dev]'
	@touch $@

# An environment of their own: what audits is not among what is audited.
$(SUPPLY)/.installed: requirements/tools.txt
	$(PYTHON) -m venv $(SUPPLY)
	$(SUPPLY)/bin/pip $(LOCKED) --requirement requirements/tools.txt
	@touch $@

# A server that speaks S3, for the tests of stills in a bucket, which skip without it; what it needs is nobody else's.
s3-server: ## Install moto's S3 server into .venv-s3
	$(PYTHON) -m venv .venv-s3
	.venv-s3/bin/pip install --quiet --disable-pip-version-check 'moto[server]>=5.2,<6'

# Helm's own library and the schemas of Kubernetes' releases, for the chart's tests, which skip without them.
chart-tools: .venv-chart/.installed ## Install what renders and validates the Helm chart into .venv-chart

.venv-chart/.installed:
	$(PYTHON) -m venv .venv-chart
	.venv-chart/bin/pip install --quiet 'helm-python-sdk>=0.2.2,<0.3' 'kubernetes-validate>=1.37,<2'
	@touch $@

$(VENV)/.openvino-installed: | $(VENV)/.serve-installed
	$(PIP) --no-build-isolation --editable '.[export,evaluate,openvino]'
	@touch $@

serve: $(VENV)/.serve-installed $(if $(filter openvino,$(FORMAT)),$(VENV)/.openvino-installed) ## Triton and the gateway; MODEL=demo|<hub id>|<folder>|random:<architecture>, REPLICAS=n, FORMAT=openvino
	@exec $(BIN)/python -m scripts.serve

# Two processes, each with a stack of its own: what one waits for, the other computes meanwhile.
# A test that fails runs once more, and is listed: real servers and a browser on a shared machine have their hiccups.
PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder --reruns 1 --reruns-delay 2 -raR

test: $(VENV)/.dev-installed ## The tests, against a real Triton
	$(BIN)/python -m pytest $(PARALLEL) -m 'not heavy'

test-all: test ## Those that take long too: browser, crowds of slow clients, rolling restarts
	$(BIN)/python -m pytest $(PARALLEL) -m heavy

faults: $(VENV)/.dev-installed ## Stage every fault of the list and write what each got to reports/faults.md
	@mkdir -p reports
	$(BIN)/python -m pytest $(PARALLEL) --reruns 0 -m fault --fault-table=reports/faults.md

mutate: $(VENV)/.dev-installed ## Mutants of the code that decides; fails on one that no test notices; MUTATE='gateway.moderation.policy*'
	$(BIN)/python -m scripts.mutate $(MUTATE)

fuzz: $(VENV)/.dev-installed ## Damaged pictures to a running gateway; FUZZ='--url http://127.0.0.1:8000 --count 100000'
	$(BIN)/python -m scripts.fuzz $(FUZZ)

fuzz-pixels: $(VENV)/.dev-installed ## 500,000 damaged pictures: what is judged is what Pillow and libvips decode; PIXELS='--count 500000 --seed 2'
	$(BIN)/python -m scripts.fuzz.pixels $(PIXELS)

fuzz-api: $(VENV)/.dev-installed ## Requests made from the OpenAPI text, against a running gateway with a key (CLIP_API_KEY) and a database to throw away
	@test -n "$$CLIP_API_KEY" || { echo 'fuzz-api: the gateway needs API keys, since its OpenAPI text says so: give one with all roles in CLIP_API_KEY'; exit 2; }
	$(BIN)/schemathesis run http://127.0.0.1:$(or $(GATEWAY_PORT),8000)/openapi.json --checks all --continue-on-failure --max-examples $(or $(EXAMPLES),500) --header "Authorization: Bearer $$CLIP_API_KEY"

flood: $(VENV)/.dev-installed ## 1,000 uploads of 10 MB at once to the gateway of `make serve`: only 200 and 503, and its memory
	$(BIN)/python -m scripts.flood

rolling: $(VENV)/.dev-installed ## 100,000 uploads while replicas are replaced; ROLLING='--launcher PID http://127.0.0.1:8000'
	$(BIN)/python -m scripts.rolling $(ROLLING)

lint: $(VENV)/.dev-installed lint-console
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The console's modules need no node to run; with it their types are checked.
lint-console: ## The types of the console's modules, where npm is installed and reaches its registry
	@if command -v npm >/dev/null && $(MAKE) --no-print-directory node_modules/.installed; \
	then node_modules/.bin/tsc --noEmit; \
	else echo 'npm is not there or reaches no registry: the types of gateway/console are not checked' >&2; fi

node_modules/.installed: package.json package-lock.json
	npm ci --silent --no-audit --no-fund
	@touch $@

vendor-console: node_modules/.installed ## Copy the console's libraries, in the versions of package-lock.json, to gateway/console/vendor
	$(BIN)/python -m scripts.vendor_console

docs: $(VENV)/.dev-installed ## The documentation as a site: reports/site/index.html; a broken link fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: $(VENV)/.dev-installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev-installed ## Measure everything and write docs/benchmarks.md; BENCH='text intake --rounds 3', PEERS=1, BENCH_MODEL, PRICE_PER_HOUR
	$(BIN)/python -m scripts.bench --write $(BENCH)

loadtest: $(VENV)/.dev-installed ## Locust up to saturation, by REST and gRPC; URL=http://…, LOADTEST_…; the curve in reports/
	LOADTEST_URL=$(URL) $(BIN)/python -m loadtests.ramp

loadtest-mix: $(VENV)/.dev-installed ## Locust with all kinds of users at a time; every answer checked; report in reports/
	$(BIN)/python -m loadtests.run

soak: $(VENV)/.dev-installed ## 60,000 mixed requests, faults and disconnects too; the memory's curve in reports/
	$(BIN)/python -m loadtests.soak

lock: $(SUPPLY)/.installed ## Write requirements/*.txt anew, with hashes, from pyproject.toml and constraints.txt
	$(SUPPLY)/bin/python -m scripts.lock --uv $(SUPPLY)/bin/uv

audit: $(SUPPLY)/.installed ## Look all pinned versions up for known vulnerabilities, where the service can be reached
	$(SUPPLY)/bin/python -m scripts.audit --pip-audit $(SUPPLY)/bin/pip-audit

wheel: ## The gateway's wheel, whose installation gives the command clip-gateway: dist/*.whl
	$(PYTHON) -m venv .venv-wheel
	.venv-wheel/bin/pip $(LOCKED) --requirement requirements/build.txt
	.venv-wheel/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

sbom: $(SUPPLY)/.installed ## The gateway's bill of materials in CycloneDX: reports/sbom.cdx.json
	@mkdir -p reports
	$(SUPPLY)/bin/cyclonedx-py requirements requirements/gateway.txt --pyproject pyproject.toml \
		--output-reproducible --of JSON --output-file reports/sbom.cdx.json

train-demo: $(VENV)/.serve-installed ## Train the demo CLIP from scratch on pictures the script draws
	$(BIN)/python -m scripts.demo.train

evaluate: $(VENV)/.serve-installed ## Labelled drawings by several hands through a stack: reports/evaluation/600-0/report.html; EVALUATE='--count 3000 --calibrate'
	$(BIN)/python -m scripts.demo.evaluate_stack $(EVALUATE)

demo-figures: $(VENV)/.serve-installed ## The demo CLIP's figures on new pictures, and its policy's thresholds, without a stack
	$(BIN)/python -m scripts.demo.evaluate
	$(BIN)/python -m scripts.demo.thresholds

study: $(VENV)/.serve-installed ## What each step from prompts to heads brings on drawings by new hands: docs/study.md; STUDY="--share 0.3"
	$(BIN)/python -m scripts.demo.study $(STUDY)

clean: ## Remove the environment, the bundle and all state
	rm -rf $(VENV) $(SUPPLY) .venv-wheel build dist data .cache reports mutants
	find model_repository -mindepth 1 ! -name README.md -delete
