# Shared by all rules: the validated configuration, the planned studies, wildcard constraints.

import os
import shlex
import sys
from contextlib import suppress
from dataclasses import asdict
from types import SimpleNamespace

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.scheduling.job_scheduler import JobScheduler

from three_regime.config.measures import measured_columns
from three_regime.datasets.registry import DATASETS
from three_regime.datasets.sources import load_sources
from three_regime.errors import UserError
from three_regime.jobs.discarding import discard_records
from three_regime.study.grid import family_names, planned, thresholds_of, without_sam
from three_regime.study.load_grids import load_grids
from three_regime.study.log_files import job_path
from three_regime.study.outputs import (
    CASE_FOLDER,
    CASE_TABLES,
    CELL_TABLES,
    CLAIM_FILES,
    EXPLORER_FILE,
    FIGURE2_STUDY,
    FIGURE_FORMATS,
    PUBLISHED,
    REGIME_TABLES,
    REPORTED_TABLES,
    SETTINGS_FILE,
    TABLES_VERSION,
)
from three_regime.study.runs import digests
from three_regime.study.stages import COLLECTIONS, STAGES
from three_regime.system import places
from three_regime.workflow import recomputing, rule_parts, running, slurm_plugin, snakemake_lock, terminal
from three_regime.workflow.arguments import computes, options_of
from three_regime.workflow.job_resources import job_resources
from three_regime.workflow.scheduler_signals import stop_in_a_thread
from three_regime.workflow.snakemake_records import stale_without_record
from three_regime.workflow.stale_records import plan_again

# Scripts import the library from this checkout, also in environments created by Snakemake; profiles' commands name it.
os.environ.update(
    PYTHONPATH=os.pathsep.join([str(workflow.basedir), *filter(None, [os.environ.get("PYTHONPATH")])]),
    THREE_REGIME_CHECKOUT=str(workflow.basedir),
)

# Snakemake inserts the path of its Python unquoted into shell commands; quote it, in case it contains spaces.
if os.path.exists(sys.executable):
    sys.executable = shlex.quote(sys.executable)

stop_in_a_thread(JobScheduler)
slurm_plugin.mend()

# Before Snakemake locks the folder: a lock without a note of its run would count as left behind.
if workflow.is_main_process and computes(sys.argv[1:]):
    with suppress(OSError):  # not writable, which is reported at the start
        snakemake_lock.note()

try:
    CONFIG = running.read_config(workflow, config)
except UserError as error:
    raise WorkflowError(str(error))

if workflow.is_main_process and terminal.asked_for():
    terminal.attach(logger, CONFIG, running.slots(workflow, CONFIG))

STUDIES = planned(CONFIG)
CONFIG_FILES = digests(workflow.configfiles) if workflow.is_main_process else {}

# Stale results must not count as up to date: neither copied results, which have no Snakemake record of their settings,
# nor results whose record contradicts their fingerprint.
if workflow.is_main_process and not workflow.touch and "--unlock" not in options_of(sys.argv[1:]):
    if stale := stale_without_record(STUDIES):
        raise WorkflowError(stale)
    for line in plan_again(STUDIES):
        print(line, file=sys.stderr)

DATA = CONFIG.data.folder
RESULTS = CONFIG.results
SOURCES = load_sources()

LOAD_GRIDS = load_grids(CONFIG)
TABLED = list(rule_parts.tabled(CONFIG, STUDIES, LOAD_GRIDS))


wildcard_constraints:
    dataset="|".join(rule_parts.prepared_by_name()),
    seed=r"\d+",
    temperature=r"[a-z]+\d+(p\d+)?",
    density=r"density\d+(p\d+)?",


def check_writable():
    """At the start of the workflow: check that the results folder is writable."""
    try:
        places.check_writable(RESULTS)
    except UserError as error:
        raise WorkflowError(str(error)) from None


def check_targets():
    """Once all rules are known: check the names of targets on the command line."""
    if workflow.is_main_process:
        try:
            running.check_targets(
                workflow, sys.argv[1:], ["all", *COLLECTIONS, "tables", "figures", "explorer", "report"]
            )
        except UserError as error:
            raise WorkflowError(str(error)) from None


