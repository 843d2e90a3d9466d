# Set-up and the usual commands; `make help` lists them. Everything runs from this folder, in .venv.
#
# The environment is made by envs/install.py: complete or made anew, never half. Snakemake is started through
# `python -m three_regime workflow`, which first removes the lock that a killed run left behind.

PRESET := figure2
PROFILE := slurm
WORKFLOW = .venv/bin/python -m three_regime workflow
ifneq ($(PYTHON),)
PYTHONS = "$(PYTHON)"
else
PYTHONS = python3.11 python3.12 python3.13 python3.14 python3 python .venv/bin/python
endif
USABLE = import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))

# The preset that was asked for; none means the whole paper.
CHOSEN = $(if $(findstring command,$(origin PRESET)),--configfile "config/$(PRESET).yaml")

# The environment is complete in itself; modules of another one must not shine through.
unexport PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := help
.PHONY: help env demo test faults paper run slurm dryrun lint format clean

help:  ## Show this list
	@echo "Usage: make TARGET [VARIABLE=value …]"
	@echo
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  \1\t\2/p' Makefile | expand -t 11
	@echo
	@echo "Variables"
	@echo "  PRESET     the file config/PRESET.yaml for run, dryrun and slurm: $(basename $(notdir $(wildcard config/*.yaml)))"
	@echo "  PROFILE    the folder profiles/PROFILE for slurm: slurm slurm-no-accounting"
	@echo "  TARGETS    what they make: data dense pruned retrained landscape tables figures report, or files"
	@echo "  ARGS       more arguments for Snakemake, or for pytest with test: make demo ARGS='--cores 1'"
	@echo "  PYTHON     the Python (3.11 or newer) that .venv is made from: make env PYTHON=/opt/python/bin/python3.11"

env:  ## Make the environment in .venv from the pinned lock (2 minutes, 2 GB); nothing when it is there
	@for python in $(PYTHONS); do \
	  if "$$python" -c '$(USABLE)' 2>/dev/null; then exec "$$python" envs/install.py; fi; \
	done; \
	echo "No Python 3.11 or newer with its venv module among: $(subst ",,$(PYTHONS))." >&2; \
	echo "Install it (Debian, Ubuntu: apt install python3.11 python3.11-venv), or name one: make env PYTHON=…" >&2; \
	exit 1

demo: env  ## Run the whole pipeline on scikit-learn's digits (minutes), offline; continues after a kill
	@$(WORKFLOW) --configfile config/demo.yaml $(ARGS)
	@echo
	@echo "Report, tables and figures of the demo:"
	@ls -d results/demo/report.html results/demo/*/cells.csv results/demo/*/figures

test: env  ## Run the tests
	@.venv/bin/python -m pytest $(ARGS)

paper: env  ## Reproduce the whole paper (config.yaml); `python -m three_regime plan` prices it
	@$(WORKFLOW) $(ARGS) -- $(TARGETS)

run: env  ## Run one preset: make run PRESET=figure2 TARGETS=figures
	@$(WORKFLOW) --configfile "config/$(PRESET).yaml" $(ARGS) -- $(TARGETS)

slurm: env  ## Reproduce the whole paper on a SLURM cluster; with PRESET=figure2 that preset (README, "SLURM")
	@$(WORKFLOW) --workflow-profile "profiles/$(PROFILE)" $(CHOSEN) $(ARGS) -- $(TARGETS)

dryrun: env  ## Show what run would do, and do nothing
	@$(WORKFLOW) --configfile "config/$(PRESET).yaml" --dry-run --quiet rules $(ARGS) -- $(TARGETS)

faults: env  ## Inject faults into a small study and count survivors (20 minutes); ARGS="--trials 10 --seed 7"
	@.venv/bin/python -m benchmarks.faults --out benchmarks/results $(ARGS)

lint: env  ## Check code and workflow: ruff, snakefmt, snakemake --lint
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/snakefmt --check Snakefile rules
	@.venv/bin/snakemake --configfile config/demo.yaml --lint

format: env  ## Bring code and rules into the project's layout
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .
	@.venv/bin/snakefmt Snakefile rules

clean:  ## Remove caches; results, data and .venv stay
	rm -rf .pytest_cache .ruff_cache build *.egg-info
	find . -name .venv -prune -o -name .snakemake -prune -o -path ./data -prune -o -path ./results -prune -o -name __pycache__ -prune -exec rm -rf {} +
