# Everything a user needs. `make help` lists the targets.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-volumes app reproduce gpu-check test soak lint clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

setup: $(STAMP)  ## Make .venv with everything in it (seconds when it is there already)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed: make setup PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "Python's venv module is missing: on Debian, apt install python3-venv"; exit 1; }
	@echo "Setting up $(VENV), once: PyTorch, readers of DICOM and NIfTI, tools for tests;"
	@echo "about 6 GB and some minutes, most of it the download of PyTorch."
	@$(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[medical,onnx,app,dev]"
	@touch $@

demo: setup  ## Draw phantoms, train on them, score unseen ones (4 minutes on two cores)
	$(RUN) -m datasets.phantom.write --output data/phantom --seed 1
	@# One thread: the demo's tensors are too small for two, and the loader needs the other core.
	OMP_NUM_THREADS=1 $(RUN) run_training.py --config configs/demo.ini --overwrite
	OMP_NUM_THREADS=1 $(RUN) run_test.py --config configs/demo.ini --overwrite

demo-volumes: setup  ## The same with whole heads: NIfTI and DICOM in, maps for viewers out (3 minutes)
	$(RUN) -m datasets.phantom.write_volumes --output data/phantom_volumes --seed 1
	OMP_NUM_THREADS=1 $(RUN) run_training.py --config configs/demo_volumes.ini --overwrite
	OMP_NUM_THREADS=1 $(RUN) run_test.py --config configs/demo_volumes.ini --overwrite
	OMP_NUM_THREADS=1 $(RUN) run_predict.py --config configs/demo_volumes.ini --overwrite \
	  --input data/phantom_volumes/test/good/img data/phantom_volumes/test/Ungood/img \
	  --output results/demo_volumes/predictions --recursive --dicom-seg
	$(RUN) docs/draw_volume.py --image data/phantom_volumes/test/Ungood/img/test_ungood_03.nii.gz \
	  --map results/demo_volumes/predictions/maps/Ungood/img/test_ungood_03_map.nii.gz \
	  --mask results/demo_volumes/predictions/maps/Ungood/img/test_ungood_03_mask.nii.gz \
	  --output results/demo_volumes/cuts.png

app: setup  ## Serve the demo's model as a page for the browser (after make demo)
	@test -f results/demo/checkpoints/last_ckpt.pth || { \
	  echo "The demo has not been run yet, so there is no model to serve: run make demo first"; exit 1; }
	$(RUN) run_app.py --config configs/demo.ini

reproduce: setup  ## Test the authors' checkpoints on the BMAD sets in data/, beside their numbers
	$(RUN) -m benchmarks.reproduce

gpu-check: setup  ## Parity, speed and memory on a GPU, in eight minutes; no data, no network
	$(RUN) -m benchmarks.gpu_check

test: setup  ## Run the tests (minutes; no network, no GPU needed)
	@# Two processes of one thread each: the tests' tensors are too small for more.
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 -m "not slow and not network"

soak: setup  ## Run the long tests: kills, disk full, thousands of images (see docs/reliability.md)
	$(RUN) -m pytest -m "slow"

lint: setup  ## Check style and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

clean:  ## Remove .venv and caches; data and results stay
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
