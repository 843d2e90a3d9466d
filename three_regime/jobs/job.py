"""One job of the workflow: a pack of products of one stage, its files and its lock."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from three_regime.config import Config
from three_regime.config.knobs import density_folder
from three_regime.errors import Diverged
from three_regime.jobs import kept_copies
from three_regime.jobs.kept_copies import sidecar
from three_regime.kernels import Kernels
from three_regime.study import provenance
from three_regime.study.fingerprints import input_digest
from three_regime.study.grid import Study, wants_gpu
from three_regime.study.products import Product
from three_regime.study.results import FINGERPRINT_KEY
from three_regime.system.file_locks import exclusively
from three_regime.system.files import (
    DIGEST_KEY,
    PROVENANCE_KEY,
    Arrays,
    tensor_digest,
    write_arrays,
    write_result,
)
from three_regime.system.interruption import Stop
from three_regime.training.saved_state import again

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A running pack, as passed to the modules of the stages.

    Attributes
    ----------
    products
        The products to compute.
    stop
        Stop request, checked between members and steps.
    run
        Provenance entries about the workflow run.
    failures
        Messages of products without a finite result; the job fails with them at its end.
    """

    config: Config
    study: Study
    seed: int
    temperature: float | None
    products: list[Product]
    stop: Stop
    run: Mapping[str, str] | None = None
    failures: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def going_on(self) -> Iterator[None]:
        """Note a product without a finite result in `failures`, so the job's other products are computed."""
        try:
            yield
        except Diverged as error:
            log.error("%s; the other products go on", error)
            self.failures.append(str(error))

    @property
    def device(self) -> str:
        """``cuda`` or ``cpu``; a stage that requests no GPU uses none unless the configuration requires it."""
        stage = self.products[0].stage
        if stage == "prune" and not self.study.config.prune.needs_data:
            return "cpu"  # NumPy only: importing torch to ask for a device would take longer than pruning
        from three_regime.system.device import choose

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
        """Write the files of a product, the JSON first, and link them (`three_regime.jobs.kept_copies`).

        Parameters
        ----------
        arrays, metadata
            Content of the product's safetensors file.
        wall_s
            Seconds spent on the product.
        together
            Number of networks computed together, this one included; 0 if each is computed alone.
        computed_with
            Kernels used; None: those of this process.
        record
            Provenance to write if the product was not computed by this job.
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
        if arrays is not None:  # so downstream products can be judged after the weights have been discarded
            record = {**record, DIGEST_KEY: tensor_digest(arrays)}
        for path in product.outputs:
            if path.suffix == ".json":
                self._write_results(product, path, {**product.coordinates, **results, PROVENANCE_KEY: record})
            else:
                about = {**(metadata or {}), FINGERPRINT_KEY: record[FINGERPRINT_KEY]}
                write_arrays(path, arrays or {}, about, compact=True)
            kept_copies.keep(self.study, path)

    def _write_results(self, product: Product, path: Path, results: dict[str, Any]) -> None:
        try:
            write_result(path, results)
        except ValueError as error:
            at = title(self.study, product.stage, self.seed, self.temperature)
            raise Diverged(f"{at}, {product.label}: a result is not a finite number; has it diverged?") from error


def state_file(study: Study, product: Product, number: int | None = None) -> Path:
    """Path of the training state of a product's run, or of its run of this `number` (rounds of pruning; further
    networks that a measure trains).
    """
    folder = product.outputs[0].parent
    if product.stage == "dense" and study.one_dense_run:
        folder = folder.parent  # one run for all temperatures
    return sidecar(study, folder / f"{product.stage}{'' if number is None else number}.state.safetensors")


def state_files(study: Study, product: Product) -> tuple[Path, ...]:
    """Paths of every training state that a product's job may have saved.

    Of each round of pruning that trains; of the single dense run also what it trains anew; of every network that a
    measure has trained.
    """
    if product.stage == "prune":
        return tuple(state_file(study, product, number) for number in range(1, study.config.prune.rounds))
    own = state_file(study, product)
    if product.stage == "measures":
        return (own, *sorted(own.parent.glob(state_file(study, product, 0).name.replace("0", "[0-9]*", 1))))
    return (own, again(own)) if product.stage == "dense" and study.one_dense_run else (own,)


def lock_file(study: Study, stage: str, seed: int, temperature: float | None, density: float | None) -> Path:
    """File that a job locks while it runs; jobs that share a training state share it."""
    if stage == "dense" and study.one_dense_run:
        temperature = None  # one run for all temperatures
    folder = study.folder / f"seed{seed}"
    folder = folder / study.knob.folder(temperature) if temperature is not None else folder
    folder = folder / density_folder(density) if density is not None else folder
    return sidecar(study, folder / f"{stage}.lock")


def title(study: Study, stage: str, seed: int, temperature: float | None) -> str:
    at = "" if temperature is None else f" {study.knob.folder(temperature)}"
    return f"{stage} {study.name} seed{seed}{at}"


@contextlib.contextmanager
def locked(study: Study, stage: str, seed: int, temperature: float | None, density: float | None) -> Iterator[None]:
    """Hold the lock on this job's files; the operating system releases it when the process dies."""
    waiting = f"another process is working on {title(study, stage, seed, temperature)}: waiting for it to end"
    with exclusively(lock_file(study, stage, seed, temperature, density), waiting):
        yield
