"""Between Snakemake and the library: what rules, scripts and the `workflow` command need, without torch."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from three_regime.config import FROZEN, Config, read, resolve, settle
from three_regime.datasets.registry import DATASETS
from three_regime.errors import UserError
from three_regime.jobs import kept_copies
from three_regime.logs import reporting
from three_regime.preparation.prepare import recipe as prepare_recipe
from three_regime.settings import setting_of
from three_regime.study import runs
from three_regime.study.fingerprints import fingerprint_of
from three_regime.study.grid import Study, study_named
from three_regime.study.products import kept_outputs, pack, products_of
from three_regime.study.stages import STAGES
from three_regime.system.yaml_files import meant_throughout
from three_regime.workflow.arguments import refuse_repeated

if TYPE_CHECKING:
    from snakemake.dag import DAG
    from snakemake.iocontainers import Snakemake
    from snakemake.workflow import Workflow


def as_written(workflow: Workflow, config: dict[str, Any]) -> Config:
    """The configuration of a Snakefile, its files read again by this project's reader, which replaces `config`.

    Snakemake reads YAML 1.1: to it ``off`` is false, ``010`` eight, and of a key that stands twice it forgets one.

    Parameters
    ----------
    workflow
        Its configuration files, and what ``--config`` lays over them.
    config
        Snakemake's own reading; holds the values of the files afterwards, so that scripts see them too.

    Raises
    ------
    UserError
        As `three_regime.config.load`, or when ``--configfile`` or ``--config`` was given twice.
    """
    if workflow.is_main_process:
        refuse_repeated(sys.argv[1:])
    given = workflow.config_settings.configfiles
    declared = [] if workflow.config_settings.replace_workflow_config else workflow.configfiles[len(given) :]
    merged = read([*declared, *given]).under(meant_throughout(dict(workflow.config_settings.config)))
    config.clear()
    config.update(merged.values)
    return settle(merged)


def settings_fingerprint(study: Study, stage: str, temperature: float | None) -> str:
    """Hash of the settings and version of a stage: a rule's `params`, so that a change plans the job again.

    Grid lists and streams are left out: what they add is a missing output, what they remove needs no job. How the
    data are prepared is in it: rules do not follow the times of data files.
    """
    grid = {"density", "streams"}
    recipe = {key: value for key, value in _any_product(study, stage, temperature).items() if key not in grid}
    choice = study.config.dataset
    by_name = choice.setting.prepared_by_name
    data = str(choice.entry.version) if by_name else fingerprint_of(prepare_recipe(choice), {})
    return fingerprint_of(recipe, {"data": data})[:16]


def prepared_by_name() -> list[str]:
    """Data sets that one rule prepares, each in a file of its name."""
    return [name for name, entry in DATASETS.items() if setting_of(entry.kind).prepared_by_name]


def prepared_as_chosen(studies: Sequence[Study]) -> list[Study]:
    """A study for each data set that is prepared as its studies choose: it is prepared once for all that agree."""
    chosen = [study for study in studies if not study.setting.prepared_by_name]
    return list({study.prepared: study for study in chosen}.values())


def study_fingerprint(study: Study) -> str:
    """Hash of the settings of every stage of a study: of what its tables are made from.

    Without it a job that failed under new settings would be forgotten: Snakemake notes the settings for failed jobs
    too, and does not look for the results of jobs whose readers are up to date.
    """
    return fingerprint_of({
        f"{stage} {temperature:g}": settings_fingerprint(study, stage, temperature)
        for stage in STAGES
        for temperature in study.temperatures
    }, {})[:16]  # fmt: skip


def _any_product(study: Study, stage: str, temperature: float | None) -> dict[str, Any]:
    """A recipe of the stage; for the one long run of the epochs knob, of the run and not of a checkpoint."""
    first = study.temperatures[-1] if temperature is None else temperature
    products = pack(study, stage, study.config.dense_seeds[0], first)
    recipe = dict(products[0].recipe) if products else {"version": STAGES[stage].version}
    if stage == "dense" and study.one_dense_run:
        recipe["training"] = study.config.dense.model_dump(mode="json", exclude={"evaluate_every"})
    return recipe


def patterns(study: Study, stage: str) -> dict[str, list[str]]:
    """Output files of a rule: kind (``metrics``, ``weights``) → paths of its pack, wildcards elsewhere."""
    folders = _folders(study, STAGES[stage].place, one_run=stage == "dense" and study.one_dense_run)
    return {
        "weights" if name.endswith(".safetensors") else "metrics": [f"{folder}/{name}" for folder in folders]
        for name in STAGES[stage].files
    }


def checkpoints(study: Study, stage: str) -> list[str]:
    """Weights of a pack of a stage as the input of a later one, with the wildcards of `patterns`."""
    return [f"{folder}/{STAGES[stage].weights}" for folder in _folders(study, STAGES[stage].place)]


def _folders(study: Study, place: tuple[str, ...], *, one_run: bool = False) -> list[str]:
    """Folders of a pack below seed and temperature; what a pack does not span is a wildcard."""
    densities = study.density_folders if study.job_spans_densities else ["{density}"]
    values = {
        "density": densities,
        "replica": [f"replica{replica}" for replica in study.config.replicas],
        "pair": [f"pair{first}-{second}" for first, second in study.pairs],
    }
    temperatures = study.temperature_folders if one_run else ["{temperature}"]
    base = f"{study.folder}/seed{{seed}}"
    return ["/".join([base, *parts]) for parts in itertools.product(temperatures, *(values[part] for part in place))]


def products(study: Study, stage: str) -> list[str]:
    """Every file of a stage that its study keeps."""
    return [str(path) for product in products_of(study, [stage]) for path in kept_outputs(study, product)]


def measured(study: Study) -> list[str]:
    """Result files (JSON) of one dense seed and temperature, which are wildcards."""
    place = study.seeds_and_temperatures[0]
    pattern = f"{study.folder}/seed{{seed}}/{{temperature}}"
    return [
        f"{pattern}/{product.outputs[0].relative_to(study.at(*place))}"
        for stage in STAGES
        for product in pack(study, stage, *place)
    ]


def rule_name(stage: str, name: str) -> str:
    """Name of a study's rule: rule names are identifiers."""
    return f"{stage}_{name.replace('-', '_')}"


