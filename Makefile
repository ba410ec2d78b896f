# Two commands matter: `make demo` and `make test`. Nothing is written outside this directory
# (but pip's own cache), and a second call of any target starts at once.

PYTHON ?= python3
TORCH ?= torch==2.13.0
# An extra package index for torch. CPU rungs need no GPU, and pip's default for Linux is the CUDA build: several gigabytes that map
# more address space than the rungs allow. PyTorch's installation page names the index of the CPU build.
TORCH_INDEX ?=
DEMO_OPTIONS ?=
TEST_OPTIONS ?=
BENCH_OPTIONS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PIP_TOOLS := pip-tools==7.6.2
SOURCES := $(wildcard ralph ralph_devnet neurons recipe scripts tests)

# One thread a process: several processes run beside each other, and results do not depend on it.
export OMP_NUM_THREADS := 1

.DEFAULT_GOAL := help
.PHONY: help install demo test check format bench docs lock build clean distclean
.DELETE_ON_ERROR:

help: ## Show the targets.
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(VENV)/.created:
	@scripts/check_system.sh "$(PYTHON)" python
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.created pyproject.toml requirements.lock
	$(PIP) install $(addprefix --extra-index-url ,$(TORCH_INDEX)) $(TORCH)
	$(PIP) install --quiet --require-hashes -r requirements.lock
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	$(PIP) check
	@touch $@

install: $(VENV)/.installed ## Create .venv and install everything into it, from hashes.

demo: ## Install, then run the whole protocol on this machine.
	@scripts/check_system.sh "$(PYTHON)" python sandbox
	@$(MAKE) --no-print-directory install
	$(BIN)/ralph demo $(DEMO_OPTIONS)

test: ## Install, then run all tests that need neither GPU nor network.
	@scripts/check_system.sh "$(PYTHON)" python sandbox
	@$(MAKE) --no-print-directory install
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(TEST_OPTIONS)

check: install ## Format, lint, types and import contracts, without changing a file.
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: install ## Format the code and apply the safe fixes.
	$(BIN)/ruff check --fix-only $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

bench: install ## Measure training, evaluation, data, the recipe's pieces and the cost of the host.
	$(BIN)/ralph bench $(BENCH_OPTIONS)

docs: install ## Write the generated pages of docs/ again.
	$(BIN)/python scripts/generate_reasons.py
	$(BIN)/python scripts/generate_rules.py

lock: ## Resolve requirements.lock again from pyproject.toml (needs the network).
	@scripts/check_system.sh "$(PYTHON)" python
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip --disable-pip-version-check --quiet install $(PIP_TOOLS)
	build/lock/bin/python scripts/make_lock.py

build: install ## Build the wheel and the source archive into dist/.
	$(BIN)/python -m build --no-isolation

clean: ## Remove builds and caches.
	rm -rf build dist .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## Remove the virtual environment as well.
	rm -rf $(VENV)
