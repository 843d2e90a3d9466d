"""The published Figure 2 as shipped in ``reference/figure2``."""

import numpy as np
import pandas as pd
import pytest
from checkout import SHARED

from three_regime.analysis import figure2, seed_means
from three_regime.errors import UserError

DIGITISED = SHARED / "reference" / "figure2"


def test_four_panels_of_144_cells_lie_within_their_bounds():
    published = figure2.load()
    assert published.groupby("panel").size().to_dict() == dict.fromkeys(figure2.PANELS, 144)
    assert published.drop(columns="panel").notna().all(axis=None)
    assert (published["lower"] <= published["value"]).all() and (published["value"] <= published["upper"]).all()
    assert sorted(set(published["density"])) == [0.05, 0.06, 0.07, 0.08, 0.10, 0.14, 0.20, 0.40, 0.80]


def test_point_tables_agree_with_the_bounds_tables():
    published = figure2.load()
    for panel, stem in figure2.PANELS.items():
        table = pd.read_csv(figure2.FIGURE2_FOLDER / f"{stem}.csv", index_col="epoch")
        one = published[published["panel"] == panel]
        points = [table.loc[row.temperature, f"{100 * row.density:g}"] for row in one.itertuples()]
        np.testing.assert_allclose(points, one["value"], atol=6e-6)


def test_normalised_error_is_the_error_above_the_column_minimum():
    table = figure2.wide(figure2.load())
    above = table["test_error"] - table.groupby("density")["test_error"].transform("min")
    np.testing.assert_allclose(above, table["normalised_test_error"], atol=2e-4)


def test_published_cells_satisfy_the_table_contract():
    cells = figure2.as_cells(figure2.load())
    assert seed_means.check_cells(cells).shape[0] == 144
    assert set(cells["origin"]) == {"published"}
    assert cells["dense_test_error"].isna().all() and cells["cka_logits"].isna().all()
    at_80 = cells[cells["density"] == 0.80].set_index("temperature")["test_error"]
    assert (cells["dense_proxy"].to_numpy() == at_80[cells["temperature"]].to_numpy()).all()


def test_drawn_boundaries_cross_some_columns_only():
    boundaries = figure2.drawn_boundaries().set_index("density")
    assert boundaries["regime_one_above"].notna().sum() == 5
    assert boundaries.loc[0.10, ["regime_one_above", "similar_above"]].tolist() == [113.0, 94.0]


def test_missing_or_foreign_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"test_error_bounds\.csv is missing"):
        figure2.load(tmp_path)
    (tmp_path / "boundaries.csv").write_text("density_percent,regime_i_below_epoch\n5,83\n")
    with pytest.raises(UserError, match=r"boundaries\.csv lacks the column 'regime_iib_below_epoch'"):
        figure2.drawn_boundaries(tmp_path)


@pytest.mark.skipif(not DIGITISED.is_dir(), reason="../shared/reference/figure2 is not here")
def test_shipped_tables_equal_the_shared_source():
    names = sorted(path.name for path in DIGITISED.glob("*.csv"))
    assert names == sorted(path.name for path in figure2.FIGURE2_FOLDER.glob("*.csv"))
    for name in names:
        assert (DIGITISED / name).read_bytes() == (figure2.FIGURE2_FOLDER / name).read_bytes(), name