def before_jobs(studies: Sequence[Study], dag: DAG) -> None:
    """When the workflow begins: stale results make way, so that none can come back when a job fails."""
    count = kept_copies.set_aside(studies, [path for job in dag.needrun_jobs() for path in job.output])
    if count:
        print(f"{count} stale results are kept in .state until they have been computed anew", file=sys.stderr)


def freeze(workflow: Workflow, config: Config, read: Mapping[str, str]) -> None:
    """When the workflow begins: from here on its jobs get the configuration that it resolved, in a file of its own.

    Parameters
    ----------
    read
        Digests of the configuration files (`runs.digests`).
    """
    run = runs.begin(config, read)
    workflow.config_settings.configfiles = [Path(run.file).absolute()]
    workflow.config_settings.config_args = []
    workflow.config[FROZEN] = asdict(run)  # jobs of this process
    print(f"every job of this run uses the settings in {run.file}", file=sys.stderr)


def after_jobs(results: str, dag: DAG, settings: Mapping[str, Any]) -> None:
    """When the workflow ends, well or not: links to what Snakemake has recorded are needed no more.

    What was edited meanwhile is named: code that later jobs used, settings that none did.
    """
    if run := runs.of(settings):
        if run.edited:
            print(
                f"{', '.join(run.edited)}: edited while this run was under way; it used the settings of its start,"
                f" {run.file}",
                file=sys.stderr,
            )
        if changed := run.changed_code:
            print(f"the checkout changed while this run was under way: {changed}", file=sys.stderr)
    ended = (job for job in dag.jobs if dag.noneedrun_finished(job))
    kept_copies.drop_recorded(Path(results), (path for job in ended for path in job.output))


def run_script(snakemake: Snakemake, stage: str) -> None:
    """Body of the scripts of the heavy stages."""
    from three_regime.jobs.run import run_job

    wildcards, started = snakemake.wildcards, runs.of(snakemake.config)
    name, seed = snakemake.params.study, int(wildcards.seed)
    folders = [name, f"seed{seed}", wildcards.get("temperature"), wildcards.get("density")]
    with reporting(" ".join([stage, *filter(None, folders)]), Path(snakemake.log[0])):
        config = resolve(snakemake.config)
        study = study_named(config, name)
        temperature = study.temperature_of(wildcards.temperature) if folders[2] else None
        density = study.density_of(wildcards.density) if folders[3] else None
        run_job(config, name, stage, seed, temperature, density, under_workflow=True, started=started)


def snakemake_program() -> str:
    """Path of the Snakemake beside this Python, or else of the first on the PATH.

    Raises
    ------
    UserError
        When there is none.
    """
    program = shutil.which("snakemake", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if program is None:
        raise UserError("snakemake is not installed in this environment; run `make env`")
    return program
