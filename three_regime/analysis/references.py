"""What a scorecard scores cells against: the published Figure 2, or the cells of an export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from three_regime.analysis import figure2, regimes, seed_means
from three_regime.errors import UserError
from three_regime.study.outputs import SETTINGS_FILE
from three_regime.system import manifest
from three_regime.system.yaml_files import read_mapping

METRICS = ("test_error", "normalised_test_error", "lmc", "cka_logits", "cka_softmax")
"""Metrics of a grid that are scored, in the order of the scorecard."""


@dataclass(frozen=True, eq=False)
class Reference:
    """Numbers to score against.

    Attributes
    ----------
    study, dataset, model, knob
        What was measured; `study` names the obtained study that repeats it.
    cells
        ``panel``, ``temperature``, ``density``, ``value``, ``lower``, ``upper``; density, errors and LMC as fractions.
    panels
        Metric of `METRICS` → panel of `cells`.
    grid
        The same cells as a table of `seed_means.grid`, for their regimes.
    word
        How the scorecard calls its numbers: "published" or "reference".
    about, bounds
        Where the numbers come from, in a sentence; what ``lower`` and ``upper`` are, in words.
    drawn
        Regimes as drawn by its authors (`regimes.drawn_labels`), if they drew any.
    protocol
        Its settings, with the keys of a study's configuration.
    differences
        Known and possible differences of every run of this project from it, one sentence each.
    """

    study: str
    dataset: str
    model: str
    knob: str
    cells: pd.DataFrame
    panels: Mapping[str, str]
    grid: pd.DataFrame
    word: str
    about: str
    bounds: str
    drawn: pd.DataFrame | None = None
    protocol: Mapping[str, Any] = field(default_factory=dict)
    differences: Sequence[str] = ()

    def places(self) -> pd.DataFrame:
        """``temperature`` and ``density`` of each of its cells."""
        return self.cells[["temperature", "density"]].drop_duplicates(ignore_index=True)


def published() -> Reference:
    """The published Figure 2. Its CKA is scored for logits and softmax: which one was plotted is uncertain."""
    cells = figure2.load()
    grid = seed_means.grid(figure2.as_cells(cells))
    softmax = [name for name in grid if name.startswith("cka_softmax")]
    grid = grid.assign(**{name.replace("softmax", "logits"): grid[name] for name in softmax})
    first = grid.iloc[0]
    return Reference(
        study=first["study"],
        dataset=first["dataset"],
        model=first["model"],
        knob=first["knob"],
        cells=cells,
        panels={metric: metric.partition("_")[0] if metric.startswith("cka") else metric for metric in METRICS},
        grid=grid,
        word="published",
        about="Published: Figure 2 of the paper, digitised; bounds cover the digitising, not the spread over seeds.",
        bounds="digitising bounds",
        drawn=regimes.drawn_labels(cells),
        protocol=figure2.protocol(),
        differences=figure2.differences(),
    )


def of_export(folder: Path, *, study: str = "", knob: str = "") -> Reference:
    """The cells of an export, a results folder or a study's folder.

    Parameters
    ----------
    study, knob
        Which study of several: that of this name if there is one, else the only one with this knob.

    Raises
    ------
    UserError
        When there are no cells, a file was altered, or several studies remain.
    """
    grid = seed_means.grid(seed_means.read_cells(folder))
    chosen = _one_study(grid, folder, study, knob)
    first = chosen.iloc[0]
    settings = settings_beside(folder).get("studies", {}).get(first["study"], {})
    return Reference(
        study=first["study"],
        dataset=first["dataset"],
        model=first["model"],
        knob=first["knob"],
        cells=pd.concat([_panel(chosen, metric) for metric in METRICS], ignore_index=True),
        panels={metric: metric for metric in METRICS},
        grid=chosen.assign(density=chosen["density"].round(6)),
        word="reference",
        about=f"Reference: {first['study']} in {folder}; bounds are its 95 % intervals over dense seeds.",
        bounds="reference's 95 % interval",
        protocol=_with_keys_of(settings, figure2.protocol()),
    )


def settings_beside(folder: Path) -> Mapping[str, Any]:
    """Content of the ``config.yaml`` of the run in `folder` (of a table: its folder) or its parent; else empty.

    Raises
    ------
    UserError
        When it is not the configuration of a run, or a file of an export was altered.
    """
    folder = Path(folder)
    folder = folder if folder.is_dir() else folder.parent  # a file is its study's table
    for place in (folder, folder.parent):
        manifest.check(place)
        if (place / SETTINGS_FILE).is_file():
            config = read_mapping(place / SETTINGS_FILE).values
            if not isinstance(config.get("studies", {}), dict):
                raise UserError(f"{place / SETTINGS_FILE} is not the config.yaml of a run: it maps no studies")
            return config
    return {}


def _one_study(grid: pd.DataFrame, folder: Path, study: str, knob: str) -> pd.DataFrame:
    if study in set(grid["study"]):
        grid = grid[grid["study"] == study]
    elif knob:
        grid = grid[grid["knob"] == knob]
    names = grid["study"].unique()
    if len(names) != 1:
        many = (
            f"several studies ({', '.join(names)}): name one of them" if len(names) else f"no study of the {knob} knob"
        )
        raise UserError(
            f"{folder} holds {many}" + (f", as in --against {Path(folder) / names[0]}" if len(names) else "")
        )
    return grid


def _panel(grid: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Means of one metric as rows of `Reference.cells`; a mean without an interval is its own bounds."""
    value, half = grid[metric], grid[f"{metric}_ci95"].fillna(0.0)
    table = grid[["temperature", "density"]].assign(panel=metric, value=value, lower=value - half, upper=value + half)
    return table.dropna(subset=["value"])


def _with_keys_of(settings: Mapping[str, Any], pattern: Mapping[str, Any]) -> dict[str, Any]:
    """Those (nested) keys of `settings` that `pattern` has."""
    found = {key: settings[key] for key in pattern if key in settings}
    return {
        key: _with_keys_of(value, pattern[key])
        if isinstance(value, Mapping) and isinstance(pattern[key], Mapping)
        else value
        for key, value in found.items()
    }
