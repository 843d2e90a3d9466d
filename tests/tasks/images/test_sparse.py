"""Sparse engine: equals torch, is deterministic, and is used only where it applies."""

from __future__ import annotations

import copy
import ctypes
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from digits_task import digits_task
from toy_task import settings

from three_regime import kernels
from three_regime.datasets.registry import DATASETS
from three_regime.kernels import building
from three_regime.kernels.graph import Graph
from three_regime.kernels.graph_rules import check
from three_regime.kernels.program import STRUCTURES, Program
from three_regime.kernels.trial import sparse_engine_works
from three_regime.models import families
from three_regime.models.initialisation import initial_weights
from three_regime.pruning.allocation import masks_of
from three_regime.pruning.criteria import CRITERIA, Known
from three_regime.pruning.magnitude import magnitude_masks
from three_regime.pruning.masks import Masks, apply_masks
from three_regime.random_streams import Streams
from three_regime.tasks.images.sparse import SparseImages
from three_regime.tasks.images.task import ImageClassification

CPU = torch.device("cpu")
NETWORKS = [("preresnet-8x0.25", 8), ("preresnet-14x0.5", 12), ("densenet-10k4", 8)]
LEVELS = ((np.arange(256, dtype=np.float32) / 255 - 0.5) / 0.25)[None].repeat(3, 0)


