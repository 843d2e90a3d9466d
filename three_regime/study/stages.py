"""The heavy stages of the method, in order: their files, versions, and which weights a study keeps."""

from __future__ import annotations

from dataclasses import dataclass

from three_regime.config.measures import MEASURES


@dataclass(frozen=True)
class Stage:
    """A heavy stage of the method.

    Attributes
    ----------
    version
        Increased by hand when the code changes the numbers, so everything from this stage on is recomputed.
    files
        Files of one product, in the order they are written; none for ``measures``, where each measure has its own.
    place
        Levels of folders below seed and temperature.
    """

    name: str
    version: int
    files: tuple[str, ...]
    place: tuple[str, ...]

    @property
    def weights(self) -> str:
        """File with the weights, which later stages read."""
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
"""Increased by hand when translation code changes its numbers, so every stage of translation studies is recomputed."""

PREPARATION_VERSION = 2
"""Increased by hand when cleaning or subwords change, so every corpus is prepared again."""

_DISCARDED: dict[str, tuple[str, ...]] = {"all": (), "endpoints": ("prune",), "none": ("dense", "prune", "retrain")}


def discarded(keep: str, *, prune_needs_data: bool) -> tuple[str, ...]:
    """Stages whose weights are removed once everything is measured (`three_regime.jobs.discarding`).

    ``endpoints`` keeps pruned networks that training or gradients decide: another number of threads or a GPU would
    remake them with other bits, and every retraining would be stale.
    """
    return () if keep == "endpoints" and prune_needs_data else _DISCARDED[keep]


COLLECTIONS: dict[str, tuple[str, ...]] = {
    "dense": ("dense",),
    "pruned": ("prune",),
    "retrained": ("retrain",),
    "lmc": ("lmc",),
    "cka": ("cka",),
    "measures": ("measures",),
    "landscape": ("lmc", "cka", "measures"),
}
"""Collection target → its stages: ``snakemake retrained`` for every planned study, ``<study>_retrained`` for one."""
