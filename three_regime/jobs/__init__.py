"""One job of the workflow: a pack of products of one stage, computed, kept or restored.

Everything here runs without torch; it is imported only when something has to be computed.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from three_regime import damage, gpu_memory, links, provenance, slots
from three_regime.config import Config
from three_regime.datasets.prepare import check_prepared
from three_regime.errors import UserError
from three_regime.exclusive import exclusively
from three_regime.interruption import Stop, stop_on_signals
from three_regime.kernels import Kernels
from three_regime.knobs import density_folder
from three_regime.links import sidecar
from three_regime.preemption import requeued_if_preempted
from three_regime.results import FINGERPRINT_KEY
from three_regime.runs import Run
from three_regime.spinning import spin_briefly
from three_regime.stages import Product, input_digest, pack
from three_regime.storage import (
    DIGEST_KEY,
    PROVENANCE_KEY,
    Arrays,
    remove_leftovers,
    tensor_digest,
    write_arrays,
    write_result,
)
from three_regime.study import Study, study

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """How many products of a pack were computed and kept."""

    computed: int
    kept: int


@dataclass(frozen=True)
class Job:
    """A pack under way, as the computing modules see it.

    Attributes
    ----------
    products
        The products that have to be computed.
    stop
        Asked between members and steps.
    run
        For provenance: the run of the workflow that it belongs to.
    """

    config: Config
    study: Study
    seed: int
    temperature: float | None
    products: list[Product]
    stop: Stop
    run: Mapping[str, str] | None = None

    @property
    def device(self) -> str:
        """``cuda`` or ``cpu``; a stage that asks for no GPU uses none, unless the configuration demands it."""
        stage = self.products[0].stage
        if stage == "prune":
            return "cpu"  # NumPy alone: importing torch to ask would take longer than pruning
        from three_regime.device import choose

        if wants_gpu(self.config, self.study, stage):
            return choose(self.config.device, require_gpu=self.config.require_gpu)
        return choose("cpu")

    def state_file(self, product: Product) -> Path:
        """See `state_file`."""
        return state_file(self.study, product)

    def commit(
        self,
        product: Product,
        results: dict[str, Any],
        arrays: Arrays | None = None,
        *,
        wall_s: float,
        together: int = 0,
        computed_with: Kernels | None = None,
        metadata: Mapping[str, str] | None = None,
        record: dict[str, Any] | None = None,
    ) -> None:
        """Write the files of a product, its JSON first, and hold them by links (`three_regime.links`).

        Parameters
        ----------
        arrays, metadata
            Content of the product's safetensors file.
        wall_s
            Seconds that the product took.
        together
            Networks that were computed together with it, itself included; 0 where each was on its own.
        computed_with
            Kernels; None: those of this process.
        record
            Provenance to write, where the product was not computed by this job.
        """
        record = record or provenance.record(
            fingerprint=product.fingerprint,
            recipe=product.recipe,
            inputs={role: input_digest(path) for role, path in product.inputs.items()},
            device=self.device,
            threads=self.config.threads,
            wall_s=wall_s,
            together=together,
            run=self.run,
            computed_with=computed_with,
        )
        if arrays is not None:  # so that what is made from the weights can be judged when they have been discarded
            record = {**record, DIGEST_KEY: tensor_digest(arrays)}
        for path in product.outputs:
            if path.suffix == ".json":
                self._write_results(product, path, {**product.coordinates, **results, PROVENANCE_KEY: record})
            else:
                about = {**(metadata or {}), FINGERPRINT_KEY: record[FINGERPRINT_KEY]}
                write_arrays(path, arrays or {}, about, compact=True)
            links.keep(self.study, path)

    def _write_results(self, product: Product, path: Path, results: dict[str, Any]) -> None:
        try:
            write_result(path, results)
        except ValueError as error:
            at = _title(self.study, product.stage, self.seed, self.temperature)
            raise UserError(f"{at}, {product.label}: a result is not a finite number; has it diverged?") from error


def wants_gpu(config: Config, owner: Study, stage: str) -> bool:
    """Whether a job of the stage uses a GPU where there is one."""
    if stage == "prune" or config.device == "cpu":
        return False
    return config.device == "cuda" or getattr(owner.config.resources, stage).gpu > 0


def state_file(owner: Study, product: Product) -> Path:
    """Where the training state of a product's run is kept."""
    folder = product.outputs[0].parent
    if product.stage == "dense" and owner.knob.setting is None:
        folder = folder.parent  # one run for all temperatures
    return sidecar(owner, folder / f"{product.stage}.state.safetensors")


def lock_file(owner: Study, stage: str, seed: int, temperature: float | None, density: float | None) -> Path:
    """The file that a job locks for as long as it runs."""
    folder = owner.folder / f"seed{seed}"
    folder = folder / owner.knob.folder(temperature) if temperature is not None else folder
    folder = folder / density_folder(density) if density is not None else folder
    return sidecar(owner, folder / f"{stage}.lock")


