# magstain. `make` alone lists the targets; the settings of a stage are in prep/settings.py and train/settings.py.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup demo prepare train eval translate export compare ablation figure test test-fast test-gpu soak check lint check-other \
        bench attack doctor weights clean

# ---- the environment: created once, and again when one of these two files has changed
KEY   := $(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)
ENV   ?= .venv
JOBS  ?= $(shell n=$$(nproc 2>/dev/null || echo 1); [ $$n -le 4 ] || n=4; echo $$n)
READY := $(ENV)/made-$(KEY)
PY    := $(ENV)/bin/python

# ---- values that a person types are words, whatever signs are in them: $ is not expanded, and `quote` is for the shell
TYPED := DATA HE IHC PAIRS STORE RUN DIR INPUT CHECKPOINT NORMS REGION MASK MPP SOURCE_MPP SET CONFIG PREP_SET TRAIN_SET PREP_CONFIG TRAIN_CONFIG SCHEDULER WEIGHTS FROM OUT
$(foreach name,$(TYPED),$(if $(filter command environment,$(firstword $(origin $(name)))),$(eval override $(name) := $$(value $(name)))))
quote  = '$(subst ','\'',$(1))'

# ---- what the stages work on: the demo, unless a variable names something else
NAME   := $(if $(DATA)$(HE),$(shell basename $(call quote,$(or $(DATA),$(shell dirname $(call quote,$(HE)))))),$(if $(PAIRS),$(shell basename $(call quote,$(PAIRS)) .csv),$(if $(STORE),$(shell basename $(call quote,$(STORE)) .zarr),demo)))
IS_DEMO = $(filter demo,$(if $(DATA)$(HE)$(PAIRS)$(STORE),other,demo))
TILES   = $(if $(HE),--he $(call quote,$(HE)) --ihc $(call quote,$(IHC)),$(if $(DATA),--data $(call quote,$(DATA)),$(if $(PAIRS),,--data data/demo)))$(if $(PAIRS), --pairs-from $(call quote,$(PAIRS)))
ZARR    = $(or $(STORE),data/$(NAME).zarr)
FOLDER  = $(or $(RUN),runs/$(NAME)$(if $(METHOD),-$(METHOD)))
SPLIT  ?= test
VIEW   ?= tile

# ---- the rows of the paper's two tables: `cut` is CUT as published, `cut_paired` what the paper's row is reported to be
METHODS ?= pix2pix cyclegan cut cut_paired pyramid_p2p asp attention_gan
ROWS    ?= baseline multi attention both
BUILT    = $(if $(and $(STORE),$(if $(DATA)$(HE)$(PAIRS),,STORE)),,prepare)

# ---- SET and CONFIG belong to the one stage that the command line names; where it names both, PREP_… and TRAIN_… do
STAGES       := $(filter prepare train translate compare ablation,$(MAKECMDGOALS))
ifneq ($(and $(filter prepare,$(STAGES)),$(filter-out prepare,$(STAGES))),)
$(foreach name,SET CONFIG,$(if $($(name)),$(error $(name)="$($(name))" with $(STAGES): for which of them? Use PREP_$(name)="…" for prepare or TRAIN_$(name)="…" for $(filter-out prepare,$(STAGES)))))
endif
TO_PREPARE   := $(filter prepare,$(STAGES))
PREP_SET     ?= $(if $(TO_PREPARE),$(SET))
TRAIN_SET    ?= $(if $(TO_PREPARE),,$(SET))
PREP_CONFIG  ?= $(or $(if $(TO_PREPARE),$(CONFIG)),$(if $(IS_DEMO),prep/presets/demo.toml))
TRAIN_CONFIG ?= $(or $(if $(TO_PREPARE),,$(CONFIG)),$(if $(IS_DEMO),train/presets/demo.toml))
PREP_OPTIONS = $(if $(SKIP_BAD),--skip-bad) $(if $(WORKERS),--workers $(WORKERS)) $(if $(SCHEDULER),--scheduler $(call quote,$(SCHEDULER))) $(if $(REPAIR),--repair) $(if $(DRY_RUN),--dry-run) $(if $(WEIGHTS),--weights $(call quote,$(WEIGHTS)))
SPLIT_SET := import shlex, sys; words = shlex.shlex(sys.argv[1], posix=True); words.whitespace_split, words.commenters, words.escape = True, "", ""; q = chr(39); print(*("--set " + q + word.replace(q, q + chr(92) + q + q) + q for word in words))
sets   = $(if $(strip $(1)),$(or $(shell $(or $(wildcard $(PY)),python3) -c '$(SPLIT_SET)' $(call quote,$(1)) 2> /dev/null),$(error SET="$(1)": a quotation mark is not closed; a value with blanks is written as SET="key='a b' other=1")))
config = $(if $(1),--config $(call quote,$(1)))
PYTEST  = $(PY) -m pytest -n $(JOBS)
FIT     = $(PY) -m train fit $(if $(PROCESSES),--processes $(PROCESSES))
presets = $(foreach preset,$(1),--config train/presets/$(preset).toml)
runs    = $(foreach run,$(2),--run $(call quote,$(1)/$(run))) --split $(SPLIT) --view $(VIEW) --paper $(3)
join_runs = $(PY) -m evaluate table $(runs) --out $(call quote,$(1)) $(if $(STORE),--store $(call quote,$(STORE))) && $(PY) -m evaluate report $(runs) --out $(call quote,$(1)/report.html) $(if $(STORE),--store $(call quote,$(STORE)))

