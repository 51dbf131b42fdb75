# make train   set up .venv once, train the default preset, print where the pictures are
# make test    the same set-up with the tools of development, then all tests
# make test-fast  the tests without those marked slow, about two minutes
# make soak    the promises of docs/reliability.md at length; COUNTS="--kills 50" for some of them
# make lint    style, format, types and the import contract
# make bench   training steps beside those of other tools, half an hour or more, in an environment of its own:
#              .venv-bench
# make quality KL against seconds, of ebmtrain and of other tools; in .venv-bench, a quarter of an hour
# make clean   remove .venv and caches; outputs/ stays

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
FROM := pyproject.toml constraints.txt

# Per process. A second thread gains up to a half on an idle machine, and where something else runs
# the two wait for each other: twenty times slower was seen.
export OMP_NUM_THREADS ?= 1

.PHONY: train test test-fast soak lint bench quality clean

train: $(VENV)/.for-use
	$(BIN)/ebmtrain
	@echo "         . $(BIN)/activate   once in a shell, for it to find ebmtrain"

test: $(VENV)/.for-development
	$(BIN)/python -m pytest -n 2

test-fast: $(VENV)/.for-development
	$(BIN)/python -m pytest -n 2 -m "not slow"

soak: $(VENV)/.for-development
	PYTHONPATH=tests:tests/runs/storage nice -n 10 $(BIN)/python -u tests/reliability/soak.py $(COUNTS)

lint: $(VENV)/.for-development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

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
