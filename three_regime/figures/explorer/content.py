"""What the explorer shows of a study, from its tables, as values that JSON can hold.

Cells are listed by their place: row × number of loads (densities) + column, rows from the hottest temperature to the
coldest, loads increasing. What is compared with a threshold keeps every digit, so that the browser decides as Python
does; curves keep four.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from three_regime.analysis import algorithms, figure2, regimes, seed_means
from three_regime.config.knobs import KNOBS, Knob
from three_regime.config.loads import DENSITY, Load
from three_regime.config.measures import measured_columns
from three_regime.config.thresholds import Thresholds
from three_regime.figures import curves, style
from three_regime.figures.cells import Plane, require
from three_regime.figures.panels import FIGURE_2, NOISE, PANELS, panel_of
from three_regime.figures.study import Tables
from three_regime.figures.wording import Words, reworded
from three_regime.study.outputs import FIGURE2_STUDY, PUBLISHED
from three_regime.system.files import read_json, read_table

Json = dict[str, Any]

COLOURED = (*FIGURE_2, "dense_test_error")
"""Measures that the phase diagram can show; the other panels stand in the table of a cell."""

CURVE_NUMBERS = 60_000
"""Most numbers of retraining curves a study: of longer ones epochs are left out (Figure 2 has 415,000)."""

CURVE_FILES = ("curves.csv", "figures/training_curves.csv")
"""Where the curves lie: beside the other tables, and in an export beside their figure."""

PROVENANCE_FILE = "provenance.json"
"""What an export holds in place of ``provenance.csv``: environments and stages of each study."""

RULES: Json = {
    "level": 0.95,
    "lmc_margin": regimes.LMC_MARGIN,
    "cka_margin": regimes.CKA_MARGIN,
    "regimes": list(regimes.REGIMES),
    "chance": regimes.CHANCE,
    "noise": NOISE,
}
"""Constants of `regimes.label`, and of the range of colours, for the browser."""


def of_study(folder: Path, thresholds: Thresholds) -> Json:
    """One study from the tables in its folder, of which ``grid.csv`` alone must be there.

    Raises
    ------
    UserError
        When a table is damaged or lacks a column.
    """
    tables = Tables(folder, thresholds)
    grid = tables["grid"]
    place = _Places(Plane.of(grid, tables.knob))
    setting = tables.setting
    of_cells, of_lines = (setting.words(name) if setting else () for name in ("phase_diagram", "lmc_lines"))
    return _of_grid(grid, tables.knob, thresholds, of_cells) | {
        "name": folder.name,
        "title": tables.title.partition("\n")[0],
        "compared": grid["study"].iloc[0] == FIGURE2_STUDY,
        "points": _points(folder, place),
        "lines": _lines(folder, place, of_lines),
        "curves": _curves(folder, place, of_lines),
        "provenance": _provenance(folder, place),
    }


def of_published(thresholds: Thresholds) -> Json:
    """The published Figure 2 with the bounds of its digitising; it has neither seeds nor curves."""
    published = figure2.load()
    grid = seed_means.grid(figure2.as_cells(published))
    knob = KNOBS[grid["knob"].iloc[0]]
    place = _Places(Plane.of(grid, knob))
    study = _of_grid(grid, knob, thresholds, ())
    # The normalised test error is computed from the test error, not read from its own panel.
    panels = {"test_error": "test_error", "lmc": "lmc", "cka_softmax": "cka"}
    for measure in study["measures"]:
        if measure["name"] in panels:
            panel = published[published["panel"] == panels[measure["name"]]]
            order = np.argsort(place.of(panel))
            measure["bounds"] = [_numbers(panel[bound].iloc[order]) for bound in ("lower", "upper")]
    return study | {"name": PUBLISHED, "title": f"{FIGURE2_STUDY} ({PUBLISHED})", "compared": False}


class _Places:
    """Finds the place of cells in the lists of a study."""

    def __init__(self, plane: Plane) -> None:
        self.plane = plane
        self._rows = {round(value, 9): row for row, value in enumerate(plane.temperatures)}
        self._columns = {round(value, 6): column for column, value in enumerate(plane.loads)}

    @property
    def keys(self) -> tuple[str, str]:
        """Columns that say the place of a cell."""
        return "temperature", self.plane.load.column

    def row(self, temperature: float) -> int:
        """Row of a temperature; −1 for none of the plane's."""
        return self._rows.get(round(float(temperature), 9), -1)

    def rows_and_columns(self, table: pd.DataFrame) -> tuple[list[int], list[int]]:
        """Row and column of each line's cell; −1 for none of the plane's, or where nothing is said."""
        rows = table["temperature"].astype(float).round(9).map(self._rows)
        columns = table[self.keys[1]].astype(float).round(6).map(self._columns)
        return rows.fillna(-1).astype(int).tolist(), columns.fillna(-1).astype(int).tolist()

    def of(self, table: pd.DataFrame) -> list[int]:
        """The place of each line's cell; −1 outside of the plane."""
        count = len(self._columns)
        both = zip(*self.rows_and_columns(table), strict=True)
        return [row * count + column if min(row, column) >= 0 else -1 for row, column in both]

    def series(
        self, table: pd.DataFrame, member: str, axis: str, at: Sequence[float], names: Sequence[str]
    ) -> list[list[Any]]:
        """Place, dense seed, `member`, and for each of `names` its values at the points `at` of the column `axis`."""
        keys = ["place", "dense_seed", member]
        located = table.assign(place=self.of(table), **{axis: table[axis].astype(float).round(9)})
        located = located[(located["place"] >= 0) & located[axis].isin(at)].drop_duplicates([*keys, axis])
        if located.empty:
            return []
        wide = located.pivot(index=keys, columns=axis, values=list(names))
        parts = [wide[name].reindex(columns=list(at)).to_numpy() for name in names]
        return [
            [int(place), int(seed), str(which), *map(_short, values)]
            for (place, seed, which), *values in zip(wide.index, *parts, strict=True)
        ]


