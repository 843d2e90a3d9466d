"""Build tidy tables from result files: replicas, pairs, cells, lines, curves, sparsity, provenance.

The setting defines the error of a network. For translation it is 1 − BLEU/100 on validation, with BLEU in a column of
its own; errors along lines and in training curves are then token errors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from three_regime.config import StudyConfig
from three_regime.config.measures import MEASURES, Measure
from three_regime.settings import Setting
from three_regime.study.grid import Study
from three_regime.study.products import Product, products_of
from three_regime.study.results import read_result
from three_regime.study.verdicts import refuse_unfit
from three_regime.system.files import PROVENANCE_KEY, write_csv

CELL = ["dense_seed", "temperature", "density"]
MIDDLE = (0.3, 0.7)
"""Range of t (inclusive) over which `middle_deviation` is averaged."""
_PAIR_MEASURES = ("lmc", "lmc_middle", "lmc_nll", "lmc_test", "lmc_test_nll", "cka_logits", "cka_softmax")


def build(study: Study) -> dict[str, pd.DataFrame]:
    """Build all tables of a study from the files of its finished products.

    Returns
    -------
    Name → table, for each name in `Study.cell_tables`. Errors are fractions. ``cells`` has one row per cell: means over
    replicas (test error) and pairs (LMC, CKA), and their standard deviations within the cell. ``density`` is that of
    the prunable weights (the load, and the axis of every figure), ``model_density`` that of the whole model. Products
    without a file have no row (NaN in ``cells``).
    """
    records = {stage: list(_finished(study, stage)) for stage in ("dense", "prune", "retrain", "lmc", "cka")}
    # Only in studies with additional measures, so the tables of others keep their columns.
    also = {name: [] for name in study.config.measure.also}
    if also:
        records["measures"] = list(_finished(study, "measures"))
    for product, result in records.get("measures", ()):
        also[product.recipe["measure"]].append((product, result))
    tables = {
        "replicas": _also(_replicas(study.setting, records["retrain"]), [*CELL, "replica"], also, "replica"),
        "pairs": _also(_pairs(records["lmc"], records["cka"]), [*CELL, "pair"], also, "pair"),
        "lines": _lines(study.setting, records["lmc"]),
        "curves": _curves(records["dense"], records["retrain"]),
        "sparsity": _sparsity(records["prune"]),
        "provenance": _provenance(records),
    }
    triples = _also(pd.DataFrame(columns=[*CELL, "triple"]), [*CELL, "triple"], also, "triple")
    tables["cells"] = _cells(study, records, tables["replicas"], tables["pairs"], triples)
    with_table = [MEASURES[name] for name in also if MEASURES[name].table]
    tables |= {measure.table: _places(measure, also[measure.name]) for measure in with_table}
    return {name: tables[name] for name in study.cell_tables}


def middle_deviation(t: Sequence[float], errors: Sequence[float]) -> float:
    """Mean deviation of the error from the mean of the end points, over the middle of the line between two networks.

    LMC takes the point of largest absolute deviation, so in connected cells noise decides its sign; a mean over fixed
    points has no such bias. As for LMC, a negative value means a barrier.

    Parameters
    ----------
    t
        Positions on the line, increasing from 0 to 1.
    errors
        Errors at these positions (fractions).

    Returns
    -------
    float
        Mean of (e(0) + e(1)) / 2 - e(t) over the points in `MIDDLE`; NaN if there are none.
    """
    places, values = np.asarray(t, float), np.asarray(errors, float)
    inside = (places >= MIDDLE[0] - 1e-9) & (places <= MIDDLE[1] + 1e-9)
    return float((values[0] + values[-1]) / 2 - values[inside].mean()) if inside.any() else float("nan")


def with_middle(cells: pd.DataFrame, pairs: pd.DataFrame, lines: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Add ``lmc_middle``, from ``lines``, to ``cells`` and ``pairs`` of an older export; else return them unchanged."""
    if "lmc_middle" in pairs or "lmc_middle" in cells:
        return cells, pairs
    keys = [*CELL, "pair"]
    rows = [
        {**dict(zip(keys, at, strict=True)), "lmc_middle": middle_deviation(line["t"], line["train_error"])}
        for at, line in lines.sort_values("t").groupby(keys)
    ]
    pairs = pairs.merge(pd.DataFrame(rows, columns=[*keys, "lmc_middle"]), on=keys, how="left")
    means = pairs.groupby(CELL)["lmc_middle"].agg(lmc_middle="mean", lmc_middle_sd="std")
    cells = cells.merge(means, on=CELL, how="left")
    for table, after in ((cells, "lmc_sd"), (pairs, "lmc")):
        place = list(table).index(after) + 1
        for name in [name for name in ("lmc_middle_sd", "lmc_middle") if name in table]:
            table.insert(place, name, table.pop(name))
    return cells, pairs


