"""Command line: plan, run and check studies without Snakemake, and measure single checkpoints."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from three_regime import __version__
from three_regime.logs import reporting
from three_regime.system.places import expanded


class UserPath(click.Path):
    """A path that expands `~` even where the shell does not, as in ``--out=~/x``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        return super().convert(expanded(value), param, ctx)


FILE = UserPath(path_type=Path, dir_okay=False)
FOLDER = UserPath(path_type=Path, file_okay=False)
PATH = UserPath(path_type=Path)


def configured(command: Callable[..., None]) -> Callable[..., None]:
    """Add ``--configfile`` and ``--base``; the command receives `configfiles`, the base first, then the overlays."""

    @click.option(
        "--configfile", "overlays", multiple=True, type=FILE, help="Overlay on the base; repeatable, later ones win."
    )
    @click.option("--base", type=FILE, default=Path("config.yaml"), show_default=True, help="The base configuration.")
    @functools.wraps(command)
    def with_files(overlays: tuple[Path, ...], base: Path, **options: object) -> None:
        command(configfiles=[base, *overlays], **options)

    return with_files


AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


def echo_json(value: Any) -> None:
    """Print value objects as JSON: paths and enumerations as strings, non-finite numbers as null."""
    from pydantic import TypeAdapter

    click.echo(TypeAdapter(Any).dump_json(value, indent=1, fallback=str))


class Commands(click.Group):
    """A command group that reports errors the user can fix as one sentence and an exit code."""

    def invoke(self, ctx: click.Context) -> object:
        with reporting():
            try:
                return super().invoke(ctx)
            except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError) as ended:
                clicks_own = ended
        # Help or a usage error, which click prints itself, or a closed pipe (`| head`), which ends quietly.
        raise clicks_own


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="three_regime")
def main() -> None:
    """Reproduction of "A Three-regime Model of Network Pruning" (ICML 2023)."""


@main.command("list")
@AS_JSON
def list_registered(as_json: bool) -> None:
    """List the registered data sets, models, knobs and optimisers."""
    from three_regime.config.knobs import KNOBS
    from three_regime.datasets import registry
    from three_regime.models import families
    from three_regime.settings import all_settings
    from three_regime.training.optimisers import UPDATES

    def labels_elsewhere(knob: str) -> list[str]:
        return [setting.knob_labels[knob] for setting in all_settings() if knob in setting.knob_labels]

    sections = {
        "data sets": {name: entry.note for name, entry in registry.DATASETS.items()},
        "models": families.families(),
        "knobs": {
            name: " or ".join([knob.label, *labels_elsewhere(name)]) + f"; {knob.hotter} = hotter"
            for name, knob in KNOBS.items()
        },
        "optimisers": {name: (update.__doc__ or "").split(",")[0] for name, update in UPDATES.items()},
    }
    if as_json:
        echo_json({title.replace(" ", "_"): dict(entries) for title, entries in sections.items()})
        return
    for title, entries in sections.items():
        click.echo(f"{title}:")
        for name, note in entries.items():
            click.echo(f"  {name:<14} {note}")


@main.command()
def schema() -> None:
    """Print the JSON schema of the configuration (kept in schemas/config.schema.json)."""
    from three_regime.config import schema_text

    click.echo(schema_text(), nl=False)


@main.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def workflow(arguments: tuple[str, ...]) -> None:
    """Run Snakemake with ARGUMENTS, after removing the stale lock of a killed run."""
    from three_regime.workflow.command import exec_snakemake

    exec_snakemake(arguments)


@main.command("run-stage")
@click.argument("stage", type=click.Choice(["prepare", "dense", "prune", "retrain", "lmc", "cka", "discard", "tables"]))
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

    run(stage, configfiles, name, seeds, temperatures)


@main.command()
@click.argument("targets", nargs=-1)
@configured
@click.option("--device", default="auto", show_default=True, help="Rates to use: auto, cuda, cpu, or part of a name.")
@click.option("--rates", "folder", type=FOLDER, help="Folder of measured rates.  [default: benchmarks/rates]")
@AS_JSON
def plan(targets: tuple[str, ...], configfiles: list[Path], device: str, folder: Path | None, as_json: bool) -> None:
    """Print the cost of TARGETS without running anything: jobs, members, hours, disk and the longest chain.

    A target is data, dense, pruned, retrained, landscape, lmc, cka, tables, figures or report; a study's name; or
    <target>:<study>. Default: everything in the configuration's `run`.
    """
    from three_regime.config import load
    from three_regime.planning.plan import make
    from three_regime.planning.plan_table import render
    from three_regime.planning.pricing import RATES, read_rates

    found = make(load(configfiles), targets, read_rates(folder or RATES, device))
    echo_json(found) if as_json else click.echo(render(found), nl=False)


