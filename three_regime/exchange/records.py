"""Import the authors' own records: test errors, lines and CKA that their scripts wrote, without the networks.

Formats and folders are those of the authors' public code (YefanZhou/ThreeRegimePruning, commit b38c972: `retrain.py`,
`utils/logger.py`, `lmc.py`, `cka_simi.py`, the shell scripts of `training_epochs` and `batch_size`, and the notebook
that draws Figure 2). Below ``cv/<dataset>/``:

- ``train/<optimiser>/lr_<rate>/<arch><depth>_width<w>_seed<s>/log.txt``: dense training, its first row before training.
- ``retrain/<the same>/unif/p_ratio_<1 - density>/epoch_<e>/retrain_epoch<n>/retrain_seed<r>/log_finetune.txt``.
- ``…/lmc/seed<a>_seed<b>/curve_points_11.npz``: errors in percent and NLL along the line.
- ``…/cka/seed<a>_seed<b>/similarity_….npy`` (plotted) or ``cka_similarity_….npy`` (public script): CKA of the inputs
  (optional), logits and softmax outputs, in this order.

With SAM, `<optimiser>` is ``SAM_rho<rho>``; in studies of the batch size the seed is followed by ``_batchsize<b>``,
``epoch_<e>`` is missing, and ``retrain_epoch<n>`` says 160 whatever the number of iterations. Below ``retrain``,
`<rate>` is that of retraining. A path without a batch size is of dense training at 64.
"""

from __future__ import annotations

import json
import logging
import math
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from three_regime.config import Config, Training
from three_regime.errors import UserError
from three_regime.jobs.job import locked
from three_regime.models import families
from three_regime.planning.pricing import pricer_of
from three_regime.study import provenance
from three_regime.study.grid import Study, study_named
from three_regime.study.products import IMPORTED, Product, job_place, products_of
from three_regime.system.files import PROVENANCE_KEY, file_digest, read_json, write_result

log = logging.getLogger(__name__)

STAGES = ("dense", "retrain", "lmc", "cka")

_NUMBER = r"(?:\d+\.?\d*|\.\d+)"
_NETWORK = re.compile(
    rf"/(?P<dataset>[^/]+)/(?P<training>train|retrain)/(?P<optimiser>[A-Za-z]+)(?:_rho(?P<rho>{_NUMBER}))?/lr_(?P<rate>[^/]+)"
    rf"/(?P<arch>[a-z0-9_]+?)(?P<depth>\d+)_width(?P<width>{_NUMBER})_seed(?P<seed>\d+)(?:_batchsize(?P<batch>\d+))?"
    r"/(?P<rest>.+)"
)
_CELL = re.compile(
    rf"(?P<allocation>[^/]+)/p_ratio_(?P<removed>{_NUMBER})(?:/epoch_(?P<epoch>\d+))?/retrain_epoch(?P<length>\d+)"
    r"/(?P<rest>.+)"
)
_FILES = {
    "retrain": re.compile(r"retrain_seed(?P<replica>\d+)/log_finetune\.txt"),
    "lmc": re.compile(r"lmc/seed(?P<first>\d+)_seed(?P<second>\d+)/curve_points_\d+\.npz"),
    "cka": re.compile(r"cka/seed(?P<first>\d+)_seed(?P<second>\d+)/(?:cka_similarity|similarity)_[^/]*\.npy"),
}
_PLOTTED = "similarity_"
"""Name of the CKA files that Figure 2 plots; they take precedence over those of the public script."""
_UNNAMED_BATCH = 64
"""Batch size of dense training in the scripts whose paths do not name it."""


@dataclass(frozen=True)
class ImportedRecords:
    """Numbers of results by stage, ``imported`` now and ``kept`` from an earlier import, and of ``ignored`` files."""

    imported: Mapping[str, int]
    kept: Mapping[str, int]
    ignored: int


