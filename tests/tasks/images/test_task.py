"""Image task: torchvision's augmentation pixel for pixel, batches, evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tiny_study import STUDY, config, study_of
from toy_task import settings

from three_regime import kernels
from three_regime.datasets.registry import DATASETS
from three_regime.datasets.torchvision_import import import_torchvision
from three_regime.errors import UserError
from three_regime.models import families
from three_regime.models.layers import NormRelu
from three_regime.preparation.prepare import prepare
from three_regime.random_streams import Streams
from three_regime.tasks.images.batches import Augmenter
from three_regime.tasks.images.task import ImageClassification, of_study, opened

CPU = torch.device("cpu")
CIFAR, DIGITS = DATASETS["cifar10"], DATASETS["digits"]
COUNT = 70


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def task() -> ImageClassification:
    return ImageClassification(DIGITS, DIGITS.read(Path()), STUDY["model"], CPU, train_images=COUNT, test_images=33)


@pytest.fixture(scope="module")
def weights(task) -> dict[str, torch.Tensor]:
    """Random weights with statistics that are not the identity."""
    drawn = task.load(task.initial_weights(Streams(("dense", 1))), "drawn")
    return task.reestimate(drawn, 32)


def batches(task, streams: Streams, epoch: int, size: int, drop_last: bool = False) -> list:
    made = task.epoch(streams, epoch, settings(batch_size=size, drop_last=drop_last))
    return [made.micro_batches(step)[0] for step in range(made.steps)]


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "svhn"])
def test_augmentation_equals_torchvision(pixels, name):
    """Pad with black, crop, flip, *then* normalise, on PIL images, with the same shifts and flips."""
    import_torchvision()
    from torchvision.transforms import functional as transforms

    entry = DATASETS[name]
    generator = np.random.default_rng(1)
    shifts = torch.from_numpy(generator.integers(0, 2 * entry.padding + 1, (len(pixels), 2)))
    flips = torch.from_numpy(generator.random(len(pixels)) < 0.5)
    assert entry.padding == 4
    augmenter = Augmenter(entry, CPU)
    found = augmenter.normalise(augmenter.crop(pixels, shifts, flips))
    for k, image in enumerate(pixels):
        image = transforms.pad(Image.fromarray(image.numpy()), [4], fill=0)
        image = transforms.crop(image, int(shifts[k, 0]), int(shifts[k, 1]), 32, 32)
        image = transforms.hflip(image) if flips[k] else image
        expected = transforms.normalize(transforms.to_tensor(image), list(entry.mean), list(entry.std))
        torch.testing.assert_close(found[k], expected, rtol=0, atol=1e-6)


def test_padding_is_black_before_normalisation(pixels):
    """The margin is (0 − mean) / std, not 0 after normalisation."""
    augmenter = Augmenter(CIFAR, CPU)
    corner = torch.zeros((len(pixels), 2), dtype=torch.int64)
    found = augmenter.normalise(augmenter.crop(pixels, corner, torch.zeros(len(pixels), dtype=torch.bool)))
    black = -torch.tensor(CIFAR.mean) / torch.tensor(CIFAR.std)
    torch.testing.assert_close(found[:, :, :4, :], black.view(1, 3, 1, 1).expand(len(pixels), 3, 4, 32))
    torch.testing.assert_close(found[:, :, 4:, 4:], augmenter.normalise(pixels)[:, :, :28, :28], rtol=0, atol=0)


def test_the_middle_crop_is_the_image_itself(pixels):
    augmenter = Augmenter(CIFAR, CPU)
    middle = torch.full((len(pixels), 2), CIFAR.padding)
    still = torch.zeros(len(pixels), dtype=torch.bool)
    assert torch.equal(augmenter.crop(pixels, middle, still), pixels)
    assert torch.equal(augmenter.crop(pixels, middle, ~still), pixels.flip(2))


def test_an_epoch_uses_every_shift_and_half_the_flips():
    arrays = {name: np.zeros((4000, 32, 32, 3), np.uint8) for name in ("train_images", "test_images")}
    arrays |= {name: np.zeros(4000, np.int64) for name in ("train_labels", "test_labels")}
    arrays["train_images"][:, 16, 16] = 255  # one white pixel: its place tells shift and flip
    arrays["train_images"][:, 16, 17] = 128
    task = ImageClassification(CIFAR, arrays, "preresnet-8x0.25", CPU)
    images = torch.cat([images for images, _ in batches(task, Streams(("dense", 1)), 0, 500)])[:, 0]
    values = images.flatten(1)
    white, grey = values.argmax(1), values.topk(2).indices[:, 1]
    flipped = grey < white
    places = {(int(place) // 32, int(place) % 32) for place in white}
    assert {row for row, _ in places} == set(range(12, 21))
    assert {column for _, column in places} == set(range(11, 21))  # 12…20, mirrored 11…19
    assert 0.46 < flipped.double().mean() < 0.54


def test_digits_are_never_flipped(task):
    seen = torch.cat([images for images, _ in batches(task, Streams(("dense", 1)), 0, COUNT)])
    order = Streams(("dense", 1)).generator("order", 0).permutation(COUNT)
    originals = task.images["train"][torch.from_numpy(order)]
    shifts = [torch.full((COUNT, 2), 0) + torch.tensor([row, column]) for row in range(3) for column in range(3)]
    still = torch.zeros(COUNT, dtype=torch.bool)
    crops = torch.stack([task.augmenter.normalise(task.augmenter.crop(originals, shift, still)) for shift in shifts])
    assert (crops == seen).flatten(2).all(2).any(0).all()


def test_an_epoch_shows_every_image_once_with_its_label(task):
    labels = torch.cat([labels for _, labels in batches(task, Streams(("dense", 1)), 3, 16)])
    order = Streams(("dense", 1)).generator("order", 3).permutation(COUNT)
    assert torch.equal(labels, task.labels["train"][torch.from_numpy(order)])
    assert sorted(order) == list(range(COUNT))


@pytest.mark.parametrize(("drop_last", "sizes"), [(False, [16, 16, 16, 16, 6]), (True, [16, 16, 16, 16])])
def test_the_last_partial_batch(task, drop_last, sizes):
    assert [len(labels) for _, labels in batches(task, Streams(("dense", 1)), 0, 16, drop_last)] == sizes


def test_a_full_last_batch_is_never_dropped(task):
    for drop_last in (False, True):
        assert task.epoch(Streams(("dense", 1)), 0, settings(batch_size=35, drop_last=drop_last)).steps == 2


def test_batches_differ_between_epochs_and_seeds_and_repeat(task):
    first = [batches(task, Streams(("dense", seed)), epoch, COUNT)[0] for seed, epoch in ((1, 0), (1, 1), (2, 0))]
    for k, (images, labels) in enumerate(first):
        for other_images, other_labels in first[:k]:
            assert not torch.equal(images, other_images) and not torch.equal(labels, other_labels)
    again = batches(task, Streams(("dense", 1)), 0, COUNT)[0]
    assert torch.equal(again[0], first[0][0]) and torch.equal(again[1], first[0][1])


def test_augmentation_differs_between_epochs_for_the_same_image(task):
    shown = []
    for epoch in range(4):
        order = Streams(("dense", 1)).generator("order", epoch).permutation(COUNT)
        images = batches(task, Streams(("dense", 1)), epoch, COUNT)[0][0]
        shown.append(images[int(np.flatnonzero(order == 7)[0])])
    assert any(not torch.equal(shown[0], other) for other in shown[1:])


def test_batches_of_one_order_do_not_depend_on_their_size(task):
    """One stream an epoch: a batch of 64 and two of 32 show the same images."""
    whole = torch.cat([images for images, _ in batches(task, Streams(("dense", 1)), 0, COUNT)])
    parts = torch.cat([images for images, _ in batches(task, Streams(("dense", 1)), 0, 16)])
    assert torch.equal(whole, parts)


@pytest.mark.parametrize(("split", "images"), [("train", None), ("train", 10), ("test", None)])
def test_evaluate_equals_a_plain_loop(task, weights, split, images):
    network = families.build(STUDY["model"], classes=10, channels=1, image_size=8)
    network.load_state_dict(weights)
    network.eval()
    wrong, nll, count = 0, 0.0, images or {"train": COUNT, "test": 33}[split]
    arrays = DIGITS.read(Path())
    for k in range(count):
        image = torch.from_numpy(arrays[f"{split}_images"][k, :, :, 0]).float()[None, None] / 255
        logits = network((image - DIGITS.mean[0]) / DIGITS.std[0]).detach()
        label = int(arrays[f"{split}_labels"][k])
        wrong += int(logits.argmax()) != label
        nll += F.cross_entropy(logits.double(), torch.tensor([label])).item()
    found = task.evaluate(weights, split, images)
    assert found.error == wrong / count
    assert found.nll == pytest.approx(nll / count, rel=1e-5)


def test_evaluation_changes_nothing(task, weights):
    before = {name: value.clone() for name, value in weights.items()}
    assert task.evaluate(weights, "test") == task.evaluate(weights, "test")
    assert all(torch.equal(before[name], weights[name]) for name in before)


def test_a_training_step_updates_the_statistics_it_is_given(task, weights):
    parameters = {name: weights[name] for name in task.parameters}
    buffers = {name: weights[name].clone() for name in task.buffers}
    batch = batches(task, Streams(("dense", 1)), 0, 16)[0]
    loss, errors, count = task.loss(parameters, buffers, batch)
    network = families.build(STUDY["model"], classes=10, channels=1, image_size=8)
    network.load_state_dict(weights)
    expected = network.train()(batch[0])
    assert loss.item() == pytest.approx(F.cross_entropy(expected, batch[1]).item(), rel=1e-6)
    assert (int(errors), count) == (int((expected.argmax(1) != batch[1]).sum()), 16)
    for name, value in network.named_buffers():
        torch.testing.assert_close(buffers[name], value)
        assert not torch.equal(buffers[name], weights[name])


def test_outputs_are_in_file_order_in_evaluation_mode(task, weights):
    found = dict(task.outputs(weights, 40))
    assert {name: array.shape for name, array in found.items()} == {"logits": (40, 10), "softmax": (40, 10)}
    np.testing.assert_allclose(found["softmax"].sum(1), 1)
    fewer = dict(task.outputs(weights, 5))
    np.testing.assert_allclose(fewer["logits"], found["logits"][:5], rtol=1e-5, atol=1e-5)
    wrong = (found["logits"].argmax(1) != task.labels["train"][:40].numpy()).mean()
    assert wrong == task.evaluate(weights, "train", 40).error


def test_more_images_than_there_are_is_refused(task, weights):
    with pytest.raises(UserError, match="71 images.*70"):
        dict(task.outputs(weights, COUNT + 1))


def test_what_is_pruned(task):
    assert set(task.prunable) < set(task.parameters)
    assert all(len(task.parameters[name]) == 4 for name in task.prunable)
    assert not any(name.startswith("fc") for name in task.prunable)
    assert {name for name in task.parameters if len(task.parameters[name]) == 4} == set(task.prunable)


def test_a_prepared_file_makes_the_same_task(task, weights, tmp_path):
    limits = {"dataset": {"train_images": COUNT, "test_images": 33}, "measure": {"train_images": COUNT}}
    other = of_study(study_of(config(tmp_path, **limits)), "cpu")
    assert prepare("digits", tmp_path / "data") is False, "prepared once"
    assert other.evaluate(weights, "train") == task.evaluate(weights, "train")
    assert other.evaluate(weights, "test") == task.evaluate(weights, "test")


def test_each_split_has_its_own_limit_however_a_task_is_made(tmp_path):
    study = study_of(config(tmp_path))  # 200 training images, 100 test images
    made = [
        of_study(study, "cpu"),
        opened("digits", tmp_path).task(STUDY["model"], "cpu", 200, 100),
    ]
    for task in made:
        assert {split: len(labels) for split, labels in task.labels.items()} == {"train": 200, "test": 100}
        assert {split: len(images) for split, images in task.images.items()} == {"train": 200, "test": 100}


def test_label_noise_reaches_the_training_labels_only(tmp_path):
    plain, wrong = (
        of_study(study_of(config(tmp_path, dataset={"label_noise": share})), "cpu") for share in (None, 0.25)
    )
    assert int((plain.labels["train"] != wrong.labels["train"]).sum()) == 50  # of 200
    assert torch.equal(plain.labels["test"], wrong.labels["test"])
    assert all(torch.equal(plain.images[split], wrong.images[split]) for split in ("train", "test"))


@pytest.mark.parametrize("wanted", ["auto", "plain"])
def test_a_task_computes_with_the_kernels_that_are_recorded(library, monkeypatch, wanted):
    """`kernels.in_use` says what is written into provenance; here the layers are asked."""
    kernels.allow(wanted)
    computed, calls = type(library)._norm_relu, []

    def counted(self, images, norm, result):
        calls.append(tuple(images.shape))
        return computed(self, images, norm, result)

    monkeypatch.setattr(type(library), "_norm_relu", counted)
    arrays = {f"{split}_images": np.zeros((2, 32, 32, 3), np.uint8) for split in ("train", "test")}
    arrays |= {f"{split}_labels": np.zeros(2, np.int64) for split in ("train", "test")}
    task = ImageClassification(CIFAR, arrays, "preresnet-8", CPU)
    task.evaluate(task.load(task.initial_weights(Streams(("dense", 1))), "drawn"), "test")
    assert kernels.in_use() == ("fused" if wanted == "auto" else "plain")
    norms = sum(isinstance(module, NormRelu) for module in task.model.modules())
    assert len(calls) == (norms if wanted == "auto" else 0)
