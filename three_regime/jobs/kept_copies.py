"""Keep hard links to finished results beside the training state, so failed jobs do not lose them.

Snakemake removes the outputs of a failed job, and it may consider a finished job failed, if it was killed or preempted
between the end of the pack and the moment Snakemake recorded it. The links outlive the job, and its next attempt
restores the results. They are removed when Snakemake has certainly recorded the job: when a job that reads the results
runs (`drop`), and at the end of the workflow (`drop_recorded`).

Stale results are moved to the same place until they are recomputed (`set_aside`). Otherwise Snakemake would restore
them when the job that recomputes them fails, record the new settings for them, and consider them up to date.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from three_regime.errors import UserError
from three_regime.study import damage
from three_regime.study.fingerprints import recorded_digest
from three_regime.study.grid import Study
from three_regime.study.outputs import STATE_FOLDER
from three_regime.study.products import Product, kept_outputs, products_of
from three_regime.study.stages import file_names
from three_regime.system.files import read_arrays, replacing

log = logging.getLogger(__name__)


def sidecar(study: Study, path: Path) -> Path:
    """Path under ``.state`` for a path of a study's results."""
    return _beside(study.root, path)


def _beside(root: Path, path: Path) -> Path:
    return root / STATE_FOLDER / path.relative_to(root)


def keep(study: Study, path: Path) -> None:
    """Link the file at `path`, replacing an earlier link."""
    link = sidecar(study, path)
    if not (link.exists() and link.samefile(path)):
        _link(path, link)


def restore(study: Study, product: Product) -> bool:
    """Restore a product that is not done from its links; return whether it was restored.

    The tensors are checked against their digest, because a damaged file and its link are the same file.
    """
    outputs = _linked(study, product)
    links = tuple(sidecar(study, path) for path in outputs)
    if not links or product.done or not product.accepts(product.stored(links)):
        return False
    for link in links:
        try:
            _ = read_arrays(link) if link.suffix == ".safetensors" else None
        except UserError as error:
            link.unlink()
            log.warning("%s is not restored: %s", product.label, str(error).partition(";")[0])
            return False
    for link, path in zip(links, outputs, strict=True):
        _link(link, path)
    log.info("restored from an earlier, unfinished job: %s", product.label)
    return True


def _linked(study: Study, product: Product) -> tuple[Path, ...]:
    """The outputs to restore from links: all of them, or none.

    Of a result whose weights the study had discarded, the JSON file, which records their digest.
    """
    weights = product.outputs[-1]
    gone = not weights.exists() and not sidecar(study, weights).exists()
    discarded = gone and recorded_digest(sidecar(study, weights)) is not None
    outputs = kept_outputs(study, product) if discarded else product.outputs
    return outputs if all(sidecar(study, path).exists() for path in outputs) else ()


def restore_all(studies: Iterable[Study]) -> int:
    """Restore every product that can be (see `restore`), and drop its links; return how many.

    Called before a workflow starts; a job that finds its results present links them itself.
    """
    count = 0
    for study in studies:
        for product in products_of(study) if _any_link(study) else ():
            with contextlib.suppress(UserError):  # an input is missing or damaged: its own job reports it
                if restore(study, product):
                    drop(study, product.outputs)
                    count += 1
    return count


def _any_link(study: Study) -> bool:
    folder = sidecar(study, study.folder)
    return any(any(folder.rglob(name)) for name in file_names())


def drop(study: Study, paths: Iterable[Path]) -> None:
    """Remove the links of results, and of the JSON files of the same products."""
    for path in paths:
        if path.is_relative_to(study.root):
            for each in {path, path.with_suffix(".json")}:
                sidecar(study, each).unlink(missing_ok=True)


def drop_recorded(root: Path, recorded: Iterable[str]) -> None:
    """Remove the links of all files that Snakemake has recorded as complete.

    Parameters
    ----------
    root
        Folder of the results.
    recorded
        Outputs of the workflow's jobs that succeeded or did not have to run; other files are ignored.
    """
    names = file_names()
    for path in map(Path, recorded):
        if path.name in names and path.is_relative_to(root):
            _beside(root, path).unlink(missing_ok=True)


def set_aside(studies: Iterable[Study], planned: Iterable[str]) -> int:
    """Move stale results that are about to be recomputed to the place of their links; return how many.

    Damaged ones are renamed instead (`three_regime.study.damage`).

    A result is stale when its fingerprint does not match its settings and inputs, or when one of its inputs is stale.
    Missing files do not make anything stale: they are recomputed bit-identically.

    Parameters
    ----------
    planned
        Outputs of the jobs that are about to run.
    """
    wanted = set(planned)
    return sum(
        _set_aside(study, [each for each in products_of(study) if not wanted.isdisjoint(map(str, each.outputs))])
        for study in studies
    )


def _set_aside(study: Study, products: Iterable[Product]) -> int:
    stale: set[Path] = set()
    count = 0
    for product in products:
        for path, what in damage.found(product.outputs):
            damage.set_aside(path, what)
        there = [path for path in product.outputs if path.exists()]
        if not there or not _is_stale(product, there, stale):
            continue
        stale.update(product.outputs)
        count += 1
        links = tuple(sidecar(study, path) for path in _linked(study, product))
        newer = bool(links) and _accepts(product, product.stored(links), unknown=False)
        for path in there:
            if not newer:
                keep(study, path)
            path.unlink()
    return count


def _is_stale(product: Product, there: Sequence[Path], stale: set[Path]) -> bool:
    stored = product.stored(tuple(there))
    if stored == product.imported_fingerprint:
        return False
    return not stale.isdisjoint(product.inputs.values()) or not _accepts(product, stored, unknown=stored is not None)


def _accepts(product: Product, stored: str | None, *, unknown: bool) -> bool:
    """Whether `stored` is the product's fingerprint; `unknown` if a missing input prevents the check."""
    try:
        return product.accepts(stored)
    except UserError:
        return unknown


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        with replacing(target) as temporary:
            shutil.copy2(source, temporary)
