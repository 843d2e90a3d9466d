"""Compiled kernels equal torch, are deterministic, and are optional."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from checkout import ROOT
from toy_task import settings

from three_regime import kernels
from three_regime.datasets.registry import DATASETS
from three_regime.errors import UserError
from three_regime.kernels import building
from three_regime.kernels.building import Unavailable
from three_regime.models import families
from three_regime.models.initialisation import initial_weights
from three_regime.models.layers import Convolution3x3, NormRelu, use_kernels
from three_regime.random_streams import Streams
from three_regime.tasks.images.task import ImageClassification
from three_regime.training import saved_state
from three_regime.training.saved_state import SavedState

CPU = torch.device("cpu")
CIFAR = DATASETS["cifar10"]
NETWORKS = ["preresnet-8", "preresnet-8x0.25", "vgg-11", "densenet-7"]


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    """Random images; mean and standard deviation differ between channels."""
    generator = torch.Generator().manual_seed(seed)
    channels = torch.linspace(0.5, 3, shape[1]).view(1, -1, 1, 1)
    numbers = torch.randn(shape, generator=generator) * channels + channels.flip(1) - 1.5
    return numbers.contiguous(memory_format=torch.channels_last)


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference, relative to the largest number, or to 1 (what enters is of that size, and may cancel)."""
    return ((found - expected).abs().max() / expected.abs().max().clamp(min=1)).item()


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("shape", [(4, 16, 8, 8), (3, 36, 5, 7), (2, 300, 2, 2), (64, 4, 8, 8), (2, 1, 1, 1)])
def test_norm_and_relu_equal_float64(library, shape, threads):
    """Result, running statistics and every gradient."""
    torch.set_num_threads(threads)
    layer = NormRelu(shape[1])
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(-1, 2, shape[1]))
        layer.bias.copy_(torch.linspace(-0.5, 0.5, shape[1]))
    exact = NormRelu(shape[1]).double()
    exact.load_state_dict(layer.state_dict())
    use_kernels(layer, library)
    given = images(*shape, seed=1)

    def run(layer: NormRelu, inputs: torch.Tensor) -> list[torch.Tensor]:
        inputs = inputs.requires_grad_()
        result = layer(inputs)
        assert (type(result.grad_fn).__name__ == "NormReluBackward") == (layer.kernels is not None)
        total = (result * given.to(inputs)).sum()
        gradients = torch.autograd.grad(total, (inputs, layer.weight, layer.bias))
        return [result.detach(), *gradients, layer.running_mean, layer.running_var]

    found = run(layer, images(*shape))
    expected = run(exact, images(*shape).double())
    for mine, theirs in zip(found, expected, strict=True):
        assert relative(mine, theirs) < 3e-6
    assert layer.num_batches_tracked == 1
    layer.eval(), exact.eval()
    exact.load_state_dict(layer.state_dict())
    with torch.no_grad():
        assert relative(layer(images(*shape)), exact(images(*shape).double())) < 1e-6


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(
    ("inputs", "outputs", "stride", "shape"),
    [
        (16, 16, 1, (5, 8, 8)),
        (32, 16, 1, (3, 12, 20)),
        (64, 64, 1, (2, 8, 4)),
        (16, 256, 1, (1, 4, 4)),
        (16, 32, 2, (2, 8, 8)),
    ],
)
def test_convolution_of_norm_and_relu_equals_float64(library, inputs, outputs, stride, shape, threads):
    """Result, running statistics and all gradients, those of a shortcut and of an addend too.

    Tiles that fill no group, and borders on every side.
    """
    torch.set_num_threads(threads)
    count, height, width = shape
    layers = [NormRelu(inputs), Convolution3x3(inputs, outputs, stride)]
    exact = [NormRelu(inputs).double(), Convolution3x3(inputs, outputs, stride).double()]
    with torch.no_grad():
        layers[0].weight.copy_(torch.linspace(-1, 2, inputs))
        layers[0].weight[3] = 0
        layers[0].bias.copy_(torch.linspace(-0.5, 0.5, inputs))
    for layer, other in zip(layers, exact, strict=True):
        other.load_state_dict(layer.state_dict())
    use_kernels(layers[0], library)
    sides = height // stride, width // stride
    given, beside_given = images(count, outputs, *sides, seed=3), images(count, inputs, height, width, seed=4)

    def run(norm: NormRelu, convolution: Convolution3x3, dtype: torch.dtype) -> list[torch.Tensor]:
        leaves = [images(count, inputs, height, width).to(dtype), images(count, outputs, *sides).to(dtype)]
        leaves = [leaf.requires_grad_() for leaf in leaves]
        result, beside = norm.convolved(convolution, *leaves)
        total = (result * given.to(dtype)).sum() + (beside * beside_given.to(dtype)).sum()
        gradients = torch.autograd.grad(total, (*leaves, convolution.weight, norm.weight, norm.bias))
        norm.eval()
        with torch.no_grad():
            evaluated, _ = norm.convolved(convolution, *leaves)
        return [result.detach(), *gradients, norm.running_mean, norm.running_var, evaluated]

    for mine, theirs in zip(run(*layers, torch.float32), run(*exact, torch.float64), strict=True):
        assert relative(mine, theirs) < 5e-6


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_equal_plain_ones(library, name):
    """Logits and running statistics within rounding; gradients within 1 %, as torch's own: within rounding of its kink
    a ReLU is open in one and closed in the other."""
    plain, fused, exact = (families.build(name, classes=10, channels=3, image_size=32) for _ in range(3))
    weights = initial_weights(plain, np.random.default_rng(1))
    for network in (plain, fused, exact):
        network.load_state_dict({key: torch.from_numpy(np.array(value)) for key, value in weights.items()})
    use_kernels(fused, library)
    exact.double()
    batch, labels = images(8, 3, 32, 32), torch.arange(8)

    def run(network: torch.nn.Module, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = network(batch)
        gradients = torch.autograd.grad(F.cross_entropy(logits, labels), tuple(network.parameters()))
        return logits.detach(), torch.cat([gradient.flatten() for gradient in gradients])

    (logits, gradient), (usual, usual_gradient) = run(fused, batch), run(plain, batch)
    reference, exact_gradient = run(exact, batch.double())
    torch.testing.assert_close(logits, usual, rtol=1e-4, atol=1e-4)
    assert (logits - reference).abs().max() < 3 * (usual - reference).abs().max() + 1e-5
    for each in (gradient, usual_gradient):
        assert (each - exact_gradient).norm() < 0.01 * exact_gradient.norm()
    for key, value in fused.state_dict().items():
        torch.testing.assert_close(value, plain.state_dict()[key], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_names_and_initial_weights_do_not_depend_on_kernels(library, name):
    plain, fused = (families.build(name, classes=10, channels=3, image_size=32) for _ in range(2))
    use_kernels(fused, library)
    assert list(plain.state_dict()) == list(fused.state_dict())
    assert families.prunable(plain) == families.prunable(fused)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_bits_again(library, threads):
    torch.set_num_threads(threads)
    network = families.build("preresnet-8", classes=10, channels=3, image_size=32)
    use_kernels(network, library)
    batch = images(10, 3, 32, 32)

    def run() -> list[torch.Tensor]:
        return list(torch.autograd.grad(network(batch).square().sum(), tuple(network.parameters())))

    first = run()
    for _ in range(3):
        assert all(torch.equal(a, b) for a, b in zip(first, run(), strict=True))


def test_not_a_number_stays_visible(library):
    """A diverged network must produce a non-finite loss."""
    layer = NormRelu(16)
    use_kernels(layer, library)
    broken = images(2, 16, 4, 4)
    broken[0, 3, 1, 1] = torch.nan
    result = layer(broken)
    assert result[:, 3].isnan().all()
    assert result[:, :3].isfinite().all()


def test_what_the_kernels_do_not_do_is_done_by_torch(library):
    """Other memory formats, sides that tiles do not fill, evaluation with gradients, and transforms of torch.func."""
    layer = Convolution3x3(16, 16)
    norm, plain_norm = NormRelu(16), NormRelu(16)
    use_kernels(norm, library)
    odd = images(2, 16, 6, 6)
    assert torch.equal(norm.convolved(layer, odd)[0], layer(norm(odd)))
    contiguous = images(2, 16, 4, 4).contiguous()
    assert torch.equal(norm.convolved(layer, contiguous)[0], layer(plain_norm(contiguous)))
    assert torch.equal(norm(contiguous), NormRelu(16)(contiguous))
    plain_norm.load_state_dict(norm.state_dict())
    norm.eval(), plain_norm.eval()
    leaf = images(2, 16, 4, 4).requires_grad_()
    (found,), (expected,) = (torch.autograd.grad(each(leaf).square().sum(), leaf) for each in (norm, plain_norm))
    assert torch.equal(found, expected)
    batch, scales = images(2, 16, 4, 4), torch.stack([torch.ones(16), 2 * torch.ones(16)])

    def call(weight: torch.Tensor) -> torch.Tensor:
        statistics = {"running_mean": torch.zeros(16), "running_var": torch.ones(16)}
        return torch.func.functional_call(norm, {"weight": weight, "bias": torch.zeros(16), **statistics}, (batch,))

    found = torch.func.vmap(call)(scales)
    torch.testing.assert_close(found[1], 2 * found[0])
    torch.testing.assert_close(found[0], batch.relu(), rtol=1e-4, atol=1e-4)


def test_a_task_uses_them_where_they_are_allowed(library):
    pixels = np.random.default_rng(0).integers(0, 256, (96, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(96) % 10
    splits = [{f"{split}_images": pixels, f"{split}_labels": labels} for split in ("train", "test")]
    arrays = {**splits[0], **splits[1]}
    plain = ImageClassification(CIFAR, arrays, "preresnet-8", CPU)
    assert kernels.in_use() == "plain"
    kernels.allow("auto")
    fused = ImageClassification(CIFAR, arrays, "preresnet-8", CPU)
    assert kernels.in_use() == "fused"
    weights = plain.load(plain.initial_weights(Streams(("dense", 1))), "drawn")
    usual, found = (task.reestimate(weights, 32) for task in (plain, fused))
    for name, value in usual.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)
    assert fused.evaluate(found, "test").nll == pytest.approx(plain.evaluate(usual, "test").nll, rel=1e-5)
    batch = plain.epoch(Streams(("dense", 1)), 0, settings(batch_size=32)).micro_batches(0)[0]
    parameters = {name: weights[name] for name in plain.parameters}
    losses = [
        task.loss(parameters, {name: weights[name].clone() for name in task.buffers}, batch)[0]
        for task in (plain, fused)
    ]
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=0)


def test_a_state_of_other_kernels_is_refused(library, tmp_path):
    """Either way; and a state from before kernels were recorded is a plain one."""
    state = SavedState({"parameters": np.zeros(3, np.float32)}, 1, 2, [], 3.0)
    kernels.allow("auto")
    assert kernels.in_use() == "fused"
    saved_state.save(tmp_path / "fused", state, key="k", threads=1, device="cpu", together=False)
    assert saved_state.load(tmp_path / "fused", key="k", threads=1, device="cpu", together=False) is not None
    kernels.allow("plain")
    saved_state.save(tmp_path / "plain", state, key="k", threads=1, device="cpu", together=False)
    with pytest.raises(UserError, match="fused kernels and this run has plain ones.*C compiler"):
        saved_state.load(tmp_path / "fused", key="k", threads=1, device="cpu", together=False)
    kernels.allow("auto")
    with pytest.raises(UserError, match="`kernels: plain`"):
        saved_state.load(tmp_path / "plain", key="k", threads=1, device="cpu", together=False)


def test_without_a_compiler_torch_computes(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="no C compiler"):
        building.built()
    monkeypatch.setattr(kernels, "library", kernels.library.__wrapped__)
    with caplog.at_level("INFO", "three_regime"):
        kernels.allow("auto")
        assert kernels.available(CPU) is None
    assert "no C compiler" in caplog.text
    assert kernels.available(torch.device("cuda")) is None


def test_without_a_readable_processor_there_are_no_kernels(monkeypatch):
    def refuse(path, *_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(building.Path, "read_bytes", refuse)
    with pytest.raises(Unavailable, match="cpuinfo cannot be read"):
        building._processor()


def test_a_compiler_that_fails_leaves_nothing_behind(monkeypatch, tmp_path):
    broken = tmp_path / "bin" / "cc"
    broken.parent.mkdir()
    broken.write_text('#!/bin/sh\n[ "$1" = --version ] && exit 0\necho "it is broken" >&2\nexit 1\n')
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{broken.parent}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(Unavailable, match="it is broken"):
        building.built()
    assert list((tmp_path / "cache" / "three_regime").iterdir()) == []


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The user's cache, and beside it the folder for temporary files; compiling writes its number."""
    counted = iter(range(100))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(building.tempfile, "gettempdir", lambda: str(tmp_path / "temporary"))
    monkeypatch.setattr(building, "_key", lambda compiler: "key")
    monkeypatch.setattr(building.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(building, "_compile", lambda compiler, target: target.write_text(f"{next(counted)}"))
    (tmp_path / "temporary").mkdir(mode=0o700)
    return tmp_path / "cache" / "three_regime"


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022, 0o077])
def test_what_is_in_the_cache_is_used_again(cache, umask):
    before = os.umask(umask)
    try:
        cache.parent.mkdir(mode=0o755)
        path = building.built()
    finally:
        os.umask(before)
    assert (path.parent, path.read_text(), building.built().read_text()) == (cache, "0", "0")
    assert not (path.stat().st_mode | path.parent.stat().st_mode) & 0o022


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_compiled_object_that_others_can_write_is_made_anew(cache, mode):
    building.built().chmod(mode)
    path = building.built()
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("1", 0o600)


def test_a_link_in_place_of_the_object_is_made_anew(cache, tmp_path):
    (tmp_path / "theirs.so").write_text("theirs")
    building.built().unlink()
    (cache / "kernels-key.so").symlink_to(tmp_path / "theirs.so")
    path = building.built()
    assert (path.is_symlink(), path.read_text(), (tmp_path / "theirs.so").read_text()) == (False, "1", "theirs")


@pytest.mark.parametrize("what", ["world", "group", "link", "above", "owner"])
def test_a_folder_that_is_not_ours_alone_is_not_used(cache, tmp_path, monkeypatch, what):
    building.built()
    if what in ("world", "group"):
        cache.chmod(0o777 if what == "world" else 0o770)
    elif what == "above":
        cache.parent.chmod(0o777)
    elif what == "link":
        cache.rename(tmp_path / "elsewhere")
        cache.symlink_to(tmp_path / "elsewhere")
    else:
        monkeypatch.setattr(building.os, "getuid", lambda: 54_321)
        with pytest.raises(Unavailable, match="no cache folder is usable"):
            building.built()
        return
    path = building.built()
    assert (path.parent.parent, path.read_text()) == (tmp_path / "temporary", "1")


def test_without_a_home_the_object_is_kept_among_temporary_files(cache, tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(building.os.path, "expanduser", str)
    monkeypatch.chdir(tmp_path)
    assert building.built().is_relative_to(tmp_path / "temporary")
    assert not (tmp_path / "~").exists()


def test_two_processes_compile_at_once(library, tmp_path):
    """Each uses a complete object, and one is left; another processor or source has another name."""
    code = "import ctypes; from three_regime.kernels.building import built; ctypes.CDLL(str(built())).conv_forward"
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    running = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(2)]
    assert [process.wait(timeout=300) for process in running] == [0, 0]
    assert len(list((tmp_path / "three_regime").iterdir())) == 1


def test_the_key_knows_processor_compiler_and_source(library, monkeypatch):
    compiler = next(name for name in building.COMPILERS if building.shutil.which(name))
    usual = building._key(compiler)
    for name, value in (("_processor", b"another"), ("_version", b"another")):
        with monkeypatch.context() as patch:
            patch.setattr(building, name, lambda *_, value=value: value)
            assert building._key(compiler) != usual
    monkeypatch.setattr(building, "SOURCES", building.SOURCES[1:])
    assert building._key(compiler) != usual
