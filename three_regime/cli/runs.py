"""Commands before and during a run: listing, planning, progress, and stages without Snakemake."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import click

from three_regime.cli.options import AS_JSON, BASE, FOLDER, configured, echo_json


@click.command("list")
@AS_JSON
def list_registered(as_json: bool) -> None:
    """List the registered data sets, models, knobs, loads, pruning criteria, measures and optimisers.

    Entries of installed packages are included, those of files that a configuration lists under `plugins` are not.
    """
    from three_regime.config import plugins
    from three_regime.config.knobs import KNOBS
    from three_regime.config.loads import LOADS
    from three_regime.config.measures import MEASURES
    from three_regime.datasets import registry
    from three_regime.models import families
    from three_regime.pruning.criteria import CRITERIA
    from three_regime.settings import all_settings
    from three_regime.training.optimisers import UPDATES

    plugins.load(())

    def labels_elsewhere(knob: str) -> list[str]:
        return [setting.knob_labels[knob] for setting in all_settings() if knob in setting.knob_labels]

    sections = {
        "data sets": {name: entry.note for name, entry in registry.DATASETS.items()},
        "models": families.families(),
        "knobs": {
            name: " or ".join([knob.label, *labels_elsewhere(name)]) + f"; {knob.hotter} = hotter"
            for name, knob in KNOBS.items()
        },
        "loads": {name: load.label for name, load in LOADS.items()},
        "criteria": {name: criterion.description for name, criterion in CRITERIA.items()},
        "measures": {name: measure.description for name, measure in MEASURES.items()},
        "optimisers": {name: (update.__doc__ or "").split(",")[0] for name, update in UPDATES.items()},
    }
    if as_json:
        echo_json({title.replace(" ", "_"): dict(entries) for title, entries in sections.items()})
        return
    for title, entries in sections.items():
        click.echo(f"{title}:")
        for name, note in entries.items():
            click.echo(f"  {name:<18} {note}")


@click.command()
def schema() -> None:
    """Print the JSON schema of the configuration (kept in schemas/config.schema.json)."""
    from three_regime.config import schema_text

    click.echo(schema_text(), nl=False)


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def workflow(arguments: tuple[str, ...]) -> None:
    """Run Snakemake with ARGUMENTS: targets and options of Snakemake (`snakemake --help` lists them).

    First removes the stale lock of a killed run, adopts copied results, and asks before more than 10 hours of work;
    shows progress while it runs. Example: workflow dense --configfile config/figure2.yaml
    """
    from three_regime.workflow.command import exec_snakemake

    exec_snakemake(arguments)


@click.command("run-stage")
@click.argument(
    "stage", type=click.Choice(["prepare", "dense", "prune", "retrain", "lmc", "cka", "measures", "discard", "tables"])
)
@click.option("--study", "name", help="Study; default: the only one in the configuration's `run`.")
@configured
@click.option("--seed", "seeds", multiple=True, type=int, help="Dense seed; default: all.")
@click.option("--temperature", "temperatures", multiple=True, type=float, help="Value of the knob; default: all.")
def run_stage(
    stage: str,
    name: str | None,
    configfiles: list[Path],
    seeds: tuple[int, ...],
    temperatures: tuple[float, ...],
) -> None:
    """Run STAGE of a study without Snakemake; keep finished results and resume interrupted ones."""
    from three_regime.jobs.without_snakemake import run_stage as run

    if stage in ("prepare", "tables") and (seeds or temperatures):
        raise click.UsageError(f"{stage} serves the whole study: leave out --seed and --temperature.")
    run(stage, configfiles, name, seeds, temperatures)


@click.command()
@click.argument("targets", nargs=-1)
@configured
@click.option("--device", default="auto", show_default=True, help="Rates to use: auto, cuda, cpu, or part of a name.")
@click.option("--rates", "folder", type=FOLDER, help="Folder of measured rates.  [default: benchmarks/rates]")
@AS_JSON
def plan(targets: tuple[str, ...], configfiles: list[Path], device: str, folder: Path | None, as_json: bool) -> None:
    """Print the cost of TARGETS without running anything: jobs, members, hours, disk and the longest chain.

    A target is data, dense, pruned, retrained, landscape, lmc, cka, measures, tables, figures, explorer, report or all;
    a study's name; or <target>:<study>. Default: everything in the configuration's `run`.
    """
    from three_regime.config import load
    from three_regime.planning.plan import make
    from three_regime.planning.plan_table import render, with_totals
    from three_regime.planning.pricing import RATES, read_rates

    found = make(load(configfiles), targets, read_rates(folder or RATES, device))
    echo_json(with_totals(found)) if as_json else click.echo(render(found), nl=False)


@click.command()
@BASE
@click.option("--device", default="auto", show_default=True, help="Rates to use: auto, cuda, cpu, or part of a name.")
def presets(base: Path | None, device: str) -> None:
    """List the presets in config/ with a description and their remaining cost in hours and disk."""
    from three_regime.planning.presets import listing
    from three_regime.planning.pricing import RATES, read_rates
    from three_regime.workflow.arguments import base_file

    base = base or base_file()
    overlays = [None, *sorted((base.parent / "config").glob("*.yaml"))]
    click.echo(listing(base, overlays, read_rates(RATES, device)), nl=False)


@click.command()
@click.argument("target", required=False)
@configured
@AS_JSON
def explain(target: str | None, configfiles: list[Path], as_json: bool) -> None:
    """Explain why TARGET would be computed: changed settings (old and new value), missing or damaged files.

    TARGET is any file of the studies, or a target of `plan` (dense, tables, report, a study, ...); default: everything.
    For tables, figures and the report, the results behind them are explained; for the reasons of their own rules, use
    `snakemake --dry-run`.
    """
    from three_regime.config import load
    from three_regime.planning import explain as explaining

    config = load(configfiles)
    findings = explaining.explain(config, target)
    unprepared = explaining.unprepared(config, target)
    if as_json:
        echo_json({"unprepared": unprepared, "findings": findings})
    else:
        click.echo(explaining.render(findings, unprepared), nl=False)


@click.command()
@configured
@click.option("--watch", type=click.FloatRange(min=0.5), metavar="SECONDS", help="Refresh every SECONDS until Ctrl-C.")
@AS_JSON
def status(configfiles: list[Path], watch: float | None, as_json: bool) -> None:
    """Show the running jobs with their epochs, the finished part of each stage, and whether tables are up to date."""
    from three_regime.config import load
    from three_regime.planning import status as looking

    if as_json and watch is not None:
        raise click.UsageError("Give either --json, which prints once, or --watch.")
    config = load(configfiles)
    if as_json:
        echo_json(looking.look(config))
        return
    with contextlib.suppress(KeyboardInterrupt):  # how --watch ends
        while True:
            text = looking.render(looking.look(config))
            if watch is not None:
                click.clear()
            click.echo(text, nl=False)
            if watch is None:
                return
            time.sleep(watch)


COMMANDS = (list_registered, schema, workflow, run_stage, plan, presets, explain, status)
