"""The `workflow` command: start Snakemake, after handling its lock and adopting unrecorded results."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from three_regime.config import load
from three_regime.jobs import kept_copies
from three_regime.study.grid import planned
from three_regime.system import places
from three_regime.workflow import snakemake_lock, starting, terminal
from three_regime.workflow.arguments import check_configfiles, computes, configfiles, joined, located
from three_regime.workflow.running import snakemake_program
from three_regime.workflow.snakemake_records import unrecorded


def exec_snakemake(arguments: Sequence[str]) -> None:
    """Replace this process by Snakemake, after removing a stale lock of a dead run (`snakemake_lock`).

    Raises
    ------
    UserError
        When Snakemake is not installed, a configuration file is missing, or the user declines (`starting.ask`).
    """
    program = snakemake_program()
    arguments = joined(arguments)
    os.environ.update(places.stand_ins())
    check_configfiles(arguments)
    arguments, folder = located(arguments)
    folder.mkdir(parents=True, exist_ok=True)
    here = Path.cwd()
    with contextlib.chdir(folder):  # the folder whose lock and results are checked
        if computes(arguments):
            _settle_lock(program, arguments, here)
        starting.ask(arguments)
        _look_at_results(arguments)
        if computes(arguments):
            snakemake_lock.forget()
            snakemake_lock.note()
    terminal.ask_for(arguments)
    os.execv(program, [program, *arguments])


def _settle_lock(program: str, arguments: Sequence[str], here: Path) -> None:
    """Remove a stale lock; if it may be stale, print how to remove it. `arguments` are relative to `here`."""
    if snakemake_lock.is_left_behind():
        print("removing the stale lock of a killed run", file=sys.stderr)
        # Options come before the arguments, because words after `--` are targets.
        subprocess.run([program, "--quiet", "--unlock", *arguments], cwd=here, check=False)
        return
    unlock = [sys.executable, "-m", "three_regime", "workflow", "--unlock", *arguments]
    if warning := snakemake_lock.in_progress() or snakemake_lock.of_another_machine(unlock):
        print(warning, file=sys.stderr)


def _look_at_results(arguments: Sequence[str]) -> None:
    """Before a real run: check that results are writable, and adopt results without a Snakemake record."""
    if not computes(arguments):
        return
    files = configfiles(arguments)
    if files is None or not all(path.exists() for path in files):
        return
    config = load(files)
    places.check_writable(config.results)
    if restored := kept_copies.restore_all(planned(config)):
        print(f"{restored} results of unfinished jobs were restored", file=sys.stderr)
    names = [study.name for study in unrecorded(planned(config))]
    if names:
        from three_regime.workflow import adopting

        print(f"Snakemake has no record of the results of {', '.join(names)}: adopting them", file=sys.stderr)
        print(adopting.render(adopting.adopt(config, files), dry_run=False), file=sys.stderr)
