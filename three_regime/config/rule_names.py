"""Names of Snakemake's rules, so studies whose rules would share a name are refused by their key.

A study's rules are called ``<stage>_<study>``, its targets ``<study>_<target>``, with underscores for hyphens.
`tests/config/test_rule_names.py` compares these lists with the Snakefile and ``rules/``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from three_regime.config.study import StudyConfig
from three_regime.datasets.sources import load_sources

FIXED = (
    "all", "data", "dense", "pruned", "retrained", "landscape", "tables", "figures", "explorer", "report", "discarded",
    "prepare", "published", "case_studies", "scorecard", "build_explorer", "settings", "build_report",
)  # fmt: skip
"""Rules without a study."""

STAGES = ("dense", "prune", "retrain", "lmc", "cka", "cells", "regimes", "draw")
"""Rules of every study; some have more (`of_study`)."""

TARGETS = ("dense", "pruned", "retrained", "lmc", "cka", "measures", "landscape", "tables", "figures")
"""Targets of every study, besides the study itself."""

GRID_STAGES = ("load_grid", "regimes", "draw")
"""Rules of a grid over another load."""


def identifier(name: str) -> str:
    """The name of a study, grid or folder as part of a Python identifier, which names of rules must be."""
    return "".join(letter if f"_{letter}".isidentifier() else "_" for letter in name)


def of_study(name: str, study: StudyConfig) -> Iterator[str]:
    """Rules and targets of a study."""
    own = identifier(name)
    also = {"measures": bool(study.measure.also), "claims": bool(study.claims), "discard": study.keep != "all"}
    yield own
    yield from (f"{own}_{target}" for target in TARGETS)
    yield from (f"{stage}_{own}" for stage in (*STAGES, *(stage for stage, used in also.items() if used)))


def check_rule_names(studies: Mapping[str, StudyConfig], grids: Iterable[str]) -> None:
    """Raise ``ValueError``, which names the key, if two rules of a run of `studies` and `grids` would share a name."""
    prepared = _of_preparation(studies)
    owner = dict.fromkeys((*FIXED, *_of_data(studies), *prepared), "of the workflow itself")
    rules = {f"studies.{name}": set(of_study(name, study)) for name, study in studies.items()}
    rules |= {f"load_grids.{name}": {f"{stage}_{identifier(name)}" for stage in GRID_STAGES} for name in grids}
    for key, names in rules.items():
        for name in sorted(names):
            if name in owner:
                raise ValueError(f"{key}: its rule {name} would have the name of a rule {owner[name]}; choose another")
            owner[name] = f"of {key}"


def _of_preparation(studies: Mapping[str, StudyConfig]) -> set[str]:
    """Rules that prepare one data set each; raise ``ValueError`` if two data sets would share one."""
    owner: dict[str, tuple[str, str]] = {}
    for name, study in studies.items():
        if study.setting.prepared_by_name:
            continue
        folder = study.dataset.folder
        rule = f"prepare_{identifier(folder)}"
        other, theirs = owner.setdefault(rule, (name, folder))
        if theirs != folder:
            raise ValueError(
                f"studies.{name}.dataset and studies.{other}.dataset: their rules would share the name {rule}, because"
                f" the folders of their prepared data, {folder} and {theirs}, differ only in punctuation; rename the"
                " folder of one text"
            )
    return set(owner)


def _of_data(studies: Mapping[str, StudyConfig]) -> Iterator[str]:
    """Rules that download data, or belong to the published figure."""
    if any(name.startswith("download-") for name in studies):  # reading the table takes time
        yield from (f"download_{source}" for source in load_sources())
    yield from (f"{stage}_published" for stage in ("regimes", "draw"))