def run(
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

    Products whose files carry their fingerprint are kept; finished ones that a failed job lost are restored from
    beside the state; the others are computed. Damaged files are set aside (`three_regime.damage`).

    Parameters
    ----------
    under_workflow
        Whether this is a job of Snakemake, which may remove the files even when all is done: links to them stay until
        it has recorded the job, and from the end of the pack on signals change nothing.
    started
        The run of the workflow that the job belongs to; named in the log and in provenance.

    Raises
    ------
    UserError
        Naming the missing or damaged file, or the setting to change.
    Interrupted
        When asked to stop; the training state has been saved, and a SLURM job that is preempted is back in the queue.
    """
    owner = study(config, name)
    products = pack(owner, stage, seed, temperature, density)
    with (
        requeued_if_preempted(),
        locked(owner, stage, seed, temperature, density),
        stop_on_signals(to_the_end=under_workflow) as stop,
        damage.inputs_set_aside({path for product in products for path in product.inputs.values()}),
    ):
        if under_workflow:  # this job exists because Snakemake has recorded what it reads
            links.drop(owner, {path for product in products for path in product.inputs.values()})
        for product in products:
            for path, what in damage.found(product.outputs):
                damage.set_aside(path, what)
            links.restore(owner, product)
        stale = [product for product in products if not product.done]
        if under_workflow:
            for path in {path for product in products if product not in stale for path in product.outputs}:
                links.keep(owner, path)
        if stale:
            if "data" in stale[0].inputs:
                check_prepared(owner.config.dataset, owner.data)
            job = Job(config, owner, seed, temperature, stale, stop, started.record() if started else None)
            if started:
                log.info("settings of the run: %s", started.file)
            if job.run and "changed_code" in job.run:
                log.warning("the checkout changed since this run began: %s", job.run["changed_code"])
            for path in {path for product in stale for path in (*product.outputs, job.state_file(product))}:
                remove_leftovers(path)
            for product in stale:
                log.info("to compute: %s", product.label)
            spin_briefly()
            gpu = wants_gpu(config, owner, stage)
            with (
                slots.device(config.gpu_slots, stop) if gpu else contextlib.nullcontext(),
                gpu_memory.refused(_title(owner, stage, seed, temperature), _needing_less_memory(owner)),
            ):
                importlib.import_module(f"three_regime.jobs.{stage}").compute(job)
        _remove_states(owner, products)
        _mend_losses(owner, products)
        _mend_times(products)
        if not under_workflow:
            for product in products:
                links.drop(owner, product.outputs)
    outcome = Outcome(len(stale), len(products) - len(stale))
    log.info("%s: %d computed, %d kept", _title(owner, stage, seed, temperature), outcome.computed, outcome.kept)
    return outcome


def _needing_less_memory(owner: Study) -> str:
    """Settings that let a job use less of a GPU; what is finished, and the state of runs, is kept."""
    alone = "" if owner.config.dataset.entry.kind == "text" else ", `lockstep: off` in the study"
    return f"or let it be shared less: `gpu_slots: 1`{alone}; then run again, it continues"


def _title(owner: Study, stage: str, seed: int, temperature: float | None) -> str:
    at = "" if temperature is None else f" {owner.knob.folder(temperature)}"
    return f"{stage} {owner.name} seed{seed}{at}"


@contextlib.contextmanager
def locked(owner: Study, stage: str, seed: int, temperature: float | None, density: float | None) -> Iterator[None]:
    """Hold the lock of this job's files; the system releases it when the process dies in any way."""
    title = _title(owner, stage, seed, temperature)
    waiting = f"another process works on {title}: waiting for it to end"
    with exclusively(lock_file(owner, stage, seed, temperature, density), waiting):
        yield


def _remove_states(owner: Study, products: list[Product]) -> None:
    """Remove training states that outlived their runs: the process was killed when the result was just written."""
    for product in products:
        if product.stage == "retrain" or (product.stage == "dense" and owner.knob.setting is not None):
            state_file(owner, product).unlink(missing_ok=True)


def _mend_losses(owner: Study, products: list[Product]) -> None:
    """Put back what was removed while the job ran, e.g. by a Snakemake that takes an earlier attempt for failed."""
    for product in products:
        lost = [path for path in product.outputs if not path.exists()]
        if lost and not links.restore(owner, product):
            raise UserError(f"{lost[0]} was removed while its job ran; run again")


def _mend_times(products: list[Product]) -> None:
    """Make kept outputs younger than every input of the pack, or Snakemake would plan this job for ever.

    An input from the future (the clock was set back since) is given the present, for nothing can be younger than it.
    """
    inputs = {path for product in products for path in product.inputs.values() if path.exists()}
    now = time.time_ns()
    for path in inputs:
        if path.stat().st_mtime_ns > now:
            with contextlib.suppress(OSError):
                os.utime(path, ns=(now, now), follow_symlinks=False)
    newest = max((path.stat().st_mtime_ns for path in inputs), default=0)
    for product in products:
        for path in product.outputs:
            if not newest <= path.stat().st_mtime_ns <= now:
                os.utime(path, ns=(now, now), follow_symlinks=False)
