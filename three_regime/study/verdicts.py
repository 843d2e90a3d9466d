"""Classify the results of a study, by fingerprint, as done, stale, missing, damaged or unknown."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from three_regime.errors import Damaged, UserError
from three_regime.study.comparison import differing
from three_regime.study.fingerprints import fingerprint_of, input_digest, recorded_digest, stored_fingerprint
from three_regime.study.grid import Study
from three_regime.study.products import IMPORTED, Product, job_place, kept_outputs, products_of
from three_regime.study.results import Result, read_result
from three_regime.study.stages import STAGES
from three_regime.system.files import read_arrays

Made = TypeVar("Made")


class Verdict(StrEnum):
    """State of a product's files.

    ``done``: they carry its fingerprint, and everything upstream is done. ``stale``: settings or inputs have changed.
    ``missing``: a file does not exist. ``damaged``: a file cannot be read, or its content does not match its digest.
    ``unknown``: cannot be checked because an input does not exist.
    """

    DONE = "done"
    STALE = "stale"
    MISSING = "missing"
    DAMAGED = "damaged"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Finding:
    """The verdict on one product, with a reason (empty when it is done).

    `fingerprint` is the one in the files, empty when they are missing or damaged; `imported` is True for imported
    checkpoints, `discarded` when the weights were removed because the study does not keep them.
    """

    product: Product
    verdict: Verdict
    reason: str = ""
    imported: bool = False
    discarded: bool = False
    fingerprint: str = ""

    @property
    def done(self) -> bool:
        return self.verdict is Verdict.DONE


def judge(
    study: Study, stages: Iterable[str] = STAGES, *, verify: bool | Callable[[Path], bool] = False
) -> list[Finding]:
    """Judge every product of a study, in the order they are made.

    Parameters
    ----------
    stages
        Stages to judge; include upstream stages, or staleness does not propagate.
    verify
        Whether to read the tensors and check their digest (otherwise only metadata is read); or a function that
        selects the files.
    """
    known = _Known(study, verify if callable(verify) else lambda _: verify)
    places = itertools.product(study.config.dense_seeds, study.checkpoints)
    begun = {place for place in places if study.at(*place).is_dir()}
    found = []
    for product in products_of(study, stages):
        there = (product.coordinates["seed"], product.coordinates["temperature"]) in begun
        finding = known.judge(product) if there else Finding(product, Verdict.MISSING, "not made yet")
        if not finding.done:
            known.not_done.add(product.outputs[-1])
        found.append(finding)
    return _with_what_is_needed_again(study, found) if any(each.discarded for each in found) else found


def _with_what_is_needed_again(study: Study, findings: list[Finding]) -> list[Finding]:
    """Mark discarded weights as missing if something must be computed from them, with all products of their job."""
    needed: set[Path] = set()
    judged: dict[Path, Finding] = {}
    for stage in reversed(STAGES):
        here = [finding for finding in findings if finding.product.stage == stage]
        jobs = {
            job_place(study, finding.product)
            for finding in here
            if not finding.done or (finding.discarded and finding.product.outputs[-1] in needed)
        }
        for finding in here:
            product = finding.product
            if finding.discarded and job_place(study, product) in jobs:
                reason = f"its weights were discarded (keep: {study.config.keep}) and are needed again"
                finding = Finding(product, Verdict.MISSING, reason)
            if not finding.done:
                needed.update(product.inputs.values())
            judged[product.outputs[0]] = finding
    return [judged[finding.product.outputs[0]] for finding in findings]


def unfit(study: Study) -> list[Finding]:
    """Existing results that do not match the current settings; tables must not be built from them.

    A result whose weights, data or upstream files are gone is not among them unless those were stale.
    """
    wrong: set[Path] = set()
    found = []
    for finding in judge(study):
        product = finding.product
        if finding.done or not product.outputs[0].exists():
            continue
        if not _follows(product, wrong):
            wrong.add(product.outputs[-1])
            found.append(finding)
    return found


def refuse_unfit(study: Study) -> None:
    """Raise if results do not match the settings: tables must hold results of one configuration.

    Raises
    ------
    UserError
        Naming the first such result, the setting that differs, and the commands to run.
    """
    wrong = unfit(study)
    if not wrong:
        return
    counts = Counter(finding.product.stage for finding in wrong)
    stages = [stage for stage in STAGES if stage in counts]
    first = wrong[0]
    raise UserError(
        f"{len(wrong)} results of {study.name} ({', '.join(f'{counts[stage]} {stage}' for stage in stages)}) do not"
        f" match its settings, the first {first.product.outputs[0]}: {first.verdict}, {first.reason}; run"
        f" `python -m three_regime run-stage {stages[0]} --study {study.name}` with the same --configfile"
        + (f", then {', '.join(stages[1:])}" if stages[1:] else "")
        + ", or restart the workflow, which does it (`python -m three_regime explain` lists them all), or undo the edit"
    )


def _follows(product: Product, wrong: set[Path]) -> bool:
    """Whether the existing files of a product carry the fingerprint of its settings and inputs."""
    stored = product.stored(tuple(path for path in product.outputs if path.exists()))
    if stored is None or stored == product.imported_fingerprint:
        return stored is not None
    try:
        digests = _digests(product, read_result(product.outputs[0]).inputs, input_digest)
    except UserError:
        return False
    return stored == fingerprint_of(product.recipe, digests) and wrong.isdisjoint(product.inputs.values())


def _digests(product: Product, recorded: Mapping[str, str], digest: Callable[[Path], str]) -> dict[str, str]:
    """Role → digest of each input; data that are not there count as those that were used.

    Raises
    ------
    UserError
        When an input cannot be read.
    """
    return {
        role: recorded[role] if role == "data" and role in recorded and not path.exists() else digest(path)
        for role, path in product.inputs.items()
    }


def chain_to(
    path: Path, made: Sequence[Made], files: Callable[[Made], tuple[Iterable[Path], Iterable[Path]]]
) -> list[Made]:
    """The item that writes `path` and everything upstream of it; empty when nothing writes it.

    Parameters
    ----------
    made
        All items, upstream first.
    files
        Return the files that an item writes and those that it reads.
    """
    needed = {path}
    chain = []
    for each in reversed(made):
        outputs, inputs = files(each)
        if not needed.isdisjoint(outputs):
            chain.append(each)
            needed.update(inputs)
    return chain[::-1]


def differences(stored: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """Settings that differ between two recipes, e.g. ``training.learning_rate from 0.1 to 0.05``."""
    return [f"{name} from {before} to {after}" for name, before, after in differing(stored, current)]


class _Known:
    """Cache while one study is judged: digests read so far, and the last files of products that are not done."""

    def __init__(self, study: Study, verify: Callable[[Path], bool]) -> None:
        self.study = study
        self.verify = verify
        self.digests: dict[Path, str] = {}
        self.not_done: set[Path] = set()

    def judge(self, product: Product) -> Finding:
        absent = [path for path in product.outputs if not path.exists()]
        there = tuple(path for path in product.outputs if path not in absent)
        discarded = bool(absent) and set(kept_outputs(self.study, product)) <= set(there)
        discarded = discarded and recorded_digest(product.outputs[-1]) is not None
        if absent and not discarded:
            reason = "not made yet" if len(absent) == len(product.outputs) else f"{absent[0]} is missing"
            return Finding(product, Verdict.MISSING, reason)
        try:
            result = read_result(product.outputs[0])
            stored = product.stored(there, result)
            if stored is None:
                return Finding(product, Verdict.DAMAGED, _disagreement(product, there))
            for path in there:
                if path.suffix == ".safetensors" and self.verify(path):
                    read_arrays(path)
        except Damaged as error:
            return Finding(product, Verdict.DAMAGED, error.what)
        except UserError as error:
            return Finding(product, Verdict.UNKNOWN, f"cannot be checked: {error}")
        if result.origin == IMPORTED:
            return replace(self._imported(product, stored, result.recipe), fingerprint=stored)
        finding = self._computed(product, stored, result)
        return replace(finding, discarded=discarded and finding.done, fingerprint=stored)

    def _imported(self, product: Product, stored: str, recipe: Mapping[str, Any]) -> Finding:
        if stored == product.imported_fingerprint:
            return Finding(product, Verdict.DONE, imported=True)
        changes = ", ".join(differences(recipe, product.recipe)) or "its fingerprint does not match its settings"
        return Finding(product, Verdict.STALE, f"imported for other settings: {changes}", imported=True)

    def _computed(self, product: Product, stored: str, result: Result) -> Finding:
        changes = differences(result.recipe, product.recipe)
        if changes:
            return Finding(product, Verdict.STALE, ", ".join(changes))
        try:
            digests = _digests(product, result.inputs, self._digest)
        except UserError as error:
            return Finding(product, Verdict.UNKNOWN, f"cannot be checked: {error}")
        if stored != fingerprint_of(product.recipe, digests):
            roles = [role for role, digest in digests.items() if result.inputs.get(role) != digest]
            made_from = " and ".join(str(product.inputs[role]) for role in roles)
            reason = f"made from another {made_from}" if roles else "its fingerprint does not match its settings"
            return Finding(product, Verdict.STALE, reason)
        for path in product.inputs.values():
            if path in self.not_done:
                return Finding(product, Verdict.STALE, f"made from {path}, which is not up to date")
        return Finding(product, Verdict.DONE)

    def _digest(self, path: Path) -> str:
        if path not in self.digests:
            self.digests[path] = input_digest(path)
        return self.digests[path]


def _disagreement(product: Product, there: Sequence[Path]) -> str:
    for path in there:
        if stored_fingerprint(path) is None:
            return f"{path} is damaged or carries no fingerprint"
    return " and ".join(str(path) for path in product.outputs) + " are not of the same run"
