"""Training curves as TensorBoard event files, for ``tensorboard --logdir FOLDER``.

tensorboardX encodes them: torch's own writer needs all of TensorBoard (a server with a dozen packages of its own), and
writes the current time and the host into names and events, so equal curves would give different files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from three_regime.config.knobs import Knob, density_folder

FOLDER = "tensorboard"
"""Folder of an export with the event files of its studies."""

_RUN = ["stage", "dense_seed", "temperature", "density", "replica"]
_STEP = "epoch"
_NOT_DRAWN = {*_RUN, _STEP, "iterations"}
_VERSION = "brain.Event:2"
"""First event of every file, which TensorBoard asks for."""


def write(folder: Path, curves: pd.DataFrame, provenance: pd.DataFrame, knob: Knob) -> list[Path]:
    """Write one event file for each dense training and each retraining of a study.

    Parameters
    ----------
    folder
        Each training gets a folder below it, named like that of its result (``seed1/epochs040/dense``,
        ``seed1/epochs040/density005/replica1``); TensorBoard shows such folders as runs.
    curves
        ``curves.csv``. The step is the epoch, and each measured column a tag: ``train/loss``, ``test/error``, …;
        ``learning_rate``.
    provenance
        ``provenance.csv``, for the time of each training's end, which all its events carry.

    Returns
    -------
    The files, in the order of the curves.
    """
    ends = {_key(row): row["finished"] for row in provenance.to_dict("records")}
    paths = []
    for _, rows in curves.groupby(_RUN, sort=False, dropna=False):
        first = rows.iloc[0].to_dict()
        end = ends.get(_key(first))
        ended = datetime.fromisoformat(end).timestamp() if isinstance(end, str) else 0.0
        path = folder / _place(first, knob) / f"events.out.tfevents.{ended:.0f}.three_regime"
        _write(path, rows.drop(columns=_RUN), ended)
        paths.append(path)
    return paths


def tag(column: str) -> str:
    """Tag of a column of ``curves.csv``: ``train_loss`` is ``train/loss``, so that TensorBoard groups them."""
    before, _, after = column.partition("_")
    return f"{before}/{after}" if before in ("train", "test") and after else column


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(None if pd.isna(row[name]) else row[name] for name in _RUN)


def _place(row: Mapping[str, Any], knob: Knob) -> Path:
    at = Path(f"seed{int(row['dense_seed'])}") / knob.folder(row["temperature"])
    if row["stage"] == "dense":
        return at / "dense"
    return at / density_folder(row["density"]) / f"replica{int(row['replica'])}"


def _write(path: Path, rows: pd.DataFrame, ended: float) -> None:
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import RecordWriter

    path.parent.mkdir(parents=True, exist_ok=True)
    writer = RecordWriter(str(path))
    try:
        writer.write(Event(wall_time=ended, file_version=_VERSION).SerializeToString(deterministic=True))
        for event in _events(rows, ended):
            writer.write(event.SerializeToString(deterministic=True))
    finally:
        writer.close()


def _events(rows: pd.DataFrame, ended: float) -> Iterator[Any]:
    """One event for each epoch, with every value that was measured then."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.summary_pb2 import Summary

    for row in rows.to_dict("records"):
        values = [
            Summary.Value(tag=tag(name), simple_value=value)
            for name, value in row.items()
            if name not in _NOT_DRAWN and isinstance(value, int | float) and not pd.isna(value)
        ]
        if values:
            yield Event(wall_time=ended, step=int(row[_STEP]), summary=Summary(value=values))
