"""Mean deviation over the middle of the line between two networks, and tables without it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from checkout import ROOT

from three_regime.analysis import tables

POINTS = np.linspace(0, 1, 11)


def test_it_is_the_mean_below_the_ends_from_0_3_to_0_7():
    errors = np.array([0.2, 0.9, 0.9, 0.3, 0.35, 0.4, 0.35, 0.3, 0.9, 0.9, 0.4])
    assert tables.middle_deviation(POINTS, errors) == pytest.approx(0.3 - np.mean([0.3, 0.35, 0.4, 0.35, 0.3]))


def test_a_straight_line_has_none_and_a_barrier_is_negative():
    assert tables.middle_deviation(POINTS, 0.1 + 0.2 * POINTS) == pytest.approx(0)
    assert tables.middle_deviation(POINTS, 0.1 + POINTS * (1 - POINTS)) < 0


def test_it_does_not_depend_on_which_end_is_first():
    errors = 0.1 + 0.2 * POINTS + POINTS * (1 - POINTS)
    assert tables.middle_deviation(POINTS, errors[::-1]) == pytest.approx(tables.middle_deviation(POINTS, errors))


def test_a_line_without_a_point_in_the_middle_has_none():
    assert np.isnan(tables.middle_deviation([0, 1], [0.1, 0.2]))
    assert tables.middle_deviation([0, 0.5, 1], [0.1, 0.4, 0.1]) == pytest.approx(-0.3)


def test_older_tables_get_it_from_their_lines():
    folder = ROOT / "reference" / "obtained" / "cifar10-cpu" / "cifar10-cpu"
    cells, pairs, lines = (pd.read_csv(folder / f"{name}.csv") for name in ("cells", "pairs", "lines"))
    older = [table.drop(columns=[name for name in table if "middle" in name]) for table in (cells, pairs)]
    found_cells, found_pairs = tables.with_middle(*older, lines[::-1])
    assert list(found_cells) == list(cells) and list(found_pairs) == list(pairs), "in the places of today's tables"
    assert found_pairs["lmc_middle"].notna().all() and len(found_pairs) == len(pairs)
    line = lines[(lines[["dense_seed", "temperature", "density", "pair"]] == [1, 5.0, 0.03, "1-3"]).all(axis=1)]
    row = found_pairs[
        (found_pairs[["dense_seed", "temperature", "density", "pair"]] == [1, 5.0, 0.03, "1-3"]).all(axis=1)
    ]
    assert row["lmc_middle"].item() == pytest.approx(tables.middle_deviation(line["t"], line["train_error"]))
    mean = found_pairs.groupby(tables.CELL)["lmc_middle"].mean()
    np.testing.assert_allclose(found_cells.set_index(tables.CELL)["lmc_middle"], mean)
    again = tables.with_middle(found_cells, found_pairs, lines)
    assert again[0] is found_cells and again[1] is found_pairs


def test_it_spreads_less_than_lmc_where_networks_are_connected():
    """Its reason: at 6 % density of the archived study."""
    folder = ROOT / "reference" / "obtained" / "cifar10-cpu" / "cifar10-cpu"
    cells, pairs, lines = (pd.read_csv(folder / f"{name}.csv") for name in ("cells", "pairs", "lines"))
    cells, _ = tables.with_middle(cells, pairs, lines)
    spread = cells[cells["density"] == 0.06].groupby("temperature")[["lmc", "lmc_middle"]].std()
    assert (spread["lmc_middle"] < spread["lmc"]).all()
