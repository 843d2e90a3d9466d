"""The published Figure 2 as data, digitised from the authors' images (see ``reference/figure2/README.md``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from three_regime.study.outputs import FIGURE2_STUDY
from three_regime.system.files import read_table
from three_regime.system.places import CHECKOUT
from three_regime.system.yaml_files import read_mapping

FIGURE2_FOLDER = CHECKOUT / "reference" / "figure2"

PANELS = {
    "test_error": "test_error",
    "normalised_test_error": "normalized_test_error",
    "lmc": "lmc",
    "cka": "cka",
}
"""Panel → stem of its file names."""

PROXY_DENSITY = 0.80


def load(folder: Path | None = None) -> pd.DataFrame:
    """The four panels of the published Figure 2, one row per panel and cell.

    Parameters
    ----------
    folder
        Holds ``<panel>_bounds.csv``; the project's ``reference/figure2`` by default.

    Returns
    -------
    DataFrame
        ``panel`` (a key of `PANELS`), ``temperature`` (dense training epochs), ``density`` (fraction), ``value``,
        ``lower``, ``upper`` (errors and LMC as fractions; the bounds cover digitisation error only).

    Raises
    ------
    UserError
        When a file is missing or lacks a column.
    """
    tables = []
    for panel, stem in PANELS.items():
        raw = _read(folder, f"{stem}_bounds.csv", ("epoch", "density_percent", "value", "lower", "upper"))
        tables.append(
            pd.DataFrame(
                {
                    "panel": panel,
                    "temperature": raw["epoch"].astype(float),
                    "density": _fraction(raw["density_percent"]),
                    "value": raw["value"],
                    "lower": raw["lower"],
                    "upper": raw["upper"],
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def wide(published: pd.DataFrame) -> pd.DataFrame:
    """Pivot the table of `load`: one row per cell (``temperature``, ``density``), one column of values per panel."""
    table = published.pivot(index=["density", "temperature"], columns="panel", values="value")
    return table.reset_index().rename_axis(columns=None)


def as_cells(published: pd.DataFrame) -> pd.DataFrame:
    """The published cells as rows of ``cells.csv`` with ``origin`` "published" and ``dense_seed`` 0.

    The published CKA is in ``cka_softmax``, the quantity that the public script plots. No dense error is published;
    the extra column ``dense_proxy`` holds the test error at 80 % density and the same temperature.
    """
    table = wide(published)
    at_proxy = table[np.isclose(table["density"], PROXY_DENSITY)].set_index("temperature")["test_error"]
    return pd.DataFrame(
        {
            "study": FIGURE2_STUDY,
            "dataset": "cifar10",
            "model": "preresnet-20",
            "knob": "epochs",
            "dense_seed": 0,
            "temperature": table["temperature"],
            "density": table["density"],
            "dense_test_error": np.nan,
            "dense_train_error": np.nan,
            "test_error": table["test_error"],
            "test_error_sd": np.nan,
            "replicas": 3,
            "lmc": table["lmc"],
            "lmc_sd": np.nan,
            "lmc_nll": np.nan,
            "lmc_test": np.nan,
            "cka_logits": np.nan,
            "cka_softmax": table["cka"],
            "cka_softmax_sd": np.nan,
            "pairs": 3,
            "origin": "published",
            "dense_proxy": table["temperature"].map(at_proxy),
        }
    )


def protocol(folder: Path | None = None) -> dict[str, Any]:
    """Settings of the published figure, with the keys of a study's configuration."""
    return {key: value for key, value in _protocol(folder).items() if key != _DIFFERENCES}


def differences(folder: Path | None = None) -> list[str]:
    """Known and possible differences of every run from the published one, whatever its settings; one sentence each."""
    return list(_protocol(folder)[_DIFFERENCES])


_DIFFERENCES = "differences"


def _protocol(folder: Path | None) -> dict[str, Any]:
    return read_mapping(Path(folder or FIGURE2_FOLDER) / "protocol.yaml", "the published protocol").values


def drawn_boundaries(folder: Path | None = None) -> pd.DataFrame:
    """Temperatures at which the hand-drawn lines of Figure 2 cross each density.

    Returns
    -------
    DataFrame
        ``density`` (fraction), ``regime_one_above`` and ``similar_above``: a cell with more epochs than the first is
        in Regime I, any other cell with more epochs than the second is in II-B; NaN where a line does not cross.
    """
    raw = _read(folder, "boundaries.csv", ("density_percent", "regime_i_below_epoch", "regime_iib_below_epoch"))
    return pd.DataFrame(
        {
            "density": _fraction(raw["density_percent"]),
            "regime_one_above": raw["regime_i_below_epoch"].astype(float),
            "similar_above": raw["regime_iib_below_epoch"].astype(float),
        }
    )


def _fraction(percent: pd.Series) -> pd.Series:
    return (percent / 100).round(6)


def _read(folder: Path | None, name: str, columns: tuple[str, ...]) -> pd.DataFrame:
    return read_table((Path(folder) if folder is not None else FIGURE2_FOLDER) / name, columns)
