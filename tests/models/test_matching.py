"""Foreign weights: their names and shapes."""

from __future__ import annotations

import numpy as np
import pytest

from three_regime.errors import UserError
from three_regime.models.matching import LONGEST_SHOWN, fit, short


def test_a_scalar_may_be_an_array_of_one_element() -> None:
    wanted = {"counter": np.array(0)}
    assert fit({"counter": np.array([3])}, wanted)["counter"] == 3
    with pytest.raises(UserError, match="another architecture"):
        fit({"counter": np.array([3, 4])}, wanted)


def test_a_name_that_just_fits_is_shown_whole() -> None:
    assert short("a" * LONGEST_SHOWN) == "a" * LONGEST_SHOWN
    assert "…" in short("a" * (LONGEST_SHOWN + 1))
