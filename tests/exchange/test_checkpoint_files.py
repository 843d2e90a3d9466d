"""Foreign checkpoints."""

import contextlib
import errno
import hashlib
import os
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from processor_time import limited_to
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import prune

from three_regime.errors import UserError
from three_regime.exchange import checkpoint_files
from three_regime.exchange.checkpoint_files import STATE_DICT_KEYS, read_foreign
from three_regime.models import families
from three_regime.models.initialisation import initial_weights
from three_regime.models.matching import match
from three_regime.system.files import write_arrays

NAME = "preresnet-8x0.25"


def build(name: str = NAME, classes: int = 10) -> nn.Module:
    return families.build(name, classes=classes, channels=1, image_size=8)


@pytest.fixture
def model() -> nn.Module:
    model = build()
    arrays = initial_weights(model, np.random.default_rng(4))
    model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    return model


def own_values(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.numpy().copy() for name, value in model.state_dict().items()}


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and found[name].shape == value.shape
        np.testing.assert_array_equal(found[name], value)


def test_the_authors_pruned_checkpoint_has_weights_and_masks(tmp_path, model):
    """Written as the authors' code does: pruned by torch, wrapped in DataParallel, beside the optimiser."""
    dense = own_values(model)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            prune.l1_unstructured(module, "weight", amount=0.8)
        elif isinstance(module, nn.Linear):
            prune.identity(module, "weight")
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.zeros(2, 1, 8, 8)).sum().backward()
    optimiser.step()
    product = {name: (module.weight_orig * module.weight_mask) for name, module in model.named_modules()
               if hasattr(module, "weight_mask")}  # fmt: skip
    path = tmp_path / "finetuned.pth.tar"
    content = {"epoch": 3, "state_dict": nn.DataParallel(model).state_dict(), "acc": 91.5, "best_acc": 92.0,
               "optimizer": optimiser.state_dict()}  # fmt: skip
    torch.save(content, path)

    found = read_foreign(path)
    arrays = match(found.arrays, build(), source=path)
    assert list(arrays) == list(dense)
    for name, value in product.items():
        np.testing.assert_array_equal(arrays[f"{name}.weight"], value.detach().numpy())
    assert set(found.masks) == {*families.prunable(build()), "fc.weight"}
    for name, mask in found.masks.items():
        assert mask.dtype == bool and not arrays[name][~mask].any()
    assert found.masks["fc.weight"].all()
    conv1 = found.masks["conv1.weight"]
    assert conv1.sum() == conv1.size - round(0.8 * conv1.size)
    assert found.source_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("key", [None, *STATE_DICT_KEYS])
@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_a_state_dict_is_found_on_top_or_under_a_known_key(tmp_path, model, key, suffix):
    path = tmp_path / f"checkpoint{suffix}"
    torch.save(model.state_dict() if key is None else {"epoch": 1, key: model.state_dict()}, path)
    found = read_foreign(path)
    assert found.masks is None
    assert_same(match(found.arrays, build()), own_values(model))


@pytest.mark.parametrize(("levels", "found"), [(4, True), (5, False)])
def test_a_state_dict_is_looked_for_four_levels_deep(tmp_path, levels, found):
    content = {"weight": torch.ones(2)}
    for _ in range(levels):
        content = {STATE_DICT_KEYS[0]: content}
    torch.save(content, tmp_path / "deep.pt")
    with contextlib.nullcontext() if found else pytest.raises(UserError, match="holds no state dict"):
        assert list(read_foreign(tmp_path / "deep.pt").arrays) == ["weight"]


