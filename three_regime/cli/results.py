"""Commands on results: import, check, share and score them."""

from __future__ import annotations

from pathlib import Path

import click

from three_regime.cli.options import FILE, FOLDER, PATH, configured, plugin_option
from three_regime.errors import UserError

AGENT = click.option(
    "--agent", default="", help="Who ran the studies, for the description: a name, or a URL such as an ORCID."
)
PLUGINS = plugin_option("Plugin to run, as under `plugins`, if the settings of a folder name it and you trust it")


@click.command()
@click.argument("cells", required=False, type=PATH)
@click.option("--study", default="", help="Study of CELLS to score; default: the one with the reference's name.")
@click.option("--knob", default="", help="Knob of the temperatures in a CSV of your own; default: the reference's.")
@click.option(
    "--against",
    type=FOLDER,
    help="Score against an export or results folder instead of the published Figure 2; of several studies, the one "
    "called --study, or the only one with --knob.",
)
@click.option("--template", type=FILE, help="Write an empty CSV with the reference's cells, for CELLS, and stop.")
@click.option("--out", type=FILE, help="Write the Markdown to this file instead of the terminal.")
@PLUGINS
def scorecard(
    cells: Path | None,
    study: str,
    knob: str,
    against: Path | None,
    template: Path | None,
    out: Path | None,
    named: tuple[str, ...],
) -> None:
    """Score CELLS against the published Figure 2, or another reference.

    CELLS is a results folder, another lab's unpacked export, or a CSV of cells that were measured with other code:
    --template writes one to fill in. Plugins that the config.yaml of a folder names are not run: name those you trust.
    """
    from three_regime.analysis import own_cells, references
    from three_regime.analysis.scorecard import of_export
    from three_regime.analysis.scorecard_files import to_markdown
    from three_regime.config import plugins
    from three_regime.study.damage import refuse_to_replace
    from three_regime.system.files import write_csv, write_text

    if (cells is None) == (template is None):
        raise click.UsageError("Give either CELLS to score, or --template FILE.")
    if template is not None and out is not None:
        raise click.UsageError("--out is for the scorecard of CELLS; --template names its file itself.")
    chooses = against is not None or (cells is not None and (not cells.exists() or own_cells.is_own(cells)))
    if knob and not chooses:
        raise click.UsageError("--knob is for a CSV of your own, or for --against: a folder's tables name their knobs.")
    if study and template is not None and against is None:
        raise click.UsageError("--study is for CELLS, or for --against.")
    plugins.load(named)
    reference = references.of_export(against, study=study, knob=knob) if against else references.published()
    if template is not None:
        if template.exists():
            raise UserError(f"{template} exists already; choose another name for the template")
        write_csv(template, own_cells.template(reference))
        click.echo(template)
        return
    if out is not None:
        refuse_to_replace(out, cells, *cells.glob("*.*"), *cells.glob("*/*.csv"))
    text = to_markdown(of_export(cells, reference=reference, study=study, knob=knob))
    if out is None:
        click.echo(text, nl=False)
        return
    write_text(out, text)
    click.echo(out)


@click.command("import")
@click.argument("source", type=PATH)
@configured
@click.option("--study", "name", required=True, help="Study that the checkpoint or the records belong to.")
@click.option("--seed", type=int, help="Dense seed of a checkpoint.")
@click.option("--temperature", type=float, help="Value of the knob of a checkpoint.")
@click.option("--density", type=float, help="Density, for a pruned or retrained checkpoint.")
@click.option("--replica", type=int, help="Replica, for a retrained checkpoint.")
def import_(
    source: Path,
    configfiles: list[Path],
    name: str,
    seed: int | None,
    temperature: float | None,
    density: float | None,
    replica: int | None,
) -> None:
    """Import SOURCE as results: a checkpoint trained elsewhere, or a folder of the authors' records.

    What is upstream of a checkpoint is then not computed. Without --density it is a dense checkpoint, with --density a
    pruned one, and with --replica as well a retrained one.

    In a folder, logs, lines (curve_points_11.npz) and CKA arrays are identified by their paths, which also give seed,
    temperature, density and replicas. Records contain no networks: use `run-stage tables` to see them; the workflow
    would train the networks again.
    """
    from three_regime.config import load
    from three_regime.exchange.importing import import_checkpoint
    from three_regime.exchange.records import STAGES, import_records

    place = {"seed": seed, "temperature": temperature, "density": density, "replica": replica}
    if source.is_dir():
        if given := [f"--{option}" for option, value in place.items() if value is not None]:
            raise click.UsageError(f"{', '.join(given)}: only for a checkpoint; in a folder the paths give them")
        found = import_records(load(configfiles), source, name)
        for stage in STAGES:
            click.echo(f"{stage}: {found.imported[stage]} imported, {found.kept[stage]} kept")
        click.echo(f"{found.ignored} records of other studies or places ignored")
        return
    if not source.exists():
        raise click.BadParameter(f"'{source}' does not exist", param_hint="SOURCE")
    if seed is None or temperature is None:
        raise click.UsageError("a checkpoint needs --seed and --temperature")
    for path in import_checkpoint(
        load(configfiles), source, name, seed=seed, temperature=temperature, density=density, replica=replica
    ):
        click.echo(path)


