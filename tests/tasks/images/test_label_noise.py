"""Label noise: how many labels, which, and by what they are replaced."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_study import config, products, study_of

from three_regime.tasks.images.label_noise import noisy

LABELS = np.arange(1000) % 10


@pytest.mark.parametrize(("share", "wrong"), [(0.0, 0), (0.1, 100), (0.2504, 250), (0.999, 999)])
def test_the_stated_share_is_wrong(share: float, wrong: int) -> None:
    changed = noisy(LABELS, share, 10)
    assert (changed != LABELS).sum() == wrong
    assert changed.dtype == LABELS.dtype and set(changed) <= set(range(10))


def test_more_noise_replaces_the_same_labels_and_more() -> None:
    less, more = noisy(LABELS, 0.2, 10), noisy(LABELS, 0.5, 10)
    assert np.array_equal(less[less != LABELS], more[less != LABELS])


def test_labels_are_replaced_by_every_other_class_alike() -> None:
    shifts = (noisy(LABELS, 0.9, 10) - LABELS) % 10
    counts = np.bincount(shifts, minlength=10)
    assert counts[0] == 100 and counts[1:].min() > 60 and counts[1:].max() < 140


def test_only_a_study_with_noise_has_it_in_its_recipes(tmp_path) -> None:
    """Fingerprints of studies without noise stay as they were before there was any."""
    plain, with_noise = (
        products(config(tmp_path, dataset={"label_noise": share}), "retrain")[0].recipe for share in (None, 0.2)
    )
    assert {**plain, "label_noise": 0.2} == with_noise and plain != with_noise


def test_all_of_the_labels_cannot_be_wrong(tmp_path) -> None:
    with pytest.raises(Exception, match="label_noise.*less than 1"):
        study_of(config(tmp_path, dataset={"label_noise": 1}))
