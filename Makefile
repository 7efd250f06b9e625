# The README's commands. Everything installs into .venv from constraints.txt, once, and only what the target needs.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

MODEL ?= demo
PRECISION ?= fp32
DEVICE ?= auto
export MODEL PRECISION DEVICE

.PHONY: serve test faults lint format bench loadtest train-demo evaluate clean
.DEFAULT_GOAL := serve

$(VENV)/.venv-made:
	$(PYTHON) -m venv $(VENV)
	@touch $@

# torch, transformers and a Triton server without Docker. Triton's wheel asks for an old numpy that only its own Python
# client needs, hence --no-deps.
$(VENV)/.serve-installed: pyproject.toml constraints.txt | $(VENV)/.venv-made
	@echo "Installing the gateway, the exporter and Triton into $(VENV) (once) ..."
	$(PIP) --editable '.[export]'
	$(PIP) --no-deps nvidia-pytriton
	@touch $@

$(VENV)/.dev-installed: $(VENV)/.serve-installed
	@echo "Installing what tests and lint need (once) ..."
	$(PIP) --editable '.[export,loadtest,dev]'
	@touch $@

serve: $(VENV)/.serve-installed ## Triton and the gateway; MODEL=demo|<hub id>|<folder>|random:<architecture>
	@exec $(BIN)/python -m scripts.serve

test: $(VENV)/.dev-installed ## The whole suite, against a real Triton
	$(BIN)/python -m pytest

faults: $(VENV)/.dev-installed ## Stage every fault of the list and write what each got to FAULTS.md
	$(BIN)/python -m pytest -m fault --fault-table FAULTS.md

lint: $(VENV)/.dev-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev-installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev-installed ## Images a second: REST beside the encoder alone; BENCH_MODEL=random:ViT-B/32 by default
	$(BIN)/python -m scripts.bench

loadtest: $(VENV)/.dev-installed ## Locust, headless, report in reports/
	$(BIN)/python -m loadtests.run

train-demo: $(VENV)/.serve-installed ## Train the demo CLIP from scratch on pictures the script draws
	$(BIN)/python -m scripts.demo.train

evaluate: $(VENV)/.serve-installed ## The demo CLIP's figures on new pictures
	$(BIN)/python -m scripts.demo.evaluate

clean: ## Remove the environment, the bundle and all state
	rm -rf $(VENV) data .cache reports
	find model_repository -mindepth 1 ! -name README.md -delete
