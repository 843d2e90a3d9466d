"""Grids over another load: joined from studies, and analysed and drawn as those over density are."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import smooth_plane
from smooth_plane import DENSITIES, EPOCHS, THRESHOLDS, ticks

import three_regime
from three_regime import figures
from three_regime.analysis import load_grids, regime_tables, seed_means
from three_regime.config.loads import DENSITY, LOADS, load_of
from three_regime.errors import UserError
from three_regime.study.load_grids import LoadGrid
from three_regime.study.outputs import LOAD_GRID_FIGURES
from three_regime.system.files import write_csv

AT = 0.4
"""Density of the grid."""

COLUMN = LOADS["label_noise"].column


def members() -> dict[float, pd.DataFrame]:
    """Studies that differ in label noise: each has, at the density of the grid, what a plane has at one density."""
    plane = smooth_plane.cells()
    found = {}
    for value in DENSITIES:
        own = plane[plane["density"] == value].assign(study=f"noise-{value}", density=AT)
        found[value] = pd.concat([own, own.assign(density=0.8, test_error=0.9)], ignore_index=True)
    return found


@pytest.fixture(scope="module")
def joined() -> pd.DataFrame:
    return load_grids.join("noise", "label_noise", AT, members())


def test_a_grid_holds_the_cells_of_its_studies_at_its_density(joined: pd.DataFrame) -> None:
    plane = smooth_plane.cells().assign(study="noise")
    assert set(joined["density"]) == {AT} and load_of(joined) is LOADS["label_noise"]
    expected = plane.rename(columns={"density": COLUMN})
    keys = ["dense_seed", "temperature", COLUMN]
    both = [table.sort_values(keys, ignore_index=True)[list(expected)] for table in (joined, expected)]
    pd.testing.assert_frame_equal(*both, check_dtype=False)


def test_every_table_is_that_of_density_under_another_name(joined: pd.DataFrame) -> None:
    over_density = regime_tables.build(smooth_plane.cells().assign(study="noise"), THRESHOLDS)
    over_noise = regime_tables.build(joined, THRESHOLDS)
    assert (over_noise["regimes"]["regime"] == "I").any() and len(over_noise["boundaries"])
    for name, expected in over_density.items():
        found = over_noise[name].drop(columns="density", errors="ignore")
        renamed = expected.rename(columns={"density": COLUMN, "densities": "loads"})
        pd.testing.assert_frame_equal(found[list(renamed)], renamed, check_dtype=False)
        assert load_of(over_noise[name]) is (LOADS["label_noise"] if COLUMN in renamed else DENSITY)


def test_models_of_different_width_are_all_named() -> None:
    wide = {1.0: members()[0.05].assign(model="preresnet-8"), 2.0: members()[0.06].assign(model="preresnet-8x2")}
    assert set(load_grids.join("width", "width", AT, wide)["model"]) == {"preresnet-8/preresnet-8x2"}


def test_a_column_named_like_a_load_makes_no_grid_over_it() -> None:
    stated = smooth_plane.cells().assign(width=2, training_size=50_000)
    assert load_of(stated) is DENSITY
    assert len(seed_means.grid(stated)) == len(seed_means.grid(smooth_plane.cells()))


def test_a_missing_value_of_the_load_is_refused(joined: pd.DataFrame) -> None:
    with pytest.raises(UserError, match=f"column '{COLUMN}' has an empty field"):
        seed_means.check_cells(joined.assign(**{COLUMN: joined[COLUMN].mask(joined[COLUMN] == 0.05)}))


def test_a_study_without_the_density_is_named() -> None:
    with pytest.raises(UserError, match=r"noise-0\.05 has no cell at density 0\.33"):
        load_grids.join("noise", "label_noise", 0.33, members())


def test_its_figures_name_the_load(joined: pd.DataFrame, tmp_path: Path) -> None:
    write_csv(tmp_path / "cells.csv", joined)
    regime_tables.write(tmp_path, THRESHOLDS)
    assert len(figures.draw(tmp_path, LOAD_GRID_FIGURES, THRESHOLDS)) == 3 * len(LOAD_GRID_FIGURES)
    grid, labels = pd.read_csv(tmp_path / "grid.csv"), pd.read_csv(tmp_path / "regimes.csv")
    drawn = figures.phase_diagram(grid, labels, EPOCHS, THRESHOLDS)
    panels = [axes for axes in drawn.axes if axes.get_xlabel() == "label noise (%)"]
    assert len(panels) == 4 and ticks(panels[0].xaxis) == ["5", "6", "8", "12.5", "40", "80"]


def test_a_results_folder_is_read_without_its_load_grids(joined: pd.DataFrame, tmp_path: Path) -> None:
    plane = smooth_plane.cells()
    for name, table in (("noise", joined), ("smooth", plane)):
        write_csv(tmp_path / name / "cells.csv", table)
    assert set(seed_means.read_cells(tmp_path)["study"]) == {"smooth"}
    assert set(seed_means.read_cells(tmp_path / "noise")["study"]) == {"noise"}
    assert set(three_regime.load_results(tmp_path)["cells"]["study"]) == {"smooth"}
    assert set(three_regime.load_results(tmp_path / "noise")["cells"]["study"]) == {"noise"}


def test_a_folder_of_nothing_but_load_grids_is_refused(joined: pd.DataFrame, tmp_path: Path) -> None:
    write_csv(tmp_path / "noise" / "cells.csv", joined)
    with pytest.raises(UserError, match="or grids over another load"):
        seed_means.read_cells(tmp_path)


def test_a_grid_is_current_while_its_studies_give_the_same_cells(tmp_path: Path) -> None:
    studies = {}
    for value, table in members().items():
        path = tmp_path / f"noise-{value}" / "cells.csv"
        write_csv(path, table)
        studies[value] = SimpleNamespace(name=path.parent.name, table=lambda name, path=path: path)
    grid = LoadGrid("noise", LOADS["label_noise"], AT, studies, tmp_path, THRESHOLDS)  # type: ignore[arg-type]
    assert not load_grids.is_current(grid)
    load_grids.write_tables(grid, tmp_path)
    assert load_grids.is_current(grid)
    write_csv(path, table.assign(test_error=table["test_error"] + 0.001))
    assert not load_grids.is_current(grid)
