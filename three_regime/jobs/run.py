"""Run a job: keep, restore or compute its products. Torch is imported only to compute."""

from __future__ import annotations

import contextlib
import importlib
import logging
from dataclasses import dataclass

from three_regime.config import Config
from three_regime.errors import Diverged, UserError
from three_regime.jobs import kept_copies
from three_regime.jobs.job import Job, locked, state_files, title
from three_regime.preparation.prepare import check_prepared
from three_regime.study import damage
from three_regime.study.grid import Study, study_named, wants_gpu
from three_regime.study.products import Product, pack
from three_regime.study.runs import Run
from three_regime.system import gpu_memory, gpu_slots
from three_regime.system.file_times import put_in_order
from three_regime.system.files import remove_leftovers
from three_regime.system.interruption import stop_on_signals
from three_regime.system.openmp import spin_briefly
from three_regime.system.preemption import requeued_if_preempted

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """Numbers of products of a pack that were computed and kept."""

    computed: int
    kept: int


def run_job(
    config: Config,
    name: str,
    stage: str,
    seed: int,
    temperature: float | None = None,
    density: float | None = None,
    *,
    under_workflow: bool = False,
    started: Run | None = None,
) -> Outcome:
    """Bring the products of one job up to date.

    Products whose files carry their fingerprint are kept; finished ones that a failed job lost are restored
    (`three_regime.jobs.kept_copies`); the others are computed. Damaged files are set aside
    (`three_regime.study.damage`).

    Parameters
    ----------
    under_workflow
        Whether this is a job of Snakemake, which may remove finished files: links to them stay until it has recorded
        the job, and signals are ignored from the end of the pack on.
    started
        The workflow run that the job belongs to, for the log and provenance.

    Raises
    ------
    UserError
        The message names the missing or damaged file, or the setting to change.
    Interrupted
        When asked to stop; the training state has been saved, and a preempted SLURM job has been requeued.
    """
    study = study_named(config, name)
    products = pack(study, stage, seed, temperature, density)
    if not products:
        log.info("%s: nothing to do: %s", title(study, stage, seed, temperature), _why_unused(study, stage))
        return Outcome(0, 0)
    with (
        requeued_if_preempted(),
        locked(study, stage, seed, temperature, density),
        stop_on_signals(to_the_end=under_workflow) as stop,
        damage.inputs_set_aside({path for product in products for path in product.inputs.values()}),
    ):
        if under_workflow:  # Snakemake starts this job only after it has recorded the jobs that made its inputs
            kept_copies.drop(study, {path for product in products for path in product.inputs.values()})
        for product in products:
            for path, what in damage.found(product.outputs):
                damage.set_aside(path, what)
            kept_copies.restore(study, product)
        stale = [product for product in products if not product.done]
        if under_workflow:
            for path in {path for product in products if product not in stale for path in product.outputs}:
                kept_copies.keep(study, path)
        if stale:
            if "data" in stale[0].inputs:
                check_prepared(study.config.dataset, study.data)
            job = Job(config, study, seed, temperature, stale, stop, started.record() if started else None)
            if started:
                log.info("settings of the run: %s", started.file)
            if job.run and "changed_code" in job.run:
                log.warning("the checkout changed since this run began: %s", job.run["changed_code"])
            for path in {path for product in stale for path in (*product.outputs, *state_files(study, product))}:
                remove_leftovers(path)
            for product in stale:
                log.info("to compute: %s", product.label)
            spin_briefly()
            gpu = wants_gpu(config, study, stage)
            with (
                gpu_slots.device(config.gpu_slots, stop) if gpu else contextlib.nullcontext(),
                gpu_memory.refused(title(study, stage, seed, temperature), _needing_less_memory(study)),
            ):
                importlib.import_module(f"three_regime.jobs.{stage}").compute(job)
            if job.failures:
                raise Diverged("\n".join(job.failures))
        _remove_states(study, products)
        _put_back_lost(study, products)
        put_in_order(
            (path for product in products for path in product.inputs.values()),
            (path for product in products for path in product.outputs),
        )
        if not under_workflow:
            for product in products:
                kept_copies.drop(study, product.outputs)
    outcome = Outcome(len(stale), len(products) - len(stale))
    log.info("%s: %d computed, %d kept", title(study, stage, seed, temperature), outcome.computed, outcome.kept)
    return outcome


def _why_unused(study: Study, stage: str) -> str:
    """Why a stage of a study has no products."""
    if stage == "measures" and not study.config.measure.also:
        return "measure.also names no additional measure"
    return f"it compares pairs of replicas, and replicas: {list(study.config.replicas)} has none"


def _needing_less_memory(study: Study) -> str:
    """Advice for jobs that run out of GPU memory; finished results and training states are kept."""
    alone = ", `lockstep: off` in the study" if study.setting.packs_advance_together else ""
    return f"or share the GPU less: `gpu_slots: 1`{alone}; then run again to continue"


def _remove_states(study: Study, products: list[Product]) -> None:
    """Remove training states that outlived their runs: of finished rounds of pruning, or of a process that was killed
    right after the result.
    """
    for product in products:
        if product.stage != "dense" or not study.one_dense_run:
            for path in state_files(study, product):
                path.unlink(missing_ok=True)


def _put_back_lost(study: Study, products: list[Product]) -> None:
    """Restore outputs that were removed while the job ran, e.g. by Snakemake handling a failed earlier attempt."""
    for product in products:
        lost = [path for path in product.outputs if not path.exists()]
        if lost and not kept_copies.restore(study, product):
            raise UserError(f"{lost[0]} was removed while its job ran; run again")
