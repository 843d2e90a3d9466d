"""Adding a setting takes one module and one entry of ``SETTINGS``; no other code may test the kind of data.

This module is the example: points of two Gaussians, classified by a network with one hidden layer. Its data set and
its network family are one entry each, as in every setting.
"""

from __future__ import annotations

import ast
import json
import math
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from matplotlib.text import Text
from torch import Tensor

from three_regime import settings
from three_regime.analysis import regimes, seed_means, tables
from three_regime.config import Config, DatasetChoice, Measurement, StudyConfig, Training, resolve
from three_regime.datasets.registry import DATASETS
from three_regime.errors import UserError
from three_regime.exchange.importing import import_checkpoint
from three_regime.exchange.single_checkpoints import cka_of_files, lmc_of_files
from three_regime.figures.study import Tables, drawn
from three_regime.jobs.run import Outcome, run_job
from three_regime.models import families
from three_regime.models.families import Family
from three_regime.models.sizes import Size
from three_regime.planning.plan import make
from three_regime.planning.pricing import RATES, read_rates
from three_regime.preparation.prepare import chosen, is_intact, prepare, recipe
from three_regime.random_streams import Streams
from three_regime.settings import Opened, Setting
from three_regime.study.fingerprints import fingerprint_of
from three_regime.study.grid import Study, study_named
from three_regime.study.products import pack
from three_regime.study.results import FINGERPRINT_KEY, read_result
from three_regime.study.stages import STAGES
from three_regime.system.files import Arrays, read_arrays, tensor_digest, write_arrays, write_csv
from three_regime.tasks.interface import Metrics, Split, Weights
from three_regime.tasks.pricing import Pricer, Speed, Work
from three_regime.tasks.rates import Rates
from three_regime.workflow import rule_parts
from three_regime.workflow.job_resources import first_runtime

LIBRARY = Path(settings.__file__).parent
KIND = "points"
POINTS = {"train": 96, "test": 64}
STUDY = {
    "dataset": "gaussians",
    "model": "hidden-12",
    "knob": "batch_size",
    "temperatures": [8, 16],
    "densities": [0.25, 0.75],
    "dense_seeds": [1],
    "replicas": [1, 2],
    "dense": {"epochs": 2},
    "retrain": {"epochs": 2, "batch_size": 16},
    "measure": {"points": 3, "last_epochs": 1},
}


# The setting


@dataclass(frozen=True)
class Gaussians:
    """The data set."""

    kind: ClassVar[str] = KIND
    chance_error: ClassVar[float] = 0.5
    sources: ClassVar[tuple[str, ...]] = ()

    name: str = "gaussians"
    note: str = "two Gaussians"
    version: int = 1

    def read(self, raw: Path) -> Arrays:
        generator = Streams(("gaussians",)).generator("points")
        arrays: Arrays = {}
        for split, count in POINTS.items():
            labels = np.arange(count) % 2
            centres = np.stack([labels * 2.0 - 1, np.zeros(count)], 1)
            arrays[f"{split}_points"] = (centres + generator.standard_normal((count, 2))).astype(np.float32)
            arrays[f"{split}_labels"] = labels
        return arrays


FAMILY = Family(
    name="hidden", form="hidden-<n>", description="n hidden units", width_letter="", default_width=1,
    nearest_depth=lambda depth: max(1, depth), nearest_width=lambda width: 1, takes_image_size=lambda side: False,
    image_sizes="no images:", kind=KIND,
)  # fmt: skip


class PointPricer(Pricer):
    @property
    def network(self) -> Size:
        units = families.parse(self.study.config.model).depth
        return Size(5 * units, 4 * units, 3, 2, 0, 4 * units)

    def steps(self, training: Training) -> int:
        return training.steps_on(POINTS["train"])

    def epochs(self, training: Training) -> int:
        return training.epochs_on(POINTS["train"])

    def data_bytes(self) -> float:
        return 16.0 * sum(POINTS.values())

    def _training(self, training: Training, stop: int | None, last_epochs: int = 0) -> Work:
        epochs = stop or self.epochs(training)
        return Work(train=epochs * POINTS["train"], evaluate=epochs * POINTS["test"])

    def _measured(self) -> Work:
        return Work(evaluate=sum(POINTS.values()))

    def _cka(self, replicas: int) -> Work:
        return Work(evaluate=replicas * POINTS["train"])

    def _lmc(self, points: int, pairs: int) -> Work:
        return Work(evaluate=points * sum(POINTS.values()))


