# make train      create .venv once, train the default preset, print the paths of the plots
# make test       create .venv with the development tools, run all tests
# make test-fast  the tests without those marked slow, about two minutes
# make soak       the counts of docs/reliability.md, hours; COUNTS="--kills 50" for some of them
# make lint       style, format, types and the import contracts
# make docs       the manual as a site, build/site/index.html; a warning is an error
# make package    build sdist and wheel into dist/, install the wheel into an empty environment, train there
# make bench      compare training steps with other tools, half an hour or more; uses .venv-bench
# make quality    KL against seconds for ebmtrain and other tools, a quarter of an hour; uses .venv-bench
# make clean      remove .venv and caches; keeps outputs/

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
FROM := pyproject.toml constraints.txt

# Threads per process. A second thread is up to 1.5 times faster on an idle machine. On a busy machine the
# two wait for each other, up to twenty times slower.
export OMP_NUM_THREADS ?= 1

.PHONY: train test test-fast soak lint docs package bench quality clean

train: $(VENV)/.for-use
	$(BIN)/ebmtrain
	@echo "         . $(BIN)/activate   once per shell, to put ebmtrain on the PATH"

test: $(VENV)/.for-development
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-fast: $(VENV)/.for-development
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

soak: $(VENV)/.for-development
	PYTHONPATH=tests:tests/runs/storage nice -n 10 $(BIN)/python -u tests/reliability/soak.py $(COUNTS)

lint: $(VENV)/.for-development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

docs: $(VENV)/.for-development
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

package: $(VENV)/.for-development
	rm -rf dist build/empty
	$(BIN)/python -m build
	$(PYTHON) -m venv build/empty
	build/empty/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt dist/*.whl
	cd build && empty/bin/ebmtrain --version && empty/bin/ebmtrain train.steps=100 plots.every=0

bench: .venv-bench/.ready
	.venv-bench/bin/python benchmarks/peers.py

quality: .venv-bench/.ready
	.venv-bench/bin/python benchmarks/quality.py

clean:
	rm -rf $(VENV) .venv-bench build dist *.egg-info .pytest_cache .ruff_cache .import_linter_cache

$(VENV)/.for-use: $(BIN)/python $(FROM)
	@echo "installing into $(VENV): a few minutes, once"
	@$(PIP) -e .
	@touch $@

$(VENV)/.for-development: $(BIN)/python $(FROM)
	@echo "installing into $(VENV): a few minutes, once"
	@$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/.for-use

.venv-bench/.ready: pyproject.toml constraints.txt
	@echo "installing into .venv-bench: a few minutes, once"
	@$(PYTHON) -m venv .venv-bench
	@.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@touch $@

$(BIN)/python:
	@command -v $(PYTHON) > /dev/null || { echo "there is no $(PYTHON): add PYTHON=/path/to/python3.12"; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; ok = (3, 11) <= v[:2] <= (3, 13); \
	ok or sys.exit("ebmtrain needs Python 3.11 to 3.13, $(PYTHON) is %d.%d: add PYTHON=python3.12" % v[:2])'
	@$(PYTHON) -m venv $(VENV)
