# The two commands that a newcomer needs are `make convert` and `make test`.

PYTHON ?= python3
ARCH ?= 169
WEIGHTS ?= random
BIN := .venv/bin

.PHONY: convert test check bench clean

convert: .venv/installed
	$(BIN)/densenet-convert torchvision --arch $(ARCH) --weights $(WEIGHTS) --force

test: .venv/installed-test
	$(BIN)/python -m pytest -n auto

# mypy does not follow an editable install whose folders bear other names; links do.
check: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf build/check && mkdir -p build/check/densenet_convert
	ln -s $(CURDIR)/convert/* $(CURDIR)/densenet build/check/densenet_convert/
	MYPYPATH=build/check $(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_structure.py

bench: .venv/installed
	$(BIN)/python benchmarks/convert.py --output benchmarks/results/convert.json

.venv/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --editable .
	touch $@

.venv/installed-%: .venv/installed
	$(BIN)/python -m pip install --editable ".[$*]"
	touch $@

clean:
	rm -rf .venv build *.egg-info