def _of_grid(grid: pd.DataFrame, knob: Knob, thresholds: Thresholds, words: Words) -> Json:
    plane = Plane.of(grid, knob)
    known = [name for name in (*PANELS, *measured_columns()) if name in grid]
    measured = [name for name in known if name in FIGURE_2 or grid[name].notna().any()]
    columns = list(algorithms.columns(grid))
    usual = algorithms.usual_temperature(grid)
    flags = grid.assign(chance=regimes.at_chance(grid), single=regimes.of_single_seeds(grid))
    return {
        "facts": _facts(grid, plane.load),
        "knob": knob.label,
        "regret_unit": reworded("percentage points", words),
        "temperatures": list(plane.temperatures),
        "loads": list(plane.loads),
        "load": {
            "noun": plane.load.noun,
            "label": plane.load.label,
            "unit": plane.load.unit,
            "texts": plane.load_labels,
        },
        "thresholds": asdict(thresholds),
        "measures": [_measure(grid, plane, name, words) for name in measured],
        **{name: [bool(value == 1) for value in plane.matrix(flags, name).ravel()] for name in ("chance", "single")},
        "compared_error": _by_place(column.test_error for column in columns),
        "dense_error": _by_place(column.dense_error for column in columns),
        "dense_error_is_proxy": bool(grid["dense_test_error"].isna().all() and seed_means.DENSE_PROXY in grid),
        "default_temperature": _Places(plane).row(usual),
    }


def _facts(grid: pd.DataFrame, load: Load) -> Json:
    facts = {"data set": str(grid["dataset"].iloc[0]), "model": str(grid["model"].iloc[0])}
    if load is not DENSITY:
        facts["density"] = f"{DENSITY.text(grid['density'].iloc[0])} %"
    return facts


def _measure(grid: pd.DataFrame, plane: Plane, name: str, words: Words) -> Json:
    panel = panel_of(name)

    def over(column: str) -> list[float | None]:
        require(grid, (column,), "grid.csv")
        return _numbers(plane.matrix(grid, column).ravel())

    return {
        "name": name,
        "label": reworded(panel.label, words).replace("\n", " "),
        "factor": panel.factor,
        "low_is_good": panel.low_is_good,
        "coloured": name in COLOURED,
        "least_range": panel.least / panel.factor,
        "ends": _numbers(end / panel.factor for end in panel.ends),
        "values": over(name),
        "se": over(f"{name}_se"),
        "seeds": over(f"{name}_seeds"),
        "one_seed": over(f"{name}_one_seed"),
    }


def _by_place(columns: Iterable[np.ndarray]) -> list[float | None]:
    """Values by place, from one array a density."""
    return _numbers(np.stack(list(columns), axis=1).ravel())


def _points(folder: Path, place: _Places) -> Json:
    """Every replica's test error and every pair's LMC and CKA: place, dense seed, replica or pair, value(s)."""
    wanted = {"replicas": ("replica", ["test_error"]), "pairs": ("pair", ["lmc", "cka_softmax"])}
    points: Json = {}
    for name, (member, values) in wanted.items():
        table = _optional(folder / f"{name}.csv", ("dense_seed", *place.keys, member, *values))
        points[name] = [
            [cell, int(seed), str(which), *_numbers(round(value, 6) for value in numbers)]
            for cell, seed, which, *numbers in zip(
                place.of(table), table["dense_seed"], table[member], *(table[value] for value in values), strict=True
            )
            if cell >= 0
        ]
    return points


def _lines(folder: Path, place: _Places, words: Words) -> Json:
    """The lines between two replicas: place, dense seed, pair, training errors, test errors at the shared ``t``."""
    shown = ("train_error", "test_error")
    table = _optional(folder / "lines.csv", ("dense_seed", *place.keys, "pair", "t", *shown))
    at = sorted(set(table["t"].round(9)))
    return {
        "at": at,
        "labels": [reworded(curves.MEASURES[name][0], words) for name in shown],
        "factors": [curves.MEASURES[name][1] for name in shown],
        "rows": place.series(table, "pair", "t", at, shown),
    }


