# `make help` lists what can be made. Variables, given on the command line:
#
#   TORCH    what pip installs as torch; pip's options may follow the name
#   WORKERS  processes of `make test`
#   ARGS     further arguments of pytest in `make test`, parity and soak, of `polykern heatmap` in `make demo`
#   PYTHON   an interpreter that has everything already: it is used as it is and nothing is installed
#   DEVICE   of `make bench`: cpu or cuda
#   SOAK     of `make soak`: how many times the faults and inputs of every day

TORCH ?= torch==2.13.0
WORKERS ?= 2
DEVICE ?= cpu
SOAK ?= 100

ifdef PYTHON
export PYTHONPATH := kernels:benches:.
python := $(PYTHON)
else
python := .venv/bin/python
tools := .venv/bin/
demo-needs := .venv/demo
test-needs := .venv/test
check-needs := .venv/check
docs-needs := .venv/docs
endif
install := .venv/bin/python -m pip install -qq --constraint .venv/constraints.txt

.PHONY: help demo test parity soak check docs gpu gpu-wheels bench clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@sed -n 's/^#   /  /p' $(MAKEFILE_LIST)

demo: $(demo-needs)  ## a 4096 x 4096 density map of a small network, in demo/
	$(python) -m polykern heatmap --model digits --resolution 4096 --out demo $(ARGS)
	@echo
	@echo "The map is in demo/: open demo/viewer/index.html in a browser, or look at the pictures"
	@ls demo/*.png | grep -v anchor- | sed 's/^/  /'

test: $(test-needs)  ## every test that needs no GPU
	OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(python) -m pytest -m "not gpu" $(if $(filter-out 0 1,$(WORKERS)),-n $(WORKERS) --dist loadfile --no-loadscope-reorder) $(ARGS)

parity: $(test-needs)  ## the suite on each backend: cpu, reference, Triton's interpreter; prints a table of each
	for backend in cpu reference triton; do OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(python) -m pytest -q -p tests.parity \
	  --parity $$backend -m "not gpu" --ignore tests/kernels/test_device_compile.py \
	  tests/engine tests/store tests/scores tests/kernels $(ARGS) || failed=1; done; exit $${failed:-0}

soak: $(test-needs)  ## the promises of docs/promises.md with SOAK times as many faults and inputs; prints a table
	POLYKERN_SOAK=$(SOAK) OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(python) -m pytest -q tests/trust $(ARGS)

check: $(check-needs)  ## style, types, direction of imports
	$(tools)ruff check .
	$(tools)ruff format --check .
	$(tools)mypy
	$(tools)pyright --pythonpath "$$(command -v $(python))"
	$(tools)lint-imports --no-logo

docs: $(docs-needs)  ## the documentation, in build/docs/, every page anew; every warning and every dead link is an error
	$(python) -m sphinx -q -a -W --keep-going -b html docs build/docs

gpu: $(test-needs)  ## ceilings, tests, targets, benches of a CUDA device, ten minutes; PYTHON=python3 installs nothing
	@$(python) -c 'import sys, torch; torch.cuda.is_available() or sys.exit("make gpu: torch sees no CUDA device")'
	$(python) -m polykern_benches.gpu

gpu-wheels:  ## what a bare CUDA machine with Python 3.12 may lack, into .wheels/, for `make gpu` there
	python3 -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
	  --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
	  -d .wheels jaxtyping beartype hypothesis sortedcontainers xxhash typer hdbscan

bench: $(test-needs)  ## every case that is not heavy, in benches/results/; ARGS of polykern bench
	$(python) -m polykern_benches --device $(DEVICE) --out benches/results/$(DEVICE).json $(ARGS)

clean:  ## removes the virtual environment, the demo and all caches
	rm -rf .venv demo docs/generated build dist .ruff_cache .mypy_cache .pytest_cache .import_linter_cache .hypothesis
	find polykern kernels tests benches -name __pycache__ -type d -prune -exec rm -rf {} +

# --- the virtual environment: torch first, pinned from then on with the torchvision that belongs to it ---------

.venv/torch:
	@set -e; for host in python3.13 python3.12 python3.11 python3 none; do \
	  if $$host -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then break; fi; \
	done; \
	if [ $$host = none ]; then echo "polykern needs Python 3.11 or newer with its venv module" >&2; exit 1; fi; \
	echo "$$host -m venv .venv"; $$host -m venv .venv
	.venv/bin/python -m pip install -qq --upgrade "pip>=25.1"
	.venv/bin/python -m pip install -qq $(TORCH)
	.venv/bin/python -c 'from importlib.metadata import version; v = version("torch"); \
	  print(f"torch=={v}", f"torchvision==0.{int(v.split(chr(46))[1]) + 15}.*", sep=chr(10))' > .venv/constraints.txt
	touch $@

.venv/demo: .venv/torch pyproject.toml
	$(install) --editable .
	touch $@

.venv/test: .venv/demo
	$(install) --group test
	$(install) --group subjects --no-deps
	touch $@

.venv/check: .venv/test
	$(install) --group dev
	touch $@

.venv/docs: .venv/demo
	$(install) --group docs
	touch $@