@main.command()
@click.option("--base", type=FILE, default=Path("config.yaml"), show_default=True, help="The base configuration.")
@click.option("--device", default="auto", show_default=True, help="Rates to use: auto, cuda, cpu, or part of a name.")
def presets(base: Path, device: str) -> None:
    """List the presets in config/ with a description and their remaining cost in hours and disk."""
    from three_regime.planning.presets import listing
    from three_regime.planning.pricing import RATES, read_rates

    overlays = [None, *sorted((base.parent / "config").glob("*.yaml"))]
    click.echo(listing(base, overlays, read_rates(RATES, device)), nl=False)


@main.command()
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


@main.command()
@click.argument("folder", type=FOLDER)
@click.option("--out", type=FILE, help="Write the Markdown to this file instead of the terminal.")
def scorecard(folder: Path, out: Path | None) -> None:
    """Score the cells in FOLDER (results, or another lab's unpacked export) against the published Figure 2."""
    from three_regime.analysis.scorecard import of_export
    from three_regime.analysis.scorecard_files import to_markdown
    from three_regime.study.damage import refuse_to_replace
    from three_regime.system.files import write_text

    if out is not None:
        refuse_to_replace(out, *folder.glob("*.*"), *folder.glob("*/*.csv"))
    text = to_markdown(of_export(folder))
    click.echo(text, nl=False) if out is None else write_text(out, text)


@main.command()
@configured
@click.option("--watch", type=click.FloatRange(min=0.5), metavar="SECONDS", help="Refresh every SECONDS until Ctrl-C.")
@AS_JSON
def status(configfiles: list[Path], watch: float | None, as_json: bool) -> None:
    """Show the running jobs with their epochs, and the finished fraction of each stage."""
    from three_regime.config import load
    from three_regime.planning import status as looking

    config = load(configfiles)
    if as_json:
        echo_json(looking.look(config))
        return
    while True:
        text = looking.render(looking.look(config))
        if watch is not None:
            click.clear()
        click.echo(text, nl=False)
        if watch is None:
            return
        time.sleep(watch)


@main.command("import")
@click.argument("checkpoint", type=FILE)
@configured
@click.option("--study", "name", required=True, help="Study that the checkpoint belongs to.")
@click.option("--seed", required=True, type=int, help="Dense seed.")
@click.option("--temperature", required=True, type=float, help="Value of the knob.")
@click.option("--density", type=float, help="Density, for a pruned or retrained checkpoint.")
@click.option("--replica", type=int, help="Replica, for a retrained checkpoint.")
def import_(
    checkpoint: Path,
    configfiles: list[Path],
    name: str,
    seed: int,
    temperature: float,
    density: float | None,
    replica: int | None,
) -> None:
    """Import CHECKPOINT, trained elsewhere, as a result; its upstream stages are then not computed.

    Without --density it is a dense checkpoint, with --density a pruned one, and with --replica as well a retrained one.
    """
    from three_regime.config import load
    from three_regime.exchange.importing import import_checkpoint

    place = {"seed": seed, "temperature": temperature, "density": density, "replica": replica}
    for path in import_checkpoint(load(configfiles), checkpoint, name, **place):
        click.echo(path)


@main.command()
@configured
@click.option("--dry-run", "-n", is_flag=True, help="Report which results are valid; change nothing.")
def adopt(configfiles: list[Path], dry_run: bool) -> None:
    """Adopt results copied from another machine: keep those with matching fingerprints; the rest will be computed."""
    from three_regime.config import load
    from three_regime.workflow import adopting

    found = adopting.adopt(load(configfiles), configfiles, dry_run=dry_run)
    click.echo(adopting.render(found, dry_run=dry_run), nl=False)


@main.command()
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


@main.command()
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