@click.command()
@configured
@click.option("--dry-run", "-n", is_flag=True, help="Report which results are valid; change nothing.")
def adopt(configfiles: list[Path], dry_run: bool) -> None:
    """Adopt results copied from another machine: keep those with matching fingerprints; the rest will be computed."""
    from three_regime.config import load
    from three_regime.workflow import adopting

    found = adopting.adopt(load(configfiles), configfiles, dry_run=dry_run)
    click.echo(adopting.render(found, dry_run=dry_run), nl=False)


@click.command()
@click.argument("targets", nargs=-1, required=True, type=PATH)
@configured
@click.option("--dry-run", "-n", is_flag=True, help="List the results that would be set aside; change nothing.")
def recompute(targets: tuple[Path, ...], configfiles: list[Path], dry_run: bool) -> None:
    """Set the results at TARGETS (files or folders) aside, so the next run computes them again.

    Downstream results are computed again only if the new ones differ.
    """
    from three_regime.config import load
    from three_regime.workflow import recomputing

    found = recomputing.set_aside(load(configfiles), targets, dry_run=dry_run)
    click.echo(recomputing.render(found, dry_run=dry_run), nl=False)


@click.command()
@configured
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def verify(configfiles: list[Path], as_json: bool) -> None:
    """Check every result, table and data file against its digests and settings; exit code 1 on any problem."""
    import json
    from dataclasses import asdict

    from three_regime.config import load
    from three_regime.workflow import verifying

    found = verifying.verify(load(configfiles))
    click.echo(json.dumps(asdict(found), indent=1) + "\n" if as_json else verifying.render(found), nl=False)
    if found.problems:
        raise click.exceptions.Exit(1)


@click.command()
@configured
@click.option("--out", required=True, type=PATH, help="New folder, or a new .zip file.")
@click.option("--weights", is_flag=True, help="Include the dense and retrained networks, so others can measure them.")
@click.option("--tensorboard", is_flag=True, help="Include the training curves as TensorBoard event files.")
@AGENT
def export(configfiles: list[Path], out: Path, weights: bool, tensorboard: bool, agent: str) -> None:
    """Pack tables, figures, settings and provenance for sharing, described as an RO-Crate."""
    from three_regime.config import load
    from three_regime.exchange.export import export as pack

    click.echo(pack(load(configfiles), out, weights=weights, tensorboard=tensorboard, agent=agent))


@click.command()
@click.argument("folder", type=FOLDER)
@AGENT
@PLUGINS
def describe(folder: Path, agent: str, named: tuple[str, ...]) -> None:
    """Add ro-crate-metadata.json to FOLDER, an unpacked export that was made before exports had one."""
    from three_regime.config import plugins
    from three_regime.exchange import research_object

    plugins.load(named)
    click.echo(research_object.describe(folder, agent))


@click.command()
@click.argument("folder", type=FOLDER)
@click.option(
    "--data",
    required=True,
    type=FOLDER,
    help="Folder of the raw images (cifar-10-batches-py in it), or of the prepared corpus.",
)
@click.option("--out", required=True, type=FOLDER, help="Folder for the results; an interrupted run resumes from it.")
@click.option(
    "--train-images",
    type=click.IntRange(2),
    help="First N training images, or N training pairs spread over the corpus; default: the study's.",
)
@click.option(
    "--test-images", type=click.IntRange(1), help="First N test images, or validation pairs; default: the study's."
)
@PLUGINS
def remeasure(
    folder: Path, data: Path, out: Path, train_images: int | None, test_images: int | None, named: tuple[str, ...]
) -> None:
    """Recompute LMC and CKA from the networks in FOLDER, an unpacked export with weights."""
    from three_regime.config import plugins
    from three_regime.exchange.remeasure import TABLE
    from three_regime.exchange.remeasure import remeasure as measure_again

    plugins.load(named)
    table = measure_again(folder, data, out, train_images=train_images, test_images=test_images)
    click.echo(table.to_string(index=False))
    click.echo(out / TABLE)


@click.command()
@click.argument("folder", type=FOLDER)
@click.option("--out", required=True, type=FOLDER, help="New folder.")
@PLUGINS
def redraw(folder: Path, out: Path, named: tuple[str, ...]) -> None:
    """Rebuild regimes, claims, scorecard, figures and explorer from FOLDER, an unpacked export; needs no torch.

    It takes a minute or two.
    """
    from three_regime.config import plugins
    from three_regime.exchange.redraw import redraw as make_again

    plugins.load(named)
    click.echo(make_again(folder, out))


COMMANDS = (scorecard, import_, adopt, recompute, verify, export, describe, remeasure, redraw)
