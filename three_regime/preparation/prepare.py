"""Preparation: one array file a set of images or one folder a corpus, which training maps; nothing is decoded later."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from three_regime.config import DatasetChoice
from three_regime.errors import UserError
from three_regime.study.fingerprints import fingerprint_of, stored_fingerprint
from three_regime.study.grid import prepared_path

log = logging.getLogger(__name__)


def prepare(choice: DatasetChoice | str, data: Path) -> bool:
    """Write what `prepared_path` names from ``<data>/raw/<name>``; False when it was there already.

    What it holds is its setting's (`three_regime.settings.Setting.prepare`).

    Parameters
    ----------
    choice
        A data set, or the name of one with the defaults of its settings.

    Raises
    ------
    UserError
        Naming the raw file that is missing or altered, or when the numbers of images are not the data set's.
    """
    choice = DatasetChoice(name=choice) if isinstance(choice, str) else choice
    path, raw = prepared_path(choice, data), data / "raw" / choice.name
    if is_prepared(choice, data):
        log.info("%s is there already", path)
        return False
    choice.setting.prepare(choice, path, raw, recipe(choice))
    return True


def is_prepared(choice: DatasetChoice, data: Path) -> bool:
    """Whether the prepared file is there and was prepared as it would be now."""
    return stored_fingerprint(prepared_path(choice, data)) == fingerprint_of(recipe(choice), {})


def check_prepared(choice: DatasetChoice, data: Path) -> None:
    """Refuse a file that was prepared otherwise than it would be now; one that cannot be read is its reader's matter.

    Raises
    ------
    UserError
        Naming the file and what prepares it again.
    """
    path = prepared_path(choice, data)
    if stored_fingerprint(path) is not None and not is_prepared(choice, data):
        raise UserError(
            f"{path} was prepared for another version of {choice.name} or with other settings: delete it, and run"
            " `snakemake data` or `python -m three_regime run-stage prepare`"
        )


def is_intact(choice: DatasetChoice, data: Path) -> bool:
    """Whether it is prepared (`is_prepared`) and the content of its files has the digests that they carry."""
    try:
        choice.setting.verify(prepared_path(choice, data))
    except UserError:
        return False
    return is_prepared(choice, data)


def recipe(choice: DatasetChoice) -> dict[str, Any]:
    """What changes the prepared data. How many images or held-out pairs are used later does not."""
    about = {"stage": "prepare", "version": choice.entry.version, "dataset": choice.name}
    return {**about, **choice.setting.prepare_recipe(choice)}


def chosen(recipe: Mapping[str, Any]) -> DatasetChoice:
    """The data set that a recipe describes, in full."""
    settings = {key: value for key, value in recipe.items() if key not in ("stage", "version", "dataset")}
    return DatasetChoice(name=recipe["dataset"], **settings)
