"""Linear CKA: self-similarity, invariances, and the Gram-matrix form."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy.stats import ortho_group

from three_regime.errors import UserError
from three_regime.landscape.linear_cka import Gram, condensed, gram, linear_cka, similarity


@pytest.fixture
def outputs() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    first = generator.standard_normal((60, 10))
    return first, first @ generator.standard_normal((10, 7)) + 2 * generator.standard_normal((60, 7))


def hsic_cka(x: np.ndarray, y: np.ndarray) -> float:
    """CKA from centred Gram matrices (Kornblith et al. 2019, equations 3 and 4)."""
    centre = np.eye(len(x)) - 1 / len(x)
    k, m = centre @ (x @ x.T) @ centre, centre @ (y @ y.T) @ centre
    return float((k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum()))


def test_equals_the_gram_matrix_form(outputs):
    assert linear_cka(*outputs) == pytest.approx(hsic_cka(*outputs), rel=1e-12)
    assert 0 < linear_cka(*outputs) < 0.99


def test_by_hand():
    """Centred columns (1, -1, 0) and (1, 1, -2) are orthogonal; (1, -1, 0) and (1, 0, -1) have cosine 1/2."""
    x = np.array([[1.0], [-1.0], [0.0]])
    assert linear_cka(x, np.array([[1.0], [1.0], [-2.0]])) == pytest.approx(0, abs=1e-15)
    assert linear_cka(x, np.array([[6.0], [5.0], [4.0]])) == pytest.approx(0.25)


def test_of_a_network_with_itself_is_one(outputs):
    assert linear_cka(outputs[0], outputs[0]) == pytest.approx(1, abs=1e-12)


def test_is_symmetric(outputs):
    assert linear_cka(*outputs) == pytest.approx(linear_cka(*reversed(outputs)), rel=1e-12)


def test_rotation_scale_and_shift_do_not_change_it(outputs):
    x, y = outputs
    rotation = ortho_group.rvs(10, random_state=1)
    assert linear_cka(x @ rotation, y) == pytest.approx(linear_cka(x, y), rel=1e-10)
    assert linear_cka(-3.5 * x, 1e-3 * y) == pytest.approx(linear_cka(x, y), rel=1e-10)
    assert linear_cka(x + 100, y - 5) == pytest.approx(linear_cka(x, y), rel=1e-8)
    assert linear_cka(x @ rotation * 7, x) == pytest.approx(1, abs=1e-12)


def test_an_anisotropic_map_does_change_it(outputs):
    x, _ = outputs
    assert linear_cka(x * np.geomspace(1, 100, 10), x) < 0.9


def test_float32_outputs_are_not_rounded_off(outputs):
    x = outputs[0].astype(np.float32) * 1e-6 + 1
    assert linear_cka(x, x) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (np.zeros((5, 2)), np.ones((4, 2)), "not 5 and 4"),
        (np.zeros((1, 2)), np.ones((1, 2)), "not 1 and 1"),
        (np.ones((5, 2)), np.arange(10.0).reshape(5, 2), "constant"),
        (np.full((6464, 2), 0.1), np.full((6464, 2), 0.1), "constant"),  # its mean is not 0.1
        (np.full((100, 2000), 0.1), np.full((100, 2000), 0.1), "constant"),
        (gram(np.full((100, 2000), 0.1)), gram(np.full((100, 2000), 0.1)), "constant"),
        (np.full((5, 2), np.nan), np.arange(10.0).reshape(5, 2), "not finite"),
        (np.full((5, 2), np.inf), np.arange(10.0).reshape(5, 2), "not finite"),
    ],
)
def test_undefined_cases_are_refused(first, second, said):
    with pytest.raises(UserError, match=said), np.errstate(invalid="ignore"):
        linear_cka(first, second)


def test_each_kind_of_output_is_compared_with_its_own(outputs):
    x, y = outputs
    found = similarity({"logits": x, "softmax": y}, {"logits": x, "softmax": -y[:, ::-1]})
    assert found == pytest.approx({"logits": 1.0, "softmax": 1.0, "images": 60})


@pytest.mark.parametrize("shape", [(30, 7), (30, 2500), (7, 1025)])
def test_gram_matrices_give_the_cka_of_feature_space(shape):
    generator = np.random.default_rng(3)
    first = generator.standard_normal(shape).astype(np.float32)
    second = (first + 0.5 * generator.standard_normal(shape)).astype(np.float32)
    wanted = linear_cka(first, second)
    assert linear_cka(gram(first), gram(second)) == pytest.approx(wanted, rel=1e-10)
    assert linear_cka(first, gram(second)) == pytest.approx(wanted, rel=1e-10)


def test_outputs_are_condensed_only_where_that_is_smaller():
    wide, tall = np.ones((3, 8)), np.ones((8, 3))
    assert isinstance(condensed(wide), Gram) and condensed(tall) is tall


def test_a_vocabulary_of_32_000_is_condensed_within_memory():
    outputs = np.random.default_rng(0).standard_normal((512, 32_000), dtype=np.float32)
    tracemalloc.start()
    condensed(outputs)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < outputs.nbytes / 2, "less than the outputs themselves, let alone as float64"


def test_two_inputs_are_the_fewest():
    """Centred, they are one direction: every pair of outputs agrees."""
    first, second = np.array([[0.0, 1.0], [2.0, 5.0]]), np.array([[1.0], [0.0]])
    assert linear_cka(first, second) == pytest.approx(1)
    with pytest.raises(UserError, match="two or more inputs"):
        linear_cka(first[:1], second[:1])