help:
	@echo 'magstain: H&E-to-IHC stain translation with a precomputed multi-magnification store'
	@echo
	@echo '  make demo      set up, then prepare, train and score the synthetic demo (about 10 minutes)'
	@echo '  make test      set up, then run all tests (about 11 minutes); test-fast: most of them in 2.5'
	@echo
	@echo '  make prepare   tiles -> store    DATA=DIR, or HE=DIR IHC=DIR, or PAIRS=CSV; STORE= CONFIG= SET='
	@echo '                 SKIP_BAD=1 skip bad pairs, DRY_RUN=1 only print the plan, REPAIR=1 rebuild'
	@echo '                 damaged parts, WORKERS=N or SCHEDULER=ADDRESS use several processes'
	@echo '  make train     store -> run      STORE= RUN= METHOD= CONFIG= SET=; PROCESSES=N one per GPU'
	@echo '  make eval      run -> predictions, scores, tables, page    RUN= METHOD= STORE= SPLIT= VIEW='
	@echo '                 GATES=1 draw attention maps, REQUIRE=1 stop if weights are missing'
	@echo '  make export    run -> generator.onnx, for programs without PyTorch    RUN= METHOD= OUT=FILE'
	@echo '  make translate your own pictures    INPUT=file, folder or @list.txt; RUN= or CHECKPOINT=; OUT='
	@echo '                 FORMAT= NORMS= MASK= MPP= SOURCE_MPP= REGION= SET= CONFIG= DEVICE= OVERWRITE=1'
	@echo '                 WORKERS=N or SCHEDULER=ADDRESS use several processes'
	@echo '  make compare   methods of Table I -> one table and page    DATA= STORE= METHODS="asp cut" SET='
	@echo '  make ablation  rows of Table II -> one table and page      DATA= STORE= ROWS="baseline both" SET='
	@echo '  make weights   fetch and verify weight files    NAMES=evaluate for the networks of evaluation'
	@echo '                 FROM=file, folder or mirror; WEIGHTS=cache folder'
	@echo
	@echo '  make doctor    what this machine and its disks can do, and what to do    DIR=where stores lie'
	@echo '  make setup     only the environment, in .venv   PYTHON=python3.11'
	@echo '  make check     linter, types, all tests; fast tests on the other supported Python if present'
	@echo '  make test-gpu  the tests of GPU code, on the GPU if there is one'
	@echo '  make soak      kill a build 200 times and compare   KILLS=N'
	@echo '  make attack    attack what is promised, 15 minutes   SEED=N MINUTES=N ONLY="kills fuzz"'
	@echo '  make bench     measure what the READMEs state   ONLY="codecs pipeline" for some of it'
	@echo '                 ONLY=gpu prints all that a GPU does, in six minutes'
	@echo '  make figure    the figure of the README, from the demo'
	@echo '  make clean     remove the demo (tiles, store, runs) and caches'
	@echo
	@echo 'Without variables prepare, train and eval work on the demo. SET="key=value key=value" and'
	@echo 'CONFIG=file.toml change settings of the stage that is named; where prepare and train are named'
	@echo 'together, use PREP_SET= PREP_CONFIG= and TRAIN_SET= TRAIN_CONFIG= instead. Example:'
	@echo
	@echo '  make prepare train eval DATA=tiles/HER2 PREP_SET="name=mist-her2 stain=HER2" TRAIN_SET=seed=1'

