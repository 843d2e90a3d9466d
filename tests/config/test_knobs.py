"""Folder names of temperatures: stable, so existing results are found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from three_regime.config import knobs
from three_regime.config.knobs import KNOBS, density_folder, number_in_path, register
from three_regime.errors import UserError

FOLDERS = {
    "epochs": {4: "epochs004", 160: "epochs160", 1000: "epochs1000"},
    "batch_size": {16: "batch016", 512: "batch512"},
    "sam_rho": {0: "rho0", 0.1: "rho0p1", 12.5: "rho12p5"},
    "learning_rate": {0.05: "lr0p05", 1: "lr1"},
    "weight_decay": {0: "wd0", 0.0001: "wd0p0001", 0.00005: "wd0p00005"},
    "dropout": {0.1: "dropout0p1"},
}


def test_every_knob_is_here() -> None:
    assert set(FOLDERS) == set(KNOBS)


@pytest.mark.parametrize("name", FOLDERS)
def test_folders_of_temperatures_are_those_of_finished_studies(name: str) -> None:
    assert {value: KNOBS[name].folder(value) for value in FOLDERS[name]} == FOLDERS[name]


def test_folders_of_densities_are_those_of_finished_studies() -> None:
    wanted = {0.05: "density005", 0.125: "density012p5", 0.8: "density080", 1.0: "density100", 0.001: "density000p1"}
    assert {density: density_folder(density) for density in wanted} == wanted


def test_a_path_holds_six_decimals_and_nothing_below_zero() -> None:
    assert number_in_path(0.123456, 1) == "0p123456" and number_in_path(0, 3) == "000"
    for value in (0.1234567, 1e-7, -0.1):
        with pytest.raises(UserError, match="cannot be written in a path"):
            number_in_path(value, 1)


def test_a_density_has_digits_left_in_its_path() -> None:
    assert density_folder(1e-8) == "density000p000001"
    with pytest.raises(UserError, match="4e-09 cannot be written in a path: use a density of at least 1e-8"):
        density_folder(4e-9)


def test_the_hottest_comes_first() -> None:
    hottest = {"epochs": 1, "batch_size": 1, "sam_rho": 3, "learning_rate": 3, "weight_decay": 3, "dropout": 3}
    assert {name: knob.hot_first([2, 3, 1])[0] for name, knob in KNOBS.items()} == hottest


def test_a_registered_knob_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("three_regime.config.knobs.KNOBS", dict(KNOBS))
    own = replace(KNOBS["dropout"], name="mine", prefix="mine")
    register(own)
    assert knobs.KNOBS["mine"] is own and "mine" not in KNOBS
    with pytest.raises(UserError, match="knob odd: the prefix 'beta1_' must be lower-case letters"):
        register(replace(own, name="odd", prefix="beta1_"))