def write(study: Study) -> list[Path]:
    """Build the tables, write them as ``<study>/<table>.csv``, and return their paths.

    Raises
    ------
    UserError
        When a present result does not match the study's settings (`verdicts.refuse_unfit`).
    """
    refuse_unfit(study)
    paths = []
    for name, table in build(study).items():
        paths.append(study.table(name))
        write_csv(paths[-1], table)
    return paths


def _finished(study: Study, stage: str) -> Iterator[tuple[Product, dict[str, Any]]]:
    for product in products_of(study, [stage]):
        path = product.outputs[0]
        if path.exists():
            yield product, read_result(path).content


def _where(product: Product) -> dict[str, Any]:
    """Coordinates of a product as table columns."""
    found = {"dense_seed" if key == "seed" else key: value for key, value in product.coordinates.items()}
    for several in {"pair", "triple"} & found.keys():
        found[several] = "-".join(str(replica) for replica in found[several])
    return found


def _replicas(setting: Setting, records: list) -> pd.DataFrame:
    rows = [
        {
            **_where(product),
            "test_error": result["test_error"],
            "final_test_error": result["test"]["error"],
            "final_test_nll": result["test"]["nll"],
            "final_train_error": result["train"]["error"],
            "final_train_nll": result["train"]["nll"],
            **setting.score_columns(result),
            "origin": result[PROVENANCE_KEY]["origin"],
        }
        for product, result in records
    ]
    return pd.DataFrame(rows, columns=None if rows else [*CELL, "replica", "test_error", "origin"])


def _pairs(lmc: list, cka: list) -> pd.DataFrame:
    keys = [*CELL, "pair"]
    barriers = ["lmc", "lmc_middle", "lmc_nll", "lmc_test", "lmc_test_nll"]
    lines = pd.DataFrame(
        [
            {
                **_where(product),
                "lmc_middle": middle_deviation(result["t"], result["train_error"]),
                **{name: result[name] for name in barriers if name != "lmc_middle"},
            }
            for product, result in lmc
        ],
        columns=[*keys, *barriers],
    )
    kinds = ["logits", "softmax"]
    similar = pd.DataFrame(
        [{**_where(product), **{f"cka_{kind}": result[kind] for kind in kinds}} for product, result in cka],
        columns=[*keys, *(f"cka_{kind}" for kind in kinds)],
    )
    similar = similar.astype({f"cka_{kind}": float for kind in kinds})  # null: undefined
    return lines.merge(similar, on=keys, how="outer")


def _also(table: pd.DataFrame, keys: list[str], also: dict[str, list], of: str) -> pd.DataFrame:
    """`table` with the columns of the additional measures of each replica or pair."""
    how = "left" if of == "replica" else "outer"
    for measure in (MEASURES[name] for name in also if MEASURES[name].of == of):
        names = [column.name for column in measure.columns]
        rows = [{**_where(product), **{name: result[name] for name in names}} for product, result in also[measure.name]]
        table = table.merge(pd.DataFrame(rows, columns=[*keys, *names]), on=keys, how=how)
    return table


def _places(measure: Measure, found: list[tuple[Product, dict[str, Any]]]) -> pd.DataFrame:
    """The lists in the results of a measure, one row for each of their places."""
    parts = [
        pd.DataFrame({**_where(product), **{name: result[name] for name in measure.lists}}) for product, result in found
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*CELL, measure.of, *measure.lists])


def _columns_of(config: StudyConfig, of: str) -> list[str]:
    """Columns of the study's additional measures."""
    measures = (MEASURES[name] for name in config.measure.also)
    return [column.name for measure in measures if measure.of == of for column in measure.columns]


