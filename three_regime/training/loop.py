"""The training loop: members of a pack advance in lock-step, one step of all, then the next.

Parameters, optimiser slots and BatchNorm statistics of the members are rows of shared tensors; a `Stack` computes their
losses. Data order, augmentation, masks, history, saved state and delivery are separate for each member.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from three_regime.config import Training
from three_regime.config.optimisers import OPTIMISERS
from three_regime.errors import Diverged, Interrupted
from three_regime.kernels import Kernels
from three_regime.system.device import convolution_precision
from three_regime.tasks.interface import Epoch, Metrics, SparseNetwork, Stack, Task
from three_regime.training import saved_state
from three_regime.training.batch_splitting import BatchSplitter
from three_regime.training.learning_rate import learning_rate
from three_regime.training.optimisers import UPDATES
from three_regime.training.pack import Checkpoint, Flat, Length, Member, Session
from three_regime.training.progress import Progress
from three_regime.training.saved_state import SavedState

log = logging.getLogger(__name__)


@dataclass
class _Run:
    """Per-member data that is not a row of the shared tensors."""

    member: Member
    history: list[dict[str, Any]]
    spent_s: float
    ended: bool = False


class TrainingLoop:
    """Train members that are at the same step.

    Parameters
    ----------
    members
        Each with the state that it continues from; all at the same epoch and step, with equal checkpoints.
    sparse
        The sparse engine of the only member, if it is used.

    Attributes
    ----------
    failures
        Error messages of members that diverged and were dropped.
    """

    def __init__(
        self,
        stack: Stack,
        task: Task,
        training: Training,
        members: Sequence[tuple[Member, SavedState]],
        session: Session,
        length: Length,
        progress: Progress,
        sparse: SparseNetwork | None = None,
    ) -> None:
        self.stack, self.task, self.training, self.sparse = stack, task, training, sparse
        self.session, self.length, self.progress = session, length, progress
        self.update = UPDATES[training.optimiser]
        self.reduced = training.precision == "bf16" and task.device.type == "cuda"
        self.flat = Flat(task.parameters)
        self.failures: list[str] = []
        self.saved_at = self.counted_at = time.monotonic()
        self.rate = training.learning_rate
        self._take(members)
        self.splitter = BatchSplitter(task, self._label if self.runs else "")

    def _take(self, members: Sequence[tuple[Member, SavedState]]) -> None:
        """Stack the members' states into rows; the last one is repeated if the stack needs more rows."""
        self.runs = [_Run(member, list(state.history), state.wall_s) for member, state in members]
        if not self.runs:
            return
        padded = [*members, *[members[-1]] * (self.stack.rows(len(members)) - len(members))]
        states = [state for _, state in padded]
        self.epoch, self.step, self.seen = states[0].epoch, states[0].step, int(states[0].arrays["seen"])
        self.streams = [member.streams for member, _ in padded]

        def rows(name: str) -> Tensor:
            return torch.from_numpy(np.stack([state.arrays[name] for state in states])).to(self.task.device)

        self.vector = rows("parameters").requires_grad_()
        self.slots = {name: rows(f"slot:{name}") for name in OPTIMISERS[self.training.optimiser].slots}
        self.buffers = {name: rows(f"buffer:{name}") for name in self.task.buffers}
        self.sums = rows("sums")
        self.mask = None
        if any(member.masks for member, _ in padded):
            masks = [self._mask(member) for member, _ in padded]
            self.mask = torch.from_numpy(np.stack(masks)).to(self.task.device)

    def _mask(self, member: Member) -> np.ndarray:
        kept = {name: np.ones(shape, np.float32) for name, shape in self.flat.shapes.items()}
        return self.flat.join(kept | {name: mask.astype(np.float32) for name, mask in member.masks.items()})

    @property
    def computed_with(self) -> Kernels | None:
        """Kernels recorded as provenance; None: those of the process."""
        return (self.sparse or self.stack).computed_with

    @property
    def _steps_done(self) -> int:
        return self.length.steps_at(self.epoch, self.step)

    def states(self) -> list[tuple[Member, SavedState]]:
        """Every running member with its current state; valid until the next step."""
        self._count_time()
        return [(run.member, self._state(row)) for row, run in enumerate(self.runs) if not run.ended]

    def begin(self) -> None:
        """Log where the members continue, and deliver a checkpoint whose delivery was interrupted."""
        if (self.epoch, self.step) > (0, 0):
            self.progress.report(f"{self._label}: continues after epoch {self.epoch}, step {self.step}", always=True)
        if self.epoch in self.length.checkpoints and self.step == 0:
            self._deliver()

    def train(self, until: tuple[int, int] | None = None) -> None:
        """Train to the last checkpoint, or until ``(completed epochs, steps)``."""
        if not self.runs:
            return
        self.counted_at = time.monotonic()
        while self.runs and self.epoch < self.length.epochs and (self.epoch, self.step) != until:
            self._rest_of_epoch(until[1] if until is not None and until[0] == self.epoch else None)
            if self.runs and (self.epoch, self.step) != until:
                self._close_epoch()
        if self.runs and self.epoch == self.length.epochs:
            self._save()  # for runs with `keep_state`, which a longer run continues
            self.runs = []

    def _rest_of_epoch(self, stop_at: int | None) -> None:
        batches = self._batches()
        steps = min(batches.steps, self.length.iterations - self.epoch * self.length.steps_per_epoch)
        losses: list[Tensor] = []
        while self.runs and self.step < steps and self.step != stop_at:
            # Stop only between steps, so the saved state is exactly the one after `self.step` steps.
            if self.session.stop.requested:
                self._check_finite(losses)
                self._save()
                raise self._interrupted()
            loss, count = self._advance(batches)
            losses.append(loss)
            self.step += 1
            self.seen += count
            self.progress.advance(count, len(self.runs))
            # Reading a loss synchronises with the GPU, so there it is done only before a state is saved.
            due = time.monotonic() - self.saved_at > self.session.state_every_s
            if (due or self.task.device.type == "cpu") and not self._check_finite(losses):
                batches = self._batches()
            if due:
                self._save()
            if self.runs and self.progress.due:
                self.progress.report(
                    f"{self._label}: epoch {self.epoch + 1}/{self.length.epochs}, step {self.step}/{steps}"
                )
        self._check_finite(losses)

    def _batches(self) -> Epoch:
        return self.stack.epoch(self.streams, self.epoch, self.training)

    def _advance(self, batches: Epoch) -> tuple[Tensor, int]:
        """Make one step; return the loss of each row (on the device) and the number of targets per row."""
        self.rate = self._rate(self.step)
        loss, errors, count = self._step_sparse(batches) if self.sparse else self._step(batches)
        self.sums += torch.stack([loss.double() * count, errors.double()], 1)
        return loss, count

    def _step_sparse(self, batches: Epoch) -> tuple[Tensor, Tensor, int]:
        """One step of the only row, by the sparse engine."""
        buffers = {name: value[0] for name, value in self.buffers.items()}
        vector, momentum = self.vector.detach()[0], self.slots["momentum"][0]
        loss, errors, count = self.sparse.step(
            vector, momentum, buffers, batches, self.step, self.training, self.rate
        )  # fmt: skip
        return loss[None], errors[None], count

    def _step(self, batches: Epoch) -> tuple[Tensor, Tensor, int]:
        """One step of all rows."""
        # 1. Gradient at w. This pass also updates BatchNorm's running statistics.
        parts = batches.micro_batches(self.step)
        gradient, loss, errors, count = self._gradient(self.vector, self.buffers, parts)
        # 2. SAM: replace it with the gradient at the nearby point w + rho g/‖g‖, where the loss is higher.
        if self.training.sam_rho > 0:
            gradient = self._sharpness_aware(gradient, parts)
        with torch.no_grad():
            # 3. Mask the gradient: pruned weights start at 0 without momentum, so they stay at 0.
            if self.mask is not None:
                gradient.mul_(self.mask)
            # 4. Clip by the norm over all parameters of a member, as fairseq does.
            if self.training.clip_norm is not None:
                gradient.mul_((self.training.clip_norm / (_norms(gradient) + 1e-6)).clamp(max=1.0))
            # 5. Update the weights; the optimiser adds weight decay.
            self.update(self.vector, gradient, self.slots, self.training, self.rate, self._steps_done)
        return loss, errors, count

    def _gradient(
        self, vector: Tensor, buffers: dict[str, Tensor], parts: tuple[Any, ...]
    ) -> tuple[Tensor, Tensor, Tensor, int]:
        """Gradient and value of the mean loss over all targets of a step, number of errors, and number of targets.

        Micro-batches are weighted by their number of targets, so a step equals one on the whole batch. Their gradients
        accumulate in place: memory does not grow with their number.
        """
        count = sum(self.stack.targets(part) for part in parts)

        def summed(pieces: Sequence[Any]) -> tuple[Tensor, Tensor, Tensor]:
            first, *others = pieces
            sums = self._share(vector, buffers, first, count)
            for piece in others:
                for so_far, more in zip(sums, self._share(vector, buffers, piece, count), strict=True):
                    so_far.add_(more)
            return sums

        return *self.splitter.compute(parts, summed), count

    def _share(
        self, vector: Tensor, buffers: dict[str, Tensor], part: Any, count: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Contribution of a micro-batch to the gradient, mean loss and errors of a step with `count` targets."""
        with torch.autocast(self.task.device.type, torch.bfloat16, enabled=self.reduced):
            loss, errors, own = self.stack.loss(self.flat.views(vector), buffers, part)
        (gradient,) = torch.autograd.grad(loss.sum(), vector)
        if own == count:
            return gradient, loss.detach(), errors
        return gradient.mul_(own / count), loss.detach() * (own / count), errors

    def _rate(self, step: int) -> float:
        """Learning rate of a step of the current epoch."""
        steps = self.length.steps_per_epoch
        return learning_rate(self.training, self.epoch, self.epoch * steps + step, steps)

    def _sharpness_aware(self, gradient: Tensor, parts: tuple[Any, ...]) -> Tensor:
        """SAM gradient, taken at w + rho g/‖g‖ (Foret et al. 2021, non-adaptive; authors' code).

        The norm is over all parameters of a member. The second pass uses batch statistics and does not update the
        running statistics.
        """
        with torch.no_grad():
            # In a pruned network only the kept weights are perturbed.
            if self.mask is not None:
                gradient.mul_(self.mask)
            raised = self.vector + gradient * (self.training.sam_rho / (_norms(gradient) + 1e-12))
        raised.requires_grad_()
        aside = {name: value.clone() for name, value in self.buffers.items()}
        return self._gradient(raised, aside, parts)[0]

    def _check_finite(self, losses: list[Tensor]) -> bool:
        """Return whether all `losses` are finite and clear the list; drop members that diverged."""
        if not losses:
            return True
        finite = torch.isfinite(torch.stack(losses))
        begun = self.step - len(losses)
        losses.clear()
        if bool(finite.all()):
            return True
        diverged = {}
        for row in range(len(self.runs)):
            bad = (~finite[:, row]).nonzero()
            if len(bad):
                diverged[row] = f"in epoch {self.epoch + 1}, step {begun + int(bad[0, 0]) + 1}"
        self._leave_behind({row: f"the loss is not finite {where}" for row, where in diverged.items()})
        return not diverged

    def _leave_behind(self, diverged: dict[int, str]) -> None:
        """Continue without the members in these rows; their saved states are kept as they are."""
        if not diverged:
            return
        for row, what in diverged.items():
            message = (
                f"{self.runs[row].member.label}: {what} (learning rate {self.rate:g}); lower the learning rate or"
                " check the data"
            )
            if len(self.runs) > 1:
                log.error("%s; the other members go on", message)
            self.failures.append(message)
            self.runs[row].ended = True
        self.progress.drop(len(diverged), self._steps_done)
        self._take(self.states())

    @contextlib.contextmanager
    def _stopping_at_once(self) -> Iterator[None]:
        """Let a signal end the block at once, and save the states. The block must not change them."""
        try:
            with self.session.stop.at_once():
                yield
        except Interrupted as stopped:
            self._save()
            raise self._interrupted() from stopped

    @property
    def _label(self) -> str:
        others = len(self.runs) - 1
        return self.runs[0].member.label + (f" and {others} more" if others else "")

    def _interrupted(self) -> Interrupted:
        where = f"{self._label} saved in {self.runs[0].member.state}" if self.runs else "nothing was under way"
        return Interrupted(f"{self.session.stop.reason}: {where}")

    def _close_epoch(self) -> None:
        self.rate = self._rate(self.step - 1)  # not set if the run resumed from a state after the epoch's last step
        evaluated = self._test_metrics() if self._evaluated(self.epoch + 1) else [{}] * len(self.runs)
        if not self.runs:
            return
        # Training loss and error are averaged over the epoch's steps, each with the weights at that step.
        averages = (self.sums / max(self.seen, 1)).tolist()
        for run, (loss, errors), metrics in zip(self.runs, averages[: len(self.runs)], evaluated, strict=True):
            row = {
                "epoch": self.epoch + 1,
                "iterations": min((self.epoch + 1) * self.length.steps_per_epoch, self.length.iterations),
                "learning_rate": self.rate,
                "train_loss": loss,
                "train_error": errors,
                **metrics,
            }
            run.history.append(row)
        self.epoch, self.step, self.seen = self.epoch + 1, 0, 0
        self.sums.zero_()
        self._report_epoch()
        if self.epoch in self.length.checkpoints:
            self._deliver()

    def _report_epoch(self) -> None:
        last = self.epoch == self.length.epochs
        which = "test_error" if "test_error" in self.runs[0].history[-1] else "train_error"
        shown = [run.history[-1][which] for run in self.runs]
        words = f"epoch {self.epoch}/{self.length.epochs}, {which.replace('_', ' ')}"
        if last:
            for run, value in zip(self.runs, shown, strict=True):
                self.progress.report(f"{run.member.label}: {words} {value:.2%}", always=True)
        else:
            span = f"{min(shown):.2%}" + (f" to {max(shown):.2%}" if len(shown) > 1 else "")
            self.progress.report(f"{self._label}: {words} {span}")

    def _deliver(self) -> None:
        """Deliver each member's checkpoint; delivering the last one ends the run, and so does a divergence."""
        self._count_time()
        weights = self._weights()
        diverged: dict[int, str] = {}
        for row, run in enumerate(self.runs):
            arrays = {name: value[row].cpu().numpy().copy() for name, value in weights.items()}
            together = len(self.runs) if self.stack.together else 0
            try:
                with self._stopping_at_once():
                    run.member.deliver(
                        Checkpoint(self.epoch, arrays, list(run.history), run.spent_s, together, self.computed_with)
                    )
            except Diverged:
                diverged[row] = f"a result is not a finite number after epoch {self.epoch}"
                continue
            if self.epoch == self.length.epochs and not run.member.keep_state:
                run.ended = True
                run.member.state.unlink(missing_ok=True)
        self._leave_behind(diverged)

    def _test_metrics(self) -> list[dict[str, float]]:
        with self._stopping_at_once():
            metrics = self._evaluate()[: len(self.runs)]
        self._leave_behind({
            row: f"the test loss is not finite after epoch {self.epoch + 1}"
            for row, found in enumerate(metrics) if not math.isfinite(found.nll)
        })  # fmt: skip
        return [
            {"test_error": found.error, "test_nll": found.nll} for found in metrics if math.isfinite(found.nll)
        ]  # fmt: skip

    def _evaluate(self) -> list[Metrics]:
        weights = self._weights()
        if self.sparse:
            return [self.sparse.evaluate({name: value[0] for name, value in weights.items()}, "test")]
        with convolution_precision(tf32=False):  # measured in fp32 whatever the precision of training
            return self.stack.evaluate(weights, "test")

    def _evaluated(self, epoch: int) -> bool:
        late = any(end - self.session.evaluate_last < epoch <= end for end in self.length.checkpoints)
        return late or epoch in self.length.checkpoints or epoch % self.training.evaluate_every == 0

    def _weights(self) -> dict[str, Tensor]:
        return {**self.flat.views(self.vector.detach()), **self.buffers}

    def _count_time(self) -> None:
        """Add the time since the last call to the members' wall time, in equal shares."""
        now = time.monotonic()
        for run in self.runs:
            run.spent_s += (now - self.counted_at) / len(self.runs)
        self.counted_at = now

    def _state(self, row: int) -> SavedState:
        run = self.runs[row]
        arrays = {
            "parameters": self.vector[row].detach().cpu().numpy(),
            "sums": self.sums[row].cpu().numpy(),
            "seen": np.array(self.seen),
            **{f"slot:{name}": value[row].cpu().numpy() for name, value in self.slots.items()},
            **{f"buffer:{name}": value[row].cpu().numpy() for name, value in self.buffers.items()},
        }
        return SavedState(arrays, self.epoch, self.step, run.history, run.spent_s)

    def _save(self) -> None:
        for member, state in self.states():
            saved_state.save(
                member.state,
                state,
                key=member.key,
                threads=self.session.threads,
                device=self.task.device.type,
                together=self.stack.together,
                computed_with=self.computed_with,
            )
        self.saved_at = time.monotonic()


def _norms(gradient: Tensor) -> Tensor:
    """Norm of each row, (M, 1). Computed row by row: rounding of a joint reduction may depend on the number of rows."""
    return torch.stack([row.norm() for row in gradient])[:, None]
