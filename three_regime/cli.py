"""The command line: any stage without Snakemake, and single checkpoints by hand."""

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
    """A path in which `~` is the home folder also where no shell has replaced it, as in ``--out=~/x``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        return super().convert(expanded(value), param, ctx)


FILE = UserPath(path_type=Path, dir_okay=False)
FOLDER = UserPath(path_type=Path, file_okay=False)
PATH = UserPath(path_type=Path)


def configured(command: Callable[..., None]) -> Callable[..., None]:
    """Add ``--configfile`` and ``--base``; the command gets `configfiles`, the files in the order of laying over."""

    @click.option("--configfile", "overlays", multiple=True, type=FILE, help="Laid over the base, in order.")
    @click.option("--base", type=FILE, default=Path("config.yaml"), show_default=True, help="The base configuration.")
    @functools.wraps(command)
    def with_files(overlays: tuple[Path, ...], base: Path, **options: object) -> None:
        command(configfiles=[base, *overlays], **options)

    return with_files


AS_JSON = click.option("--json", "as_json", is_flag=True, help="JSON for programs instead of text.")


def echo_json(value: Any) -> None:
    """Print value objects as JSON: paths and enumerations as text, a number that is not finite as null."""
    from pydantic import TypeAdapter

    click.echo(TypeAdapter(Any).dump_json(value, indent=1, fallback=str))


class Commands(click.Group):
    """A group whose commands end in one sentence and an exit code when the user can mend the matter."""

    def invoke(self, ctx: click.Context) -> object:
        with reporting():
            try:
                return super().invoke(ctx)
            except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError) as ended:
                clicks_own = ended
        # Help was shown, or an option is wrong: click says so itself. Or nobody reads on (`| head`): it ends quietly.
        raise clicks_own


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="three_regime")
def main() -> None:
    """Reproduction of "A Three-regime Model of Network Pruning" (ICML 2023)."""


@main.command("list")
@AS_JSON
def list_registered(as_json: bool) -> None:
    """Show the registered data sets, models, knobs, optimisers, criteria of pruning and measures."""
    from three_regime.config.knobs import KNOBS
    from three_regime.config.measures import MEASURES
    from three_regime.datasets import registry
    from three_regime.models import families
    from three_regime.pruning.criteria import CRITERIA
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
            click.echo(f"  {name:<14} {note}")


@main.command()
def schema() -> None:
    """Print the JSON schema of the configuration (kept in schemas/config.schema.json)."""
    from three_regime.config import schema_text

    click.echo(schema_text(), nl=False)


@main.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def workflow(arguments: tuple[str, ...]) -> None:
    """Run Snakemake with ARGUMENTS, first removing the lock of a run that was killed."""
    from three_regime.workflow.command import exec_snakemake

    exec_snakemake(arguments)


@main.command("run-stage")
@click.argument(
    "stage", type=click.Choice(["prepare", "dense", "prune", "retrain", "lmc", "cka", "measures", "discard", "tables"])
)
@click.option("--study", "name", help="Study; default: the only one that the configuration runs.")
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
    """Run STAGE of a study without Snakemake; what is done is kept, what was interrupted continues."""
    from three_regime.jobs.without_snakemake import run_stage as run

    run(stage, configfiles, name, seeds, temperatures)


@main.command()
@click.argument("targets", nargs=-1)
@configured
@click.option("--device", default="auto", show_default=True, help="Rates to use: auto, cuda, cpu, or part of a name.")
@click.option("--rates", "folder", type=FOLDER, help="Folder of measured rates.  [default: benchmarks/rates]")
@AS_JSON
def plan(targets: tuple[str, ...], configfiles: list[Path], device: str, folder: Path | None, as_json: bool) -> None:
    """Print what TARGETS need: jobs, members, hours, disk and the longest chain. Nothing is run.

    A target is data, dense, pruned, retrained, landscape, lmc, cka, tables, figures or report; a study's name; or
    <target>:<study>. Default: everything that the configuration runs.
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
    """List the presets in config/, what each is and what of it is still to be computed: hours and disk."""
    from three_regime.planning.presets import listing
    from three_regime.planning.pricing import RATES, read_rates

    overlays = [None, *sorted((base.parent / "config").glob("*.yaml"))]
    click.echo(listing(base, overlays, read_rates(RATES, device)), nl=False)


