"""Train networks: dense training and retraining, for images and translation (paper, sections 3.1 and B.1)."""

from __future__ import annotations

import functools
import itertools
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from three_regime.config import Training
from three_regime.config.optimisers import OPTIMISERS
from three_regime.errors import Diverged
from three_regime.kernels import Kernels
from three_regime.system.device import check_precision, convolution_precision
from three_regime.tasks.interface import SparseNetwork, Stack, Task
from three_regime.tasks.pack_sizes import evenly
from three_regime.tasks.strategies import choose, sparse_network, wait_for
from three_regime.training import saved_state
from three_regime.training.loop import TrainingLoop
from three_regime.training.pack import Checkpoint, Flat, Length, Member, Session, length_of
from three_regime.training.progress import Progress
from three_regime.training.saved_state import SavedState

log = logging.getLogger(__name__)

__all__ = ["Checkpoint", "Flat", "Member", "Session", "train_pack"]

_TRIAL_STEPS = 4


def train_pack(task: Task, training: Training, members: Sequence[Member], session: Session) -> None:
    """Train the members of a pack to their last checkpoint, and deliver each checkpoint as it is reached.

    Each member continues from its saved state, if it has one. Members advance in lock-step if that is faster
    (`session.lockstep`), otherwise one after another. A member that diverges does not stop the others.

    Raises
    ------
    Diverged
        When a loss is not finite (the message names member, epoch and step; the other members are delivered first).
    UserError
        When a saved state cannot be continued, an epoch has no steps (`pack.length_of`), or the device does not support
        the precision.
    Interrupted
        When `session.stop` is requested; the states have been saved.
    """
    check_precision(training.precision, task.device.type)
    torch.set_num_threads(session.threads)
    length_of(task, training, members[0])  # raises before the timing of `choose`, which needs a step
    progress = Progress(len(members), task.unit)
    with convolution_precision(training.precision == "tf32"):
        failures: list[str] = []
        # A member's numbers must not depend on its pack, so each is computed as it would be alone.
        groups: dict[bool, list[Member]] = {True: [], False: []}
        for member in members:
            groups[session.lockstep == "auto" and _by_engine(task, training, member)].append(member)
        for by_engine, group in groups.items():
            if not group:
                continue
            stack = choose(task, session.lockstep, functools.partial(_seconds, task, training, group), by_engine)
            for chunk in _chunks(group, stack.width):
                failures += _advance(stack, task, training, chunk, session, progress)
    if failures:
        raise Diverged("\n".join(failures))


def _chunks(members: Sequence[Member], width: int) -> Iterator[list[Member]]:
    """Chunks of members that advance together: equal checkpoints, at most `width` members, even sizes."""
    alike = itertools.groupby(members, key=lambda member: member.checkpoints)
    for _, group in alike:
        waiting = list(group)
        for count in evenly(len(waiting), width):
            yield waiting[:count]
            del waiting[:count]


def _advance(
    stack: Stack, task: Task, training: Training, members: list[Member], session: Session, progress: Progress
) -> list[str]:
    """Train members to the end together; return the error messages of those that diverged.

    If their saved states are at different steps (the process was killed while saving), members that are behind catch
    up first.
    """
    length = length_of(task, training, members[0])
    network = _sparse(stack, task, training, members)
    begun = [
        _begun(stack, task, training, member, session, length, network.computed_with if network else None)
        for member in members
    ]
    by_position: dict[tuple[int, int], list] = {}
    for member, state in begun:
        by_position.setdefault(state.position, []).append((member, state))
    make = functools.partial(
        TrainingLoop, stack, task, training, session=session, length=length, progress=progress, sparse=network
    )  # fmt: skip
    progress.begin(length.iterations, [length.steps_at(*state.position) for _, state in begun])
    positions = sorted(by_position)
    groups = [make(by_position[position]) for position in positions]
    if stack.together and len(members) > 1:
        log.info("%d members advance together%s", len(members), ", from different steps" if groups[1:] else "")
    for group in groups:
        group.begin()
    failures: list[str] = []
    group = groups[0]
    for position, ahead in zip(positions[1:], groups[1:], strict=True):
        group.train(until=position)
        ahead.counted_at = time.monotonic()  # it waited for the others
        failures += [*group.failures, *ahead.failures]
        group = make([*group.states(), *ahead.states()])
    group.train()
    for member, (continued, _) in zip(members, begun, strict=True):
        saved_state.settle(member.state, anew=continued.state != member.state)
    return failures + group.failures


