"""The heavy stages of the method, in order: their files, versions, and what a study keeps of them."""

from __future__ import annotations

from dataclasses import dataclass

from three_regime.config.measures import MEASURES


@dataclass(frozen=True)
class Stage:
    """One heavy stage of the method.

    Attributes
    ----------
    version
        Raised by hand when the code changes the numbers: everything from this stage on is then recomputed.
    files
        Files of one product; the last is written last. None for ``measures``: each has a file of its own name.
    place
        Folders below seed and temperature that tell products apart.
    """

    name: str
    version: int
    files: tuple[str, ...]
    place: tuple[str, ...]

    @property
    def weights(self) -> str:
        """File that a later stage reads: the weights of a network."""
        return self.files[-1]


STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage("dense", 1, ("dense.json", "dense.safetensors"), ()),
        Stage("prune", 1, ("pruned.json", "pruned.safetensors"), ("density",)),
        Stage("retrain", 1, ("retrained.json", "retrained.safetensors"), ("density", "replica")),
        Stage("lmc", 1, ("lmc.json",), ("density", "pair")),
        Stage("cka", 1, ("cka.json",), ("density", "pair")),
        Stage("measures", 1, (), ("density", "pair")),
    )
}


def file_names() -> set[str]:
    """Names of all result files."""
    return {name for stage in STAGES.values() for name in stage.files} | {f"{name}.json" for name in MEASURES}


TEXT_VERSION = 2
"""Raised by hand when code of translation alone changes its numbers: every stage of its studies is then recomputed."""


DISCARDED: dict[str, tuple[str, ...]] = {"all": (), "endpoints": ("prune",), "none": ("dense", "prune", "retrain")}
"""Value of a study's `keep` → stages whose weights go once everything is measured (`three_regime.jobs.discarding`)."""


COLLECTIONS: dict[str, tuple[str, ...]] = {
    "dense": ("dense",),
    "pruned": ("prune",),
    "retrained": ("retrain",),
    "lmc": ("lmc",),
    "cka": ("cka",),
    "measures": ("measures",),
    "landscape": ("lmc", "cka", "measures"),
}
"""Collection target → its stages. ``snakemake retrained`` is for every planned study, ``<study>_retrained`` for one."""
