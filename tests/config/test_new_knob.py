"""Adding a knob takes one `Knob`, whose temperatures are the valid values of the setting that it replaces."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_study import NAME, config, mapping, run, study_of

from three_regime.config import knobs, resolve
from three_regime.config.knobs import Knob
from three_regime.errors import UserError
from three_regime.jobs.run import Outcome
from three_regime.study.products import pack


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries as the README asks for."""
    for knob in (
        Knob("momentum", "momentum", "momentum", "momentum", 1, "higher", False),
        Knob("length", "epochs", "epochs of a whole run", "length", 3, "lower", True),
        Knob("misspelt", "weight_decai", "weight decay", "wd", 1, "higher", False),
    ):
        monkeypatch.setitem(knobs.KNOBS, knob.name, knob)


@pytest.mark.parametrize(
    ("knob", "temperatures"),
    [("weight_decay", [0, 0.0005]), ("momentum", [0, 0.9]), ("length", [1, 4]), ("sam_rho", [0, 0.1])],
)
def test_every_value_of_the_setting_is_a_temperature(knob: str, temperatures: list[float]) -> None:
    study = resolve(mapping(Path("anywhere"), knob=knob, temperatures=temperatures)).studies[NAME]
    setting = knobs.KNOBS[knob].setting
    assert [getattr(study.dense_at(value), setting) for value in temperatures] == temperatures


@pytest.mark.parametrize(
    ("knob", "temperatures", "said"),
    [
        ("momentum", [0.5, 1.5], "1.5 is out of range for momentum: Input should be less than 1"),
        ("weight_decay", [-1], "-1.0 is out of range for weight_decay: Input should be greater than or equal to 0"),
        ("learning_rate", [0, 0.1], "0.0 is out of range for learning_rate: Input should be greater than 0"),
        ("epochs", [0, 1], "0.0 is out of range for epochs; it must be at least 1"),
        ("length", [0, 2], "0.0 is out of range for length: Input should be greater than or equal to 1"),
        ("misspelt", [0.1], "0.1 is out of range for misspelt: Extra inputs are not permitted"),
        (
            "learning_rate",
            [0.3, 0.1 + 0.2],
            "two of [0.3, 0.30000000000000004] are too close to tell apart in a path",
        ),
    ],
)
def test_other_values_are_refused_by_key_and_study(knob: str, temperatures: list[float], said: str) -> None:
    with pytest.raises(UserError) as refused:
        resolve(mapping(Path("anywhere"), knob=knob, temperatures=temperatures))
    assert str(refused.value) == f"config.studies.{NAME}: temperatures: {said}"


def test_settings_must_agree_at_every_temperature() -> None:
    with pytest.raises(UserError, match=r"studies\.tiny: temperatures: 1.0 is .*milestone 2 is beyond the end"):
        resolve(mapping(Path("anywhere"), knob="length", temperatures=[1, 4], dense={"epochs": 4, "milestones": [2]}))


def test_it_is_trained(tmp_path: Path) -> None:
    settings = config(tmp_path, knob="weight_decay", temperatures=[0, 0.0005])
    assert run(settings, "dense") == Outcome(2, 0)
    products = [pack(study_of(settings), "dense", 1, value)[0] for value in (0, 0.0005)]
    assert [product.recipe["training"]["weight_decay"] for product in products] == [0, 0.0005]
    assert [product.outputs[0].parent.name for product in products] == ["wd0", "wd0p0005"]
    assert all(product.done for product in products)