@main.command()
@configured
@click.option("--out", required=True, type=PATH, help="New folder, or a new .zip file.")
@click.option("--weights", is_flag=True, help="Include the dense and retrained networks, so others can measure them.")
def export(configfiles: list[Path], out: Path, weights: bool) -> None:
    """Pack tables, figures, settings and provenance for sharing."""
    from three_regime.config import load
    from three_regime.exchange.export import export as pack

    click.echo(pack(load(configfiles), out, weights=weights))


@main.command()
@click.argument("folder", type=FOLDER)
@click.option(
    "--data",
    required=True,
    type=FOLDER,
    help="Folder of the raw images (cifar-10-batches-py in it), or of the prepared corpus.",
)
@click.option("--out", required=True, type=FOLDER, help="Folder for the results; an interrupted run resumes from it.")
@click.option("--train-images", type=click.IntRange(2), help="First N training images; default: the study's.")
@click.option("--test-images", type=click.IntRange(1), help="First N test images; default: the study's.")
def remeasure(folder: Path, data: Path, out: Path, train_images: int | None, test_images: int | None) -> None:
    """Recompute LMC and CKA from the networks in FOLDER, an unpacked export with weights."""
    from three_regime.exchange.remeasure import TABLE
    from three_regime.exchange.remeasure import remeasure as measure_again

    table = measure_again(folder, data, out, train_images=train_images, test_images=test_images)
    click.echo(table.to_string(index=False))
    click.echo(out / TABLE)


@main.command()
@click.argument("folder", type=FOLDER)
@click.option("--out", required=True, type=FOLDER, help="New folder.")
def redraw(folder: Path, out: Path) -> None:
    """Rebuild regimes, claims, scorecard and figures from the tables of FOLDER, an unpacked export; needs no torch."""
    from three_regime.exchange.redraw import redraw as make_again

    click.echo(make_again(folder, out))


@main.command()
@click.argument("checkpoint", type=FILE)
@click.option("--model", required=True, help="Model name, e.g. preresnet-20.")
@click.option("--density", required=True, type=float, help="Fraction of the prunable weights kept, (0, 1].")
@click.option("--allocation", type=click.Choice(["uniform", "global"]), default="uniform", show_default=True)
@click.option("--out", required=True, type=FILE, help="Pruned weights and masks (safetensors).")
def prune(checkpoint: Path, model: str, density: float, allocation: str, out: Path) -> None:
    """Prune CHECKPOINT by one-shot magnitude pruning."""
    from three_regime.exchange.single_checkpoints import prune_file
    from three_regime.study.damage import refuse_to_replace

    refuse_to_replace(out, checkpoint)
    counts = prune_file(checkpoint, model, density, allocation, out)
    click.echo(f"{out}: kept {counts['kept']:,} of {counts['total']:,} prunable weights")


@main.command()
@click.argument("checkpoint", type=FILE)
@click.option("--out", required=True, type=FILE, help="Dense weights, and masks under mask:<name> (safetensors).")
def unpack(checkpoint: Path, out: Path) -> None:
    """Convert CHECKPOINT, a result in sparse encoding, to plain safetensors that any program can read."""
    from three_regime.study.damage import refuse_to_replace
    from three_regime.system.files import read_arrays, write_arrays

    refuse_to_replace(out, checkpoint)
    write_arrays(out, read_arrays(checkpoint), {"source": str(checkpoint)})
    click.echo(out)


def _two_checkpoints(command: click.Command) -> click.Command:
    for option in (
        click.option("--out", required=True, type=FILE, help="Result (JSON)."),
        click.option(
            "--data",
            required=True,
            type=FOLDER,
            help="Folder of the raw images (cifar-10-batches-py in it), or of the prepared corpus.",
        ),
        click.option("--dataset", required=True, help="Data set name."),
        click.option("--model", required=True, help="Model name, e.g. preresnet-20."),
        click.argument("second", type=FILE),
        click.argument("first", type=FILE),
    ):
        command = option(command)
    return command