def import_records(config: Config, folder: Path, name: str) -> ImportedRecords:
    """Import every record below `folder` that belongs to a study, as results with ``origin: imported``.

    The results have no weights, so tables and figures show them (`run-stage tables`), but a run of the workflow would
    train these networks. Training error and loss are those of the logs: augmented, averaged over the last epoch.

    Raises
    ------
    UserError
        When the authors ran no such study, nothing belongs to it, two files are records of the same result, a file is
        damaged, holds Python objects or does not have the study's number of epochs or points, or a place already holds
        another result. Nothing is written then.
    """
    study = study_named(config, name)
    if not study.setting.reads_foreign_checkpoints or study.knob.name not in ("epochs", "batch_size", "sam_rho"):
        raise UserError(f"{name} is not a study whose records the authors' code writes")
    _check_settings(study)
    wanted = {_key(product): product for product in products_of(study, STAGES)}
    found, others = _belonging(study, folder, wanted)
    if not found:
        raise UserError(
            f"{folder} holds no record of {name} ({others} of other studies or places); expected are paths like"
            " cv/cifar10/retrain/SGD/lr_0.1/preresnet20_width1_seed1/unif/p_ratio_0.95/epoch_10/retrain_epoch160/"
            "retrain_seed1/log_finetune.txt"
        )
    results, kept = [], Counter()
    for key, path in found.items():
        product, digest = wanted[key], file_digest(path)
        if _is_there(product, digest, path):
            kept[product.stage] += 1
            continue
        results.append((product, _read(study, product, path), path, digest))
    imported: Counter[str] = Counter()
    for product, result, path, digest in results:
        with locked(study, product.stage, *job_place(study, product)):
            if _is_there(product, digest, path):  # another process may have written it meanwhile
                kept[product.stage] += 1
                continue
            _write(product, result, path.relative_to(folder), digest)
            imported[product.stage] += 1
    log.info("%s: %d results imported, %d kept", folder, imported.total(), kept.total())
    return ImportedRecords(imported, kept, others)


def _check_settings(study: Study) -> None:
    """Raise if a setting that paths do not name is one that the authors never ran."""
    config, entry = study.config, study.config.dataset.entry
    settings = {
        "dataset.label_noise": (config.dataset.label_noise, (None,)),
        "dataset.train_images": (config.dataset.train_images, (None, entry.train_images)),
        "dataset.test_images": (config.dataset.test_images, (None, entry.test_images)),
        "measure.train_images": (config.measure.train_images, (None, entry.train_images)),
        "measure.batch_size": (config.measure.batch_size, (64,)),
        "measure.cka_images": (config.measure.cka_images, (6464,)),
        "prune.criterion": (config.prune.criterion, ("magnitude",)),
        "prune.rounds": (config.prune.rounds, (1,)),
        "retrain.start": (config.retrain.start, ("pruned",)),
        "retrain.optimiser": (config.retrain.optimiser, ("sgd",)),
        "retrain.sam_rho": (config.retrain.sam_rho, (0,)),
        "retrain.batch_size": (config.retrain.batch_size, (128 if study.knob.name == "batch_size" else 64,)),
        **_protocol("dense", config.dense, study.knob.name),
        **_protocol("retrain", config.retrain, study.knob.name),
    }
    for key, (value, theirs) in settings.items():
        if value not in theirs:
            raise UserError(
                f"{study.name} has {key} {_in_yaml(value)}, which the authors never ran: import their records into a"
                f" study with {key} {_in_yaml(theirs[0])}"
            )


