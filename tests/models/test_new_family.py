"""Adding a network family takes one `Family` and one module, with or without its layers."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from tiny_study import NAME, ROOT, config, run, study_of
from torch import Tensor, nn

from three_regime.jobs.run import Outcome
from three_regime.models import counting, families
from three_regime.models.families import Family
from three_regime.models.initialisation import Initialisation
from three_regime.models.sizes import size
from three_regime.planning import plan_table
from three_regime.planning.plan import Plan, make
from three_regime.planning.pricing import read_rates
from three_regime.study.stages import STAGES
from three_regime.tasks.images.task import of_study
from three_regime.workflow.job_resources import first_runtime

MODEL = "plain-2"


class Plain(nn.Module):
    initialisation = Initialisation(convolution="out", linear="uniform")

    def __init__(self, depth: int, classes: int, channels: int) -> None:
        super().__init__()
        widths = [channels, *[8] * depth]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 3, padding=1, bias=False) for before, after in itertools.pairwise(widths)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(8) for _ in range(depth))
        self.fc = nn.Linear(8, classes)

    def forward(self, images: Tensor) -> Tensor:
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            images = norm(convolution(images)).relu()
        return self.fc(images.mean((2, 3)))


def build(depth: int, width: float, classes: int, channels: int) -> nn.Module:
    return Plain(depth, classes, channels)


def layers(depth: int, width: float, classes: int, channels: int, image_size: int) -> list[counting.Layer]:
    found = []
    for before in [channels, *[8] * (depth - 1)]:
        found += [counting.convolution(before, 8, 3, image_size), counting.norm(8)]
    return [*found, counting.classifier(8, classes)]


@pytest.fixture(params=[None, layers], ids=["uncounted", "counted"])
def family(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Family:
    """The entry and the module that the README asks for."""
    entry = Family(
        name="plain", form="plain-<n>", description="n convolutions", width_letter="", default_width=1,
        nearest_depth=lambda depth: max(1, depth), nearest_width=lambda width: 1,
        takes_image_size=lambda size: True, image_sizes="any side", layers=request.param,
    )  # fmt: skip
    module = ModuleType("three_regime.models.plain")
    module.build = build
    monkeypatch.setitem(families.FAMILIES, "plain", entry)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return entry


def planned(folder: Path) -> Plan:
    return make(config(folder, model=MODEL), [], read_rates(ROOT / "benchmarks" / "rates", "cpu"))


def test_it_is_priced_where_its_layers_are_counted(family: Family, tmp_path: Path) -> None:
    found = planned(tmp_path)
    text = plan_table.render(found)
    hours = [row.seconds for row in found.rows if row.study == NAME and row.stage in STAGES]
    assert len(hours) == len({*STAGES} - {"measures"}), "additional measures are off by default"
    if family.layers:
        assert all(hours) and not found.uncounted and NAME in found.scaled
        assert "not count its layers" not in text
    else:
        assert hours == [None] * len(hours) and found.uncounted == (NAME,) and not found.unpriced
        assert "of tiny are unknown" in text and "not count its layers" in text


def test_its_layers_are_those_of_the_network(family: Family) -> None:
    network = families.build(MODEL, classes=10, channels=1, image_size=8)
    found = size(MODEL, classes=10, channels=1, image_size=8)
    parameters = sum(value.numel() for value in network.parameters())
    assert (found and found.parameters) == (parameters if family.layers else None)


@pytest.mark.parametrize("stage", STAGES)
def test_its_jobs_ask_for_minutes(family: Family, tmp_path: Path, stage: str) -> None:
    study = study_of(config(tmp_path, model=MODEL, resources={name: {"gpu": 0, "runtime": 77} for name in STAGES}))
    minutes = first_runtime(study, stage, study.temperatures[0], None, 1)
    assert minutes == 77 if not family.layers else 0 < minutes <= 20


def test_without_layers_its_size_chooses_no_lockstep_on_a_cpu(family: Family, tmp_path: Path) -> None:
    task = of_study(study_of(config(tmp_path, model=MODEL)), "cpu")
    assert (task.stack("auto") is not None) == bool(family.layers)
    assert task.stack(2) is not None
    assert task.stack("off") is None


def test_it_is_trained_pruned_and_measured(family: Family, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    settings = config(tmp_path, model=MODEL, temperatures=[1], densities=[0.5])
    computed = {stage: run(settings, stage) for stage in STAGES}
    assert computed["dense"] == Outcome(1, 0) and computed["retrain"] == Outcome(2, 0)
    assert computed["lmc"] == computed["cka"] == Outcome(1, 0)
    assert all(row.done == row.members for row in make(settings, [], None).rows if row.stage in STAGES)
