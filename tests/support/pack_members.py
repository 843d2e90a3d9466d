"""Members of a pack on the bundled digits, and what happens to them."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from toy_task import Delivered, assert_same, session

from three_regime.config import Training
from three_regime.pruning.magnitude import magnitude_masks
from three_regime.pruning.masks import apply_masks
from three_regime.random_streams import Streams
from three_regime.system.files import read_metadata
from three_regime.tasks.images.task import ImageClassification
from three_regime.training.pack import Member
from three_regime.training.trainer import train_pack

DENSITIES = (0.1, 0.3, 1.0)
REPLICAS = (1, 2)
SGD: dict[str, Any] = {"epochs": 2, "milestones": (1,), "batch_size": 32}

Pack = dict[str, tuple[Member, Delivered]]
"""Label → member and its delivered checkpoints."""


def pack_of(task: ImageClassification, folder: Path, size: int = 5) -> Pack:
    """Return members of several densities and replicas, each with its delivered checkpoints."""
    dense = task.initial_weights(Streams(("dense", 1)))
    made = {}
    for density, replica in itertools.islice(itertools.product(DENSITIES, REPLICAS), size):
        masks = magnitude_masks(dense, task.prunable, density, "uniform")
        label, delivered = f"density {density}, replica {replica}", Delivered()
        streams = Streams(("retrain", 1, replica))
        start = apply_masks(dense, masks)
        member = Member(label, label, streams, start, masks, (), folder / f"{label}.state", delivered)
        made[label] = member, delivered
    return made


def train_members(task: Any, pack: Pack, training: Training, about=None) -> None:
    train_pack(task, training, [member for member, _ in pack.values()], about or session(evaluate_last=2))


def last(pack: Pack, label: str) -> Any:
    return list.__getitem__(pack[label][1], -1)


def assert_others_unharmed(pack: Pack, label: str, together: dict[str, Any]) -> None:
    """Every member but one has the numbers of the undisturbed pack."""
    for other in pack:
        if other != label:
            assert_same(last(pack, other), together[other])


def position_of(member: Member) -> tuple[int, int]:
    about = json.loads(read_metadata(member.state)["state"])
    return about["epoch"], about["step"]


def refusing(pack: Pack, label: str, error: Exception) -> None:
    """Let the delivery to a member fail."""

    def deliver(checkpoint: Any) -> None:
        raise error

    member, delivered = pack[label]
    pack[label] = replace(member, deliver=deliver), delivered
