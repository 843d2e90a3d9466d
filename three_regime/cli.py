"""The command line: any stage without Snakemake, and single checkpoints by hand."""

from __future__ import annotations

from pathlib import Path

import click

from three_regime import __version__
from three_regime.logs import reporting

FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)


class Commands(click.Group):
    """A group whose commands end in one sentence and an exit code when the user can mend the matter."""

    def invoke(self, ctx: click.Context) -> object:
        with reporting():
            return super().invoke(ctx)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="three_regime")
def main() -> None:
    """Reproduction of "A Three-regime Model of Network Pruning" (ICML 2023)."""


@main.command("list")
def list_registered() -> None:
    """Show the registered data sets, models, knobs and optimisers."""
    from three_regime import datasets, models
    from three_regime.knobs import KNOBS
    from three_regime.optimisers import OPTIMISERS

    sections = {
        "data sets": {name: entry.note for name, entry in datasets.DATASETS.items()},
        "models": models.families(),
        "knobs": {name: f"{knob.label}; hotter is {knob.hotter}" for name, knob in KNOBS.items()},
        "optimisers": {name: (entry.update.__doc__ or "").split(",")[0] for name, entry in OPTIMISERS.items()},
    }
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
    from three_regime.workflow import exec_snakemake

    exec_snakemake(arguments)


@main.command("run-stage")
@click.argument("stage", type=click.Choice(["prepare", "dense", "prune", "retrain", "lmc", "cka", "tables"]))
@click.option("--study", "name", help="Study; default: the only one that the configuration runs.")
@click.option("--configfile", multiple=True, type=FILE, help="Laid over config.yaml, in order.")
@click.option("--base", type=FILE, default=Path("config.yaml"), show_default=True, help="The base configuration.")
@click.option("--seed", "seeds", multiple=True, type=int, help="Dense seed; default: all.")
@click.option("--temperature", "temperatures", multiple=True, type=float, help="Value of the knob; default: all.")
def run_stage(
    stage: str,
    name: str | None,
    configfile: tuple[Path, ...],
    base: Path,
    seeds: tuple[int, ...],
    temperatures: tuple[float, ...],
) -> None:
    """Run STAGE of a study without Snakemake; what is done is kept, what was interrupted continues."""
    from three_regime.bare import run_stage as run

    run(stage, [base, *configfile], name, seeds, temperatures)


@main.command()
@click.argument("checkpoint", type=FILE)
@click.option("--model", required=True, help="Model name, e.g. preresnet-20.")
@click.option("--density", required=True, type=float, help="Fraction of the prunable weights kept, (0, 1].")
@click.option("--allocation", type=click.Choice(["uniform", "global"]), default="uniform", show_default=True)
@click.option("--out", required=True, type=FILE, help="Pruned weights and masks (safetensors).")
def prune(checkpoint: Path, model: str, density: float, allocation: str, out: Path) -> None:
    """Prune CHECKPOINT by magnitude, one-shot."""
    from three_regime.by_hand import prune_file

    counts = prune_file(checkpoint, model, density, allocation, out)
    click.echo(f"{out}: kept {counts['kept']:,} of {counts['total']:,} prunable weights")


def _two_checkpoints(command: click.Command) -> click.Command:
    for option in (
        click.option("--out", required=True, type=FILE, help="Result (JSON)."),
        click.option("--data", required=True, type=FOLDER, help="Folder of the raw data (cifar-10-batches-py in it)."),
        click.option("--dataset", required=True, help="Data set name."),
        click.option("--model", required=True, help="Model name, e.g. preresnet-20."),
        click.argument("second", type=FILE),
        click.argument("first", type=FILE),
    ):
        command = option(command)
    return command


@main.command()
@_two_checkpoints
@click.option("--train-images", type=click.IntRange(1), help="First N training images; default: all.")
@click.option("--test-images", type=click.IntRange(1), help="First N test images; default: all.")
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
    from three_regime.by_hand import lmc_of_files

    result = lmc_of_files(
        first, second, model, dataset, data, out,
        train_images=train_images, test_images=test_images, batch_size=batch_size, points=points,
    )  # fmt: skip
    click.echo(f"{out}: LMC {result['lmc']:+.4f}")


@main.command()
@_two_checkpoints
@click.option("--images", type=click.IntRange(2), default=6464, show_default=True, help="First N training images.")
def cka(first: Path, second: Path, model: str, dataset: str, data: Path, out: Path, images: int) -> None:
    """Linear CKA of the outputs of FIRST and SECOND."""
    from three_regime.by_hand import cka_of_files

    result = cka_of_files(first, second, model, dataset, data, out, images=images)
    click.echo(f"{out}: CKA {result['logits']:.5f} (logits), {result['softmax']:.5f} (softmax)")
