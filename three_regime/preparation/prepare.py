"""Prepare data: one array file per image data set or one folder per corpus, memory-mapped by training."""

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
    """Prepare ``<data>/raw/<name>`` into `prepared_path`; return False if that is up to date.

    The format depends on the setting (`three_regime.settings.Setting.prepare`).

    Parameters
    ----------
    choice
        A data set, or the name of one with default settings.

    Raises
    ------
    UserError
        When a raw file is missing or altered, or a split does not have the expected number of images.
    """
    choice = DatasetChoice(name=choice) if isinstance(choice, str) else choice
    path, raw = prepared_path(choice, data), data / "raw" / choice.name
    if is_prepared(choice, data):
        log.info("%s is up to date", path)
        return False
    choice.setting.prepare(choice, path, raw, recipe(choice))
    return True


def is_prepared(choice: DatasetChoice, data: Path) -> bool:
    """Whether the prepared file exists and carries the fingerprint of the current settings."""
    return stored_fingerprint(prepared_path(choice, data)) == fingerprint_of(recipe(choice), {})


def check_prepared(choice: DatasetChoice, data: Path) -> None:
    """Raise if a file was prepared with other settings; unreadable files are left to their reader.

    Raises
    ------
    UserError
        The message names the file and how to prepare it again.
    """
    path = prepared_path(choice, data)
    if stored_fingerprint(path) is not None and not is_prepared(choice, data):
        raise UserError(
            f"{path} was prepared for another version of {choice.name} or with other settings: delete it, and run"
            " `snakemake data` or `python -m three_regime run-stage prepare` with the same --configfile"
        )


def is_intact(choice: DatasetChoice, data: Path) -> bool:
    """Whether the data are prepared (`is_prepared`) and match their digests."""
    try:
        choice.setting.verify(prepared_path(choice, data))
    except UserError:
        return False
    return is_prepared(choice, data)


def recipe(choice: DatasetChoice) -> dict[str, Any]:
    """Settings that change the prepared data, in contrast to the number of images or held-out pairs used."""
    about = {"stage": "prepare", "version": choice.entry.version, "dataset": choice.name}
    return {**about, **choice.setting.prepare_recipe(choice)}


def chosen(recipe: Mapping[str, Any]) -> DatasetChoice:
    """The data set described by a recipe, without limits on its size."""
    other = ("stage", "version", "dataset", "preparation")
    settings = {key: value for key, value in recipe.items() if key not in other}
    return DatasetChoice(name=recipe["dataset"], **settings)