def test_the_old_file_format_of_torch_is_read(tmp_path, model):
    torch.save(model.state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert_same(read_foreign(tmp_path / "old.pth").arrays, own_values(model))


def test_our_own_safetensors_are_read(tmp_path, model):
    path = tmp_path / "own.safetensors"
    write_arrays(path, own_values(model), {"stage": "dense"})
    found = read_foreign(path)
    assert found.masks is None
    assert_same(match(found.arrays, build(), source=path), own_values(model))


def test_only_wrappers_are_removed_from_names(tmp_path):
    torch.save({"module.module.a": torch.ones(1), "module.module.b.module.c": torch.ones(1)}, tmp_path / "a.pt")
    assert set(read_foreign(tmp_path / "a.pt").arrays) == {"a", "b.module.c"}
    torch.save({"module.a": torch.ones(1), "a": torch.zeros(1)}, tmp_path / "b.pt")
    assert set(read_foreign(tmp_path / "b.pt").arrays) == {"module.a", "a"}


def test_other_number_types_become_those_of_the_model(tmp_path, model):
    for dtype in (torch.float64, torch.bfloat16, torch.float16):
        state = {n: v.to(dtype) if v.is_floating_point() else v for n, v in model.state_dict().items()}
        torch.save(state, tmp_path / "x.pt")
        arrays = match(read_foreign(tmp_path / "x.pt").arrays, build())
        assert arrays["conv1.weight"].dtype == np.float32
        np.testing.assert_array_equal(arrays["conv1.weight"], state["conv1.weight"].float().numpy())


def test_brain_floats_are_read_from_safetensors_too(tmp_path):
    save_file({"module.a": torch.full((2,), 1.5, dtype=torch.bfloat16)}, tmp_path / "brain.safetensors")
    found = read_foreign(tmp_path / "brain.safetensors").arrays["a"]
    assert (found.dtype, found.tolist()) == (np.float32, [1.5, 1.5])


def floating(state, change):
    return {name: change(value) if value.is_floating_point() else value for name, value in state.items()}


@pytest.mark.filterwarnings("ignore")
def test_sparse_tensors_are_read_in_full(tmp_path, model):
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith("weight"):
                value[value.abs() < value.abs().median()] = 0
    for to_sparse in (torch.Tensor.to_sparse, lambda v: v.to_sparse_csr() if v.dim() == 2 else v.to_sparse()):
        torch.save(floating(model.state_dict(), to_sparse), tmp_path / "sparse.pt")
        assert_same(match(read_foreign(tmp_path / "sparse.pt").arrays, build()), own_values(model))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda v: v.to(torch.float8_e4m3fn), "holds float8_e4m3fn.*save float32"),
        (lambda v: torch.quantize_per_tensor(v, 0.1, 0, torch.qint8), "is quantised; save"),
        (lambda v: v.to("meta"), "meta device.; load the weights"),
        (lambda v: v.to(torch.complex64).conj(), "complex numbers; save real ones"),
        (lambda v: (v * 100).to(torch.int8), "holds int8 where weights are real numbers; save float32"),
        (lambda v: v > 0, "holds bool where weights"),
        (lambda v: torch.zeros(1).expand(1 << 20, 1 << 20), "expands to .* numbers, too many"),
        (lambda v: torch.sparse_coo_tensor(torch.zeros(2, 1, dtype=int), [1.0], (1 << 30, 1 << 30)), "expands to"),
    ],
)
def test_numbers_that_are_no_weights_are_named(tmp_path, model, change, said):
    torch.save(floating(model.state_dict(), change), tmp_path / "odd.pt")
    with pytest.raises(UserError, match=f"checkpoint .*odd.pt.* {said}"):
        match(read_foreign(tmp_path / "odd.pt").arrays, build(), tmp_path / "odd.pt")


@pytest.mark.parametrize(
    "prefix",
    ["module.", "_orig_mod.", "model.", "network.", "net.", "module._orig_mod.", "_orig_mod.module.",
     "model.module._orig_mod.", "module.module.", "model.net.module.", "_fsdp_wrapped_module."],
)  # fmt: skip
@pytest.mark.parametrize("averaged", [False, True])
@pytest.mark.parametrize("keys", [(), ("state_dict",), ("model", "state_dict"), ("ema", "module")])
def test_wrappers_are_removed_in_any_order(tmp_path, model, prefix, averaged, keys):
    content = {prefix + name: value for name, value in model.state_dict().items()}
    if averaged:
        content |= {"n_averaged": torch.tensor(3), f"{prefix}n_averaged": torch.tensor(3)}
    for key in reversed(keys):
        content = {"epoch": 3, key: content, "optimizer": {"state": {}}}
    torch.save(content, tmp_path / "wrapped.pt")
    assert_same(match(read_foreign(tmp_path / "wrapped.pt").arrays, build()), own_values(model))


