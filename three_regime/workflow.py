"""Between Snakemake and the library: what rules, scripts and the `workflow` command need, without torch."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from three_regime import links, locks, places, runs, starting
from three_regime.config import FROZEN, Config, load, read, resolve, settle
from three_regime.datasets.prepare import recipe as prepare_recipe
from three_regime.errors import UserError
from three_regime.keeping import record_file
from three_regime.logs import reporting
from three_regime.records import configfiles, unrecorded
from three_regime.stages import STAGES, fingerprint_of, kept_outputs, pack
from three_regime.study import Study, planned, study
from three_regime.yaml_files import meant_throughout

if TYPE_CHECKING:
    from snakemake.dag import DAG
    from snakemake.iocontainers import Snakemake
    from snakemake.workflow import Workflow

_DRY = {"--dry-run", "--dryrun", "-n"}
_UNLOCKING = {"--unlock"}
_REPEATABLE = {
    "--configfile": "--configfile",
    "--configfiles": "--configfile",
    "--config": "--config",
    "-C": "--config",
}
"""Options that take any number of values, of which Snakemake forgets all but the last when they are given twice."""


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
        _refuse_repeated(sys.argv[1:])
    given = workflow.config_settings.configfiles
    declared = [] if workflow.config_settings.replace_workflow_config else workflow.configfiles[len(given) :]
    merged = read([*declared, *given]).under(meant_throughout(dict(workflow.config_settings.config)))
    config.clear()
    config.update(merged.values)
    return settle(merged)


def _refuse_repeated(arguments: Sequence[str]) -> None:
    for option in dict.fromkeys(_REPEATABLE.values()):
        if sum(_option(argument) == option for argument in _before_targets(arguments)) > 1:
            raise UserError(
                f"{option} is given twice, and Snakemake forgets the first: name all after one, `{option} A B`, or"
                " start with `python -m three_regime workflow`, which takes both"
            )


def joined(arguments: Sequence[str]) -> list[str]:
    """Snakemake's `arguments` with every ``--configfile`` (and ``--config``) in one, in order, and `~` expanded."""
    options = list(_before_targets(arguments))
    values: dict[str, list[str]] = {option: [] for option in _REPEATABLE.values()}
    rest: list[str] = []
    taking: str | None = None
    for argument in options:
        if argument.startswith("-"):
            taking = _option(argument)
            if taking is None:
                rest.append(argument)
            elif "=" in argument and argument.startswith("--"):
                values[taking].append(argument.partition("=")[2])
            elif len(argument) > 2 and not argument.startswith("--"):
                values[taking].append(argument[2:])
        elif taking is None:
            rest.append(argument)
        else:
            values[taking].append(argument)
    values["--configfile"] = [str(places.expanded(path)) for path in values["--configfile"]]
    found = [word for option, words in values.items() if words for word in (option, *words)]
    return [*rest, *found, *arguments[len(options) :]]


def _option(argument: str) -> str | None:
    """The option of `_REPEATABLE` that `argument` begins, if any."""
    name = argument.partition("=")[0]
    return _REPEATABLE.get(name if argument.startswith("--") else argument[:2])


def _before_targets(arguments: Sequence[str]) -> Iterator[str]:
    return itertools.takewhile(lambda argument: argument != "--", arguments)


def settings_fingerprint(owner: Study, stage: str, temperature: float | None) -> str:
    """Hash of the settings and version of a stage: a rule's `params`, so that a change plans the job again.

    Grid lists and streams are left out: what they add is a missing output, what they remove needs no job. How the
    data are prepared is in it: rules do not follow the times of data files.
    """
    grid = {"density", "streams"}
    recipe = {key: value for key, value in _any_product(owner, stage, temperature).items() if key not in grid}
    choice = owner.config.dataset
    text = choice.entry.kind == "text"
    data = fingerprint_of(prepare_recipe(choice), {}) if text else str(choice.entry.version)
    return fingerprint_of(recipe, {"data": data})[:16]


