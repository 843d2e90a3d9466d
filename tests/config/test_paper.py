"""config.yaml reproduces the paper: the runs of each study, and presets as parts of it."""

from __future__ import annotations

import pytest
from checkout import ROOT

from three_regime.config import load
from three_regime.study.grid import study_named
from three_regime.study.outputs import FIGURE2_STUDY
from three_regime.study.products import pack
from three_regime.study.stages import STAGES

PAPER = load([ROOT / "config.yaml"])
OFF = {
    "cifar10-preresnet20-learning-rate",
    "cifar10-preresnet20-global",
    "cifar10-preresnet20x2-epochs",
    "cifar10-preresnet20-adam",
    "wmt14-transformer-learning-rate",
    "wmt14-transformer-dropout",
}
TEMPERATURES = {
    "cifar10-preresnet20-batch-size": 13,
    "cifar10-preresnet20-sam": 10,
    "cifar10-preresnet20-learning-rate": 6,
    "wmt14-transformer-epochs": 6,
    "wmt14-transformer-learning-rate": 4,
    "wmt14-transformer-dropout": 4,
}


def members(name: str, stage: str, config=PAPER) -> int:
    """Products of a stage of a study, over all seeds and temperatures."""
    study = study_named(config, name)
    return sum(len(pack(study, stage, seed, t)) for seed in study.config.dense_seeds for t in study.temperatures)


@pytest.mark.parametrize("name", sorted(PAPER.studies))
def test_members_of_each_study(name: str) -> None:
    dense = 3 * TEMPERATURES.get(name, 16)
    each = 27 * dense
    expected = {"dense": dense, "prune": 9 * dense, "retrain": each, "lmc": each, "cka": each, "measures": 0}
    assert {stage: members(name, stage) for stage in STAGES} == expected


def test_what_is_on() -> None:
    assert set(PAPER.studies) - set(PAPER.run) == OFF
    assert PAPER.published


def test_the_protocol_of_the_record() -> None:
    figure = PAPER.studies[FIGURE2_STUDY]
    assert figure.densities == (0.05, 0.06, 0.07, 0.08, 0.1, 0.14, 0.2, 0.4, 0.8)
    assert figure.temperatures == tuple(range(10, 161, 10))
    assert dict(figure.dense).items() <= dict(figure.retrain).items()
    assert figure.retrain.start == "pruned"
    assert (figure.dense.epochs, figure.dense.milestones, figure.dense.batch_size) == (160, (80, 120), 64)
    batch = PAPER.studies["cifar10-preresnet20-batch-size"]
    assert batch.temperatures == (16, 21, 27, 32, 38, 44, 52, 64, 92, 128, 180, 256, 512)
    assert (batch.dense.iterations, batch.dense.milestones) == (62_400, (31_200, 46_800))
    assert batch.dense.drop_last
    assert batch.dense_at(27).batch_size == 27
    assert (batch.retrain.batch_size, batch.retrain.iterations) == (128, 62_400)
    sam = PAPER.studies["cifar10-preresnet20-sam"]
    assert sam.retrain.sam_rho == 0
    assert sam.dense_at(0.3).sam_rho == 0.3
    assert sam.retrain.optimiser == "sgd"


def test_the_protocol_of_translation() -> None:
    study_ = PAPER.studies["wmt14-transformer-epochs"]
    assert study_.model == "transformer-6x512x8"
    assert study_.densities == PAPER.studies[FIGURE2_STUDY].densities
    assert dict(study_.dense).items() <= dict(study_.retrain).items()
    training = study_.dense
    assert (training.optimiser, training.betas, training.epsilon) == ("adam", (0.9, 0.98), 1e-9)
    assert (training.schedule, training.warmup, training.epochs) == ("cosine", 700, 20)
    assert (training.dropout, training.label_smoothing) == (0.1, 0.1)
    assert (study_.measure.beam, study_.measure.length_penalty, study_.measure.points) == (4, 0.6, 11)
    dropout = PAPER.studies["wmt14-transformer-dropout"]
    assert [dropout.dense_at(value).dropout for value in dropout.temperatures] == [0, 0.1, 0.2, 0.3]
    assert dropout.retrain.dropout == 0.1


def test_the_slice_is_part_of_figure_2() -> None:
    """Its products are the figure's own: same places and recipes, so that they count when the figure is run."""
    whole = study_named(PAPER, FIGURE2_STUDY)
    config = load([ROOT / "config.yaml", ROOT / "config" / "figure2-slice.yaml"])
    part = study_named(config, FIGURE2_STUDY)
    assert members(FIGURE2_STUDY, "retrain", config) == 48
    for stage in STAGES:
        figure = {p.outputs: p.recipe for t in whole.temperatures for p in pack(whole, stage, 1, t)}
        for temperature in part.temperatures:
            for product in pack(part, stage, 1, temperature):
                assert figure[product.outputs] == product.recipe