def test_what_torch_itself_wraps_is_read(tmp_path, model):
    for number, wrapped in enumerate((
        torch.compile(model),
        nn.DataParallel(torch.compile(model)),
        torch.compile(nn.DataParallel(model)),
        torch.optim.swa_utils.AveragedModel(model),
        torch.optim.swa_utils.AveragedModel(torch.compile(nn.DataParallel(model))),
    )):  # fmt: skip
        torch.save(wrapped.state_dict(), tmp_path / f"{number}.pt")
        assert_same(match(read_foreign(tmp_path / f"{number}.pt").arrays, build()), own_values(model))


def test_a_part_that_was_compiled_is_read(tmp_path, model):
    expected = own_values(model)
    model.layer1 = torch.compile(model.layer1)
    assert any("layer1._orig_mod." in name for name in model.state_dict())
    torch.save(model.state_dict(), tmp_path / "part.pt")
    assert_same(match(read_foreign(tmp_path / "part.pt").arrays, build()), expected)


def test_entries_beside_the_tensors_are_passed_over(tmp_path, model):
    torch.save({**model.state_dict(), "epoch": 3, "note": "x", "_extra_state": None}, tmp_path / "more.pt")
    assert_same(match(read_foreign(tmp_path / "more.pt").arrays, build()), own_values(model))


def test_weights_are_taken_before_their_averages(tmp_path):
    torch.save({"ema": {"a": torch.zeros(1)}, "model": {"a": torch.ones(1)}}, tmp_path / "both.pt")
    assert read_foreign(tmp_path / "both.pt").arrays["a"].item() == 1


def test_names_that_meet_without_their_wrappers_are_refused(tmp_path):
    torch.save({"a._orig_mod.b": torch.ones(1), "a.b": torch.ones(1)}, tmp_path / "meet.pt")
    with pytest.raises(UserError, match="meet.pt holds a.b twice"):
        read_foreign(tmp_path / "meet.pt")


def test_keys_that_are_no_text_are_no_state_dict(tmp_path):
    torch.save({0: torch.ones(1)}, tmp_path / "numbers.pt")
    with pytest.raises(UserError, match="numbers.pt holds no state dict"):
        read_foreign(tmp_path / "numbers.pt")


def test_a_very_long_name_is_read_quickly_and_shown_in_short(tmp_path):
    torch.save({"module." * 60_000 + "a": torch.ones(1)}, tmp_path / "long.pt")
    with limited_to(5):
        assert list(read_foreign(tmp_path / "long.pt").arrays) == ["a"]
        torch.save({"x." * 60_000 + "a": torch.ones(1)}, tmp_path / "long.pt")
        with pytest.raises(UserError) as refused:
            match(read_foreign(tmp_path / "long.pt").arrays, build())
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize("error", [RuntimeError, TypeError, NotImplementedError, ValueError])
def test_numbers_that_numpy_refuses_are_named(tmp_path, monkeypatch, error):
    """Whatever a kind of tensor that is not foreseen here makes of being read."""
    torch.save({"conv.weight": torch.ones(2)}, tmp_path / "new.pt")

    def refuse(tensor):
        raise error("no such numbers")

    monkeypatch.setattr(checkpoint_files, "_as_array", refuse)
    with pytest.raises(UserError, match=r"new\.pt: conv\.weight cannot be read as numbers; save it as float32"):
        read_foreign(tmp_path / "new.pt")


@pytest.mark.parametrize("bit", [0, 5])
def test_a_flipped_bit_is_seen(tmp_path, model, bit):
    path = tmp_path / "flipped.pt"
    torch.save(model.state_dict(), path)
    with zipfile.ZipFile(path) as file:
        largest = max(file.infolist(), key=lambda info: info.file_size)
        at = path.read_bytes().index(file.read(largest)) + largest.file_size // 2
    content = bytearray(path.read_bytes())
    content[at] ^= 1 << bit
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"flipped\.pt is damaged.*(checksum|CRC)"):
        read_foreign(path)


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    (tmp_path / "theirs.pt").touch()

    def refuse(path):
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    monkeypatch.setattr(checkpoint_files, "file_digest", refuse)
    with pytest.raises(UserError, match="theirs.pt cannot be read: Input/output error"):
        read_foreign(tmp_path / "theirs.pt")


