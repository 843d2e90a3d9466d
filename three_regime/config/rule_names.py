"""Names of Snakemake's rules, so studies whose rules would share a name are refused by their key.

A study's rules are called ``<stage>_<study>``, its targets ``<study>_<target>``, hyphens replaced by underscores.
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
    """The name of a study or grid as a Python identifier, which names of rules must be."""
    return name.replace("-", "_")


def of_study(name: str, study: StudyConfig) -> Iterator[str]:
    """Rules and targets of a study."""
    own = identifier(name)
    also = {"measures": bool(study.measure.also), "claims": bool(study.claims), "discard": study.keep != "all"}
    yield own
    yield from (f"{own}_{target}" for target in TARGETS)
    yield from (f"{stage}_{own}" for stage in (*STAGES, *(stage for stage, used in also.items() if used)))


def check_rule_names(studies: Mapping[str, StudyConfig], grids: Iterable[str]) -> None:
    """Raise ``ValueError``, which names the key, if two rules of a run of `studies` and `grids` would share a name."""
    owner = dict.fromkeys((*FIXED, *_of_data(studies)), "of the workflow itself")
    rules = {f"studies.{name}": set(of_study(name, study)) for name, study in studies.items()}
    rules |= {f"load_grids.{name}": {f"{stage}_{identifier(name)}" for stage in GRID_STAGES} for name in grids}
    for key, names in rules.items():
        for name in sorted(names):
            if name in owner:
                raise ValueError(f"{key}: its rule {name} would have the name of a rule {owner[name]}; choose another")
            owner[name] = f"of {key}"


def _of_data(studies: Mapping[str, StudyConfig]) -> Iterator[str]:
    """Rules that download and prepare data."""
    if any(name.startswith("download-") for name in studies):  # reading the table takes time
        yield from (f"download_{source}" for source in load_sources())
    for study in studies.values():
        if not study.setting.prepared_by_name:
            yield f"prepare_{identifier(study.dataset.folder)}"
    yield from (f"{stage}_published" for stage in ("regimes", "draw"))
