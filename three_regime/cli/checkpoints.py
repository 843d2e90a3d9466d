"""Commands on single checkpoints and translations, which need no study."""

from __future__ import annotations

from pathlib import Path

import click

from three_regime.cli.options import FILE, FOLDER, plugin_option

PLUGINS = plugin_option("Plugin that registers the model, data set or criterion, as under `plugins`")


@click.command()
@click.argument("checkpoint", type=FILE)
@click.option("--model", required=True, help="Model name, e.g. preresnet-20.")
@click.option("--density", required=True, type=float, help="Fraction of the prunable weights kept, (0, 1].")
@click.option("--allocation", type=click.Choice(["uniform", "global", "erk"]), default="uniform", show_default=True)
@click.option("--criterion", default="magnitude", show_default=True, help="magnitude, random, lamp, or a plugin's.")
@click.option("--seed", type=int, default=1, show_default=True, help="Seed of random masks.")
@click.option("--out", required=True, type=FILE, help="Pruned weights and masks (safetensors).")
@PLUGINS
def prune(
    checkpoint: Path,
    model: str,
    density: float,
    allocation: str,
    criterion: str,
    seed: int,
    out: Path,
    named: tuple[str, ...],
) -> None:
    """Prune CHECKPOINT in one shot."""
    from three_regime.config import plugins
    from three_regime.exchange.single_checkpoints import prune_file
    from three_regime.study.damage import refuse_to_replace

    plugins.load(named)
    refuse_to_replace(out, checkpoint)
    counts = prune_file(checkpoint, model, density, allocation, out, criterion, seed)
    click.echo(f"{out}: kept {counts['kept']:,} of {counts['total']:,} prunable weights")


@click.command()
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
        PLUGINS,
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


@click.command()
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
    named: tuple[str, ...],
) -> None:
    """Measure the linear mode connectivity of FIRST and SECOND: the error along the line between them."""
    from three_regime.config import plugins
    from three_regime.exchange.single_checkpoints import lmc_of_files
    from three_regime.study.damage import refuse_to_replace

    plugins.load(named)
    refuse_to_replace(out, first, second)
    result = lmc_of_files(
        first, second, model, dataset, data, out,
        train_images=train_images, test_images=test_images, batch_size=batch_size, points=points,
    )  # fmt: skip
    click.echo(f"{out}: LMC {result['lmc']:+.4f}")


@click.command()
@_two_checkpoints
@click.option("--images", type=click.IntRange(2), help="First N training images (6464), or target tokens (2048).")
def cka(
    first: Path,
    second: Path,
    model: str,
    dataset: str,
    data: Path,
    out: Path,
    images: int | None,
    named: tuple[str, ...],
) -> None:
    """Measure the linear CKA between the outputs of FIRST and SECOND."""
    from three_regime.config import plugins
    from three_regime.exchange.single_checkpoints import cka_of_files
    from three_regime.study.damage import refuse_to_replace

    plugins.load(named)
    refuse_to_replace(out, first, second)
    result = cka_of_files(first, second, model, dataset, data, out, images=images)
    click.echo(f"{out}: CKA {result['logits']:.5f} (logits), {result['softmax']:.5f} (softmax)")


@click.command()
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


@click.command()
@click.option("--hyp", required=True, type=FILE, help="Detokenised translations, one per line.")
@click.option("--ref", required=True, type=FILE, help="Reference translations, one per line.")
@click.option("--language", default="en", show_default=True, help="Target language, for the tokeniser of BLEU.")
def bleu(hyp: Path, ref: Path, language: str) -> None:
    """Score translations: BLEU and chrF of sacrebleu, with their signatures."""
    from three_regime.tasks.translation.bleu import scores_of_files

    score = scores_of_files(hyp, ref, language)
    click.echo(f"BLEU {score['bleu']:.2f} ({score['sentences']:,} sentences) {score['signature']}")
    click.echo(f"chrF {score['chrf']:.2f} ({score['sentences']:,} sentences) {score['chrf_signature']}")


@click.command()
@click.argument("result", type=FILE)
@click.option("--split", type=click.Choice(["validation", "test"]), default="test", show_default=True)
@click.option("--out", type=FILE, help="File for the translations instead of the standard output.")
def hypotheses(result: Path, split: str, out: Path | None) -> None:
    """Write the saved translations of RESULT, a checkpoint of a translation study or its JSON result, line by line."""
    from three_regime.study.damage import refuse_to_replace
    from three_regime.system.files import write_text
    from three_regime.tasks.translation.bleu import hypotheses_of

    lines = hypotheses_of(result.with_suffix(".json"), split)
    if out is None:
        click.echo("\n".join(lines))
        return
    refuse_to_replace(out, result, result.with_suffix(".json"))
    write_text(out, "".join(f"{line}\n" for line in lines))
    click.echo(f"{out}: {len(lines):,} sentences")


@click.command()
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


COMMANDS = (prune, unpack, lmc, cka, translate, bleu, hypotheses, bootstrap)
