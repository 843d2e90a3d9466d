"""Measuring pairs: each with its own networks, in full precision."""

from __future__ import annotations

import pytest
import torch
from tiny_study import config, products, run, run_to, study_of

from three_regime.landscape.linear_cka import linear_cka
from three_regime.pruning.masks import split_masks
from three_regime.system.files import read_arrays, read_json
from three_regime.tasks.images.task import of_study

ONE = {"temperatures": [2], "densities": [0.5]}


def test_each_pair_is_compared_with_its_own(tmp_path):
    settings = config(tmp_path, replicas=[1, 2, 3], **ONE)
    run_to(settings, "cka")
    task, outputs = of_study(study_of(settings), "cpu"), {}
    for product in products(settings, "retrain"):
        weights, _ = split_masks(read_arrays(product.outputs[-1]))
        outputs[product.coordinates["replica"]] = dict(task.outputs(task.load(weights, ""), 64))
    found = {tuple(each.coordinates["pair"]): read_json(each.outputs[0]) for each in products(settings, "cka")}
    assert len({result["softmax"] for result in found.values()}) == 3
    for (first, second), result in found.items():
        for kind in ("logits", "softmax"):
            assert result[kind] == pytest.approx(linear_cka(outputs[first][kind], outputs[second][kind]), abs=1e-6)


@pytest.mark.parametrize("lockstep", ["off", 4])
def test_nothing_is_measured_in_tf32(tmp_path, monkeypatch, lockstep):
    """Only training may be; the flag is set on a CPU too."""
    tf32 = {"precision": "tf32"}
    settings = config(tmp_path, dense=tf32, retrain=tf32, lockstep=lockstep, top={"kernels": "plain"}, **ONE)
    seen: dict[bool, set[bool]] = {True: set(), False: set()}
    convolve = torch.nn.functional.conv2d

    def noted(*arguments, **options):
        seen[torch.is_grad_enabled()].add(torch.backends.cudnn.allow_tf32)
        return convolve(*arguments, **options)

    def forward(own, x, weight, bias):
        return noted(x, weight, bias, own.stride, own.padding, own.dilation, own.groups)

    monkeypatch.setattr(torch.nn.functional, "conv2d", noted)
    monkeypatch.setattr(torch.nn.Conv2d, "_conv_forward", forward)
    for stage in ("dense", "prune", "retrain", "lmc", "cka"):
        run(settings, stage)
        assert True not in seen[False], stage
    assert seen == {True: {True}, False: {False}}
