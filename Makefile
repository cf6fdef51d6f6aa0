# Every target first makes .venv with what it needs. `make` alone lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
GPU = $(filter cuda,$(BACKEND))
BENCH = .venv-bench$(addprefix -,$(GPU))

# Every option once: its variable here, and the option of the program that takes its value (--strict and --fresh: none).
OPTIONS := RAW=--raw SEED=--seeds SEEDS=--seeds NAME=--name BACKEND=--backend PROFILE=--profile PRESET=--preset \
           SET=--set ROWS=--rows NEURONS=--neurons PARTITIONS=--partitions METHODS=--methods JOBS=--jobs CLUSTER=--cluster \
           GOLDEN=--golden FIGURE=--figure BASELINE=--baseline STRICT=--strict FRESH=--fresh SAME_CPU=--same-cpu LIST=--list \
           TRIALS=--trials HOURS=--hours RANGES=--ranges APART=--apart DETACH=--detach PORT=--port \
           TENSORBOARD=--tensorboard
FLAGS := STRICT FRESH SAME_CPU LIST APART DETACH TENSORBOARD

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help search data download gradcheck show doctor table2 table3 table4 comparison ranking figures tune status watch report compare \
        bench scaling profile test check-slow test-gpu sanitize self-test gpu-static gpu-report lint docs venv clean need-DATA need-RUN need-NAME \
        need-GPU need-seeds FORCE
.SUFFIXES:

# What is given on the command line is text: make does not expand it, neither in a recipe nor for its environment. An
# option counts only there: a NAME or SEED left in the environment is not meant for us.
VARIABLES := DATA RUN ARGS $(foreach o,$(OPTIONS),$(firstword $(subst =, ,$o)))
GIVEN := $(foreach v,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $v))),$v))
UNKNOWN := $(filter-out $(VARIABLES) PYTHON VENV BIN BENCH SHELL,$(GIVEN))
$(if $(UNKNOWN),$(error $(firstword $(UNKNOWN))= is nothing that can be given here; there are $(VARIABLES) PYTHON VENV))
$(foreach v,$(GIVEN),$(eval override $v := $$(value $v)))
$(foreach v,$(filter-out $(GIVEN),$(VARIABLES)),$(eval override $v :=))
unexport $(GIVEN) $(VARIABLES)
define newline


endef
$(foreach v,$(GIVEN),$(if $(findstring $(newline),$($v)),$(error $v: a value has no line break)))

# $(call quoted,X): the value of X as one word of the shell.  $(given): the options that are given, for the program, which
# refuses those that a command does not have.  $(call hrmas,command ...): the recipe that runs it.
quoted = '$(subst ','\'',$($1))'
option = $(if $(filter $1,$(FLAGS)),$(if $(filter-out 0,$($1)),$2),$(if $($1),$2 $(call quoted,$1)))
given = $(foreach o,$(OPTIONS),$(call option,$(firstword $(subst =, ,$o)),$(lastword $(subst =, ,$o))))
hrmas = @$(BIN)/hrmas $1 $(given)
# $(call peers,ROWS): PyTorch and its libraries, unless rows or methods are given of which none needs them, or for a list.
comma := ,
chosen = $(subst $(comma), ,$($1))
peers = $(if $(call option,LIST,x),,$(if $(filter gru lstm snntorch norse,$(if $(call chosen,$1),$(call chosen,$1),gru)),$(BENCH)/installed))

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 } \
	                  /^#:/ { print substr($$0, 4) }' Makefile

search: need-DATA $(VENV)/installed-core ## the whole job: spike cache, search, discretise, retrain, test (needs DATA=)
	$(call hrmas,search $(call quoted,DATA))

data: need-DATA $(VENV)/installed-core ## build the spike cache only (needs DATA=)
	$(call hrmas,data build $(call quoted,DATA))

download: need-DATA $(VENV)/installed-core ## fetch recordings to data/raw/, or say how to get them (needs DATA=)
	$(call hrmas,download $(call quoted,DATA))

show: need-RUN $(VENV)/installed-core $(if $(FIGURE),$(VENV)/installed-plots) ## what a run found (needs RUN=; FIGURE=x.png draws it)
	$(call hrmas,show $(call quoted,RUN))

table2: ## experiment: searched and feedforward networks, by default on every data set of the paper
table3: ## experiment: HRMAS with one part taken away
table4: ## experiment: 800 to 3,200 neurons; with and without plasticity; random architectures
comparison: ## experiment: everything HRMAS is compared with, at one size
ranking: $(call peers,ROWS) ## experiment: HRMAS, what people would otherwise use, on all data sets, as tables in Markdown
figures: ## experiment: the search with and without plasticity
EXPERIMENTS := table2 table3 table4 comparison ranking figures
$(EXPERIMENTS): need-seeds $(VENV)/installed-cluster
	$(call hrmas,experiment $@ $(call option,DATA,--data) $(ARGS))

tune: need-DATA $(VENV)/installed-tune ## choose settings by trials on the training part alone (needs DATA=)
	$(call hrmas,tune $(call quoted,DATA))