class Harmful:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_code_is_refused(tmp_path, zipped):
    trap = tmp_path / "trap"
    path = tmp_path / "evil.pth"
    torch.save(
        {"state_dict": {"a": torch.ones(1)}, "extra": Harmful(trap)}, path, _use_new_zipfile_serialization=zipped
    )
    with pytest.raises(UserError, match="evil.pth holds Python objects.*mkdir.*state_dict"):
        read_foreign(path)
    assert not trap.exists()
    torch.load(path, weights_only=False)
    assert trap.exists(), "the trap itself must work, or this test shows nothing"


def test_a_whole_pickled_network_is_refused(tmp_path, model):
    torch.save(model, tmp_path / "whole.pt")
    with pytest.raises(UserError, match="whole.pt holds Python objects.*PreResNet.*state_dict"):
        read_foreign(tmp_path / "whole.pt")


def test_unreadable_files_are_named(tmp_path, model):
    good = tmp_path / "good.pt"
    torch.save(model.state_dict(), good)
    content = good.read_bytes()
    for name, data in {
        "empty.pt": b"",
        "text.pt": b"epoch,error\n10,0.1\n",
        "half.pt": content[: len(content) // 2],
        "zip.pt": b"PK\x03\x04" + bytes(100),
        "stack.pt": b"\x80\x02..",
    }.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match=name):
            read_foreign(tmp_path / name)
    (tmp_path / "half.safetensors").write_bytes(content[:50])
    with pytest.raises(
        UserError, match=r"checkpoint .*half\.safetensors is not a complete .*; fetch or make it again$"
    ):
        read_foreign(tmp_path / "half.safetensors")
    with pytest.raises(UserError, match="absent.pt is missing"):
        read_foreign(tmp_path / "absent.pt")
    with pytest.raises(UserError, match="not a file"):
        read_foreign(tmp_path)


@pytest.mark.parametrize("content", [{"epoch": 1}, [1, 2], {}, {"state_dict": {}}, {"weights": {"a": torch.ones(1)}}])
def test_a_file_without_a_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "none.pt")
    with pytest.raises(UserError, match="none.pt holds no state dict"):
        read_foreign(tmp_path / "none.pt")


@pytest.mark.parametrize(
    "content",
    [
        {"a.weight_orig": torch.ones(2)},
        {"a.weight_mask": torch.ones(2)},
        {"a.weight_orig": torch.ones(2), "a.weight_mask": torch.ones(1)},
        {"a.weight_orig": torch.ones(2), "a.weight_mask": torch.tensor([0.5, 1])},
        {"a.weight_orig": torch.ones(2), "a.weight_mask": torch.ones(2), "a.weight": torch.ones(2)},
    ],
)
def test_masks_must_fit(tmp_path, content):
    torch.save(content, tmp_path / "masks.pt")
    with pytest.raises(UserError, match="masks.pt: a.weight_"):
        read_foreign(tmp_path / "masks.pt")


def test_another_architecture_is_described_by_three_names(model):
    arrays = OrderedDict(own_values(model))
    for name in [name for name in arrays if name.startswith("layer1")]:
        arrays[f"block1{name.removeprefix('layer1')}"] = arrays.pop(name)
    with pytest.raises(UserError) as error:
        match(arrays, build(classes=7), source="other.pt")
    message = str(error.value)
    assert message.startswith("checkpoint other.pt is of another architecture: missing layer1.0.bn1.weight, ")
    assert message.count("layer1.") == message.count("block1.") == 3
    # Ten are missing, not twelve: batch counters may be absent.
    assert "and 7 more; unexpected block1.0." in message
    assert message.endswith(
        "shape of fc.weight is (10, 16) instead of (7, 16), shape of fc.bias is (10,) instead of (7,)"
    )


def test_matching_leaves_the_model_and_the_arrays_alone(model):
    arrays = own_values(model)
    fresh = build()
    before = own_values(fresh)
    match(arrays, fresh)["conv1.weight"][:] = 0
    assert_same(own_values(fresh), before)
    assert_same(arrays, own_values(model))
