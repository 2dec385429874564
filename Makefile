# The two commands that a newcomer needs are `make convert` and `make test`.

PYTHON ?= python3
ARCH ?= 169
WEIGHTS ?= random
BIN := .venv/bin

# Seconds for each format, and where its corpus grows.
FUZZ_SECONDS ?= 60
FUZZ_CORPUS ?= build/fuzz
FORMATS := torch-zip torch-zip-pickle torch-legacy torch-tar pickle safetensors keras-h5 keras

.PHONY: convert test check bench fuzz clean

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
	$(BIN)/python benchmarks/many.py --output benchmarks/results/many.json

fuzz: .venv/installed-fuzz
	set -e; for format in $(FORMATS); do \
	    $(BIN)/python tests/fuzz/fuzz_formats.py $$format $(FUZZ_CORPUS)/$$format -artifact_prefix=$(FUZZ_CORPUS)/$$format- \
	        -max_total_time=$(FUZZ_SECONDS) -timeout=30 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1; \
	done

.venv/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --editable .
	touch $@

.venv/installed-%: .venv/installed
	$(BIN)/python -m pip install --editable ".[$*]"
	touch $@

clean:
	rm -rf .venv build *.egg-info