setup: $(READY)

$(READY):
	@python=''; for name in $(or $(PYTHON),python3.11 python3.12 python3 python); do \
	  if "$$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null; then python=$$name; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "error: no Python 3.11 or 3.12 among: $(or $(PYTHON),python3.11 python3.12 python3 python) ($$($(firstword $(PYTHON) python3) --version 2>&1 | head -n 1)); basicsr 1.4.2 builds on no other. Install one, or name it with PYTHON=/path/to/python3.11" >&2; exit 2; \
	fi; \
	echo "creating $(ENV) with $$("$$python" --version): about 7 GB with PyTorch, a few minutes, once" >&2; \
	rm -rf $(ENV) && "$$python" -m venv $(ENV)
	@echo 'downloading and installing PyTorch and the other libraries' >&2
	@$(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,cluster,cloud,export,slides]'
	@$(PY) -c 'import cv2' || { echo 'error: opencv-python cannot be loaded; on Debian and Ubuntu: apt install libgl1 libglib2.0-0 libxcb1; or exchange it: $(PY) -m pip uninstall -y opencv-python && $(PY) -m pip install opencv-python-headless && touch $(READY)' >&2; exit 2; }
	@touch $@

demo:
	@$(MAKE) --no-print-directory prepare train eval DATA= HE= IHC= PAIRS= STORE= RUN= CONFIG= SET= SPLIT=test VIEW=tile
	@echo 'report         runs/demo/predictions/test/tile/report.html'
	@echo 'contact sheet  runs/demo/predictions/test/tile/contact.png'
	@echo 'store          data/demo.zarr   (.venv/bin/python -m store info data/demo.zarr)'
	@echo 'run            runs/demo'

prepare: $(READY)
	@$(if $(IS_DEMO),$(PY) -m prep demo --out data/demo)
	@$(PY) -m prep build $(TILES) --store $(call quote,$(ZARR)) $(call config,$(PREP_CONFIG)) $(call sets,$(PREP_SET)) $(PREP_OPTIONS)

train: $(READY)
	@$(FIT) --store $(call quote,$(ZARR)) --run $(call quote,$(FOLDER)) $(call presets,$(UNDER)) $(call config,$(TRAIN_CONFIG)) $(call presets,$(OVER)) $(call sets,$(if $(METHOD),method=$(METHOD)) $(TRAIN_SET)) $(if $(ADAPT),--adapt)

eval: $(READY)
	@$(PY) -m train predict --run $(call quote,$(FOLDER)) --split $(SPLIT) --view $(VIEW) $(if $(STORE),--store $(call quote,$(STORE))) $(if $(GATES),--gates)
	@$(PY) -m evaluate score --run $(call quote,$(FOLDER)) --split $(SPLIT) --view $(VIEW) $(if $(STORE),--store $(call quote,$(STORE))) $(if $(REQUIRE),--require) > /dev/null
	@$(PY) -m evaluate table --run $(call quote,$(FOLDER)) --split $(SPLIT) --view $(VIEW) $(if $(STORE),--store $(call quote,$(STORE)))
	@$(PY) -m evaluate report --run $(call quote,$(FOLDER)) --split $(SPLIT) --view $(VIEW) $(if $(STORE),--store $(call quote,$(STORE)))

export: $(READY)
	@$(PY) -m train export --run $(call quote,$(FOLDER)) --out $(call quote,$(or $(OUT),$(FOLDER)/generator.onnx))

