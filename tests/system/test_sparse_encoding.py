"""Pruned weights on disk: compact and bit-identical."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from three_regime.errors import UserError
from three_regime.pruning.magnitude import magnitude_masks
from three_regime.pruning.masks import apply_masks, join_masks, split_masks
from three_regime.system.files import DIGEST_KEY, Arrays, read_arrays, read_metadata, tensor_digest, write_arrays
from three_regime.system.sparse_encoding import BITS_PREFIX, KEPT_PREFIX, MASK_PREFIX, SHAPES_KEY, decode, encode

PRUNABLE = ("stem", "block")


def checkpoint(density: float = 0.1, dtype: type = np.float32) -> Arrays:
    """Weights and masks of a network pruned to `density`, its removed places +0.0, its kept ones of any kind."""
    generator = np.random.default_rng(1)
    weights = {
        "stem": generator.standard_normal((16, 3, 3, 3)).astype(dtype),
        "block": generator.standard_normal((7, 11)).astype(dtype),
        "norm": np.array([0.0, -0.0, 1.0], dtype),
        "counter": np.array(7),
    }
    masks = magnitude_masks(weights, PRUNABLE, density, "uniform")
    return join_masks(apply_masks(weights, masks), masks)


def assert_same_bits(first: Arrays, second: Arrays) -> None:
    assert first.keys() == second.keys()
    for name, array in first.items():
        assert (second[name].dtype, second[name].shape) == (array.dtype, array.shape), name
        assert second[name].tobytes() == array.tobytes(), name


@pytest.mark.parametrize("density", [0.02, 0.5, 1.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_what_is_read_is_what_was_written(tmp_path: Path, density: float, dtype: type) -> None:
    arrays = checkpoint(density, dtype)
    path = tmp_path / "pruned.safetensors"
    digest = write_arrays(path, arrays, {"about": "x"}, compact=True)
    assert_same_bits(arrays, read_arrays(path))
    assert digest == tensor_digest(arrays) == read_metadata(path)[DIGEST_KEY], "the digest is that of the content"
    assert read_metadata(path)["about"] == "x"


def test_kept_values_of_any_kind_survive() -> None:
    """A kept weight may be −0.0, infinite or a NaN with a payload: kept values are copied, not computed."""
    arrays = checkpoint(0.5)
    odd = np.array([-0.0, np.inf, -np.inf, np.frombuffer(b"\x01\x00\xc0\x7f", np.float32)[0]], np.float32)
    kept = np.flatnonzero(arrays[MASK_PREFIX + "stem"].ravel())[: odd.size]
    arrays["stem"] = arrays["stem"].copy()
    arrays["stem"].ravel()[kept] = odd
    stored, about = encode(arrays)
    assert KEPT_PREFIX + "stem" in stored
    assert_same_bits(arrays, decode(stored, about))


@pytest.mark.parametrize("value", [-0.0, 1e-30, np.nan])
def test_a_removed_place_that_is_not_zero_is_stored_whole(value: float) -> None:
    arrays = checkpoint(0.5)
    removed = np.flatnonzero(arrays[MASK_PREFIX + "stem"].ravel() == 0)[0]
    arrays["stem"] = arrays["stem"].copy()
    arrays["stem"].ravel()[removed] = value
    stored, about = encode(arrays)
    assert "stem" in stored and KEPT_PREFIX + "stem" not in stored
    assert KEPT_PREFIX + "block" in stored
    assert_same_bits(arrays, decode(stored, about))


@pytest.mark.parametrize(
    "mask",
    [np.full((7, 11), 2, np.uint8), np.ones((7, 11), bool), np.ones(77, np.uint8), np.ones((7, 11), np.float32)],
)
def test_a_mask_of_another_kind_is_stored_whole(mask: np.ndarray) -> None:
    arrays = {"block": np.ones((7, 11), np.float32), MASK_PREFIX + "block": mask}
    stored, about = encode(arrays)
    assert stored.keys() == arrays.keys() and about == {}


def test_what_has_no_masks_is_left_alone() -> None:
    weights, _ = split_masks(checkpoint())
    stored, about = encode(weights)
    assert stored == weights and about == {}


def test_a_sparse_file_is_small(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    weights = {"w": generator.standard_normal(100_000).astype(np.float32)}
    masks = magnitude_masks(weights, ["w"], 0.05, "uniform")
    arrays = join_masks(apply_masks(weights, masks), masks)
    for name, compact in (("sparse", True), ("whole", False)):
        write_arrays(tmp_path / name, arrays, {}, compact=compact)
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert sizes["whole"] > 500_000
    assert sizes["sparse"] == pytest.approx(5_000 * 4 + 100_000 / 8, abs=1000)


@pytest.mark.parametrize("lost", [KEPT_PREFIX + "stem", BITS_PREFIX + "stem"])
@pytest.mark.parametrize("how", ["missing", "short"])
def test_parts_that_do_not_belong_together_are_refused_by_name(tmp_path: Path, lost: str, how: str) -> None:
    stored, about = encode(checkpoint())
    if how == "missing":
        del stored[lost]
    else:
        stored[lost] = stored[lost][:-1]
    path = tmp_path / "pruned.safetensors"
    write_arrays(path, stored, about)
    with pytest.raises(UserError, match=r"pruned\.safetensors is damaged.*delete it and run again"):
        read_arrays(path)


def test_a_flipped_bit_anywhere_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "pruned.safetensors"
    write_arrays(path, checkpoint(), {}, compact=True)
    sound = path.read_bytes()
    (tmp_path / "sound").write_bytes(sound)
    for place in range(-20, 0):
        spoilt = bytearray(sound)
        spoilt[place] ^= 1
        path.write_bytes(spoilt)
        with pytest.raises(UserError, match="is damaged"):
            read_arrays(path)
    assert SHAPES_KEY.encode() in sound and SHAPES_KEY not in read_metadata(tmp_path / "sound")


def test_more_values_than_kept_places_are_refused() -> None:
    stored, metadata = encode({"a": np.array([1.0, 0.0], np.float32), f"{MASK_PREFIX}a": np.array([1, 0], np.uint8)})
    assert decode(stored, metadata)["a"].tolist() == [1, 0]
    stored[KEPT_PREFIX + "a"] = np.ones(2, np.float32)
    with pytest.raises(ValueError, match="a has 2 values and 1 kept positions"):
        decode(stored, metadata)


def test_bits_for_fewer_weights_are_refused() -> None:
    stored, metadata = encode({"a": np.zeros(16, np.float32), f"{MASK_PREFIX}a": np.zeros(16, np.uint8)})
    stored[BITS_PREFIX + "a"] = stored[BITS_PREFIX + "a"][:1]
    with pytest.raises(ValueError, match="a has 8 bits for 16 weights"):
        decode(stored, metadata)
