"""Modules under their former import paths."""

import importlib
import subprocess
import sys

import pytest

from three_regime.system.former_places import FORMER_PLACES


@pytest.mark.parametrize("former", FORMER_PLACES)
def test_a_former_path_gives_the_module_where_it_is(former: str) -> None:
    present = f"three_regime.{FORMER_PLACES[former]}"
    sys.modules.pop(f"three_regime.{former}", None)
    with pytest.deprecated_call(match=present):
        found = importlib.import_module(f"three_regime.{former}")
    assert found is importlib.import_module(present)


def test_import_from_the_package_finds_a_former_path() -> None:
    code = (
        "from three_regime.datasets import download\n"
        "from three_regime.preparation import download as present\n"
        "assert download is present"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_what_never_was_is_still_not_found() -> None:
    with pytest.raises(ModuleNotFoundError, match="three_regime.datasets.nothing"):
        importlib.import_module("three_regime.datasets.nothing")
