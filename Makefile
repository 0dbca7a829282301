# magstain. `make` alone says what can be made; the settings of a stage are in prep/settings.py and train/settings.py.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup demo prepare train eval compare ablation test test-fast test-gpu soak check bench weights clean

# ---- the environment: made once, made anew when these two files say something else
KEY   := $(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)
READY := .venv/made-$(KEY)
PY    := .venv/bin/python

# ---- what the stages work on: the demo unless a variable says otherwise
NAME   := $(if $(DATA)$(HE),$(shell basename '$(or $(DATA),$(shell dirname '$(HE)'))'),$(if $(STORE),$(shell basename '$(STORE)' .zarr),demo))
IS_DEMO = $(filter demo,$(if $(DATA)$(HE)$(STORE),other,demo))
TILES   = $(if $(HE),--he '$(HE)' --ihc '$(IHC)',--data '$(or $(DATA),data/demo)')
ZARR    = $(or $(STORE),data/$(NAME).zarr)
FOLDER  = $(or $(RUN),runs/$(NAME)$(if $(METHOD),-$(METHOD)))
SPLIT  ?= test
VIEW   ?= tile

# ---- the rows of the paper's two tables: `cut` is CUT as published, `cut_paired` what the paper's row is reported to be
METHODS ?= pix2pix cyclegan cut cut_paired pyramid_p2p asp attention_gan
ROWS    ?= baseline multi attention both
BUILT    = $(if $(and $(STORE),$(if $(DATA)$(HE),,STORE)),,prepare)

# ---- SET and CONFIG belong to the first stage on the command line; PREP_… and TRAIN_… name theirs
FIRST        := $(firstword $(filter prepare train,$(MAKECMDGOALS)))
PREP_SET     ?= $(if $(filter train,$(FIRST)),,$(SET))
TRAIN_SET    ?= $(if $(filter train,$(FIRST)),$(SET))
PREP_CONFIG  ?= $(or $(if $(filter train,$(FIRST)),,$(CONFIG)),$(if $(IS_DEMO),prep/presets/demo.toml))
TRAIN_CONFIG ?= $(or $(if $(filter train,$(FIRST)),$(CONFIG)),$(if $(IS_DEMO),train/presets/demo.toml))
PREP_OPTIONS = $(if $(SKIP_BAD),--skip-bad) $(if $(WORKERS),--workers $(WORKERS)) $(if $(SCHEDULER),--scheduler '$(SCHEDULER)') $(if $(REPAIR),--repair) $(if $(DRY_RUN),--dry-run) $(if $(WEIGHTS),--weights '$(WEIGHTS)')
sets   = $(foreach set,$(1),--set '$(set)')
config = $(if $(1),--config '$(1)')
FIT     = $(PY) -m $(if $(PROCESSES),torch.distributed.run --standalone --nproc-per-node=$(PROCESSES) -m -- )train fit
presets = $(foreach preset,$(1),--config train/presets/$(preset).toml)

help:
	@echo 'magstain: H&E-to-IHC stain translation around a precomputed multi-magnification store'
	@echo
	@echo '  make demo      set up, then prepare, train and score the synthetic demo (minutes)'
	@echo '  make test      set up, then run the tests (JOBS=2 processes); make test-fast skips the slow ones'
	@echo
	@echo '  make prepare   tiles -> store               DATA=DIR or HE=DIR IHC=DIR, STORE= CONFIG= SET= SKIP_BAD=1'
	@echo '                                              WORKERS=N or SCHEDULER=ADDRESS, DRY_RUN=1, REPAIR=1'
	@echo '  make train     store -> run                 STORE= RUN= METHOD= CONFIG= SET=, PROCESSES=N: one for each GPU'
	@echo '  make eval      run -> pictures, scores, page   RUN= METHOD= STORE= SPLIT= VIEW= GATES=1'
	@echo '                                              REQUIRE=1: missing weights of a network are an error'
	@echo '  make compare   the methods of Table I, one table and page   DATA= STORE= METHODS="asp attention_gan" SET='
	@echo '  make ablation  the rows of Table II, one table and page     DATA= STORE= ROWS="baseline both" SET='
	@echo '  make weights   fetch and check the weight files of BSRGAN   FROM=file, folder or mirror, WEIGHTS=cache folder,'
	@echo '                                              NAMES=evaluate for the networks of evaluation'
	@echo
	@echo '  make setup     only the environment, in .venv   PYTHON=python3.11'
	@echo '  make check     linter, types, tests'
	@echo '  make test-gpu  the tests of what runs on a GPU, on the GPU if there is one'
	@echo '  make soak      kill a build 200 times and compare   KILLS=N'
	@echo '  make bench     measure everything that the READMEs state; ONLY="codecs pipeline" some of it'
	@echo '  make clean     remove the demo (its tiles, store and run) and caches'
	@echo
	@echo 'Without variables prepare, train and eval work on the demo. SET="key=value key=value" and CONFIG=file.toml go to'
	@echo 'the first stage named; PREP_SET= PREP_CONFIG= TRAIN_SET= TRAIN_CONFIG= name theirs. For example'
	@echo '  make prepare train eval DATA=tiles/HER2 SET=recipe=native TRAIN_SET="seed=1 data.workers=4"'

setup: $(READY)

