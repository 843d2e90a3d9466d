"""Command line: plan, run and check studies without Snakemake, and measure single checkpoints.

Belongs here: arguments, help texts and printing, in `runs` (before and during a run), `results` (existing results) and
`checkpoints` (single files). Not here: what the commands do; each calls a function of another package.
"""

from __future__ import annotations

import click

from three_regime import __version__
from three_regime.cli import checkpoints, results, runs
from three_regime.logs import reporting
from three_regime.system.interruption import signals_raise
from three_regime.system.openmp import spin_briefly


class Commands(click.Group):
    """A command group that reports errors the user can fix as one sentence and an exit code."""

    def invoke(self, ctx: click.Context) -> object:
        with reporting(), signals_raise():
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
    spin_briefly()


for _command in (*runs.COMMANDS, *results.COMMANDS, *checkpoints.COMMANDS):
    main.add_command(_command)
