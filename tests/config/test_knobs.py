"""Folder names of temperatures: stable, so existing results are found."""

from __future__ import annotations

import pytest

from three_regime.config.knobs import KNOBS, density_folder

FOLDERS = {
    "epochs": {4: "epochs004", 160: "epochs160", 1000: "epochs1000"},
    "batch_size": {16: "batch016", 512: "batch512"},
    "sam_rho": {0: "rho0", 0.1: "rho0p1", 12.5: "rho12p5"},
    "learning_rate": {0.05: "lr0p05", 1: "lr1"},
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