def _sparse(stack: Stack, task: Task, training: Training, members: Sequence[Member]) -> SparseNetwork | None:
    """The engine for a single member, dense or pruned, if it supports the network and the optimiser step; else None."""
    member, *others = members
    return None if others or stack.together else _engine(task, training, member)


def _engine(task: Task, training: Training, member: Member) -> SparseNetwork | None:
    """The engine for a member, if it supports its network and step and did not begin with other kernels.

    A run that an earlier version began with other compiled kernels, or without Winograd convolutions, continues with
    those, bit-identically.
    """
    if not training.plain_sgd:
        return None
    begun_with = saved_state.written_with(member.state, member.key)
    return None if begun_with == "fused" else sparse_network(task, member.masks, [member.start], begun_with)


def _by_engine(task: Task, training: Training, member: Member) -> bool:
    """Whether the engine computes a member on its own; a run that began in lock-step continues in lock-step."""
    return not saved_state.written_together(member.state, member.key) and _engine(task, training, member) is not None


def _begun(
    stack: Stack,
    task: Task,
    training: Training,
    member: Member,
    session: Session,
    length: Length,
    computed_with: Kernels | None,
) -> tuple[Member, SavedState]:
    """A member with the state that it continues from, its saved state or its initial weights, and where it saves.

    A kept state that is past the first requested checkpoint stays: a longer run continues it. The fresh run, which
    alone can deliver that checkpoint, saves its state beside it (`saved_state.again`).
    """
    load = functools.partial(
        saved_state.load,
        key=member.key,
        threads=session.threads,
        device=task.device.type,
        together=stack.together,
        computed_with=computed_with,
    )
    places = [member]
    if member.keep_state and saved_state.present(member.state, key=member.key, device=task.device.type):
        places.append(replace(member, state=saved_state.again(member.state)))
    first = (length.checkpoints[0], 0)
    # A state past the first checkpoint is of no use here, so it is not loaded: it may be of other threads or kernels.
    found = [(each, load(each.state)) for each in places if saved_state.read_position(each.state) <= first]
    usable = [(each, state) for each, state in found if state is not None]
    if usable:
        return max(usable, key=lambda pair: pair[1].position)
    member = places[-1]
    parameters = Flat(task.parameters).join(member.start).astype(np.float32)
    slots = {f"slot:{name}": np.zeros_like(parameters) for name in OPTIMISERS[training.optimiser].slots}
    buffers = {f"buffer:{name}": np.asarray(member.start[name]) for name in task.buffers}
    sums = {"sums": np.zeros(2), "seen": np.array(0)}
    return member, SavedState({"parameters": parameters, **slots, **buffers, **sums}, 0, 0, [], 0.0)


def _seconds(task: Task, training: Training, members: Sequence[Member], stack: Stack) -> float:
    """Time a training step: seconds per step and member. Leaves the members unchanged."""
    chosen = list(members[: stack.width])
    flat = Flat(task.parameters)
    rows = [*chosen, *[chosen[-1]] * (stack.rows(len(chosen)) - len(chosen))]
    starts = [torch.from_numpy(flat.join(member.start)) for member in rows]
    vector = torch.stack(starts).float().to(stack.device).requires_grad_()
    buffers = {
        name: torch.stack([torch.as_tensor(member.start[name]) for member in rows]).to(stack.device)
        for name in task.buffers
    }
    batches = stack.epoch([member.streams for member in rows], 0, training)
    for repeat in range(_TRIAL_STEPS + 1):
        if repeat == 1:  # the first step is a warm-up: cuDNN picks algorithms, caches fill
            wait_for(stack.device)
            began = time.perf_counter()
        losses, *_ = stack.loss(flat.views(vector), buffers, batches.micro_batches(0)[0])
        torch.autograd.grad(losses.sum(), vector)
    wait_for(stack.device)
    return (time.perf_counter() - began) / _TRIAL_STEPS / len(chosen)
