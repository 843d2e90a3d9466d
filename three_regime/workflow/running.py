"""A run of Snakemake: its configuration, hooks at its start and end, and its jobs."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from three_regime.config import FROZEN, Config, plugins, read, resolve, settle
from three_regime.errors import UserError
from three_regime.jobs import kept_copies
from three_regime.logs import reporting
from three_regime.names import nearest
from three_regime.study import runs
from three_regime.study.grid import Study, planned, study_named
from three_regime.study.stages import STAGES
from three_regime.system import gpu_slots
from three_regime.system.yaml_files import meant_throughout
from three_regime.workflow.arguments import refuse_repeated, targets_of
from three_regime.workflow.job_resources import gpus

if TYPE_CHECKING:
    from snakemake.dag import DAG
    from snakemake.iocontainers import Snakemake
    from snakemake.workflow import Workflow


def read_config(workflow: Workflow, config: dict[str, Any]) -> Config:
    """Read the configuration of a Snakefile again with this project's YAML reader, and update `config` in place.

    Snakemake reads YAML 1.1, in which ``off`` is false, ``010`` is eight, and a duplicate key is ignored.

    Parameters
    ----------
    workflow
        Source of the configuration files and of the overrides by ``--config``.
    config
        Snakemake's own result; replaced by the values read here, so scripts see them too.

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


def check_targets(workflow: Workflow, arguments: Sequence[str], collections: Iterable[str]) -> None:
    """Raise if a target is the name of no rule; files are left to Snakemake.

    Parameters
    ----------
    collections
        Rules to name in the message.

    Raises
    ------
    UserError
        The message names the target, the nearest rule and `collections`.
    """
    names = [rule.name for rule in workflow.rules]
    for target in targets_of(arguments):
        if Path(target).suffix == ".yaml" and Path(target).is_file():
            raise UserError(f"{target} is given as a target; give it as --configfile {target}")
        if not {"/", "."} & set(target) and target not in names and not Path(target).exists():
            raise UserError(
                f"unknown target '{target}'{nearest(target.replace('-', '_'), names)}; use {', '.join(collections)},"
                " one of them for a single study, as in <study>_retrained, or a file"
            )


def slots(workflow: Workflow, config: Config) -> int:
    """Jobs that a run has at work at a time, about: those of a cluster, or those that cores and GPUs here allow."""
    resources = workflow.resource_settings
    if resources.nodes:
        return resources.nodes
    by_cores = max(1, (resources.cores or 1) // config.threads)
    limit = resources.resources.get("gpu")
    requested = max((gpus(config, study, stage) for study in planned(config) for stage in STAGES), default=0)
    if limit is None or not requested or without_gpu(workflow, config):
        return by_cores
    return max(1, min(by_cores, int(getattr(limit, "value", limit)) // requested))


def without_gpu(workflow: Workflow, config: Config) -> bool:
    """Whether the jobs of this run find no GPU: with ``device: auto``, on this machine, if none is visible.

    ``device: cuda`` states that there is one, perhaps of a kind that `gpu_slots.installed` does not know.
    """
    return workflow.is_main_process and workflow.local_exec and config.device == "auto" and not _visible_gpus()


@functools.cache
def _visible_gpus() -> bool:
    return bool(gpu_slots.devices(os.environ, gpu_slots.installed()))


def freeze(workflow: Workflow, config: Config, read: Mapping[str, str]) -> None:
    """At the start of the workflow: write the resolved configuration to a file that all jobs read from now on.

    Parameters
    ----------
    read
        Digests of the configuration files (`runs.digests`).
    """
    run = runs.begin(config, read)
    workflow.config_settings.configfiles = [Path(run.file).absolute()]
    workflow.config_settings.config_args = []
    workflow.config[FROZEN] = asdict(run)  # jobs of this process
    print(f"all jobs of this run use the settings in {run.file}", file=sys.stderr)


def before_jobs(studies: Sequence[Study], dag: DAG) -> None:
    """At the start of the workflow: set stale results aside, so none is restored when a job fails."""
    count = kept_copies.set_aside(studies, [path for job in dag.needrun_jobs() for path in job.output])
    if count:
        print(f"{count} stale results are kept in .state until they have been recomputed", file=sys.stderr)


def after_jobs(results: str, dag: DAG, settings: Mapping[str, Any]) -> None:
    """At the end of the workflow, successful or not: drop links to results that Snakemake has recorded.

    Also report files edited during the run: code, which later jobs used, and settings, which none did.
    """
    if run := runs.of(settings):
        if run.edited:
            print(
                f"{', '.join(run.edited)}: edited during this run, which used the settings from its start, {run.file}",
                file=sys.stderr,
            )
        if changed := run.changed_code:
            print(f"the checkout changed during this run: {changed}", file=sys.stderr)
    ended = (job for job in dag.jobs if dag.noneedrun_finished(job))
    kept_copies.drop_recorded(Path(results), (path for job in ended for path in job.output))


@contextlib.contextmanager
def script(snakemake: Snakemake, title: str) -> Iterator[None]:
    """Context of a rule's script: log to the rule's log file under this title, and load the configured plugins."""
    with reporting(title, Path(snakemake.log[0])):
        plugins.load(snakemake.config.get("plugins") or ())
        yield


def run_script(snakemake: Snakemake, stage: str) -> None:
    """Run the job of a heavy stage; the body of its script."""
    from three_regime.jobs.run import run_job

    wildcards, started = snakemake.wildcards, runs.of(snakemake.config)
    name, seed = snakemake.params.study, int(wildcards.seed)
    folders = [name, f"seed{seed}", wildcards.get("temperature"), wildcards.get("density")]
    with script(snakemake, " ".join([stage, *filter(None, folders)])):
        config = resolve(snakemake.config)
        study = study_named(config, name)
        temperature = study.temperature_of(wildcards.temperature) if folders[2] else None
        density = study.density_of(wildcards.density) if folders[3] else None
        run_job(config, name, stage, seed, temperature, density, under_workflow=True, started=started)


def snakemake_program() -> str:
    """Path of the Snakemake beside this Python, or else the first on the PATH.

    Raises
    ------
    UserError
        When there is none.
    """
    program = shutil.which("snakemake", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if program is None:
        raise UserError("snakemake is not installed in this environment; run `make env`")
    return program
