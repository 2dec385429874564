# The two commands that a newcomer needs are `make convert` and `make test`.

PYTHON ?= python3
ARCH ?= 169
WEIGHTS ?= random
BIN := .venv/bin

# Seconds for each format, and where its corpus grows.
FUZZ_SECONDS ?= 60
FUZZ_CORPUS ?= build/fuzz
BENCHMARKS := convert many report loading training_memory inference transition_pooling never_loaded
FORMATS := torch-zip torch-zip-pickle torch-legacy torch-tar pickle safetensors keras-h5 keras \
    numpy npz gzip torchscript pt2 foreign

.PHONY: convert test check bench gpu fuzz docs docs-links test-lowest dist clean

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

bench: .venv/installed-bench
	set -e; for benchmark in $(BENCHMARKS); do \
	    $(BIN)/python benchmarks/$$benchmark.py --output benchmarks/results/$$benchmark.json; \
	done
	$(BIN)/python benchmarks/page.py

# All that a GPU has to show, by what is installed for PYTHON.  COMMIT says what is here, where git doesn't know.
gpu:
	$(PYTHON) benchmarks/gpu.py --device cuda --output benchmarks/results/gpu.json $(if $(COMMIT),--commit $(COMMIT))

fuzz: .venv/installed-fuzz
	set -e; for format in $(FORMATS); do \
	    $(BIN)/python tests/fuzz/fuzz_formats.py $$format $(FUZZ_CORPUS)/$$format -artifact_prefix=$(FUZZ_CORPUS)/$$format- \
	        -max_total_time=$(FUZZ_SECONDS) -timeout=30 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1; \
	done

# Built anew, so that no warning is left out.  The links within the site are checked, without a network.
docs: .venv/installed-docs
	rm -rf build/docs
	$(BIN)/python -m sphinx -W --keep-going -n -d build/doctrees -E docs build/docs
	$(BIN)/python docs/check_links.py build/docs

# The links to the world, which needs one.
docs-links: .venv/installed-docs
	$(BIN)/python -m sphinx -b linkcheck -d build/doctrees docs build/docs-links

# Every floor of setup.cfg as the version that is installed.  The onnxscript that goes with torch 2.6 can't
# write with protobuf 7.
test-lowest: build/lowest/installed
	build/lowest/bin/python -m pytest -n auto

# The sdist, the wheel that is built from it, and what they hold.
dist: .venv/installed-dev
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*
	DIST=$(CURDIR)/dist $(BIN)/python -m pytest -q tests/test_distribution.py

build/lowest/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv build/lowest
	sed -n 's/^ *\([A-Za-z0-9_-]*\)>=\([0-9.]*\)$$/\1==\2/p' setup.cfg > build/lowest/floors.txt
	echo 'protobuf<7' >> build/lowest/floors.txt
	build/lowest/bin/python -m pip install --editable ".[test]" --constraint build/lowest/floors.txt
	touch $@

.venv/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --editable .
	touch $@

.venv/installed-%: .venv/installed
	$(BIN)/python -m pip install --editable ".[$*]"
	touch $@

clean:
	rm -rf .venv build *.egg-info