def of_checkout(path):
    """Path of a file in the checkout, relative to the working folder (`--directory`)."""
    return os.path.relpath(f"{workflow.basedir}/{path}")


def raw_files(dataset):
    """Raw files of a data set."""
    return [
        f"{DATA}/raw/{SOURCES[name].dataset}/{path}"
        for name in DATASETS[dataset].sources
        for path in SOURCES[name].files
    ]


def settings(study, stage):
    """Params function: a hash that changes with the stage's settings or version."""

    def of(wildcards):
        folder = wildcards.get("temperature")
        temperature = study.temperature_of(folder) if folder else None
        return rule_parts.settings_fingerprint(study, stage, temperature)

    return of


def settings_of(study):
    """Params function: a hash that changes with any stage's settings or version."""
    return lambda wildcards: rule_parts.study_fingerprint(study)


def of_stages(*stages):
    """All files of these stages."""
    return [path for study in STUDIES for stage in stages for path in rule_parts.kept_files(study, stage)]


def stage_rule(study, stage):
    """Parts shared by the rules of all heavy stages. Each rule adds its input, environment and script."""
    return SimpleNamespace(
        name=rule_parts.rule_name(stage, study.name),
        output={kind: update(paths) for kind, paths in rule_parts.patterns(study, stage).items()},
        log=job_path(study, "logs", stage, ".log"),
        benchmark=job_path(study, "benchmarks", stage, ".jsonl"),
        resources=job_resources(CONFIG, study, stage, lambda: running.without_gpu(workflow, CONFIG)),
        params={"study": study.name, "settings": settings(study, stage)},
    )


def data_of(study):
    """The prepared data of a study. They are `ancient`, because their digest is in every fingerprint, and preparing
    data again must not trigger jobs of imported or adopted results."""
    return ancient(str(study.prepared))


def results_of(study):
    """Input function: the result files (JSON) of a study."""

    def of(wildcards):
        paths = [path for stage in STAGES for path in rule_parts.kept_files(study, stage)]
        return [path for path in paths if path.endswith(".json")]

    return of


def part_of(study, target):
    """Input function: the files of one study's target; all files of the study if the target is empty."""

    def of(wildcards):
        if target in COLLECTIONS:
            return [path for stage in COLLECTIONS[target] for path in rule_parts.kept_files(study, stage)]
        folder = study.folder
        tables = [f"{folder}/{table}.csv" for table in (*study.cell_tables, *REGIME_TABLES)]
        tables += [f"{folder}/{name}" for name in CLAIM_FILES if study.config.claims]
        drawn = [f"{folder}/figures/{figure}.{kind}" for figure in study.figures for kind in FIGURE_FORMATS]
        discarded = discard_records(study)
        return {"tables": tables, "figures": drawn}.get(target, tables + drawn + discarded)

    return of


def cell_tables():
    """The tables built from the results of every study."""
    return [str(study.table(name)) for study in STUDIES for name in study.cell_tables]


def of_studies(*names):
    """These files of every study."""
    return [f"{study.folder}/{name}" for study in STUDIES for name in names]


def claim_files():
    """Verdicts on claims, for every study with claims."""
    return [f"{study.folder}/{name}" for study in STUDIES if study.config.claims for name in CLAIM_FILES]


def of_tabled(*names):
    """These files of everything in `TABLED`."""
    return [f"{each.folder}/{name}" for each in TABLED for name in names]


def published_files():
    """The digitised panels of the published Figure 2."""
    panels = ["test_error", "normalized_test_error", "lmc", "cka"]
    return [of_checkout(f"reference/figure2/{panel}_bounds.csv") for panel in panels]


def figure_files(*kinds):
    """All figures in these formats."""
    return [f"{each.folder}/figures/{name}.{kind}" for each in TABLED for name in each.figures for kind in kinds]


def over_all_studies():
    """Tables that compare studies with each other and with the published figure."""
    cases = [f"{RESULTS}/{CASE_FOLDER}/{name}.csv" for name in CASE_TABLES] if STUDIES else []
    scores = [f"{RESULTS}/scorecard.md", f"{RESULTS}/scorecard.csv"] if CONFIG.published else []
    return cases + scores