@main.command()
@_two_checkpoints
@click.option("--train-images", type=click.IntRange(1), help="N training images (the first) or pairs (spread over the corpus); default: all.")  # fmt: skip  # noqa: E501
@click.option("--test-images", type=click.IntRange(1), help="First N test images, or validation pairs; default: all.")
@click.option(
    "--batch-size", type=click.IntRange(1), default=64, show_default=True, help="For BatchNorm re-estimation."
)
@click.option("--points", type=click.IntRange(3), default=11, show_default=True, help="Points on the line.")
def lmc(
    first: Path,
    second: Path,
    model: str,
    dataset: str,
    data: Path,
    out: Path,
    train_images: int | None,
    test_images: int | None,
    batch_size: int,
    points: int,
) -> None:
    """Measure the linear mode connectivity of FIRST and SECOND: the error along the line between them."""
    from three_regime.exchange.single_checkpoints import lmc_of_files
    from three_regime.study.damage import refuse_to_replace

    refuse_to_replace(out, first, second)
    result = lmc_of_files(
        first, second, model, dataset, data, out,
        train_images=train_images, test_images=test_images, batch_size=batch_size, points=points,
    )  # fmt: skip
    click.echo(f"{out}: LMC {result['lmc']:+.4f}")


@main.command()
@_two_checkpoints
@click.option("--images", type=click.IntRange(2), help="First N training images (6464), or target tokens (2048).")
def cka(first: Path, second: Path, model: str, dataset: str, data: Path, out: Path, images: int | None) -> None:
    """Measure the linear CKA between the outputs of FIRST and SECOND."""
    from three_regime.exchange.single_checkpoints import cka_of_files
    from three_regime.study.damage import refuse_to_replace

    refuse_to_replace(out, first, second)
    result = cka_of_files(first, second, model, dataset, data, out, images=images)
    click.echo(f"{out}: CKA {result['logits']:.5f} (logits), {result['softmax']:.5f} (softmax)")


@main.command()
@click.argument("checkpoint", type=FILE)
@click.option("--source", required=True, type=FILE, help="Text to translate, one sentence per line, UTF-8.")
@click.option("--out", required=True, type=FILE, help="Translations, one per line.")
@click.option(
    "--data", type=FOLDER, default=Path("data"), show_default=True, help="Prepared corpus, or a folder of them."
)
@click.option("--model", help="Model name; default: from the checkpoint's JSON result.")
@click.option("--beam", type=click.IntRange(1), default=4, show_default=True, help="Beam size; 1 = greedy.")
@click.option("--length-penalty", type=click.FloatRange(0), default=0.6, show_default=True)
def translate(
    checkpoint: Path, source: Path, out: Path, data: Path, model: str | None, beam: int, length_penalty: float
) -> None:
    """Translate a file with CHECKPOINT: a dense, pruned or retrained network of a translation study."""
    from three_regime.exchange.single_translations import translate_file
    from three_regime.study.damage import refuse_to_replace
    from three_regime.tasks.translation.beam_search import Search

    refuse_to_replace(out, checkpoint, source)
    count = translate_file(checkpoint, source, out, model=model, data=data, search=Search(beam, length_penalty))
    click.echo(f"{out}: {count:,} sentences")


@main.command()
@click.option("--hyp", required=True, type=FILE, help="Detokenised translations, one per line.")
@click.option("--ref", required=True, type=FILE, help="Reference translations, one per line.")
def bleu(hyp: Path, ref: Path) -> None:
    """Score translations: BLEU and chrF of sacrebleu, with their signatures."""
    from three_regime.tasks.translation.bleu import scores_of_files

    score = scores_of_files(hyp, ref)
    click.echo(f"BLEU {score['bleu']:.2f} ({score['sentences']:,} sentences) {score['signature']}")
    click.echo(f"chrF {score['chrf']:.2f} ({score['sentences']:,} sentences) {score['chrf_signature']}")


@main.command()
@click.argument("first", type=FILE)
@click.argument("second", type=FILE)
@click.option("--split", type=click.Choice(["validation", "test"]), default="test", show_default=True)
@click.option(
    "--data", type=FOLDER, default=Path("data"), show_default=True, help="Prepared corpus, or a folder of them."
)
def bootstrap(first: Path, second: Path, split: str, data: Path) -> None:
    """Test whether the saved translations of FIRST and SECOND differ: paired bootstrap of BLEU and chrF.

    FIRST and SECOND are checkpoints of translation studies or their JSON results; nothing is decoded again.
    """
    from three_regime.exchange.single_translations import bootstrap_of_results

    for name, found in bootstrap_of_results(first, second, split, data).items():
        scores = f"{found['first']:.2f} against {found['second']:.2f}"
        click.echo(f"{name} {scores}, p = {found['p_value']:.3f} {found['signature']}")