$(READY):
	@python=''; for name in $(or $(PYTHON),python3.11 python3.12 python3 python); do \
	  if "$$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null; then python=$$name; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "error: no Python 3.11 or 3.12 among: $(or $(PYTHON),python3.11 python3.12 python3 python) ($$($(firstword $(PYTHON) python3) --version 2>&1 | head -n 1)); basicsr 1.4.2 builds on no other. Install one, or name it with PYTHON=/path/to/python3.11" >&2; exit 2; \
	fi; \
	echo "making .venv with $$("$$python" --version): about 5 GB and some minutes, once" >&2; \
	rm -rf .venv && "$$python" -m venv .venv
	@$(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,cluster,cloud,compact]'
	@$(PY) -c 'import cv2' || { echo 'error: opencv-python cannot be loaded; on Debian and Ubuntu: apt install libgl1 libglib2.0-0 libxcb1' >&2; exit 2; }
	@touch $@

demo:
	@$(MAKE) --no-print-directory prepare train eval DATA= HE= IHC= STORE= RUN= CONFIG= SET= SPLIT=test VIEW=tile
	@echo 'report         runs/demo/predictions/test/tile/report.html'
	@echo 'contact sheet  runs/demo/predictions/test/tile/contact.png'
	@echo 'store          data/demo.zarr   (python -m store info data/demo.zarr, with the Python of .venv)'
	@echo 'run            runs/demo'

prepare: $(READY)
	@$(if $(IS_DEMO),$(PY) -m prep demo --out data/demo)
	@$(PY) -m prep build $(TILES) --store '$(ZARR)' $(call config,$(PREP_CONFIG)) $(call sets,$(PREP_SET)) $(PREP_OPTIONS)

train: $(READY)
	@$(FIT) --store '$(ZARR)' --run '$(FOLDER)' $(call presets,$(UNDER)) $(call config,$(TRAIN_CONFIG)) $(call presets,$(OVER)) $(call sets,$(if $(METHOD),method=$(METHOD)) $(TRAIN_SET))

eval: $(READY)
	@$(PY) -m train predict --run '$(FOLDER)' --split $(SPLIT) --view $(VIEW) $(if $(STORE),--store '$(STORE)') $(if $(GATES),--gates)
	@$(PY) -m evaluate score --run '$(FOLDER)' --split $(SPLIT) --view $(VIEW) $(if $(STORE),--store '$(STORE)') $(if $(REQUIRE),--require) > /dev/null
	@$(PY) -m evaluate table --run '$(FOLDER)' --split $(SPLIT) --view $(VIEW) --out '$(FOLDER)/predictions/$(SPLIT)/$(VIEW)'
	@$(PY) -m evaluate report --run '$(FOLDER)' --split $(SPLIT) --view $(VIEW) $(if $(STORE),--store '$(STORE)')

compare: $(READY)
	@$(if $(BUILT),$(MAKE) --no-print-directory prepare CONFIG= SET=)
	@for method in $(METHODS); do \
	  $(MAKE) --no-print-directory train eval RUN="runs/$(NAME)-$$method" METHOD= UNDER="$${method}_matched" || exit; \
	done
	@$(PY) -m evaluate table $(foreach method,$(METHODS),--run 'runs/$(NAME)-$(method)') --out 'runs/$(NAME)-compare' --split $(SPLIT) --view $(VIEW) --paper I
	@$(PY) -m evaluate report $(foreach method,$(METHODS),--run 'runs/$(NAME)-$(method)') --out 'runs/$(NAME)-compare/report.html' --split $(SPLIT) --view $(VIEW) --paper I $(if $(STORE),--store '$(STORE)')

ablation: $(READY)
	@$(if $(BUILT),$(MAKE) --no-print-directory prepare CONFIG= SET=)
	@for row in $(ROWS); do \
	  $(MAKE) --no-print-directory train eval RUN="runs/$(NAME)-ablation-$$row" METHOD= OVER="ablation_$$row" || exit; \
	done
	@$(PY) -m evaluate table $(foreach row,$(ROWS),--run 'runs/$(NAME)-ablation-$(row)') --out 'runs/$(NAME)-ablation' --split $(SPLIT) --view $(VIEW) --paper II
	@$(PY) -m evaluate report $(foreach row,$(ROWS),--run 'runs/$(NAME)-ablation-$(row)') --out 'runs/$(NAME)-ablation/report.html' --split $(SPLIT) --view $(VIEW) --paper II $(if $(STORE),--store '$(STORE)')

weights: $(READY)
	@$(PY) -m store weights $(NAMES) $(if $(FROM),--from '$(FROM)') $(if $(WEIGHTS),--folder '$(WEIGHTS)')

test: $(READY)
	@$(PY) -m pytest -n $(or $(JOBS),2)

test-fast: $(READY)
	@$(PY) -m pytest -n $(or $(JOBS),2) -m 'not slow'

test-gpu: $(READY)
	@$(PY) -c 'import torch; print("device:", torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU here: the CPU takes the same path")'
	@$(PY) -m pytest -m gpu

soak: $(READY)
	@MAGSTAIN_KILLS=$(or $(KILLS),200) $(PY) -m pytest tests/prep/test_build_kills.py

check: $(READY)
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@$(PY) -m mypy
	@$(PY) -m pytest -n $(or $(JOBS),2)

bench: $(READY)
	@$(PY) -m tests.bench $(ONLY)

clean:
	rm -rf data/demo data/demo.zarr data/demo.zarr.journal runs/demo .mypy_cache .pytest_cache .ruff_cache build
	find . -name __pycache__ -not -path './.venv/*' -type d -prune -exec rm -rf {} +