class PointSetting(Setting):
    kind = KIND
    title = "telling points apart"
    does = "tells points apart"
    unit = "points"
    inputs = "training points"
    measure_keys = ("last_epochs",)
    averaged_scores = ("margin",)

    def check(self, study: StudyConfig) -> None:
        for key, training in study.batches():
            if training.batch_size > POINTS["train"]:
                raise ValueError(f"{key} {training.batch_size} exceeds the {POINTS['train']} points")

    def prepare(self, choice: DatasetChoice, path: Path, raw: Path, recipe: dict[str, Any]) -> None:
        write_arrays(path, choice.entry.read(raw), {FINGERPRINT_KEY: fingerprint_of(recipe, {})})

    def line_examples(self, choice: DatasetChoice, measure: Measurement) -> tuple[int | None, int | None]:
        return None, None

    def cka_recipe(self, measure: Measurement) -> dict[str, Any]:
        return {self.unit: POINTS["train"]}

    def score_columns(self, result: Mapping[str, Any]) -> dict[str, Any]:
        return {"margin": result["scores"]["margin"]}

    def words(self, figure: str) -> Sequence[tuple[str, str]]:
        return (("test error\n(%)", "wrong points\n(%)"), ("test error (%)", "wrong points (%)"))

    def pricer(self, study: Study) -> PointPricer:
        return PointPricer(study)

    def speed(self, rates: Rates, study: Study) -> Speed | None:
        return Speed(1e4, 1e5, math.inf)

    def task(self, study: Study, device: str) -> PointTask:
        return PointTask(read_arrays(study.prepared), study.config.model, device)

    def opened(self, dataset: str, folder: Path) -> Opened:
        arrays = DATASETS[dataset].read(folder)
        return Opened(
            POINTS, lambda: tensor_digest(arrays), lambda model, device, train, test: PointTask(arrays, model, device)
        )


SETTING = PointSetting()


@dataclass(frozen=True)
class PointEpoch:
    batches: list[tuple[Tensor, Tensor]]

    @property
    def steps(self) -> int:
        return len(self.batches)

    def micro_batches(self, step: int) -> tuple[tuple[Tensor, Tensor]]:
        return (self.batches[step],)


class PointTask:
    unit = "points"
    buffers: ClassVar = {}
    prunable = ("inner", "outer")

    def __init__(self, arrays: Mapping[str, np.ndarray], model: str, device: str) -> None:
        self.device = torch.device(device)
        self.data = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
        units = families.parse(model).depth
        self.parameters = {"inner": (units, 2), "bias": (units,), "outer": (2, units)}
        self.comparable = POINTS["train"]

    def initial_weights(self, streams: Streams) -> Arrays:
        draw = streams.generator("initialisation").standard_normal
        return {name: draw(shape, dtype=np.float32) for name, shape in self.parameters.items()}

    def load(self, arrays: Mapping[str, np.ndarray], source: str) -> dict[str, Tensor]:
        return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}

    def epoch(self, streams: Streams, epoch: int, training: Training) -> PointEpoch:
        order = torch.from_numpy(streams.generator("order", epoch).permutation(POINTS["train"]))
        points, labels = self.data["train_points"], self.data["train_labels"]
        return PointEpoch([(points[rows], labels[rows]) for rows in order.split(training.batch_size)])

    def _logits(self, weights: Weights, points: Tensor) -> Tensor:
        return F.linear(torch.tanh(F.linear(points, weights["inner"], weights["bias"])), weights["outer"])

    def loss(self, parameters: Weights, buffers: Weights, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, int]:
        logits = self._logits(parameters, batch[0])
        return F.cross_entropy(logits, batch[1]), (logits.argmax(1) != batch[1]).sum(), len(batch[1])

    def targets(self, batch: tuple[Tensor, Tensor]) -> int:
        return len(batch[1])

    def halves(self, batch: tuple[Tensor, Tensor]) -> None:
        return None

    def evaluate(self, weights: Weights, split: Split, images: int | None = None) -> Metrics:
        labels = self.data[f"{split}_labels"]
        logits = self._logits(weights, self.data[f"{split}_points"])
        wrong = (logits.argmax(1) != labels).double().mean()
        return Metrics(wrong.item(), F.cross_entropy(logits, labels).item())

    def reestimate(self, weights: Weights, batch_size: int, images: int | None = None) -> dict[str, Tensor]:
        return dict(weights)

    def outputs(self, weights: Weights, images: int) -> Iterator[tuple[str, np.ndarray]]:
        logits = self._logits(weights, self.data["train_points"][:images])
        yield "logits", logits.numpy()
        yield "softmax", logits.softmax(1).numpy()

    def scores(self, weights: Weights, splits: Sequence[str] = ()) -> dict[str, Any]:
        logits = self._logits(weights, self.data["test_points"])
        return {"margin": (logits[:, 0] - logits[:, 1]).abs().mean().item()}


