# What all rules share: the validated configuration, the planned studies, wildcard constraints.

import os
import shlex
import sys
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
from three_regime.study.grid import planned, thresholds_of
from three_regime.study.log_files import job_path
from three_regime.study.outputs import (
    CASE_FOLDER,
    CASE_TABLES,
    CELL_TABLES,
    CLAIM_FILES,
    FIGURE2_STUDY,
    FIGURE_FORMATS,
    GRID_FIGURES,
    PUBLISHED,
    REGIME_TABLES,
    SETTINGS_FILE,
    TABLES_VERSION,
    figures_of,
)
from three_regime.study.runs import digests
from three_regime.study.stages import COLLECTIONS, STAGES
from three_regime.system import places
from three_regime.system.interruption import stop_in_a_thread
from three_regime.workflow import recomputing, rule_parts, running, slurm_plugin, snakemake_lock
from three_regime.workflow.job_resources import job_resources
from three_regime.workflow.snakemake_records import stale_without_record
from three_regime.workflow.stale_records import plan_again

# Scripts import the library from this checkout, also in an environment that Snakemake made.
os.environ.update(PYTHONPATH=os.pathsep.join([str(workflow.basedir), *filter(None, [os.environ.get("PYTHONPATH")])]))

# Snakemake writes the path of its Python into shell commands as it is: quoted, the checkout's name may hold spaces.
if os.path.exists(sys.executable):
    sys.executable = shlex.quote(sys.executable)

stop_in_a_thread(JobScheduler)
slurm_plugin.mend()

try:
    CONFIG = running.read_config(workflow, config)
except UserError as error:
    raise WorkflowError(str(error))

STUDIES = planned(CONFIG)
CONFIG_FILES = digests(workflow.configfiles) if workflow.is_main_process else {}

# Nothing stale may pass for up to date: neither copied results, which have no record of the settings that made them,
# nor those whose record says what their fingerprint does not.
if workflow.is_main_process and not workflow.touch:
    if stale := stale_without_record(STUDIES):
        raise WorkflowError(stale)
    for line in plan_again(STUDIES):
        print(line, file=sys.stderr)

DATA = CONFIG.data.folder
RESULTS = CONFIG.results
SOURCES = load_sources()

# What has a cells.csv: every planned study, and the published figure. Name -> (folder, figures).
TABLED = {study.name: (str(study.folder), figures_of(study.config)) for study in STUDIES}
if CONFIG.published:
    TABLED[PUBLISHED] = (f"{RESULTS}/{PUBLISHED}", GRID_FIGURES)


wildcard_constraints:
    dataset="|".join(rule_parts.prepared_by_name()),
    seed=r"\d+",
    temperature=r"[a-z]+\d+(p\d+)?",
    density=r"density\d+(p\d+)?",


def check_writable():
    """When the workflow begins: the results can be written."""
    try:
        places.check_writable(RESULTS)
    except UserError as error:
        raise WorkflowError(str(error)) from None


def of_checkout(path):
    """A file of the checkout, whatever the working folder (`--directory`) is."""
    return os.path.relpath(f"{workflow.basedir}/{path}")


def raw_files(dataset):
    """Files that a data set is prepared from."""
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
    """Every file of these stages."""
    return [path for study in STUDIES for stage in stages for path in rule_parts.kept_files(study, stage)]


def stage_rule(study, stage):
    """What the rules of all heavy stages have alike. The rest is said in each: what the stage is made from, with which
    environment and script."""
    return SimpleNamespace(
        name=rule_parts.rule_name(stage, study.name),
        output={kind: update(paths) for kind, paths in rule_parts.patterns(study, stage).items()},
        log=job_path(study, "logs", stage, ".log"),
        benchmark=job_path(study, "benchmarks", stage, ".jsonl"),
        resources=job_resources(CONFIG, study, stage),
        params={"study": study.name, "settings": settings(study, stage)},
    )


def data_of(study):
    """The prepared data of a study. They are `ancient`: their digest is in every fingerprint, and a data file that was
    prepared again must not plan what was imported or adopted without its upstream."""
    return ancient(str(study.prepared))


def results_of(study):
    """Input function: the result files of a study that its tables are made from."""

    def of(wildcards):
        paths = [path for stage in STAGES for path in rule_parts.kept_files(study, stage)]
        return [path for path in paths if path.endswith(".json")]

    return of


def part_of(study, target):
    """Input function: what one study's target asks for; all of it when the target is empty."""

    def of(wildcards):
        if target in COLLECTIONS:
            return [path for stage in COLLECTIONS[target] for path in rule_parts.kept_files(study, stage)]
        folder, figures = TABLED[study.name]
        tables = [f"{folder}/{table}.csv" for table in (*CELL_TABLES, *REGIME_TABLES)]
        tables += [f"{folder}/{name}" for name in CLAIM_FILES if study.config.claims]
        drawn = [f"{folder}/figures/{figure}.{kind}" for figure in figures for kind in FIGURE_FORMATS]
        discarded = discard_records(study)
        return {"tables": tables, "figures": drawn}.get(target, tables + drawn + discarded)

    return of


def of_studies(*names):
    """These files of every study."""
    return [f"{study.folder}/{name}" for study in STUDIES for name in names]


def claim_files():
    """Verdicts on the claims of every study that states some."""
    return [f"{study.folder}/{name}" for study in STUDIES if study.config.claims for name in CLAIM_FILES]


def of_tabled(*names):
    """These files of every study and of the published figure."""
    return [f"{folder}/{name}" for folder, _ in TABLED.values() for name in names]


def figure_files(*kinds):
    """Every figure in these formats."""
    return [f"{folder}/figures/{name}.{kind}" for folder, names in TABLED.values() for name in names for kind in kinds]


def over_all_studies():
    """Tables that compare studies with each other and with the published figure."""
    cases = [f"{RESULTS}/{CASE_FOLDER}/{name}.csv" for name in CASE_TABLES] if STUDIES else []
    scores = [f"{RESULTS}/scorecard.md", f"{RESULTS}/scorecard.csv"] if CONFIG.published else []
    return cases + scores