status: need-NAME $(VENV)/installed-core ## how far the runs of an experiment or a study are (needs NAME=table3-ti46)
	@$(BIN)/hrmas status $(call quoted,NAME)

watch: need-NAME $(VENV)/installed-$(if $(call option,TENSORBOARD,x),tensorboard,core) ## the same as a page in a browser (needs NAME=, PORT=)
	@$(BIN)/hrmas watch $(call quoted,NAME) $(call option,PORT,--port) $(call option,TENSORBOARD,--tensorboard)

report: need-NAME $(VENV)/installed-plots ## tables and figures of an experiment as one HTML page (needs NAME=table3-ti46)
	@$(BIN)/hrmas report $(call quoted,NAME)

gradcheck: $(VENV)/installed-core ## check the gradients
	$(call hrmas,gradcheck)

compare: need-DATA $(VENV)/installed-core $(call peers,METHODS) ## GRU, LSTM, snnTorch, norse, logistic regression on the same spikes (needs DATA=)
	$(call hrmas,compare $(call quoted,DATA) $(ARGS))

doctor: $(VENV)/installed-core ## what is installed and found here, what is missing
	$(call hrmas,doctor)

bench: $(VENV)/installed-core $(if $(GPU),need-GPU) $(BENCH)/installed ## ours and other frameworks side by side (BACKEND=cuda, ARGS="--quick", "--help")
	@$(BIN)/python -m runs.bench.bench $(call option,BACKEND,--backend) $(ARGS)

scaling: $(VENV)/installed-core ## time and memory from 800 to 51,200 neurons
	@$(BIN)/python -m runs.bench.scaling $(ARGS)

profile: $(VENV)/installed-core ## where the time of a training step goes
	@$(BIN)/python -m runs.bench.profile $(ARGS)

test: $(VENV)/tried-test-cuda ## the tests, the slow ones left out (ARGS="-k config" picks some)
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal $(ARGS)

check-slow: $(VENV)/tried-test-cuda ## the slow tests
	@$(BIN)/python -m pytest -m slow $(ARGS)

test-gpu: $(VENV)/installed-test need-GPU ## the tests that need an NVIDIA GPU; fails where there is none
	@$(BIN)/python -m pytest -m "gpu and not slow" $(ARGS)
	@$(BIN)/python -m pytest --backend cuda $(TESTS_OF_BACKENDS) $(ARGS)

sanitize: $(VENV)/installed-test ## compute-sanitizer over the tests that need a GPU
	@$(BIN)/python -m runs.sanitize $(ARGS)

self-test: $(VENV)/installed-core need-GPU ## compare the GPU with the CPU, about a minute; BACKEND=auto takes no other
	@$(BIN)/hrmas doctor --self-test

gpu-static: $(VENV)/tried-test-cuda ## registers, stack, instructions of the CUDA kernels; needs no GPU (ARGS="--sm 90")
	@$(BIN)/python -m runs.bench.static $(ARGS)

gpu-report: $(VENV)/installed-core need-GPU ## all that can be known of a GPU in one Markdown file: self-test, tests, bench
	@$(BIN)/python -m runs.gpu_report $(ARGS)

lint: $(VENV)/installed-lint ## style, likely errors, types
	@$(BIN)/ruff check .
	@$(BIN)/mypy

docs: $(VENV)/installed-docs ## the documentation as a site: docs/_build/html/index.html
	@$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html $(ARGS)
	@echo docs/_build/html/index.html

venv: $(VENV)/installed-core ## make .venv with the program in it

clean: ## remove .venv and everything built; data/ and runs/out/ stay
	@rm -rf $(VENV) .venv-bench .venv-bench-cuda build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

#:
#: Options of search:
#:   DATA=ti46|fsdd|ntidigits|nmnist|dvsgesture|shd|ssc   or a saved data set (.h5), or a settings file (TOML)
#:   RAW=folder         the raw recordings
#:   SEED=0, SEEDS=0-4  one seed or several, one run each     NAME=x       another name for the run
#:   PROFILE=paper|demo how long to run                       PRESET=default|accurate|published
#:   SET="training.lr=1e-3 network.neurons=[400]"             single settings
#:   BACKEND=auto|cpu|cuda   STRICT=1   FRESH=1
#:
#: Options of the experiments: those of search but FRESH, and
#:   SEEDS=0-4          default: those of the experiment        DATA=, NAME=  default: the experiment's
#:   JOBS=2             runs at a time; default: one a core, on a GPU one
#:   ROWS="hrmas random" only these rows                        NEURONS="800 1600"  only these sizes (table4)
#:   PARTITIONS="official resample-1"
#:   CLUSTER=tcp://host:8786, scheduler.json or slurm.toml      other machines, see docs/howto/cluster.md; SAME_CPU=1
#:   APART=1            those machines share no folder with this one; DETACH=1: leave the runs to them, see `make status`
#:   LIST=1             only print a command for each run that has not ended
#: The same command skips what is finished and resumes what is not.
#:
#: Options of tune: those of the experiments but ROWS, NEURONS, DETACH and LIST, and
#:   METHODS=gru        instead of ours: gru, lstm, snntorch, norse, logistic: see `make compare`
#:   TRIALS=50, HOURS=8 how much to try; the same command goes on  RANGES=ranges.toml  what to try, see docs/howto/tune.md
#:   PARTITIONS="valid-1 valid-2"   parts of the training part that judge
#:
#: Options of compare: DATA, RAW, SEED or SEEDS, NAME, SET, STRICT and FRESH as above, and
#:   PARTITIONS="official resample-1..4"  METHODS="gru logistic"  ARGS=--trials for the settings tried
#:
#: PYTHON=python3.12 picks the Python that .venv is made with.