def _protocol(section: str, training: Training, knob: str) -> dict[str, tuple[Any, tuple]]:
    """Settings of a training that all of the authors' runs share: key → value in the study, and theirs."""
    length = training.epochs or training.iterations
    theirs: dict[str, Any] = {
        "weight_decay": 1e-4,
        "schedule": "step",
        "milestones": (length // 2, length * 3 // 4),
        "gamma": 0.1,
        "warmup": 0,
        "clip_norm": None,
        "drop_last": knob == "batch_size",
    }
    if training.optimiser == "sgd":
        theirs["momentum"] = 0.9
    return {f"{section}.{key}": (getattr(training, key), (value,)) for key, value in theirs.items()}


def _in_yaml(value: Any) -> str:
    """A setting as one writes it in a configuration."""
    return value if isinstance(value, str) else json.dumps(value)


def _key(product: Product) -> tuple:
    at = product.coordinates
    density = round(at["density"], 6) if "density" in at else None
    return product.stage, at["seed"], float(at["temperature"]), density, at.get("replica"), tuple(at.get("pair", ()))


def _belonging(study: Study, folder: Path, wanted: Mapping[tuple, Product]) -> tuple[dict[tuple, Path], int]:
    """Key of `_key` → file of each record of the study below `folder`, and the number of other records.

    Raises
    ------
    UserError
        When two files are records of the same result.
    """
    claims: dict[tuple, list[Path]] = {}
    others = 0
    for path in sorted(each for kind in ("*.txt", "*.npz", "*.npy") for each in folder.rglob(kind)):
        match = _NETWORK.search(path.absolute().as_posix())
        if match is None:
            continue
        keys = [key for key in _keys(study, match) if key in wanted]
        others += not keys
        for key in keys:
            claims.setdefault(key, []).append(path)
    return {key: _chosen(paths) for key, paths in claims.items()}, others


def _chosen(paths: list[Path]) -> Path:
    """The file to import of those that are records of the same result."""
    found, *more = [path for path in paths if path.name.startswith(_PLOTTED)] or paths
    if more:
        raise UserError(f"{found} and {more[0]} are records of the same result: move one of them out of the folder")
    return found


def _keys(study: Study, match: re.Match[str]) -> Iterator[tuple]:
    """Keys of the products that a file belongs to: several for the log of the one dense run of the epochs knob."""
    network = match.groupdict()
    if not _same_network(study, network):
        return
    seed, rest = int(network["seed"]), network["rest"]
    if rest == "log.txt":
        for temperature in study.temperatures if study.one_dense_run else [_temperature(study, network, None)]:
            yield "dense", seed, temperature, None, None, ()
    cell = _CELL.fullmatch(rest)
    if cell is None or (cell["allocation"], study.config.prune.allocation) != ("unif", "uniform"):
        return
    if study.config.retrain.by_epoch and int(cell["length"]) != study.config.retrain.epochs:
        return
    temperature, density = _temperature(study, network, cell["epoch"]), round(1 - float(cell["removed"]), 6)
    for stage, pattern in _FILES.items():
        if at := pattern.fullmatch(cell["rest"]):
            numbers = tuple(int(value) for value in at.groups())
            replica, pair = (numbers[0], ()) if stage == "retrain" else (None, numbers)
            yield stage, seed, temperature, density, replica, pair


def _same_network(study: Study, network: Mapping[str, str | None]) -> bool:
    """Whether data, architecture and the settings of training in a path are those of the study."""
    config, spec = study.config, families.parse(study.config.model)
    rho = float(network["rho"] or 0)
    batch = network["batch"]
    training = config.dense if network["training"] == "train" else config.retrain
    checks = [
        network["dataset"] == config.dataset.name,
        str(network["arch"]).startswith(spec.family),
        (int(network["depth"] or 0), float(network["width"] or 1)) == (spec.depth, _their_width(spec)),
        (network["optimiser"] == "Adam") == (config.dense.optimiser == "adam"),
        _is_number(str(network["rate"]), training.learning_rate),
        study.knob.name == "sam_rho" or rho == config.dense.sam_rho,
        study.knob.name == "sam_rho" or (batch is not None) == (study.knob.name == "batch_size"),
        study.knob.name == "batch_size" or int(batch or _UNNAMED_BATCH) == config.dense.batch_size,
    ]
    return all(checks)


def _is_number(text: str, value: float) -> bool:
    """Whether a text is this number, however it is written."""
    try:
        return math.isclose(float(text), value)
    except ValueError:
        return False


def _their_width(spec: families.ModelSpec) -> float:
    """Their ``width`` is the factor of PreResNet; other families do not vary it."""
    return spec.width if spec.family == "preresnet" else 1.0


def _temperature(study: Study, network: Mapping[str, str | None], epoch: str | None) -> float | None:
    """Temperature in a path; None if it has none, or is of another stop epoch of a SAM run."""
    if study.knob.name == "batch_size":
        return float(network["batch"] or 0)
    if study.knob.name == "sam_rho":
        other = epoch is not None and int(epoch) != study.config.dense.epochs
        return None if other else float(network["rho"] or 0)
    return None if epoch is None else float(epoch)


def _is_there(product: Product, digest: str, source: Path) -> bool:
    """Whether the same record has been imported before.

    Raises
    ------
    UserError
        When the place holds another result.
    """
    path = product.outputs[0]
    if not path.exists():
        return False
    record = read_json(path).get(PROVENANCE_KEY, {})
    same = record.get("source_sha256") == digest and record.get("fingerprint") == product.imported_fingerprint
    if not same:
        raise UserError(f"{path} exists already; delete it first to replace it by {source}")
    return True


def _read(study: Study, product: Product, path: Path) -> dict[str, Any]:
    match product.stage:
        case "dense":
            return _of_dense_log(study, product, path)
        case "retrain":
            return _of_retraining_log(study, path)
        case "lmc":
            return _of_line(study, path)
    return _of_cka(path)


def read_log(path: Path) -> list[dict[str, float]]:
    """Rows of a log of the authors' ``Logger``: column name → value; tabs after each value, also the last.

    Raises
    ------
    UserError
        When it is not such a log, is cut off, or holds values that are not finite.
    """
    try:
        head, *lines = path.read_text(encoding="utf-8").splitlines()
        names = head.rstrip("\t").split("\t")
        rows = [[float(value) for value in line.rstrip("\t").split("\t")] for line in lines]
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a log of training: {error}") from error
    missing = {"Train Loss", "Valid Loss", "Train Acc.", "Valid Acc."} - set(names)
    if missing or not rows or any(len(row) != len(names) for row in rows) or not np.isfinite(rows).all():
        what = f"it lacks the columns {', '.join(sorted(missing))}" if missing else "it is empty, cut off or not finite"
        raise UserError(f"{path} is not a log of training: {what}")
    return [dict(zip(names, row, strict=True)) for row in rows]


def _history(rows: list[dict[str, float]]) -> list[dict[str, Any]]:
    return [
        {
            "epoch": number,
            "learning_rate": row.get("Learning Rate", 0.0),
            "train_loss": row["Train Loss"],
            "train_error": _fraction(row["Train Acc."]),
            "test_error": _fraction(row["Valid Acc."]),
            "test_nll": row["Valid Loss"],
        }
        for number, row in enumerate(rows, 1)
    ]


def _fraction(accuracy: float) -> float:
    """Error (fraction) from an accuracy in percent, without the noise of the subtraction."""
    return round(1 - accuracy / 100, 10)


def _of_history(history: list[dict[str, Any]]) -> dict[str, Any]:
    last = history[-1]
    return {
        "epoch": last["epoch"],
        "train": {"error": last["train_error"], "nll": last["train_loss"]},
        "test": {"error": last["test_error"], "nll": last["test_nll"]},
        "history": history,
    }


def _of_dense_log(study: Study, product: Product, path: Path) -> dict[str, Any]:
    history = _history(read_log(path)[1:])  # the first row is before training
    epochs = pricer_of(study).dense_epochs(product.coordinates["temperature"])
    if len(history) < epochs or not (study.one_dense_run or len(history) == epochs):
        raise UserError(f"{path} has {len(history)} epochs; the study trains for {epochs}")
    return _of_history(history[:epochs])


def _of_retraining_log(study: Study, path: Path) -> dict[str, Any]:
    history, epochs = _history(read_log(path)), pricer_of(study).retrain_epochs
    if len(history) != epochs:
        raise UserError(f"{path} has {len(history)} epochs; the study retrains for {epochs}")
    found = _of_history(history)
    return {**found, "test_error": study.setting.retrained_error(found, history[-study.config.measure.last_epochs :])}


def _of_line(study: Study, path: Path) -> dict[str, Any]:
    from three_regime.landscape.mode_connectivity import Point, line
    from three_regime.tasks.interface import Metrics

    names = ("tr_err", "tr_nll", "te_err", "te_nll")
    curves = _numbers(path, names)
    points = study.config.measure.points
    if any(curves[name].shape != (points,) for name in names):
        raise UserError(f"{path} does not have the study's {points} points (measure.points)")
    rows = zip(*(curves[name].tolist() for name in names), strict=True)
    return line(
        [
            Point(Metrics(round(train / 100, 10), train_nll), Metrics(round(test / 100, 10), test_nll))
            for train, train_nll, test, test_nll in rows
        ]
    )


def _of_cka(path: Path) -> dict[str, Any]:
    values = _numbers(path, ("cka",))["cka"]
    if values.ndim != 1 or values.size < 2 or (np.abs(values) > 1 + 1e-4).any():
        raise UserError(f"{path} does not hold the CKA of logits and softmax outputs (a list of at least two numbers)")
    return {"logits": float(values[-2]), "softmax": float(values[-1])}


def _numbers(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Arrays of an NPZ file, or the one of an NPY file under the only name, as float64; nothing is unpickled.

    Raises
    ------
    UserError
        When the file is damaged, lacks an array, holds Python objects, or values that are not finite.
    """
    try:
        with open(path, "rb") as file:
            held = np.load(file, allow_pickle=False)
            several = isinstance(held, np.lib.npyio.NpzFile)
            if several != (path.suffix == ".npz"):
                raise UserError(f"{path} is {'an NPZ' if several else 'no NPZ'} file; rename or save it again")
            arrays = {name: held[name] for name in names} if several else {names[0]: held}
            if other := [name for name, array in arrays.items() if array.dtype.kind not in "fiu"]:
                raise UserError(f"{path}: {other[0]} holds {arrays[other[0]].dtype}, not real numbers")
            found = {name: np.asarray(array, np.float64) for name, array in arrays.items()}
    except KeyError as error:
        raise UserError(f"{path} lacks an array: {error.args[0]}") from error
    except ValueError as error:
        if "pickle" not in str(error):
            raise UserError(f"{path} cannot be read: {error}") from error
        raise UserError(
            f"{path} is damaged or holds Python objects, which are not unpickled because that can run any code; if you"
            " trust the file, load it with numpy.load(…, allow_pickle=True) and save its numbers again as float arrays"
        ) from error
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    for name, array in found.items():
        if not np.isfinite(array).all():
            raise UserError(f"{path}: {name} holds values that are not finite")
    return found


def _write(product: Product, result: dict[str, Any], source: Path, digest: str) -> None:
    record = provenance.record_of_elsewhere(fingerprint=product.imported_fingerprint, recipe=product.recipe)
    record |= {"origin": IMPORTED, "source": source.as_posix(), "source_sha256": digest}
    write_result(product.outputs[0], {**product.coordinates, **result, PROVENANCE_KEY: record})
