"""Command line: run the benchmarks, print a table, write JSON."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

ITEMS = (
    "training", "demo-training", "lmc", "cka", "planning", "planning-paper", "packs", "sparse", "rates", "fairseq",
)  # fmt: skip


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--quick", is_flag=True, help="Tiny sizes, to check that everything runs; timings are meaningless.")
@click.option("--item", "items", multiple=True, type=click.Choice(ITEMS), help="Only this item; repeatable; default: all.")  # fmt: skip  # noqa: E501
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True, help="CPU threads of both sides.")
@click.option("--pairs", type=click.IntRange(1), default=5, show_default=True, help="Interleaved pairs per item.")
@click.option("--patience", type=click.IntRange(0), default=30, show_default=True, help="Maximum seconds to wait before each pair for other processes to be idle.")  # fmt: skip  # noqa: E501
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Default: benchmarks/results/<machine>.json; none for --quick.")  # fmt: skip  # noqa: E501
@click.option("--densities", default="", help="Densities of item sparse, e.g. 0.05,0.1; default: the paper's range.")
def main(
    quick: bool,
    items: tuple[str, ...],
    device: str,
    threads: int,
    pairs: int,
    patience: int,
    out: Path | None,
    densities: str,
) -> None:
    """Time the pipeline against a conventional implementation in interleaved pairs, and measure rates for `plan`.

    A complete run also writes benchmarks/rates/<machine>.json.
    """
    from benchmarks.suite import Plan, run
    from three_regime.logs import reporting

    command = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])
    with reporting():
        few, patient = (1, 0) if quick else (pairs, patience)
        chosen = tuple(float(density) for density in densities.split(",") if density)
        run(Plan(items or ITEMS, quick, device, threads, few, patient, chosen), out, command)


if __name__ == "__main__":
    main()