def _curves(folder: Path, place: _Places, words: Words) -> Json:
    """Retraining: place, dense seed, replica, test errors, training losses at the shared epochs ``at``."""
    shown = {"test_error": "test error (%)", "train_loss": "training loss (nats)"}
    needed = ("stage", "dense_seed", *place.keys, "replica", "epoch", *shown)
    path = next((folder / name for name in CURVE_FILES if (folder / name).is_file()), folder / CURVE_FILES[0])
    table = _optional(path, needed)
    table = table[table["stage"] == "retrain"]
    table = table.assign(replica=table["replica"].astype(int))
    every = sorted(int(epoch) for epoch in set(table["epoch"]))
    runs = len(table[["dense_seed", *place.keys, "replica"]].drop_duplicates())
    evaluated = {int(epoch) for epoch in table.loc[table["test_error"].notna(), "epoch"]}
    at = thinned(every, evaluated, CURVE_NUMBERS // max(1, runs * len(shown)))
    return {
        "at": at,
        "every": len(every),
        "labels": [reworded(label, words) for label in shown.values()],
        "factors": [100, 1],
        "rows": place.series(table, "replica", "epoch", at, tuple(shown)),
    }


def thinned(values: Sequence[int], wanted: Collection[int], most: int) -> list[int]:
    """At most `most` of `values` (two at least), evenly spread: the first, the last, those of `wanted`, then others."""
    first = [value for value in values if value in wanted or value in (values[0], values[-1])]
    rest = [value for value in values if value not in first]
    kept = style.spread(first, max(2, most))
    return sorted(int(value) for value in (*kept, *style.spread(rest, max(0, most - len(first)))))


def _provenance(folder: Path, place: _Places) -> Json:
    """Where results come from: each of them where ``provenance.csv`` is there, else what an export says of all."""
    path = folder / "provenance.csv"
    if not path.is_file():
        return {"results": [], "environments": [], "summary": _summary(folder)}
    where = ("stage", "dense_seed", *place.keys, "replica", "pair")
    table = read_table(path, (*where, *_SAME, "wall_s", "finished", "fingerprint"))
    environments: dict[tuple[str, ...], int] = {}
    results = []
    for row, column, each in zip(*place.rows_and_columns(table), table.to_dict("records"), strict=True):
        about = tuple(_text(each[key]) for key in _SAME)
        results.append(
            [
                row,
                column,
                _text(each["stage"]),
                int(each["dense_seed"]),
                _text(each["pair"]) or _text(each["replica"]),
                environments.setdefault(about, len(environments)),
                _number(each["wall_s"]),
                _text(each["finished"]),
                _text(each["fingerprint"])[:12],
            ]
        )
    return {"results": results, "environments": [list(about) for about in environments], "summary": []}


_SAME = ("origin", "device", "threads", "torch", "commit")
"""Columns of ``provenance.csv`` that most results share."""


def _summary(folder: Path) -> list[list[str]]:
    """What an export says of a study's results as a whole: rows of a label and a text."""
    path = folder.parent / PROVENANCE_FILE
    about = read_json(path).get(folder.name, {}) if path.is_file() else {}
    rows = []
    for each in about.get("environments") or ():
        named = {
            "{}": each.get("device"),
            "{} threads": each.get("threads"),
            "torch {}": each.get("versions", {}).get("torch"),
            "commit {}": _text(each.get("commit"))[:12],
        }
        text = ", ".join(form.format(value) for form, value in named.items() if value)
        rows.append([f"{each.get('results')} results", text])
    for stage, each in (about.get("stages") or {}).items():
        seconds = f"{each['wall_s']:,.0f} s of jobs, " if isinstance(each.get("wall_s"), int | float) else ""
        rows.append([str(stage), f"{seconds}from {each.get('first')} to {each.get('last')}"])
    rows += [["imported", f"{len(about['imported'])} results"]] if about.get("imported") else []
    return rows


def _optional(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """A table, or one without rows where there is none."""
    return read_table(path, columns) if path.is_file() else pd.DataFrame(columns=list(columns))


def _text(value: Any) -> str:
    """A whole number without its point, nothing for a missing value."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _number(value: Any) -> float | None:
    """None for what JSON has no number for."""
    return None if value is None or not math.isfinite(value) else float(value)


def _numbers(values: Iterable[Any]) -> list[float | None]:
    return [_number(value) for value in values]


def _short(values: Iterable[Any]) -> list[float | None]:
    """With four significant digits: more than a small chart shows."""
    return [float(f"{value:.4g}") if math.isfinite(value) else None for value in values]


def look() -> Mapping[str, Any]:
    """Colours and markers of the figures, for the browser."""

    def ramp(light_is_low: bool) -> list[str]:
        colours = style.sequential(light_is_low=light_is_low)(np.linspace(0, 1, 33))[:, :3]
        return ["#" + "".join(f"{round(255 * part):02x}" for part in colour) for colour in colours]

    return {
        "light_is_low": ramp(True),
        "light_is_high": ramp(False),
        "seeds": [{"colour": each.colour, "marker": each.marker} for each in style.SEEDS],
        "many_seeds": {"colour": style.MANY_SEEDS.colour, "marker": style.MANY_SEEDS.marker},
        "mark": style.SERIES[5].colour,
    }