def study_fingerprint(owner: Study) -> str:
    """Hash of the settings of every stage of a study: of what its tables are made from.

    Without it a job that failed under new settings would be forgotten: Snakemake notes the settings for failed jobs
    too, and does not look for the results of jobs whose readers are up to date.
    """
    return fingerprint_of({
        f"{stage} {temperature:g}": settings_fingerprint(owner, stage, temperature)
        for stage in STAGES
        for temperature in owner.temperatures
    }, {})[:16]  # fmt: skip


def _any_product(owner: Study, stage: str, temperature: float | None) -> dict[str, Any]:
    """A recipe of the stage; for the one long run of the epochs knob, of the run and not of a checkpoint."""
    first = owner.temperatures[-1] if temperature is None else temperature
    products = pack(owner, stage, owner.config.dense_seeds[0], first)
    recipe = dict(products[0].recipe) if products else {"version": STAGES[stage].version}
    if stage == "dense" and owner.knob.setting is None:
        recipe["training"] = owner.config.dense.model_dump(mode="json", exclude={"evaluate_every"})
    return recipe


def patterns(owner: Study, stage: str) -> dict[str, list[str]]:
    """Output files of a rule: kind (``metrics``, ``weights``) → paths of its pack, wildcards elsewhere."""
    folders = _folders(owner, STAGES[stage].place, one_run=stage == "dense" and owner.knob.setting is None)
    return {
        "weights" if name.endswith(".safetensors") else "metrics": [f"{folder}/{name}" for folder in folders]
        for name in STAGES[stage].files
    }


def inputs(owner: Study, stage: str) -> dict[str, list[str] | str]:
    """Input files of a rule, role → paths, with the wildcards of `patterns`."""
    upstream = {"prune": ("dense", ()), "retrain": ("prune", ("density",))}
    before, place = upstream.get(stage, ("retrain", ("density", "replica")))
    name = STAGES[before].files[-1]
    roles: dict[str, list[str] | str] = {}
    if stage != "dense":
        role = {"prune": "dense", "retrain": "pruned"}.get(stage, "retrained")
        roles[role] = [f"{folder}/{name}" for folder in _folders(owner, place)]
    if stage != "prune":
        roles["data"] = str(owner.prepared)
    return roles


def _folders(owner: Study, place: tuple[str, ...], *, one_run: bool = False) -> list[str]:
    """Folders of a pack below seed and temperature; what a pack does not span is a wildcard."""
    densities = owner.density_folders if "density" in owner.config.pack else ["{density}"]
    values = {
        "density": densities,
        "replica": [f"replica{replica}" for replica in owner.config.replicas],
        "pair": [f"pair{first}-{second}" for first, second in owner.pairs],
    }
    temperatures = owner.temperature_folders if one_run else ["{temperature}"]
    base = f"{owner.folder}/seed{{seed}}"
    return ["/".join([base, *parts]) for parts in itertools.product(temperatures, *(values[part] for part in place))]


def job_path(owner: Study, kind: str, stage: str, suffix: str) -> str:
    """Path of a rule's log or benchmark, with its wildcards: ``<results>/<kind>/<stage>/<study>/seed…``."""
    wildcards = ["seed{seed}"]
    if not (stage == "dense" and owner.knob.setting is None):
        wildcards.append("{temperature}")
        if STAGES[stage].place and "density" not in owner.config.pack:
            wildcards.append("{density}")
    return f"{owner.root}/{kind}/{stage}/{owner.name}/{'-'.join(wildcards)}{suffix}"


def products(owner: Study, stage: str) -> list[str]:
    """Every file of a stage that its study keeps."""
    return [
        str(path)
        for seed in owner.config.dense_seeds
        for temperature in owner.temperatures
        for product in pack(owner, stage, seed, temperature)
        for path in kept_outputs(owner, product)
    ]


def measured(owner: Study) -> list[str]:
    """Result files (JSON) of one dense seed and temperature, which are wildcards."""
    at = owner.at(owner.config.dense_seeds[0], owner.temperatures[0])
    pattern = f"{owner.folder}/seed{{seed}}/{{temperature}}"
    return [
        f"{pattern}/{product.outputs[0].relative_to(at)}"
        for stage in STAGES
        for product in pack(owner, stage, owner.config.dense_seeds[0], owner.temperatures[0])
    ]