class Case:
    """A pruned network, a batch for it, and the same as torch's module."""

    def __init__(
        self,
        name: str,
        side: int,
        density: float = 0.3,
        images: int = 11,
        seed: int = 0,
        choose: Callable[[dict[str, np.ndarray]], Masks] | None = None,
    ) -> None:
        self.module = families.build(name, classes=10, channels=3, image_size=side)
        self.shapes = {key: tuple(value.shape) for key, value in self.module.named_parameters()}
        generator = np.random.default_rng(seed)
        weights = initial_weights(self.module, generator)
        for key, value in weights.items():  # norms and biases are 0 and 1 at first
            if value.ndim == 1:
                weights[key] = (value + 0.2 * generator.random(value.shape)).astype(value.dtype)
        prunable = {key: weights[key] for key in families.prunable(self.module)}
        self.masks: Masks = choose(prunable) if choose else magnitude_masks(weights, prunable, density, "uniform")
        weights = apply_masks(weights, self.masks)
        self.module.load_state_dict({key: torch.from_numpy(np.array(value)) for key, value in weights.items()})
        self.pixels = generator.integers(0, 256, (images, side, side, 3), dtype=np.uint8)
        self.labels = generator.integers(0, 10, images)
        self.side = side

    def program(self, functions: ctypes.CDLL, threads: int = 1, *, training: bool = True) -> Program:
        graph = Graph(3, self.side)
        self.module.lowered(graph)
        return Program(
            functions, graph, self.shapes, self.masks, images=len(self.labels), threads=threads, training=training
        )

    def arguments(self, program: Program) -> dict:
        state = {key: value.detach().numpy().copy() for key, value in self.module.state_dict().items()}
        return {
            "parameters": np.concatenate([state[name].ravel() for name in self.shapes]),
            "statistics": [(state[f"{norm}.running_mean"], state[f"{norm}.running_var"]) for norm in program.norms],
            "pixels": self.pixels, "labels": self.labels, "levels": LEVELS, "count": len(self.labels),
        }  # fmt: skip

    def images(self) -> torch.Tensor:
        return torch.from_numpy(LEVELS[0][self.pixels]).permute(0, 3, 1, 2)

    def gradient(self, module: torch.nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss, and the gradient of what is kept, as a vector."""
        loss = F.cross_entropy(module(images), torch.from_numpy(self.labels))
        gradients = torch.autograd.grad(loss, tuple(module.parameters()))
        kept = [torch.from_numpy(self.masks.get(name, np.ones(shape))) for name, shape in self.shapes.items()]
        return loss.detach(), torch.cat([(each * mask).flatten() for each, mask in zip(gradients, kept, strict=True)])


def by(criterion: str, density: float, allocation: str) -> Callable[[dict[str, np.ndarray]], Masks]:
    """Masks by a criterion without gradients."""
    score = CRITERIA[criterion].score
    return lambda weights: masks_of(score(Known(weights, Streams(("prune", 1)))), density, allocation)


def layers_of_all_kinds(weights: dict[str, np.ndarray]) -> Masks:
    """Layers that keep, in turn, nothing, everything, one filter or one weight."""
    masks = {}
    for place, (name, array) in enumerate(weights.items()):
        mask = np.full(array.shape, place % 4 == 1)
        mask[0] |= place % 4 == 2
        mask[-1, -1, 0, 0] |= place % 4 == 3
        masks[name] = mask
    return masks


MASKS = {
    "random": by("random", 0.2, "uniform"),
    "erk": by("random", 0.3, "erk"),
    "lamp": by("lamp", 0.02, "global"),
    "global": by("magnitude", 0.02, "global"),
    "all kinds": layers_of_all_kinds,
}


def distance(found: np.ndarray, expected: torch.Tensor) -> float:
    return float((torch.from_numpy(found) - expected).norm() / expected.norm())


@pytest.mark.parametrize(
    ("name", "side", "threads"), [(*each, n) for each in NETWORKS for n in (1, 3)] + [("vgg-11", 32, 2)]
)
def test_a_network_equals_float64(library, name, side, threads):
    """Loss, logits, whole gradient and running statistics; then evaluation. The last block of images is not full."""
    case = Case(name, side, *((0.02, 3) if name == "vgg-11" else ()))
    program = case.program(library.functions, threads)
    given, logits = case.arguments(program), np.empty((len(case.labels), 10), np.float32)
    exact = families.build(name, classes=10, channels=3, image_size=side).double()
    exact.load_state_dict({key: value.double() for key, value in case.module.state_dict().items()})
    loss, _ = program.run("gradient", logits=logits, **given)
    expected_loss, expected = case.gradient(exact.train(), case.images().double())
    assert loss / len(case.labels) == pytest.approx(expected_loss.item(), rel=1e-6)
    # VGG at 32 pixels has so many places that some ReLU or maximum is within rounding of its kink.
    assert distance(program.dense_gradient(len(given["parameters"])), expected) < (1e-2 if name == "vgg-11" else 3e-6)
    state = exact.state_dict()
    for norm, (mean, variance) in zip(program.norms, given["statistics"], strict=True):
        np.testing.assert_allclose(mean, state[f"{norm}.running_mean"].numpy(), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(variance, state[f"{norm}.running_var"].numpy(), rtol=1e-5, atol=1e-6)
    case.program(library.functions, threads, training=False).run("evaluate", logits=logits, **given)
    with torch.no_grad():
        np.testing.assert_allclose(logits, exact.eval()(case.images().double()).numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", sorted(MASKS))
@pytest.mark.parametrize("name", ["preresnet-14x0.5", "densenet-10k4"])
def test_any_masks_will_do(library, name, kind):
    """For masks of every criterion, and with layers that are empty or dense."""
    case = Case(name, 8, choose=MASKS[kind])
    program = case.program(library.functions)
    given = case.arguments(program)
    exact = families.build(name, classes=10, channels=3, image_size=8).double()
    exact.load_state_dict({key: value.double() for key, value in case.module.state_dict().items()})
    loss, _ = program.run("gradient", **given)
    expected_loss, expected = case.gradient(exact.train(), case.images().double())
    assert loss / len(case.labels) == pytest.approx(expected_loss.item(), rel=1e-6)
    # After an almost empty layer BatchNorm divides by almost 0, which amplifies rounding errors in torch too.
    torch_has = distance(case.gradient(case.module.train(), case.images())[1].numpy(), expected)
    assert distance(program.dense_gradient(len(given["parameters"])), expected) < max(1e-4, 2 * torch_has)


@pytest.mark.parametrize("density", [0.05, 1.0])
@pytest.mark.parametrize("images", [1, 7, 8, 16, 17])
def test_any_number_of_images_and_any_density(library, images, density):
    """A layer that keeps nothing (5 % of 3 × 4 filters), one that keeps all; blocks of one image and full ones."""
    case = Case("preresnet-8x0.25", 8, density, images)
    program = case.program(library.functions, 2)
    given = case.arguments(program)
    program.run("gradient", **given)
    _, expected = case.gradient(case.module.double().train(), case.images().double())
    assert distance(program.dense_gradient(len(given["parameters"])), expected) < 5e-6


def test_crops_and_flips_are_the_tasks_own(library):
    """Images chosen, shifted, mirrored and normalised: evaluated as what the usual batch gives."""
    kernels.allow("auto")
    entry = replace(DATASETS["cifar10"], image_size=8)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    arrays = {f"{s}_{what}": value for s in ("train", "test")
              for what, value in (("images", pixels), ("labels", np.arange(40) % 10))}  # fmt: skip
    task = ImageClassification(entry, arrays, "preresnet-8x0.25", CPU)
    weights = task.initial_weights(Streams(("dense", 1)))
    masks = magnitude_masks(weights, task.prunable, 0.3, "uniform")
    epoch, loaded = task.epoch(Streams(("dense", 1)), 0, settings(batch_size=27)), task.load(
        apply_masks(weights, masks), "drawn"
    )  # fmt: skip
    for step in range(2):
        parameters = torch.cat([loaded[name].flatten() for name in task.parameters])
        buffers = {name: loaded[name].clone() for name in task.buffers}
        loss, errors, count = task.sparse(masks).step(
            parameters, torch.zeros_like(parameters), buffers, epoch, step, settings(batch_size=27), 0.1
        )  # fmt: skip
        ((images, labels),) = epoch.micro_batches(step)
        usual = {name: loaded[name].clone() for name in task.buffers}
        expected, wrong, _ = task.loss({name: loaded[name] for name in task.parameters}, usual, (images, labels))
        assert count == len(labels) == (27, 13)[step]
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
        assert errors == wrong
        for name, value in buffers.items():
            torch.testing.assert_close(value, usual[name], rtol=1e-4, atol=1e-5)


def test_steps_equal_masked_steps_of_torch(library):
    """Momentum and weight decay on kept weights and all other parameters; removed weights are never touched."""
    case = Case("preresnet-8x0.25", 8)
    program = case.program(library.functions, 2)
    given = case.arguments(program)
    momentum = np.zeros_like(given["parameters"])
    case.module.double()
    sgd = torch.optim.SGD(case.module.parameters(), 0.05, momentum=0.9, weight_decay=0.01)
    for _ in range(3):
        program.run("step", momentum=momentum, rate=0.05, factor=0.9, decay=0.01, **given)
        sgd.zero_grad()
        F.cross_entropy(case.module(case.images().double()), torch.from_numpy(case.labels)).backward()
        for name, parameter in case.module.named_parameters():
            if name in case.masks:
                parameter.grad.mul_(torch.from_numpy(case.masks[name]))
        sgd.step()
    kept = [case.masks.get(name, np.ones(shape, bool)).ravel() for name, shape in case.shapes.items()]
    removed = ~np.concatenate(kept)
    assert removed.any()
    assert (given["parameters"][removed] == 0).all()
    assert (momentum[removed] == 0).all()
    expected = torch.cat([value.detach().flatten() for value in case.module.parameters()])
    assert distance(given["parameters"], expected) < 1e-5


@pytest.mark.parametrize(
    ("name", "up_to", "not_from"),
    [("preresnet-20", 1.0, 1.1), ("preresnet-20x2", 0.3, 0.6), ("vgg-19", 0.4, 0.7), ("densenet-40", 0.8, 1.1)],
)
def test_where_it_pays(name, up_to, not_from):
    """Densities where the engine is faster; above them retraining does not use it."""
    module = families.build(name, classes=10, channels=3, image_size=32)
    graph = Graph(3, 32)
    module.lowered(graph)
    check(graph)

    def kept(density: float) -> Masks:
        line = {key: np.linspace(0, 1, value.numel()) for key, value in module.named_parameters() if value.ndim == 4}
        return {key: (numbers < density).reshape(module.get_parameter(key).shape) for key, numbers in line.items()}

    assert graph.kept(kept(up_to)) == pytest.approx(up_to, abs=0.02)
    assert graph.pays(kept(up_to))
    assert not_from > 1 or not graph.pays(kept(not_from))


@pytest.fixture(scope="module")
def images() -> ImageClassification:
    return digits_task("preresnet-8x0.5")


class Described(torch.nn.Module):
    """A network as a third party may describe it: a block with a shortcut, with some options changed."""

    def __init__(self, layers: dict[str, dict], order: str = "bsc") -> None:
        super().__init__()
        self.layers, self.order = layers, order

    def lowered(self, graph: Graph) -> None:
        def convolution(source, name, **usual):
            return graph.convolution(source, name, 16, **{**usual, **self.layers.get(name, {})})

        first, second = convolution(graph.image, "a"), None
        for name in self.order:
            match name:
                case "b":
                    second = convolution(first, "b", norm="m", stride=2)
                case "s":
                    shortcut = convolution(first, "s", kernel=1, stride=2)
                case "p":
                    second = graph.pool(first, "m", "average")
                case "c":
                    last = convolution(second, "c", norm="n", beside=shortcut)
        graph.head(last, "o", "f", 10)


@pytest.mark.parametrize(
    ("layers", "order", "reason"),
    [
        ({"a": {"norm": "l"}}, "bsc", "not the result of convolutions"),
        ({"s": {"kernel": 3}}, "psc", "not the result of convolutions"),
        ({}, "sbc", "must follow one strided 3×3"),
        ({"s": {"norm": "l"}}, "bsc", "must follow one strided 3×3"),
        ({"b": {"norm": None}}, "bsc", "must follow one strided 3×3"),
        ({}, "bssc", "s: used by 2 layers"),
        ({"c": {"norm": "m"}}, "bsc", "m: used by 2 layers"),
        ({"b": {"bias": True}, "c": {"norm": None}}, "bsc", "a bias that"),
        ({"c": {"bias": True}}, "bsc", "a bias that"),
        ({"s": {"bias": True}}, "bsc", "a bias that"),
        ({"s": {"stride": 1}}, "bsc", "another shape"),
    ],
)
def test_what_it_would_compute_wrongly_is_left_to_torch(library, images, caplog, layers, order, reason):
    masks = {f"{name}.weight": np.arange(10) == 0 for name in "absc"}
    task = copy.copy(images)
    task.model = Described({"b": {"bias": True}})
    assert SparseImages.of(task, library, masks, None) is not None
    task.model = Described(layers, order)
    with caplog.at_level("DEBUG", logger="three_regime"):
        assert SparseImages.of(task, library, masks, None) is None
    assert reason in caplog.text


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_bits_again(library, threads):
    """In another process, after another batch, and whatever the previous content of memory."""
    case = Case("densenet-10k4", 8)
    found = []
    for _ in range(2):
        program = case.program(library.functions, threads)
        for count in (len(case.labels), 3, len(case.labels)):
            program.run("gradient", **{**case.arguments(program), "count": count})
            found.append(program.dense_gradient(sum(np.prod(shape) for shape in case.shapes.values())))
    assert np.array_equal(found[0], found[2])
    assert np.array_equal(found[0], found[3])
    assert np.array_equal(found[1], found[4])
    assert not np.array_equal(found[0], found[1])


def test_not_a_number_stays_visible(library):
    case = Case("preresnet-8x0.25", 8)
    program = case.program(library.functions)
    given = case.arguments(program)
    given["parameters"][np.flatnonzero(given["parameters"])[0]] = np.nan
    loss, _ = program.run("gradient", **given)
    assert not np.isfinite(loss)


def test_an_engine_that_is_wrong_is_not_used(library):
    """A compiler error, here one that makes the engine do nothing."""
    lanes = library.functions.sparse_lanes
    assert sparse_engine_works(library.functions)
    assert not sparse_engine_works(SimpleNamespace(sparse_lanes=lanes, sparse_run=lambda network, call: None))


def test_python_and_c_lay_out_the_same(library):
    library.functions.sparse_size.restype = ctypes.c_long
    assert [library.functions.sparse_size(i) for i in range(5)] == [ctypes.sizeof(each) for each in STRUCTURES]


@pytest.mark.parametrize("processor", ["x86-64-v4", "x86-64-v3"])
def test_other_processors(library, monkeypatch, tmp_path, processor):
    """AVX-512 and AVX2: compiled for each, and run where this processor has it."""
    options = [f"-march={processor}" if option == "-march=native" else option for option in building.OPTIONS]
    monkeypatch.setattr(building, "OPTIONS", tuple(options))
    needed = [path for path in building.SOURCES if path.name.startswith(("sparse", "threads"))]
    monkeypatch.setattr(building, "SOURCES", tuple(needed))
    compiler = next(name for name in building.COMPILERS if building.shutil.which(name))
    try:
        building._compile(compiler, tmp_path / "kernels.so")
    except building.Unavailable as error:
        pytest.skip(f"this compiler does not know {processor}: {error}")
    needs = {"x86-64-v4": {"avx512f", "avx512vl", "avx512bw", "avx512dq"}, "x86-64-v3": {"avx2", "fma"}}
    flags = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")).split()
    if not needs[processor] <= set(flags):
        pytest.skip(f"compiled, but this processor lacks {processor}")
    case = Case("preresnet-8x0.25", 8)
    program = case.program(ctypes.CDLL(str(tmp_path / "kernels.so")))
    given = case.arguments(program)
    program.run("gradient", **given)
    _, expected = case.gradient(case.module.double().train(), case.images().double())
    assert distance(program.dense_gradient(len(given["parameters"])), expected) < 5e-6


# -- Winograd's way for layers that keep much


def wide(side: int, channels: int, bias: bool = False) -> Graph:
    """Two convolutions that Winograd's way fits, one with something added to it, behind one that it does not."""
    graph = Graph(3, side)
    first = graph.convolution(graph.image, "a", channels)
    hidden = graph.convolution(first, "b", 32, norm="m", bias=bias)
    hidden = graph.convolution(hidden, "c", channels, norm="n", beside=first)
    graph.head(hidden, "o", "f", 10)
    return graph


def wide_case(side: int, channels: int, images: int, bias: bool = False, density: float = 0.6) -> dict:
    """Parameters, masks and a batch for `wide`."""
    generator = np.random.default_rng(0)
    shapes = {
        "a.weight": (channels, 3, 3, 3), "m.weight": (channels,), "m.bias": (channels,),
        "b.weight": (32, channels, 3, 3), **({"b.bias": (32,)} if bias else {}), "n.weight": (32,), "n.bias": (32,),
        "c.weight": (channels, 32, 3, 3), "o.weight": (channels,), "o.bias": (channels,), "f.weight": (10, channels),
        "f.bias": (10,),
    }  # fmt: skip
    masks = {name: generator.random(shapes[name]) < density for name in ("b.weight", "c.weight")}
    weights = {}
    for name, shape in shapes.items():
        spread, middle = (0.3, 1) if len(shape) == 1 else (0.1, 0)
        drawn = middle + spread * generator.standard_normal(shape)
        weights[name] = (drawn * masks.get(name, 1)).astype(np.float32)
    norms = (channels, 32, channels)
    return {
        "shapes": shapes, "masks": masks, "weights": weights, "graph": wide(side, channels, bias),
        "parameters": np.concatenate([value.ravel() for value in weights.values()]),
        "statistics": [(np.zeros(each, np.float32), np.ones(each, np.float32)) for each in norms],
        "pixels": generator.integers(0, 256, (images, side, side, 3), dtype=np.uint8),
        "labels": generator.integers(0, 10, images), "levels": LEVELS, "count": images,
    }  # fmt: skip


def run_wide(
    functions: ctypes.CDLL, case: dict, threads: int = 1, winograd: tuple = ("b", "c"), mode: str = "gradient"
):
    """The gradient, logits, and running statistics."""
    given = {key: case[key] for key in ("pixels", "labels", "levels", "count")}
    logits = np.empty((case["count"], 10), np.float32)
    statistics = [(mean.copy(), variance.copy()) for mean, variance in case["statistics"]]
    program = Program(
        functions, case["graph"], case["shapes"], case["masks"], images=case["count"], threads=threads,
        training=mode == "gradient", winograd=winograd,
    )  # fmt: skip
    program.run(mode, parameters=case["parameters"], statistics=statistics, logits=logits, **given)
    gradient = program.dense_gradient(len(case["parameters"])) if mode == "gradient" else None
    return gradient, logits, np.concatenate([each for pair in statistics for each in pair])


def exact_wide(case: dict) -> tuple[np.ndarray, np.ndarray]:
    """Gradient of what is kept, and logits, in double precision by torch."""
    leaves = {name: torch.from_numpy(value).double().requires_grad_() for name, value in case["weights"].items()}

    def convolved(values: torch.Tensor, name: str, norm: str | None) -> torch.Tensor:
        if norm:
            given = leaves[f"{norm}.weight"], leaves[f"{norm}.bias"]
            values = F.relu(F.batch_norm(values, None, None, *given, True, 0.1, 1e-5))
        return F.conv2d(values, leaves[f"{name}.weight"], leaves.get(f"{name}.bias"), padding=1)

    images = torch.from_numpy(LEVELS[0][case["pixels"]]).permute(0, 3, 1, 2).double()
    first = convolved(images, "a", None)
    last = first + convolved(convolved(first, "b", "m"), "c", "n")
    hidden = F.relu(F.batch_norm(last, None, None, leaves["o.weight"], leaves["o.bias"], True, 0.1, 1e-5))
    logits = F.linear(hidden.mean((2, 3)), leaves["f.weight"], leaves["f.bias"])
    loss = F.cross_entropy(logits, torch.from_numpy(case["labels"]))
    kept = [
        torch.autograd.grad(loss, leaf, retain_graph=True)[0].numpy() * case["masks"].get(name, 1)
        for name, leaf in leaves.items()
    ]
    return np.concatenate([each.ravel() for each in kept]), logits.detach().numpy()


@pytest.mark.parametrize(
    ("side", "channels", "images", "threads"),
    [(32, 16, 5, 1), (16, 32, 21, 2), (8, 64, 16, 3), (4, 16, 27, 2), (12, 48, 9, 1)],
)
def test_winograds_way_equals_float64(library, side, channels, images, threads):
    """Whole gradients, removed weights' 0 among them; odd batches; one tile and many; evaluation as without it."""
    bias = side == 8
    case = wide_case(side, channels, images, bias)
    gradient, logits, statistics = run_wide(library.functions, case, threads)
    expected, exact = exact_wide(case)
    if bias:  # it stands before a norm: its gradient is rounding alone
        at = sum(np.prod(case["shapes"][name]) for name in ("a.weight", "m.weight", "m.bias", "b.weight"))
        expected[at : at + 32] = gradient[at : at + 32] = 0
    # An odd ReLU may be within rounding of its kink: its share of a gradient of so many places is below 1e-4.
    assert np.linalg.norm(gradient - expected) < 1e-4 * np.linalg.norm(expected)
    np.testing.assert_allclose(logits, exact, rtol=2e-5, atol=2e-5)
    usual = run_wide(library.functions, case, threads, winograd=())
    np.testing.assert_allclose(statistics, usual[2], rtol=1e-5, atol=1e-5)
    assert not np.array_equal(gradient, usual[0])  # it was Winograd's way
    found = [run_wide(library.functions, case, threads, way, "evaluate")[1] for way in (("b", "c"), ())]
    np.testing.assert_allclose(*found, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("threads", [1, 2])
def test_winograds_way_gives_the_same_bits_again(library, threads):
    case = wide_case(8, 32, 21)
    first, second = (run_wide(library.functions, case, threads) for _ in range(2))
    for mine, again in zip(first, second, strict=True):
        assert np.array_equal(mine, again)


def test_which_layers_go_by_winograds_way():
    """Those that keep much, of the shapes that it fits; none at the paper's low densities."""
    graph, case = wide(8, 16), wide_case(8, 16, 1, density=0.6)
    assert graph.winograd(case["masks"]) == {"b", "c"}
    assert graph.winograd(wide_case(8, 16, 1, density=0.1)["masks"]) == set()
    assert graph.winograd(case["masks"] | {"c.weight": np.zeros((16, 32, 3, 3), bool)}) == {"b"}
    assert wide(6, 16).winograd({}) == wide(8, 24).winograd({}) == set()  # no tiles of 4; no vectors of 16
