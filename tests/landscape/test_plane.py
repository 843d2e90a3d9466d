"""The plane through three replicas: its edges are the lines of LMC, its corners the replicas, distances Euclidean."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_study import config, mapping, products, run, run_to, study_of

from three_regime import figures
from three_regime.config import resolve
from three_regime.config.knobs import KNOBS
from three_regime.jobs.run import Outcome
from three_regime.landscape.plane import coordinates, depth, grid, network
from three_regime.planning import plan
from three_regime.planning.pricing import RATES, read_rates
from three_regime.system.files import read_json

POINTS = 4
CELL = {"temperatures": [2], "densities": [0.1], "replicas": [1, 2, 3]}


def test_edges_are_the_lines_of_lmc(tmp_path: Path) -> None:
    """Also the corners: both ends of each line."""
    measure = {"also": ["plane"], "points": POINTS, "plane": {"points": POINTS, "margin": 1}}
    settings = config(tmp_path, measure=measure, lockstep="off", top={"kernels": "plain"}, **CELL)
    run_to(settings, "lmc")
    assert run(settings, "measures") == Outcome(1, 0)
    [product] = products(settings, "measures")
    found = read_json(product.outputs[0])
    assert product.outputs[0].parent.name == "triple1-2-3" and found["triple"] == [1, 2, 3]
    last = POINTS - 1
    at = {
        (round(a * last), round(b * last)): place
        for place, (a, b) in enumerate(zip(found["a"], found["b"], strict=True))
    }
    edges = {
        "1-2": [(step, 0) for step in range(POINTS)],
        "1-3": [(0, step) for step in range(POINTS)],
        "2-3": [(last - step, step) for step in range(POINTS)],
    }
    cell = product.outputs[0].parent.parent
    for pair, places in edges.items():
        line = read_json(cell / f"pair{pair}" / "lmc.json")
        for curve in ("train_error", "train_nll", "test_error", "test_nll"):
            assert [found[curve][at[place]] for place in places] == pytest.approx(line[curve], rel=1e-6)
    corners = [found["train_error"][at[place]] for place in ((0, 0), (last, 0), (0, last))]
    assert found["plane"] == pytest.approx(np.mean(corners) - found["train_error"][at[1, 1]])
    assert len(at) == study_of(settings).config.measure.plane.count == 28


def corners() -> list[dict[str, torch.Tensor]]:
    values = ([0.0, 1.0, 2.0], [3.0, 1.0, 2.0], [1.0, 3.0, 4.0])
    return [{"w": torch.tensor(each), "mean": torch.tensor([float(place)])} for place, each in enumerate(values)]


def test_networks_lie_on_the_plane_in_and_outside_the_triangle() -> None:
    task = SimpleNamespace(parameters={"w": (3,)})
    places = grid(POINTS, 1)
    assert len(places) == len(set(places)) == 28 and (1, 1) in places
    first, second, third = (each["w"].double() for each in corners())
    for i, j in places:
        found = network(task, corners(), (i, j), POINTS)
        expected = first + i / 3 * (second - first) + j / 3 * (third - first)
        torch.testing.assert_close(found["w"].double(), expected, rtol=1e-6, atol=1e-6)
        assert found["mean"] == corners()[0]["mean"]
    for place, corner in (((0, 0), 0), ((3, 0), 1), ((0, 3), 2)):
        assert torch.equal(network(task, corners(), place, POINTS)["w"], corners()[corner]["w"])


def test_coordinates_keep_the_distances() -> None:
    found = np.array(coordinates(corners(), ["w"]))
    weights = np.array([each["w"].numpy() for each in corners()])
    for one in range(3):
        for other in range(3):
            apart = np.linalg.norm(weights[one] - weights[other])
            assert np.linalg.norm(found[one] - found[other]) == pytest.approx(apart)
    same = [corners()[0]] * 3
    assert coordinates(same, ["w"]) == [(0, 0)] * 3


def test_depth_of_a_linear_loss_is_zero_and_of_a_hill_its_height() -> None:
    places = grid(POINTS, 1)
    assert depth([5 + 2 * i - 3 * j for i, j in places], places, POINTS) == pytest.approx(0)
    assert depth([0.4 if place == (1, 1) else 0.1 for place in places], places, POINTS) == pytest.approx(-0.3)


def test_the_plan_prices_every_point() -> None:
    rates = read_rates(RATES, "cpu")

    def seconds(**plane: int) -> float:
        settings = resolve(mapping(Path("anywhere"), measure={"also": ["plane"], "plane": plane}, **CELL))
        return next(row.seconds for row in plan.make(settings, [], rates).rows if row.stage == "measures")

    few, more, many = seconds(points=4, margin=0), seconds(points=7, margin=0), seconds(points=7, margin=1)
    assert many - few == pytest.approx((55 - 10) / (28 - 10) * (more - few))  # a start costs the same for all
    assert few < more


def test_maps_show_cells_that_were_run() -> None:
    places = grid(POINTS, 0)
    table = pd.DataFrame(
        {"dense_seed": 1, "temperature": temperature, "density": 0.1, "a": i / 3, "b": j / 3, "x": 2.0 * i + j,
         "y": float(j), "train_error": 0.1 * temperature + 0.01 * i}
        for temperature in (1, 2)
        for i, j in places
    )  # fmt: skip
    drawn = figures.plane_maps(table, KNOBS["epochs"])
    assert len([axes for axes in drawn.axes if axes.collections]) >= 2
    assert "no plane" in figures.plane_maps(table.iloc[:0], KNOBS["epochs"]).texts[0].get_text()