def discard_records(owner: Study) -> list[str]:
    """What the jobs that discard weights write; none where a study keeps all."""
    if owner.config.keep == "all":
        return []
    return [
        str(record_file(owner, seed, temperature))
        for seed in owner.config.dense_seeds
        for temperature in owner.temperatures
    ]


def rule_name(stage: str, name: str) -> str:
    """Name of a study's rule: rule names are identifiers."""
    return f"{stage}_{name.replace('-', '_')}"


def before_jobs(owners: Sequence[Study], dag: DAG) -> None:
    """When the workflow begins: stale results make way, so that none can come back when a job fails."""
    count = links.set_aside(owners, [path for job in dag.needrun_jobs() for path in job.output])
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
    links.drop_recorded(Path(results), (path for job in ended for path in job.output))


def run_script(snakemake: Snakemake, stage: str) -> None:
    """Body of the scripts of the heavy stages."""
    from three_regime import jobs

    wildcards, started = snakemake.wildcards, runs.of(snakemake.config)
    name, seed = snakemake.params.study, int(wildcards.seed)
    folders = [name, f"seed{seed}", wildcards.get("temperature"), wildcards.get("density")]
    with reporting(" ".join([stage, *filter(None, folders)]), Path(snakemake.log[0])):
        config = resolve(snakemake.config)
        owner = study(config, name)
        temperature = owner.temperature_of(wildcards.temperature) if folders[2] else None
        density = owner.density_of(wildcards.density) if folders[3] else None
        jobs.run(config, name, stage, seed, temperature, density, under_workflow=True, started=started)


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


def exec_snakemake(arguments: Sequence[str]) -> None:
    """Replace this process by Snakemake, after removing a lock whose owner is dead (`three_regime.locks`).

    Raises
    ------
    UserError
        When Snakemake is not installed, a configuration file is not there, or a person says no (`starting.ask`).
    """
    program = snakemake_program()
    arguments = joined(arguments)
    os.environ.update(places.stand_ins())
    starting.check_configfiles(arguments)
    arguments, folder = starting.located(arguments)
    folder.mkdir(parents=True, exist_ok=True)
    here = Path.cwd()
    with contextlib.chdir(folder):  # whose lock and results are looked at
        if not _UNLOCKING & set(arguments):
            _settle_lock(program, arguments, here)
        starting.ask(arguments)
        _look_at_results(arguments)
        if not (_DRY | _UNLOCKING) & set(arguments):
            locks.forget()
            locks.note()
    os.execv(program, [program, *arguments])


def _settle_lock(program: str, arguments: Sequence[str], here: Path) -> None:
    """Remove a lock that was left behind; of one that may have been, say how. `arguments` count from `here`."""
    if locks.is_left_behind():
        print("removing the lock of an earlier run that was killed", file=sys.stderr)
        # Before the arguments: what follows `--` there are targets.
        subprocess.run([program, "--quiet", "--unlock", *arguments], cwd=here, check=False)
        return
    unlock = [sys.executable, "-m", "three_regime", "workflow", "--unlock", *arguments]
    if warning := locks.of_another_machine(unlock):
        print(warning, file=sys.stderr)


def _look_at_results(arguments: Sequence[str]) -> None:
    """Before a real run: the results can be written, and those that Snakemake has no record of are adopted."""
    if (_DRY | _UNLOCKING) & set(arguments):
        return
    files = configfiles(arguments)
    if files is None or not all(path.exists() for path in files):
        return
    config = load(files)
    places.check_writable(config.results)
    if restored := links.restore_all(planned(config)):
        print(f"{restored} results of unfinished jobs are back in their place", file=sys.stderr)
    names = [owner.name for owner in unrecorded(planned(config))]
    if names:
        from three_regime import adopting

        print(f"Snakemake has no record of results of {', '.join(names)}: adopting them", file=sys.stderr)
        print(adopting.render(adopting.adopt(config, files), dry_run=False), file=sys.stderr)
