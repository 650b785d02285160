# A fresh machine needs Python 3.11 or later and make; everything else goes into .venv.
#   make demo     look at a picture            make test     run the tests
# On Linux, PyPI's torch brings CUDA (3 GB). For the small CPU build:
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
TORCH_INDEX ?=
VENV ?= .venv
OUT ?= out
# More than a few workers only fight for memory; each test process keeps torch to one thread.
JOBS ?= auto
PYTEST_ARGS ?=

BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt \
	$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
DEMO = examples/assets/knot.glb

.PHONY: help demo test lint blender clean distclean
help:
	@echo "make demo       render the example and say where the picture is (base install)"
	@echo "make test       run the tests (adds the dev extra); PYTEST_ARGS='-k image'"
	@echo "make lint       ruff and mypy"
	@echo "make blender    zip the add-on for Blender into dist/"
	@echo "make clean      remove build products and caches; distclean removes $(VENV) too"

demo: $(VENV)/.base
	@mkdir -p $(OUT)
	$(BIN)/renderformer render $(DEMO) -o $(OUT)/demo.png --overwrite
	@echo "The picture is $(abspath $(OUT))/demo.png"

test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(PYTEST_ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/mypy -p renderformer

blender: $(VENV)/bin/python
	@$(BIN)/python scripts/pack_blender_addon.py dist

# The stamps are newer than what they were made from, so a second call costs nothing. The installation is editable:
# a pull needs no new one unless the dependencies change.
$(VENV)/.base: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing renderformer into $(VENV) ..."
	$(PIP) -e .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing renderformer with the tools for tests into $(VENV) ..."
	$(PIP) -e '.[dev]'
	@touch $(VENV)/.base $@

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or later with venv found; install one (Debian, Ubuntu:" \
		"apt install python3-venv), or name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf build dist $(OUT) .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
