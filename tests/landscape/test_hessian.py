"""Top eigenvalue and trace of the Hessian of kept weights, against the exact Hessian of a tiny network."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from three_regime import kernels
from three_regime.datasets.registry import DATASETS
from three_regime.errors import UserError
from three_regime.landscape.hessian import hessian_product, top_eigenvalue, trace
from three_regime.random_streams import Streams
from three_regime.tasks.images.task import ImageClassification
from three_regime.tasks.interface import TwiceDifferentiable, Weights

MASKS = {"first": np.random.default_rng(1).random((4, 3)) < 0.5}


class TinyNetwork:
    """Two layers and a softmax, in float64."""

    parameters = {"first": (4, 3), "second": (3, 4), "bias": (3,)}  # noqa: RUF012
    buffers: dict = {}  # noqa: RUF012

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
        self.inputs, self.labels = draw(20, 3), torch.arange(20) % 3
        self.weights = {name: draw(*shape) for name, shape in self.parameters.items()}
        self.weights["first"] *= torch.from_numpy(MASKS["first"])

    def evaluation_losses(self, parameters: Weights, buffers: Weights, images: int) -> Iterator[tuple[Tensor, int]]:
        for chosen in torch.arange(min(images, 20)).split(7):
            hidden = torch.tanh(self.inputs[chosen] @ parameters["first"].T)
            logits = hidden @ parameters["second"].T + parameters["bias"]
            yield F.cross_entropy(logits, self.labels[chosen], reduction="sum"), len(chosen)


@pytest.fixture(scope="module")
def exact() -> tuple[np.ndarray, np.ndarray]:
    """The full Hessian, and a mask of the kept rows."""
    task = TinyNetwork()
    assert isinstance(task, TwiceDifferentiable)
    sizes = [int(np.prod(shape)) for shape in task.parameters.values()]

    def loss(vector: Tensor) -> Tensor:
        parts = dict(zip(task.parameters, vector.split(sizes), strict=True))
        parameters = {name: part.view(task.parameters[name]) for name, part in parts.items()}
        return sum(loss for loss, _ in task.evaluation_losses(parameters, {}, 20)) / 20

    vector = torch.cat([value.flatten() for value in task.weights.values()])
    whole = torch.autograd.functional.hessian(loss, vector).numpy()
    return whole, np.concatenate([MASKS["first"].ravel(), np.ones(15, bool)])


def test_products_are_those_of_the_exact_hessian(exact):
    whole, kept = exact
    task = TinyNetwork()
    product, size = hessian_product(task, task.weights, MASKS, 20)
    assert size == kept.sum() < len(kept)
    found = np.stack([product(row) for row in np.eye(size)])
    np.testing.assert_allclose(found, whole[np.ix_(kept, kept)], atol=1e-12)


def test_top_eigenvalue_and_trace(exact):
    whole, kept = exact
    task = TinyNetwork()
    product, size = hessian_product(task, task.weights, MASKS, 20)
    own = whole[np.ix_(kept, kept)]
    rng = Streams(("test",)).generator
    assert top_eigenvalue(product, size, rng("start"), 1e-8, 50) == pytest.approx(np.linalg.eigvalsh(own)[-1])
    estimate, error, drawn = trace(product, size, rng("probes"), 0.05, 400)
    assert abs(estimate - np.trace(own)) < 4 * error and error <= 0.05 * estimate and 5 <= drawn < 400
    # Including removed weights would change both.
    assert np.linalg.eigvalsh(whole)[-1] - np.linalg.eigvalsh(own)[-1] > 1e-3 and np.trace(whole) > 1.01 * np.trace(own)


def test_the_top_is_the_largest_and_not_the_one_of_largest_size():
    matrix = np.diag([-9.0, 1.0, 2.0, 0.5, -3.0])
    found = top_eigenvalue(lambda vector: matrix @ vector, 5, np.random.default_rng(0), 1e-6, 50)
    assert found == pytest.approx(2.0)
    assert top_eigenvalue(lambda vector: 3 * vector, 1, np.random.default_rng(0), 1e-6, 50) == pytest.approx(3.0)


def test_signs_give_the_trace_of_a_diagonal_exactly():
    estimate, error, drawn = trace(lambda vector: np.arange(6) * vector, 6, np.random.default_rng(0), 0.1, 50)
    assert (estimate, error, drawn) == (15.0, 0.0, 5)


def test_probes_end_at_the_most_that_are_allowed():
    matrix = np.random.default_rng(3).normal(size=(9, 9))
    matrix += matrix.T
    assert trace(lambda vector: matrix @ vector, 9, np.random.default_rng(0), 1e-9, 7)[2] == 7


def test_no_convergence_names_the_setting():
    matrix = np.diag(np.linspace(1, 1.0001, 400))
    with pytest.raises(UserError, match=r"measure\.hessian\.restarts"):
        top_eigenvalue(lambda vector: matrix @ vector, 400, np.random.default_rng(0), 1e-12, 1)


class InFloat64:
    """The same network and images in float64 and torch's usual memory format."""

    def __init__(self, task: ImageClassification) -> None:
        self.parameters, self.buffers = task.parameters, task.buffers
        self.model = task.build().double().eval()
        self.images = task.augmenter.normalise(task.images["train"]).double().contiguous()
        self.labels = task.labels["train"]

    def evaluation_losses(self, parameters: Weights, buffers: Weights, images: int) -> Iterator[tuple[Tensor, int]]:
        logits = torch.func.functional_call(self.model, {**parameters, **buffers}, (self.images[:images],))
        yield F.cross_entropy(logits, self.labels[:images], reduction="sum"), images


def test_of_images_it_equals_float64(library, monkeypatch):
    """A convolutional network with BatchNorm, with compiled kernels (without second derivatives) allowed."""
    monkeypatch.setattr(kernels, "_allowed", True)
    generator = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 70), ("test", 10)):
        arrays[f"{split}_images"] = generator.integers(0, 256, (count, 8, 8, 1), dtype=np.uint8)
        arrays[f"{split}_labels"] = generator.integers(0, 10, count)
    task = ImageClassification(DATASETS["digits"], arrays, "preresnet-8x0.5", torch.device("cpu"))
    weights = task.reestimate(task.load(task.initial_weights(Streams(("test",))), "test"), 35)
    masks = {name: generator.random(task.parameters[name]) < 0.3 for name in task.prunable}
    product, size = hessian_product(task, weights, masks, 70)
    exact, _ = hessian_product(InFloat64(task), {name: value.double() for name, value in weights.items()}, masks, 70)
    u, v = generator.normal(size=(2, size))
    assert np.linalg.norm(product(v) - exact(v)) < 1e-4 * np.linalg.norm(exact(v))
    assert u @ product(v) == pytest.approx(v @ product(u), rel=1e-3)