# The tests


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one entry, and those of a data set and a family."""
    monkeypatch.setitem(settings.SETTINGS, KIND, __name__)
    monkeypatch.setitem(DATASETS, "gaussians", Gaussians())
    monkeypatch.setitem(families.FAMILIES, "hidden", FAMILY)


def config(folder: Path, **changes: Any) -> Config:
    return resolve({
        "results": str(folder / "results"),
        "run": ["points"],
        "published": False,
        "device": "cpu",
        "threads": 1,
        "kernels": "plain",
        "data": {"folder": str(folder / "data")},
        "studies": {"points": {**STUDY, **changes}},
    })  # fmt: skip


def test_it_is_planned_asked_for_and_prepared(tmp_path: Path) -> None:
    made = config(tmp_path)
    study = study_named(made, "points")
    rows = [row for row in make(made, [], read_rates(RATES, "cpu")).rows if row.stage in STAGES]
    assert {row.stage for row in rows} == {*STAGES} - {"measures"}, "additional measures are off by default"
    assert all(row.seconds and row.done < row.members for row in rows)
    assert first_runtime(study, "retrain", 8, None, 1) > 0
    assert "gaussians" in rule_parts.prepared_by_name() and rule_parts.prepared_as_chosen([study]) == []
    assert not is_intact(study.config.dataset, study.data)
    assert prepare(chosen(recipe(study.config.dataset)), study.data)
    assert study.prepared.name == "gaussians.safetensors" and is_intact(study.config.dataset, study.data)


def test_its_recipes_hold_nothing_of_other_settings(tmp_path: Path) -> None:
    study = study_named(config(tmp_path), "points")
    shared = {"stage", "version", "model", "dataset"}
    own = {
        "dense": {"training", "streams"},
        "prune": {"density", "allocation"},
        "retrain": {"training", "streams", "last_epochs"},
        "lmc": {"points"},
        "cka": {"points"},
    }
    for stage, keys in own.items():
        wanted = keys | (shared if stage != "prune" else shared - {"dataset"})
        assert set(pack(study, stage, 1, 8)[0].recipe) == wanted
        assert rule_parts.settings_fingerprint(study, stage, 8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "preresnet-20"}, "takes images, but gaussians holds points"),
        ({"dataset": {"name": "gaussians", "train_images": 5}}, "train_images does not apply to gaussians"),
        ({"dataset": {"name": "gaussians", "subwords": 50}}, "subwords does not apply to gaussians"),
        ({"measure": {"cka_images": 5}}, "measure.cka_images does not apply to gaussians"),
        ({"measure": {"beam": 5}}, "measure.beam does not apply to gaussians"),
        ({"dense": {"epochs": 2, "dropout": 0.1}}, "dense.dropout 0.1 is for translation only"),
        ({"knob": "dropout", "temperatures": [0.1]}, "knob dropout is for translation only"),
        ({"temperatures": [97]}, "dense.batch_size 97 exceeds the 96 points"),
        ({"dataset": "digits", "model": "hidden-12"}, "takes points, but digits holds images"),
    ],
)  # fmt: skip
def test_its_checks_and_those_of_others_hold(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        config(tmp_path, **changes)


def test_it_goes_through_the_whole_method(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    made = config(tmp_path)
    study = study_named(made, "points")
    prepare(study.config.dataset, study.data)
    members = {"dense": 1, "prune": 2, "retrain": 4, "lmc": 2, "cka": 2}
    for stage, count in members.items():
        for temperature in study.temperatures:
            assert run_job(made, "points", stage, 1, temperature) == Outcome(count, 0)
    assert all(row.done == row.members for row in make(made, [], None).rows if row.stage in STAGES)

    retrained = pack(study, "retrain", 1, 8)
    result = read_result(retrained[0].outputs[0]).content
    assert result["test_error"] == result["history"][-1]["test_error"] and result["scores"]["margin"] > 0
    similar = read_result(pack(study, "cka", 1, 8)[0].outputs[0]).content
    assert similar["points"] == POINTS["train"] and 0 < similar["softmax"] <= 1

    tables.write(study)
    cells = pd.read_csv(study.folder / "cells.csv")
    measured = ["test_error", "lmc", "cka_softmax", "margin", "dense_margin"]
    assert len(cells) == 4 and cells[measured].notna().to_numpy().all()
    assert not any("bleu" in column for column in cells)
    grid = seed_means.grid(seed_means.read_cells(study.folder / "cells.csv"))
    write_csv(study.folder / "grid.csv", grid)
    write_csv(study.folder / "regimes.csv", regimes.label(grid, study.thresholds))
    write_csv(study.folder / "boundaries.csv", regimes.boundaries(grid, study.thresholds))
    for name in ("test_error", "training_curves"):
        figure, _ = drawn(Tables(study.folder, study.thresholds), name)
        written = [text.get_text() for text in figure.findobj(Text)]
        assert any("wrong points" in text for text in written) and not any("test error" in text for text in written)

    first, second = (product.outputs[-1] for product in retrained[:2])
    about = (first, second, "hidden-12", "gaussians", tmp_path)
    by_hand = cka_of_files(*about, tmp_path / "cka.json")
    assert by_hand["softmax"] == pytest.approx(similar["softmax"]) and by_hand["points"] == POINTS["train"]
    line = lmc_of_files(*about, tmp_path / "lmc.json", train_images=None, test_images=None, batch_size=8, points=3)
    kept = json.loads(pack(study, "lmc", 1, 8)[0].outputs[0].read_text())
    assert line["lmc"] == pytest.approx(kept["lmc"])
    with pytest.raises(UserError, match="points tells points apart, and only image networks can be imported"):
        import_checkpoint(made, first, "points", seed=1, temperature=8)


KINDS = {"images", "text", "tokens", "scores"}


def _kinds_told_apart(source: str) -> list[str]:
    """Comparisons of anything with the kind of a setting, its unit, or what only one of them measures."""
    return [
        ast.unparse(node)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Compare)
        for part in ast.walk(node)
        if isinstance(part, ast.Constant) and part.value in KINDS
    ]


@pytest.mark.parametrize("line", ['if a.kind == "text": x', 'x = 1 if "scores" in y else 2', 'u in ("images",)'])
def test_a_test_of_the_kind_is_found(line: str) -> None:
    assert len(_kinds_told_apart(line)) == 1


def test_no_code_outside_tasks_tells_kinds_apart() -> None:
    modules = [path for path in LIBRARY.rglob("*.py") if "tasks" not in path.relative_to(LIBRARY).parts]
    assert len(modules) > 100
    texts = {str(path.relative_to(LIBRARY)): path.read_text() for path in modules}
    found = {
        path: _kinds_told_apart(text) for path, text in texts.items() if any(f'"{kind}"' in text for kind in KINDS)
    }
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_no_rule_tells_kinds_apart() -> None:
    rules = list((LIBRARY.parent / "rules").glob("*.smk"))
    assert rules and not [path.name for path in rules if ".kind" in path.read_text()]


def test_the_torch_free_halves_import_no_torch() -> None:
    program = (
        "import sys; from three_regime.settings import all_settings; from three_regime.config import load\n"
        "from three_regime.study.grid import study_named\n"
        "made = load(['config.yaml'])\n"
        "for name in made.studies: study_named(made, name).setting.pricer(study_named(made, name))\n"
        "assert len(all_settings()) == 2 and 'torch' not in sys.modules and 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=LIBRARY.parent)
