"""Set results aside so the next run computes them again.

Fingerprints decide what a job computes, so forcing it to run (``--forcerun``, ``-F``) computes nothing. To check a
result, or to measure its time, set it aside; downstream results are computed again only if the new one differs.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import Timeout

from three_regime.config import Config
from three_regime.errors import UserError
from three_regime.jobs.kept_copies import sidecar
from three_regime.study.grid import Study, planned
from three_regime.study.outputs import STATE_FOLDER
from three_regime.study.products import Product, job_place, products_of
from three_regime.study.stages import STAGES
from three_regime.system.file_locks import acquired
from three_regime.workflow import snakemake_lock

if TYPE_CHECKING:
    from snakemake.workflow import Workflow

_OUTCOME = re.compile(r"(\d+) computed, (\d+) kept")


@dataclass(frozen=True)
class SetAside:
    """The products that were set aside, and the folder that holds their files now."""

    products: list[Product]
    folder: Path


def set_aside(config: Config, targets: Sequence[Path], *, dry_run: bool = False) -> SetAside:
    """Move the results at `targets` away, and the saved states that their jobs would continue from.

    Parameters
    ----------
    targets
        Result files, or folders with all results below them.

    Raises
    ------
    UserError
        When a target holds no result of the planned studies, or a run or one of their jobs is in progress.
    """
    if snakemake_lock.is_locked() and not snakemake_lock.is_left_behind():
        raise UserError(
            "a run is in progress in this folder, or its lock was left behind: nothing was set aside. Wait for the run"
            " to end; if there is none, unlock: `python -m three_regime workflow --unlock` with its --configfile"
        )
    studies = planned(config)
    chosen: dict[tuple[Path, ...], tuple[Study, Product]] = {}
    for target in targets:
        found = {product.outputs: (study, product) for study, product in _there(studies) if _is_at(product, target)}
        if not found:
            raise UserError(
                f"{target} is not a result of one of the stages {', '.join(STAGES)} of the planned studies, nor a"
                " folder of such results; use Snakemake's --forcerun to rebuild tables and figures"
            )
        chosen |= found
    folder = Path(config.results) / STATE_FOLDER / ".set-aside" / f"{datetime.now():%Y-%m-%d-%H%M%S}"
    if not dry_run:
        with _jobs_stopped(chosen.values()):
            for study, product in chosen.values():
                _move(study, product, folder)
    return SetAside([product for _, product in chosen.values()], folder)


def _there(studies: Iterable[Study]) -> Iterator[tuple[Study, Product]]:
    """Every product with at least one existing file."""
    for study in studies:
        for product in products_of(study):
            if any(path.exists() for path in product.outputs):
                yield study, product


def _is_at(product: Product, target: Path) -> bool:
    return any(path.absolute().is_relative_to(target.absolute()) for path in product.outputs)


@contextlib.contextmanager
def _jobs_stopped(chosen: Iterable[tuple[Study, Product]]) -> Iterator[None]:
    """Hold the locks of the jobs of these products, which would go on writing the files that are moved.

    `run-stage` runs them without Snakemake's lock.
    """
    from three_regime.jobs.job import lock_file, title

    jobs = {(study.name, product.stage, *job_place(study, product)): study for study, product in chosen}
    with contextlib.ExitStack() as held:
        for (_, stage, *place), study in jobs.items():
            path = lock_file(study, stage, *place)
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                lock = acquired(path, timeout=0)
            except Timeout:
                at = title(study, stage, *place[:2])
                raise UserError(
                    f"{at}: a job is in progress: nothing was set aside. Stop it or wait for it to end"
                    " (`python -m three_regime status` shows it), then repeat the command"
                ) from None
            if lock is not None:
                held.callback(lock.release)
        yield


def _move(study: Study, product: Product, folder: Path) -> None:
    from three_regime.jobs.job import state_files  # here, so the Snakefile, parsed in every job, does not import it

    for path in (*product.outputs, *state_files(study, product)):
        if path.exists():
            target = folder / path.relative_to(study.root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, target)  # the study's folder may be a link to another disk
    for path in product.outputs:
        sidecar(study, path).unlink(missing_ok=True)  # it would be restored from there


def render(found: SetAside, *, dry_run: bool) -> str:
    """Format as text: one line per product, and what happens next."""
    lines = [str(product.outputs[0].with_suffix("")) for product in found.products]
    done = "would be set aside" if dry_run else f"set aside in {found.folder}; the next run computes them"
    return "\n".join([*lines, f"{len(lines)} {done}"]) + "\n"


def notice(workflow: Workflow) -> str:
    """Notice to print if jobs were forced to run (``--forcerun``, ``-F``) but computed nothing; else empty."""
    settings = workflow.dag_settings
    if not (settings.forceall or settings.forcerun or settings.forcetargets):
        return ""
    ran = workflow.dag.needrun_jobs(exclude_finished=False)
    logs = [Path(str(job.log[0])) for job in ran if job.rule.name.split("_")[0] in STAGES and len(job.log)]
    outcomes = [found[-1] for path in logs if path.exists() and (found := _OUTCOME.findall(path.read_text()))]
    computed, kept = (sum(int(outcome[place]) for outcome in outcomes) for place in (0, 1))
    if computed or not kept:
        return ""
    return (
        f"{len(outcomes)} jobs were forced to run and computed nothing: all {kept} results carry the fingerprints of"
        " their settings and were kept. To recompute some, set them aside: python -m three_regime recompute FILE"
    )