# Tests that run on whatever backend they are given.
TESTS_OF_BACKENDS := $(addprefix tests/,$(addprefix engine/test_,dynamics.py network.py plasticity.py) search/test_hrmas.py)

# --- the pieces ----------------------------------------------------------------------------------

comma := ,
fail = { echo "make: "$1 >&2; exit 2; }

need-DATA: need-seeds
	@$(if $(DATA),,$(call fail,"which data set? For example: make $(firstword $(MAKECMDGOALS)) DATA=ntidigits"))

need-seeds:
	@$(if $(and $(SEED),$(SEEDS)),$(call fail,"give SEED= or SEEDS=$(comma) not both"))

need-RUN:
	@$(if $(RUN),,$(call fail,"which run? For example: make $(firstword $(MAKECMDGOALS)) RUN=runs/out/ntidigits-s0"))

need-NAME:
	@$(if $(NAME),,$(call fail,"which experiment? For example: make $(firstword $(MAKECMDGOALS)) NAME=table3-ti46"))

need-GPU:
	@$(BIN)/hrmas doctor --gpu

# One stamp per extra. .venv knows the folder it was made for: a copied checkout gets its own.
HOME_OF_VENV := $(shell cat $(VENV)/installed-core 2>/dev/null)
ifneq ($(HOME_OF_VENV),$(CURDIR))
$(addprefix $(VENV)/installed-,core test lint plots docs cluster tune tensorboard cuda12 cuda13): FORCE
endif
FORCE:

# A Python asked for by name must be the one in .venv.
ifneq ($(filter PYTHON,$(GIVEN)),)
version_of = $(shell $1 -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
ifneq ($(filter-out clean,$(or $(MAKECMDGOALS),help)),)
ifneq ($(wildcard $(BIN)/python),)
ifneq ($(call version_of,$(BIN)/python),$(call version_of,$(PYTHON)))
$(error .venv holds Python $(call version_of,$(BIN)/python), not $(PYTHON): run 'make clean' first)
endif
endif
endif
endif

$(VENV)/installed-%: setup.cfg pyproject.toml
	@command -v $(PYTHON) >/dev/null || $(call fail,"$(PYTHON) not found; Python 3.11 or newer is needed: make PYTHON=/path/to/python3.12 ...")
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    $(call fail,"$$($(PYTHON) -V 2>&1) is too old; Python 3.11 or newer is needed: make PYTHON=python3.12 ...")
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	    $(call fail,"$(PYTHON) has no venv module; install it (Debian and Ubuntu: apt install python3-venv)")
	@[ ! -e $(VENV)/installed-core ] || [ "$$(cat $(VENV)/installed-core)" = "$$(pwd -P)" ] || rm -rf $(VENV)
	@$(BIN)/python -c '' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	@echo "Installing into $(VENV) ($(patsubst core,numpy$(comma) numba$(comma) scipy$(comma) h5py,$*)) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e "$(if $(filter core,$*),.,.[$*])"
	@pwd -P > $(VENV)/installed-core
	@touch $@

# The compiler of the CUDA kernels is wanted for their emulator; where it cannot be had, those tests are skipped.
$(VENV)/tried-test-cuda: $(VENV)/installed-test
	@echo "Installing into $(VENV) (the compiler of CUDA kernels, for their tests; 450 MB) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[test-cuda]" || \
	    echo "make: the extra test-cuda could not be installed; CUDA kernels are not tested in the emulator" >&2
	@touch $@

# PyTorch and the frameworks of bench and compare: apart from .venv, and each may be missing. `make bench` says who is.
# On a GPU PyTorch and JAX take part. PyTorch's default wheel for Linux has CUDA with it, JAX's needs an extra.
OF_GPU = $(if $(GPU),$(shell $(BIN)/python -c 'from hrmas_sparse.engine.backends.cuda import probe; print(probe().extra)'))
TORCH := $(shell grep '^torch==' runs/bench/requirements.txt)
$(BENCH)/installed: runs/bench/requirements.txt
	@$(BENCH)/bin/python -c '' 2>/dev/null || $(PYTHON) -m venv --clear $(BENCH)
	@echo "Installing into $(BENCH) ($(TORCH)$(if $(GPU), and JAX; several GB, and the frameworks of the bench; about 2 GB)) ..."
	@for package in $$(grep -E '^$(if $(GPU),(torch|jax)=,[^#])' $< | sed 's/^jax=/jax$(OF_GPU:%=[%])=/'); do \
	    $(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check $(TORCH) $$package || \
	        echo "make: $$package could not be installed; the bench goes on without it" >&2; done
	@touch $@