@main.command()
@click.argument("target", required=False)
@configured
@AS_JSON
def explain(target: str | None, configfiles: list[Path], as_json: bool) -> None:
    """Say why TARGET would be computed: which setting changed from what to what, what is missing or damaged.

    TARGET is any file of the studies, or a target of `plan` (dense, tables, report, a study, ...); default: everything.
    Of tables, figures and the report, the results behind them: why they themselves are made again, `snakemake
    --dry-run` says.
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
@click.option("--watch", type=click.FloatRange(min=0.5), metavar="SECONDS", help="Show it again, until Ctrl-C.")
@AS_JSON
def status(configfiles: list[Path], watch: float | None, as_json: bool) -> None:
    """Show what is running now, epoch by epoch, and how much of each stage is there."""
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
@click.option("--study", "name", required=True, help="Study that it belongs to.")
@click.option("--seed", required=True, type=int, help="Dense seed.")
@click.option("--temperature", required=True, type=float, help="Value of the knob.")
@click.option("--density", type=float, help="Fraction of the prunable weights kept: a pruned checkpoint.")
@click.option("--replica", type=int, help="Replica: a retrained checkpoint.")
def import_(
    checkpoint: Path,
    configfiles: list[Path],
    name: str,
    seed: int,
    temperature: float,
    density: float | None,
    replica: int | None,
) -> None:
    """Bring CHECKPOINT, made elsewhere, in as a result; nothing upstream is computed for it.

    Without --density it is a dense checkpoint, with --density a pruned one, with --replica too a retrained one.
    """
    from three_regime.config import load
    from three_regime.exchange.importing import import_checkpoint

    place = {"seed": seed, "temperature": temperature, "density": density, "replica": replica}
    for path in import_checkpoint(load(configfiles), checkpoint, name, **place):
        click.echo(path)


@main.command()
@configured
@click.option("--dry-run", "-n", is_flag=True, help="Say what is good and what is not; touch nothing.")
def adopt(configfiles: list[Path], dry_run: bool) -> None:
    """Take results copied from another machine: keep what carries the right fingerprint, plan the rest again."""
    from three_regime.config import load
    from three_regime.workflow import adopting

    found = adopting.adopt(load(configfiles), configfiles, dry_run=dry_run)
    click.echo(adopting.render(found, dry_run=dry_run), nl=False)


@main.command()
@click.argument("targets", nargs=-1, required=True, type=PATH)
@configured
@click.option("--dry-run", "-n", is_flag=True, help="Say what would be set aside; touch nothing.")
def recompute(targets: tuple[Path, ...], configfiles: list[Path], dry_run: bool) -> None:
    """Set the results at TARGETS (files, or folders of them) aside, so that the next run computes them anew.

    What is made from them is computed again only where they turn out different.
    """
    from three_regime.config import load
    from three_regime.workflow import recomputing

    found = recomputing.set_aside(load(configfiles), targets, dry_run=dry_run)
    click.echo(recomputing.render(found, dry_run=dry_run), nl=False)


@main.command()
@configured
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")
def verify(configfiles: list[Path], as_json: bool) -> None:
    """Read every result, table and data file against its digests and settings; exit code 1 when one is not right."""
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
@click.option("--out", required=True, type=PATH, help="New folder, or a file that ends in .zip.")
@click.option("--weights", is_flag=True, help="With the dense and retrained networks, so that others can measure them.")
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
@click.option("--out", required=True, type=FOLDER, help="For the results; a call that was stopped continues there.")
@click.option("--train-images", type=click.IntRange(2), help="First N training images; default: the study's.")
@click.option("--test-images", type=click.IntRange(1), help="First N test images; default: the study's.")
def remeasure(folder: Path, data: Path, out: Path, train_images: int | None, test_images: int | None) -> None:
    """Compute LMC and CKA again from the networks in FOLDER, an unpacked export with weights."""
    from three_regime.exchange.remeasure import TABLE
    from three_regime.exchange.remeasure import remeasure as measure_again

    table = measure_again(folder, data, out, train_images=train_images, test_images=test_images)
    click.echo(table.to_string(index=False))
    click.echo(out / TABLE)


@main.command()
@click.argument("folder", type=FOLDER)
@click.option("--out", required=True, type=FOLDER, help="New folder.")
def redraw(folder: Path, out: Path) -> None:
    """Make regimes, claims, scorecard and figures again from the tables of an unpacked export in FOLDER; no torch."""
    from three_regime.exchange.redraw import redraw as make_again

    click.echo(make_again(folder, out))


@main.command()
@click.argument("checkpoint", type=FILE)
@click.option("--model", required=True, help="Model name, e.g. preresnet-20.")
@click.option("--density", required=True, type=float, help="Fraction of the prunable weights kept, (0, 1].")
@click.option("--allocation", type=click.Choice(["uniform", "global", "erk"]), default="uniform", show_default=True)
@click.option("--criterion", type=click.Choice(["magnitude", "random", "lamp"]), default="magnitude", show_default=True)
@click.option("--seed", type=int, default=1, show_default=True, help="Of random masks.")
@click.option("--out", required=True, type=FILE, help="Pruned weights and masks (safetensors).")
def prune(checkpoint: Path, model: str, density: float, allocation: str, criterion: str, seed: int, out: Path) -> None:
    """Prune CHECKPOINT, one-shot."""
    from three_regime.exchange.single_checkpoints import prune_file
    from three_regime.study.damage import refuse_to_replace

    refuse_to_replace(out, checkpoint)
    counts = prune_file(checkpoint, model, density, allocation, out, criterion, seed)
    click.echo(f"{out}: kept {counts['kept']:,} of {counts['total']:,} prunable weights")


@main.command()
@click.argument("checkpoint", type=FILE)
@click.option("--out", required=True, type=FILE, help="Weights, and masks under mask:<name>, in full (safetensors).")
def unpack(checkpoint: Path, out: Path) -> None:
    """Write CHECKPOINT, a result that is stored sparse, so that any program can read it."""
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
@click.option("--train-images", type=click.IntRange(1), help="First N training images, or pairs; default: all.")
@click.option("--test-images", type=click.IntRange(1), help="First N test images, or validation pairs; default: all.")
@click.option("--batch-size", type=click.IntRange(1), default=64, show_default=True, help="Of the re-estimation.")
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
    """Linear mode connectivity of FIRST and SECOND: the error along the line between them."""
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
    """Linear CKA of the outputs of FIRST and SECOND."""
    from three_regime.exchange.single_checkpoints import cka_of_files
    from three_regime.study.damage import refuse_to_replace

    refuse_to_replace(out, first, second)
    result = cka_of_files(first, second, model, dataset, data, out, images=images)
    click.echo(f"{out}: CKA {result['logits']:.5f} (logits), {result['softmax']:.5f} (softmax)")


@main.command()
@click.argument("checkpoint", type=FILE)
@click.option("--source", required=True, type=FILE, help="Text to translate, one sentence a line, UTF-8.")
@click.option("--out", required=True, type=FILE, help="Translations, one a line.")
@click.option(
    "--data", type=FOLDER, default=Path("data"), show_default=True, help="Prepared corpus, or a folder of them."
)
@click.option("--model", help="Model name; default: that of the checkpoint's JSON result.")
@click.option("--beam", type=click.IntRange(1), default=4, show_default=True, help="Beam; 1 is greedy.")
@click.option("--length-penalty", type=click.FloatRange(0), default=0.6, show_default=True)
def translate(
    checkpoint: Path, source: Path, out: Path, data: Path, model: str | None, beam: int, length_penalty: float
) -> None:
    """Translate a file with CHECKPOINT, a dense, pruned or retrained network of a translation study."""
    from three_regime.exchange.single_translations import translate_file
    from three_regime.study.damage import refuse_to_replace
    from three_regime.tasks.translation.beam_search import Search

    refuse_to_replace(out, checkpoint, source)
    count = translate_file(checkpoint, source, out, model=model, data=data, search=Search(beam, length_penalty))
    click.echo(f"{out}: {count:,} sentences")


@main.command()
@click.option("--hyp", required=True, type=FILE, help="Translations, detokenised, one a line.")
@click.option("--ref", required=True, type=FILE, help="Reference translations, one a line.")
def bleu(hyp: Path, ref: Path) -> None:
    """BLEU and chrF of translations by sacrebleu, with their signatures."""
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
    """Whether the kept translations of FIRST and SECOND differ, by a paired bootstrap of BLEU and chrF.

    FIRST and SECOND are checkpoints of translation studies, or their JSON results; nothing is decoded.
    """
    from three_regime.exchange.single_translations import bootstrap_of_results

    for name, found in bootstrap_of_results(first, second, split, data).items():
        scores = f"{found['first']:.2f} against {found['second']:.2f}"
        click.echo(f"{name} {scores}, p = {found['p_value']:.3f} {found['signature']}")