translate: $(READY)
	@$(if $(INPUT),,$(error INPUT= names what to translate: a picture, a slide, a folder with them, or @list.txt))$(PY) -m train translate $(call quote,$(INPUT)) $(if $(CHECKPOINT),--checkpoint $(call quote,$(CHECKPOINT)),--run $(call quote,$(FOLDER))) --out $(call quote,$(or $(OUT),translated)) $(if $(FORMAT),--format $(FORMAT)) $(if $(NORMS),--norm-statistics $(call quote,$(NORMS))) $(if $(REGION),--region $(call quote,$(REGION))) $(if $(MASK),--mask $(call quote,$(MASK))) $(if $(MPP),--mpp $(call quote,$(MPP))) $(if $(SOURCE_MPP),--source-mpp $(call quote,$(SOURCE_MPP))) $(if $(WORKERS),--workers $(WORKERS)) $(if $(SCHEDULER),--scheduler $(call quote,$(SCHEDULER))) $(call config,$(CONFIG)) $(call sets,$(SET)) $(if $(DEVICE),--device $(DEVICE)) $(if $(OVERWRITE),--overwrite)

compare: $(READY)
	@$(if $(BUILT),$(MAKE) --no-print-directory prepare CONFIG= SET=)
	@for method in $(METHODS); do \
	  $(MAKE) --no-print-directory train eval RUN=$(call quote,runs/$(NAME)-compare)"/$$method" METHOD= UNDER="$${method}_matched" ADAPT=1 || exit; \
	done
	@$(call join_runs,runs/$(NAME)-compare,$(METHODS),I)

ablation: $(READY)
	@$(if $(BUILT),$(MAKE) --no-print-directory prepare CONFIG= SET=)
	@for row in $(ROWS); do \
	  $(MAKE) --no-print-directory train eval RUN=$(call quote,runs/$(NAME)-ablation)"/$$row" METHOD= OVER="ablation_$$row" || exit; \
	done
	@$(call join_runs,runs/$(NAME)-ablation,$(ROWS),II)

figure: $(READY)
	@for view in x1 x2 x4; do $(PY) -m train predict --run runs/demo --view $$view || exit; done
	@$(PY) -m evaluate figure --run runs/demo --out docs/demo.jpg

doctor:
	@[ -x '$(PY)' ] || { echo 'error: there is no environment in $(ENV), or its Python is gone: run `make setup`' >&2; exit 2; }
	@$(PY) -m store.doctor $(if $(DIR),$(call quote,$(DIR)))

weights: $(READY)
	@$(PY) -m store weights $(NAMES) $(if $(FROM),--from $(call quote,$(FROM))) $(if $(WEIGHTS),--folder $(call quote,$(WEIGHTS)))

test: $(READY)
	@$(PYTEST)

test-fast: $(READY)
	@$(PYTEST) -m 'not slow'

test-gpu: $(READY)
	@$(PY) -c 'import torch; print("device:", torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU here: the CPU takes the same path")'
	@$(PY) -m pytest -m gpu

soak: $(READY)
	@MAGSTAIN_KILLS=$(or $(KILLS),200) $(PY) -m pytest tests/prep/test_build_kills.py

lint: $(READY)
	@$(ENV)/bin/ruff check .
	@$(ENV)/bin/ruff format --check .
	@$(PY) -m mypy

check: lint test check-other

# ---- 3.12 where .venv has 3.11, and the reverse: its own environment, the fast tests
check-other: $(READY)
	@for python in python3.11 python3.12 $(HOME)/.pyenv/versions/3.1[12]*/bin/python; do \
	  if "$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null \
	    && [ "$$("$$python" -c 'import sys; print(sys.version_info[:2])')" != "$$($(PY) -c 'import sys; print(sys.version_info[:2])')" ]; then \
	    exec $(MAKE) --no-print-directory test-fast ENV=.venv-other PYTHON="$$python"; \
	  fi; \
	done; \
	echo 'no other supported Python here: tested on one'

bench: $(READY)
	@$(PY) -m tests.bench $(ONLY)

attack: $(READY)
	@$(PY) -m tests.attack --seed $(or $(SEED),0) --minutes $(or $(MINUTES),15) $(if $(ONLY),--only $(ONLY)) $(if $(OUT),--out $(call quote,$(OUT)))

clean:
	rm -rf data/demo data/demo.zarr data/demo.zarr.journal runs/demo runs/demo-compare runs/demo-ablation .mypy_cache .pytest_cache .ruff_cache build
	find . -name __pycache__ -not -path './.venv*' -type d -prune -exec rm -rf {} +
