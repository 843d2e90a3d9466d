"""Weights from which retraining starts: their values, plan and fingerprints, and invalid settings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_study import config, mapping, products, run, run_to, study_of

from three_regime.config import Config, resolve
from three_regime.errors import UserError
from three_regime.jobs import retrain
from three_regime.jobs.job import Job
from three_regime.jobs.run import Outcome
from three_regime.planning import plan
from three_regime.pruning.masks import split_masks
from three_regime.random_streams import Streams
from three_regime.study.products import pack, products_of
from three_regime.study.verdicts import judge
from three_regime.system.files import Arrays, read_arrays
from three_regime.system.interruption import Stop
from three_regime.tasks.images.task import of_study
from three_regime.workflow.rule_parts import checkpoints, patterns, rewound

REWOUND = {"start": "rewound", "rewind_epoch": 1}
ONE_CELL = {"temperatures": [2], "densities": [0.1]}


def starts(settings: Config, monkeypatch: pytest.MonkeyPatch, temperature: float = 2.0) -> list[Arrays]:
    """Initial weights of each replica."""
    members: list = []
    monkeypatch.setattr(retrain, "train_pack", lambda task, training, pack, session: members.extend(pack))
    wanted = pack(study_of(settings), "retrain", 1, temperature)
    retrain.compute(Job(settings, study_of(settings), 1, temperature, wanted, Stop()))
    return [member.start for member in members]


def test_reinitialised_is_not_the_start_of_the_dense_network(tmp_path, monkeypatch):
    """That would be a winning ticket, another question."""
    settings = config(tmp_path, densities=[0.1], retrain={"start": "reinitialised"})
    run_to(settings, "prune")
    dense = of_study(study_of(settings), "cpu").initial_weights(Streams(("dense", 1)))
    for name, array in starts(settings, monkeypatch)[0].items():
        if dense[name].ndim > 1:
            assert not np.isin(array[array != 0], dense[name]).any(), name


def test_reinitialised_is_one_draw_under_the_masks(tmp_path, monkeypatch):
    settings = config(tmp_path, densities=[0.1], retrain={"start": "reinitialised"})
    run_to(settings, "prune")
    first, second = starts(settings, monkeypatch)
    hotter = starts(settings, monkeypatch, 1.0)[0]
    pruned, masks = split_masks(read_arrays(products(settings, "prune")[1].outputs[-1]))
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])
        mask = masks.get(name, np.True_)
        assert not array[~mask].any() if name in masks else True
    name = max(masks, key=lambda each: masks[each].sum())
    kept = masks[name]
    assert kept.sum() > 10 and (first[name][kept] != 0).all()
    assert not np.isin(first[name][kept], pruned[name][kept]).any()
    both = kept & split_masks(read_arrays(products(settings, "prune")[0].outputs[-1]))[1][name]
    np.testing.assert_array_equal(first[name][both], hotter[name][both])
    assert not first["bn.running_mean" if "bn.running_mean" in first else next(
        key for key in first if key.endswith("running_mean"))].any()  # fmt: skip


def test_rewound_starts_from_a_checkpoint_of_the_dense_run(tmp_path, monkeypatch):
    """The additional checkpoint needs no run of its own, and equals that of a study with this temperature."""
    settings = config(tmp_path, retrain=REWOUND, **ONE_CELL)
    assert run(settings, "dense") == Outcome(2, 0)
    assert [finding.done for finding in judge(study_of(settings), ["dense"])] == [True, True]
    run(settings, "prune")
    early = read_arrays(study_of(settings).at(1, 1) / "dense.safetensors")
    _, masks = split_masks(read_arrays(products(settings, "prune")[0].outputs[-1]))
    start = starts(settings, monkeypatch)[0]
    for name, array in start.items():
        np.testing.assert_array_equal(array, np.where(masks[name], early[name], 0) if name in masks else early[name])
    assert run(config(tmp_path, densities=[0.1]), "dense") == Outcome(0, 2)


def test_the_checkpoint_is_planned_and_declared():
    settings = resolve(mapping(Path("anywhere"), retrain=REWOUND, **ONE_CELL))
    study = study_of(settings)
    [_, weights] = patterns(study, "dense").values()
    assert weights == [
        str(study.folder / "seed{seed}" / each / "dense.safetensors") for each in ("epochs001", "epochs002")
    ]
    assert rewound(study) == [weights[0]] and len(checkpoints(study, "dense")) == 1
    assert sum(product.stage == "dense" for product in products_of(study)) == 2
    rows = {row.stage: row for row in plan.make(settings, [], None).rows}
    assert (rows["dense"].jobs, rows["dense"].members) == (1, 2)
    # A temperature of the study needs no additional checkpoint.
    both = study_of(resolve(mapping(Path("anywhere"), retrain=REWOUND)))
    assert both.checkpoints == both.temperatures


def test_recipes_tell_starts_apart_and_keep_the_papers():
    def first(**keys):
        return pack(study_of(resolve(mapping(Path("anywhere"), retrain=keys))), "retrain", 1, 2)[0]

    plain, anew, back = first(), first(start="reinitialised"), first(**REWOUND)
    assert {"start", "initialisation"}.isdisjoint(plain.recipe) and set(plain.inputs) == {"pruned", "data"}
    assert anew.recipe == {**plain.recipe, "start": "reinitialised", "initialisation": ["reinitialised", 1]}
    assert back.recipe == {**plain.recipe, "start": "rewound"} and set(back.inputs) == {"pruned", "data", "rewound"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"retrain": {"start": "rewound"}}, "rewound needs `rewind_epoch`"),
        ({"retrain": {"rewind_epoch": 1}}, "the other starts do not take it"),
        ({"retrain": {"start": "rewound", "rewind_epoch": 2}}, "2 is after the hottest model, which stops at 1"),
        ({"retrain": REWOUND, "knob": "sam_rho", "temperatures": [0, 0.1]}, "rewound needs the epochs knob"),
        ({"retrain": REWOUND, "keep": "none"}, "keep: none discards the checkpoint"),
        ({"dense": {"start": "reinitialised"}}, "start"),
    ],
)
def test_what_cannot_be_is_refused(changes, said):
    with pytest.raises(UserError, match=said):
        resolve(mapping(Path("anywhere"), **changes))


@pytest.mark.parametrize("start", [{"start": "reinitialised"}, REWOUND])
def test_a_study_runs_to_its_end(tmp_path, start):
    settings = config(tmp_path, retrain=start, **ONE_CELL)
    assert run_to(settings, "cka").computed == 1
