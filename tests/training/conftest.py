"""Fixtures of packs on the bundled digits."""

from __future__ import annotations

from typing import Any

import pytest
from digits_task import digits_task
from pack_members import SGD, last, pack_of, train_members
from tiny_study import STUDY
from toy_task import settings

from three_regime.tasks.images.task import ImageClassification


@pytest.fixture(scope="module")
def digits() -> ImageClassification:
    """The tiny study's network, without compiled kernels."""
    return digits_task(STUDY["model"], allowed="plain")


@pytest.fixture(scope="module")
def together(digits, tmp_path_factory) -> dict[str, Any]:
    """Checkpoints delivered by five undisturbed members."""
    pack = pack_of(digits, tmp_path_factory.mktemp("together"))
    train_members(digits, pack, settings(**SGD))
    return {label: last(pack, label) for label in pack}
