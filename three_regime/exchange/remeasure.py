"""Recompute LMC and CKA of an archived study from the weights in its export."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from three_regime.errors import UserError
from three_regime.exchange.exported_settings import read_settings
from three_regime.exchange.single_checkpoints import cka_of_files, lmc_of_files
from three_regime.study.grid import Study, planned
from three_regime.study.outputs import SETTINGS_FILE
from three_regime.system import manifest
from three_regime.system.files import file_digest, read_json, read_table, write_csv, write_json

log = logging.getLogger(__name__)

TABLE = "remeasured.csv"
ASKED = "asked.json"


@dataclass(frozen=True)
class Pair:
    """Two archived networks of a cell, their row of ``pairs.csv``, and their folder in the archive (`place`)."""

    study: Study
    row: pd.Series
    place: Path
    first: Path
    second: Path


def remeasure(
    folder: Path, data: Path, out: Path, *, train_images: int | None = None, test_images: int | None = None
) -> pd.DataFrame:
    """Measure every pair of networks in an export; pairs whose files exist in `out` are kept.

    Parameters
    ----------
    folder
        An unpacked export with weights (``export --weights``).
    data
        Folder of the raw images, or of the prepared corpus.
    out
        Folder for ``<study>/<cell>/<pair>/{lmc,cka}.json``, ``remeasured.csv`` and ``asked.json``, which says what the
        folder is for.
    train_images, test_images
        Number of images or sentence pairs to use; None: as the study. With other numbers, results differ from the
        archived ones.

    Returns
    -------
    DataFrame
        One row per pair: ``study``, ``dense_seed``, ``temperature``, ``density``, ``pair``, measured ``lmc`` and
        ``cka_softmax``, and ``lmc_archived`` and ``cka_softmax_archived``.

    Raises
    ------
    UserError
        When the export contains no pair of networks that can be measured, a file of it was altered, or `out` holds
        measurements of another export or with other numbers of images.
    """
    manifest.check(folder)
    pairs = list(archived_pairs(folder))
    if not pairs:
        raise UserError(f"{folder} contains no two networks of a cell that can be measured; see `export --weights`")
    _keep_apart(folder, pairs, out, train_images, test_images)
    rows = []
    for pair in pairs:
        _measure(pair, data, out / pair.place, train_images, test_images)
        lmc, cka = (read_json(out / pair.place / f"{name}.json") for name in ("lmc", "cka"))
        log.info("%s: LMC %+.4f, CKA %.4f", pair.place, lmc["lmc"], cka["softmax"])
        rows.append(
            {
                "study": pair.study.name,
                **pair.row[["dense_seed", "temperature", "density", "pair"]],
                "lmc": lmc["lmc"],
                "lmc_archived": pair.row["lmc"],
                "cka_softmax": cka["softmax"],
                "cka_softmax_archived": pair.row["cka_softmax"],
            }
        )
    table = pd.DataFrame(rows)
    write_csv(out / TABLE, table)
    return table


def _keep_apart(folder: Path, pairs: list[Pair], out: Path, train_images: int | None, test_images: int | None) -> None:
    """Write what `out` is for; raise if it holds other measurements."""
    networks = sorted({path for pair in pairs for path in (pair.first, pair.second)})
    digests = "".join(f"{path.relative_to(folder).as_posix()} {file_digest(path)}\n" for path in networks)
    asked = {
        "config.yaml": file_digest(folder / SETTINGS_FILE),
        "networks": hashlib.sha256(digests.encode()).hexdigest(),
        "train_images": train_images,
        "test_images": test_images,
    }
    path = out / ASKED
    if path.is_file() and read_json(path) != asked:
        raise UserError(
            f"{out} holds measurements of another export or with other numbers of images; use another --out"
        )
    out.mkdir(parents=True, exist_ok=True)
    write_json(path, asked)


def archived_pairs(folder: Path) -> Iterator[Pair]:
    """Yield the pairs in an export's tables whose networks it contains, but for studies with label noise."""
    for study in planned(read_settings(folder)):
        if study.config.dataset.label_noise:  # single checkpoints do not know its labels
            log.warning("%s has label noise and is left out: run its stages lmc and cka instead", study.name)
            continue
        table = folder / study.name / "pairs.csv"
        columns = ["dense_seed", "temperature", "density", "lmc", "cka_softmax"]
        for number, (_, row) in enumerate(read_table(table, ["pair"], columns).iterrows(), 2):
            if not _is_of(study, row):
                raise UserError(f"{table}, line {number}: not a pair of {study.name} with the settings in config.yaml")
            cell = study.at(int(row["dense_seed"]), row["temperature"], row["density"])
            place = Path(study.name) / cell.relative_to(study.folder)
            first, second = (
                folder / place / f"replica{replica}" / "retrained.safetensors" for replica in row["pair"].split("-")
            )
            if first.is_file() and second.is_file():
                yield Pair(study, row, place / f"pair{row['pair']}", first, second)


def _is_of(study: Study, row: pd.Series) -> bool:
    """Whether a row's seed, temperature, density and pair are the study's own: paths are made of them."""
    config = study.config
    return (
        row["dense_seed"] in config.dense_seeds
        and row["temperature"] in config.temperatures
        and any(np.isclose(row["density"], density, rtol=0, atol=1e-6) for density in config.densities)
        and row["pair"] in {f"{first}-{second}" for first, second in study.pairs}
    )


def _measure(pair: Pair, data: Path, target: Path, train_images: int | None, test_images: int | None) -> None:
    """Write ``lmc.json`` and ``cka.json`` of a pair unless they exist."""
    choice, measure = pair.study.config.dataset, pair.study.config.measure
    setting = pair.study.setting
    train, test = setting.line_examples(choice, measure)
    train, test = train_images or train, test_images or test
    among = train_images or setting.cka_examples(choice, measure)
    files = (pair.first, pair.second, pair.study.config.model, choice.name, data)
    if not (target / "lmc.json").is_file():
        lmc_of_files(
            *files,
            target / "lmc.json",
            train_images=train,
            test_images=test,
            batch_size=measure.batch_size,
            points=measure.points,
            at_most=not (train_images or test_images),
        )
    if not (target / "cka.json").is_file():
        cka_of_files(*files, target / "cka.json", train_images=among, measure=measure)
