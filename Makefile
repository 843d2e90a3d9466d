# Set-up and common commands; `make help` lists them. Everything runs from this folder, in .venv.
#
# envs/install.py makes the environment: an incomplete one is replaced, one of another project never. Snakemake is
# started by `python -m three_regime workflow`, which removes the stale lock of a killed run and asks before it starts
# many hours of work.

PRESET :=
PROFILE := slurm
VENV := .venv
override VENV := $(patsubst ~/%,$(HOME)/%,$(VENV))
WORKFLOW = "$(VENV)/bin/python" -m three_regime workflow
PYTEST = "$(VENV)/bin/python" -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
ifneq ($(PYTHON),)
PYTHONS = "$(PYTHON)"
else
PYTHONS = python3.11 python3.12 python3.13 python3.14 python3 python "$(VENV)/bin/python"
endif
USABLE = import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))

PRESETS = $(basename $(notdir $(wildcard config/*.yaml)))

# The requested preset; none means the whole paper.
CHOSEN = $(if $(PRESET),--configfile "config/$(PRESET).yaml")

# The environment is self-contained; exclude modules of other environments.
unexport PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help env demo test test-all faults mutants docs paper run slurm dryrun lint format clean

help:  ## Show this list
	@echo "Usage: make TARGET [VARIABLE=value …]"
	@echo
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  \1\t\2/p' Makefile | expand -t 11
	@echo
	@echo "Variables"
	@echo "  PRESET     the file config/PRESET.yaml for run, dryrun and slurm: $(PRESETS)"
	@echo "  PROFILE    the folder profiles/PROFILE for slurm: slurm slurm-no-accounting pbs kubernetes"
	@echo "  TARGETS    what they make: data dense pruned retrained landscape tables figures explorer report, or files"
	@echo "  ARGS       more arguments for Snakemake, or for pytest with test and test-all: make demo ARGS='--cores 1'"
	@echo "  PYTHON     the Python (3.11 or newer) to make .venv with: make env PYTHON=/opt/python/bin/python3.11"
	@echo "  VENV       folder of the environment instead of .venv: make demo VENV=/scratch/me/three-regime"
	@echo "  YES        1 confirms more than 10 hours of work without a question: make run PRESET=figure2 YES=1"

env:  ## Make the environment in .venv from the pinned lock (2 minutes, 2 GB) unless it is complete
	@for python in $(PYTHONS); do \
	  if "$$python" -c '$(USABLE)' 2>/dev/null; then exec "$$python" envs/install.py "$(VENV)"; fi; \
	done; \
	echo "No Python 3.11 or newer with its venv module among: $(subst ",,$(PYTHONS))." >&2; \
	echo "Install it (Debian, Ubuntu: apt install python3.11 python3.11-venv), or name one: make env PYTHON=…" >&2; \
	exit 1

demo: env  ## Run the whole pipeline on embedded data (minutes), offline; resumes after a kill
	@$(WORKFLOW) --configfile config/demo.yaml $(ARGS)

test: env  ## Run the fast tests, in up to four processes (tests/README.md)
	@$(PYTEST) -m "not (slow or cluster)" $(ARGS)

test-all: env  ## Run the tests that `test` omits: whole runs of Snakemake, faults, a real SLURM
	@$(PYTEST) -m "slow or cluster" $(ARGS)

paper: env  ## Reproduce the whole paper (config.yaml); `python -m three_regime plan` prices it
	@$(WORKFLOW) $(ARGS) -- $(TARGETS)

run: chosen known env  ## Run one preset: make run PRESET=figure2 TARGETS=figures; without PRESET, list them with their cost
	@$(WORKFLOW) --configfile "config/$(PRESET).yaml" $(ARGS) -- $(TARGETS)

slurm: known known_profile env  ## Reproduce the whole paper on a SLURM cluster; with PRESET=figure2 that preset (docs/clusters.md)
	@$(WORKFLOW) --workflow-profile "profiles/$(PROFILE)" $(CHOSEN) $(ARGS) -- $(TARGETS)

dryrun: chosen known  ## Show what run would do, without running or installing anything
	@test -x "$(VENV)/bin/python" || { echo "There is no environment in $(VENV) yet: make env" >&2; exit 2; }
	@$(WORKFLOW) --configfile "config/$(PRESET).yaml" --dry-run --quiet rules $(ARGS) -- $(TARGETS)

.PHONY: chosen known known_profile

chosen:
	@test -n "$(PRESET)" || { cat benchmarks/plans/presets.txt; \
	  echo "Nothing was started. Choose one: make $(firstword $(filter run dryrun,$(MAKECMDGOALS)) run) PRESET=…"; \
	  echo "Presets of your own: .venv/bin/python -m three_regime presets"; exit 2; }

known:
	@test -z "$(PRESET)" || test -f "config/$(PRESET).yaml" || { \
	  echo "There is no preset '$(PRESET)' (config/$(PRESET).yaml); there are: $(PRESETS)" >&2; exit 2; }

known_profile:
	@test -d "profiles/$(PROFILE)" || { \
	  echo "There is no profile '$(PROFILE)' (profiles/$(PROFILE)); there are: $(filter-out default,$(notdir $(wildcard profiles/*)))" >&2; exit 2; }

faults: env  ## Inject faults into a small study and count the outcomes (20 minutes); ARGS="--trials 10 --seed 7"
	@"$(VENV)/bin/python" -m benchmarks.faults --out benchmarks/results $(ARGS)

mutants: env  ## Mutation testing of the core, in a copy of the checkout (hours); ARGS="--seed 2 --minutes 60"
	@"$(VENV)/bin/python" -m benchmarks.mutants --out benchmarks/results $(ARGS)

lint: env  ## Check code and workflow: ruff, snakefmt, import-linter, snakemake --lint
	@"$(VENV)/bin/ruff" check .
	@"$(VENV)/bin/ruff" format --check .
	@"$(VENV)/bin/snakefmt" --check Snakefile rules
	@"$(VENV)/bin/lint-imports"
	@"$(VENV)/bin/snakemake" --configfile config/demo.yaml --lint

docs: env  ## Build the documentation into results/site (open index.html); dead links are errors
	@NO_MKDOCS_2_WARNING=1 "$(VENV)/bin/python" -m mkdocs build --quiet --strict
	@echo "results/site/index.html"

format: env  ## Format code and rules
	@"$(VENV)/bin/ruff" check --fix .
	@"$(VENV)/bin/ruff" format .
	@"$(VENV)/bin/snakefmt" Snakefile rules

clean:  ## Remove caches; keep results, data and .venv
	rm -rf .pytest_cache .ruff_cache build *.egg-info
	find . -name .venv -prune -o -path "./$(VENV)" -prune -o -name .snakemake -prune -o -path ./data -prune -o -path ./results -prune -o -name __pycache__ -prune -exec rm -rf {} +
