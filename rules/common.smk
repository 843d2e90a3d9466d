# What all rules share: the validated configuration, the planned studies, wildcard constraints.

import os

from snakemake.exceptions import WorkflowError

from three_regime import workflow as three_regime_workflow
from three_regime.config import resolve
from three_regime.datasets import DATASETS
from three_regime.errors import UserError
from three_regime.stages import CASE_TABLES, CELL_TABLES, GRID_FIGURES, PUBLISHED, REGIME_TABLES, RUN_FIGURES, STAGES
from three_regime.study import planned

# Scripts import the library from this checkout, also in an environment that Snakemake made.
os.environ["PYTHONPATH"] = os.pathsep.join([str(workflow.basedir), *filter(None, [os.environ.get("PYTHONPATH")])])

try:
    CONFIG = resolve(config)
except UserError as error:
    raise WorkflowError(str(error))

STUDIES = planned(CONFIG)
DATA = CONFIG.data.folder
RESULTS = CONFIG.results

# What has a cells.csv: every planned study, and the published figure. Name -> (folder, figures).
TABLED = {study.name: (str(study.folder), GRID_FIGURES + RUN_FIGURES) for study in STUDIES}
if CONFIG.published:
    TABLED[PUBLISHED] = (f"{RESULTS}/{PUBLISHED}", GRID_FIGURES)


wildcard_constraints:
    dataset="|".join(DATASETS),
    seed=r"\d+",
    temperature=r"[a-z]+\d+(p\d+)?",
    density=r"density\d+(p\d+)?",


def settings(study, stage):
    """Params function: a hash that changes with the stage's settings or version."""

    def of(wildcards):
        folder = wildcards.get("temperature")
        temperature = study.temperature_of(folder) if folder else None
        return three_regime_workflow.settings_fingerprint(study, stage, temperature)

    return of


def resources_of(study, stage):
    """The study's resources for a stage."""
    return getattr(study.config.resources, stage)