def _means(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Aggregations of each column over a cell: its mean under its own name, and its standard deviation."""
    return {name: (column, how) for column in names for name, how in ((column, "mean"), (f"{column}_sd", "std"))}


def _cells(
    study: Study, records: dict[str, list], replicas: pd.DataFrame, pairs: pd.DataFrame, triples: pd.DataFrame
) -> pd.DataFrame:
    config = study.config
    index = pd.MultiIndex.from_product([config.dense_seeds, study.temperatures, config.densities], names=CELL)
    table = index.to_frame(index=False)
    dense_rows = [
        {
            **_where(product),
            "dense_test_error": study.setting.error(result),
            "dense_train_error": result["train"]["error"],
            **{f"dense_{name}": value for name, value in study.setting.score_columns(result).items()},
            "dense_origin": result[PROVENANCE_KEY]["origin"],
        }
        for product, result in records["dense"]
    ]
    needed = ["dense_seed", "temperature", "dense_test_error", "dense_train_error", "dense_origin"]
    table = table.merge(pd.DataFrame(dense_rows, columns=None if dense_rows else needed), on=CELL[:2], how="left")
    scored = {name: (name, "mean") for name in study.setting.averaged_scores if name in replicas}
    errors = replicas.groupby(CELL).agg(
        test_error=("test_error", "mean"),
        test_error_sd=("test_error", "std"),
        **scored,
        replicas=("test_error", "count"),
        **_means(_columns_of(config, "replica")),
        replica_origins=("origin", lambda values: "imported" if (values == "imported").any() else "computed"),
    )
    measures = pairs.groupby(CELL).agg(
        **_means([*_PAIR_MEASURES, *_columns_of(config, "pair")]),
        pairs=("lmc", "count"),
    )
    whole = pd.DataFrame(
        [{**_where(product), "model_density": result["sparsity"]["model_density"]}
         for product, result in records["prune"]],
        columns=[*CELL, "model_density"],
    )  # fmt: skip
    table = table.merge(whole, on=CELL, how="left")
    table = table.merge(errors, on=CELL, how="left").merge(measures, on=CELL, how="left")
    if once := _columns_of(config, "triple"):
        table = table.merge(triples[[*CELL, *once]], on=CELL, how="left")
    imported = (table.pop("dense_origin") == "imported") | (table.pop("replica_origins") == "imported")
    imported |= pd.MultiIndex.from_frame(table[CELL]).isin(_imported_cells(records))
    table["origin"] = imported.map({True: "imported", False: "computed"})
    table[["replicas", "pairs"]] = table[["replicas", "pairs"]].fillna(0).astype(int)
    for position, (name, value) in enumerate(
        [("study", study.name), ("dataset", config.dataset.name), ("model", config.model), ("knob", config.knob)]
    ):
        table.insert(position, name, value)
    return table


def _imported_cells(records: dict[str, list]) -> list[tuple]:
    """Cells with an imported LMC or CKA (`three_regime.exchange.records`)."""
    return [
        tuple(_where(product)[key] for key in CELL)
        for stage in ("lmc", "cka")
        for product, result in records[stage]
        if result[PROVENANCE_KEY]["origin"] == "imported"
    ]


def _lines(setting: Setting, records: list) -> pd.DataFrame:
    curves = ["t", "train_error", "train_nll", "test_error", "test_nll"]
    wanted = (*curves, *setting.line_columns)
    parts = [
        pd.DataFrame({**_where(product), **{name: result[name] for name in wanted if name in result}})
        for product, result in records
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*CELL, "pair", *curves])


def _curves(dense: list, retrained: list) -> pd.DataFrame:
    keys = ["stage", *CELL, "replica"]
    parts = [
        pd.DataFrame(result["history"]).assign(**{"stage": stage, "density": None, "replica": None, **_where(product)})
        for stage, records in (("dense", dense), ("retrain", retrained))
        for product, result in records
    ]
    rows = [row for part in parts for row in part.to_dict("records")]
    if not rows:  # imported checkpoints have no history
        return pd.DataFrame(columns=[*keys, "epoch", "train_loss", "train_error", "test_error"])
    table = pd.DataFrame(rows)
    return table[[*keys, *(column for column in table if column not in keys)]]


def _sparsity(records: list) -> pd.DataFrame:
    rows = [
        {**_where(product), "layer": layer, **counts}
        for product, result in records
        for layer, counts in result["sparsity"]["layers"].items()
    ]
    return pd.DataFrame(rows, columns=[*CELL, "layer", "kept", "total"])


def _provenance(records: dict[str, list]) -> pd.DataFrame:
    wanted = ["origin", "device", "threads", "wall_s", "commit", "finished"]
    keys = [*CELL, "replica", "pair"]
    rows = [
        {
            "stage": stage,
            **{key: _where(product).get(key) for key in keys},
            **{key: result[PROVENANCE_KEY].get(key) for key in wanted},
            "torch": result[PROVENANCE_KEY]["versions"].get("torch"),
            "fingerprint": result[PROVENANCE_KEY]["fingerprint"],
        }
        for stage, found in records.items()
        for product, result in found
    ]
    return pd.DataFrame(rows, columns=["stage", *keys, *wanted, "torch", "fingerprint"])
