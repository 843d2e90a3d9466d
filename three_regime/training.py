"""The trainer: dense training and retraining, in both settings, by one function (paper, section 3.1 and B.1)."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from three_regime import resume
from three_regime.config import Training
from three_regime.errors import Interrupted, UserError
from three_regime.fitting import Fitting
from three_regime.interruption import Stop
from three_regime.optimisers import OPTIMISERS
from three_regime.progress import Progress
from three_regime.pruning import Masks
from three_regime.resume import SavedState
from three_regime.schedule import learning_rate, length_in_iterations
from three_regime.storage import Arrays
from three_regime.streams import Streams
from three_regime.tasks import Epoch, Task


@dataclass(frozen=True)
class Checkpoint:
    """A network at the end of an epoch.

    Attributes
    ----------
    weights
        Parameters and buffers.
    history
        A row for each epoch so far: epoch, iterations, learning_rate, train_loss, train_error (running, augmented),
        and test_error, test_nll where it was evaluated.
    wall_s
        Seconds spent on the run so far.
    """

    epoch: int
    weights: Arrays
    history: list[dict[str, Any]]
    wall_s: float


@dataclass(frozen=True)
class Member:
    """One training run of a pack.

    Attributes
    ----------
    label
        For progress lines.
    key
        Identity of the run, whatever its length: a saved state with another key is not used.
    streams
        Where its random numbers come from.
    start
        Weights to start from.
    masks
        Name → bool array; removed weights stay exactly zero. Empty for dense training.
    checkpoints
        Completed epochs at which `deliver` is called; the run ends at the last. Empty: at its end alone.
    state
        File of the resume state.
    keep_state
        Keep the state when the run has ended, so that a later, longer run continues it.
    """

    label: str
    key: str
    streams: Streams
    start: Arrays
    masks: Masks
    checkpoints: tuple[int, ...]
    state: Path
    deliver: Callable[[Checkpoint], None]
    keep_state: bool = False


@dataclass(frozen=True)
class Session:
    """The circumstances of a run, none of which may change its numbers on one kind of device.

    Attributes
    ----------
    threads
        CPU threads of torch; recorded, because other counts round differently.
    state_every_s
        Seconds between saved states.
    evaluate_last
        The last so many epochs are always evaluated on the test split.
    """

    threads: int
    state_every_s: float
    stop: Stop
    evaluate_last: int = 0


class Flat:
    """All parameters of a network as one vector, and views of it by name.

    One vector makes optimiser, masks and SAM's norm single operations, and stacks for packs.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.shapes = shapes
        self.sizes = [int(np.prod(shape, dtype=np.int64)) for shape in shapes.values()]

    def join(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        """Concatenate the named arrays in order, shape (P,)."""
        return np.concatenate([np.ravel(arrays[name]) for name in self.shapes])

    def views(self, vector: Tensor) -> dict[str, Tensor]:
        """Views into a vector of shape (P,), differentiable."""
        parts = vector.split(self.sizes)
        return {name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}


def train_pack(task: Task, training: Training, members: Sequence[Member], session: Session) -> None:
    """Train the members of a pack to their last checkpoint, delivering each checkpoint as it is reached.

    Each member continues from its saved state, if it has one. Members advance one after another.

    Raises
    ------
    UserError
        When a loss is not finite (naming member, epoch and step), or a state cannot be continued.
    Interrupted
        When `session.stop` was requested; the state has been saved.
    """
    torch.set_num_threads(session.threads)
    progress = Progress(len(members), task.unit)
    with convolution_precision(training.precision == "tf32"):
        for member in members:
            _Run(task, training, member, session).finish(progress)


@contextlib.contextmanager
def convolution_precision(tf32: bool) -> Iterator[None]:
    """Allow or forbid TF32 in cuDNN's convolutions and in matrix products, and restore the settings after."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = tf32, False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


class _Run:
    """One member under way."""

    def __init__(self, task: Task, training: Training, member: Member, session: Session) -> None:
        self.task, self.training, self.member, self.session = task, training, member, session
        self.optimiser = OPTIMISERS[training.optimiser]
        self.reduced = training.precision == "bf16" and task.device.type == "cuda"
        self.flat = Flat(task.parameters)
        self.fitting = Fitting(task, member.label)
        first = task.epoch(member.streams, 0, training)
        self.steps_per_epoch = first.steps
        iterations = length_in_iterations(training, self.steps_per_epoch)
        epochs = -(-iterations // self.steps_per_epoch)
        self.checkpoints = member.checkpoints or (epochs,)
        self.iterations = min(iterations, self.checkpoints[-1] * self.steps_per_epoch)
        self.epochs = self.checkpoints[-1]
        self._restore(self._saved_state())

    def finish(self, progress: Progress) -> None:
        """Train to the last checkpoint."""
        self.began = time.monotonic()
        done = self.epoch * self.steps_per_epoch + self.step
        progress.begin_member(self.iterations, done)
        if done:
            progress.report(f"{self.member.label}: continues after epoch {self.epoch}, step {self.step}", always=True)
        if self.epoch in self.checkpoints and self.step == 0:
            self._deliver()
        while self.epoch < self.epochs:
            self._rest_of_epoch(self.task.epoch(self.member.streams, self.epoch, self.training), progress)
            self._close_epoch(progress)
        if self.member.keep_state:
            self._save()
        else:
            self.member.state.unlink(missing_ok=True)

    def _rest_of_epoch(self, batches: Epoch, progress: Progress) -> None:
        steps = min(batches.steps, self.iterations - self.epoch * self.steps_per_epoch)
        losses = []
        while self.step < steps:
            if self.session.stop.requested:
                self._check_finite(losses)
                self._save()
                raise self._interrupted()
            loss, count = self._advance(batches.micro_batches(self.step))
            losses.append(loss)
            self.step += 1
            self.seen += count
            progress.advance(count)
            if self.task.device.type == "cpu":
                self._check_finite(losses)
            if time.monotonic() - self.saved_at > self.session.state_every_s:
                self._check_finite(losses)
                self._save()
            if progress.due:
                progress.report(f"{self.member.label}: epoch {self.epoch + 1}/{self.epochs}, step {self.step}/{steps}")
        self._check_finite(losses)

    def _advance(self, parts: tuple[Any, ...]) -> tuple[Tensor, int]:
        """One step; returns its loss, on the device, and the number of its targets."""
        self.rate = self._rate(self.step)
        gradient, loss, errors, count = self._gradient(self.vector, self.buffers, parts)
        if self.training.sam_rho > 0:
            gradient = self._sharpness_aware(gradient, parts)
        with torch.no_grad():
            if self.mask is not None:
                gradient.mul_(self.mask)
            if self.training.clip_norm is not None:
                gradient.mul_((self.training.clip_norm / (gradient.norm() + 1e-6)).clamp(max=1.0))
            step = self.epoch * self.steps_per_epoch + self.step
            self.optimiser.update(self.vector, gradient, self.slots, self.training, self.rate, step)
            self.sums += torch.stack([loss.double() * count, errors.double()])
        return loss, count

    def _gradient(
        self, vector: Tensor, buffers: dict[str, Tensor], parts: tuple[Any, ...]
    ) -> tuple[Tensor, Tensor, Tensor, int]:
        """Gradient and value of the mean loss over all targets of a step, its errors, and the number of targets.

        Micro-batches are weighted by their targets, so that a step equals one on the joined batch.
        """

        def of_part(part: Any) -> tuple[Tensor, Tensor, Tensor, int]:
            with torch.autocast(self.task.device.type, torch.bfloat16, enabled=self.reduced):
                loss, errors, count = self.task.loss(self.flat.views(vector), buffers, part)
            (gradient,) = torch.autograd.grad(loss, vector)
            return gradient, loss.detach(), errors, count

        found = self.fitting.each(parts, of_part)
        if len(found) == 1:
            return found[0]
        total = sum(count for *_, count in found)
        gradient, loss = (
            sum((entry[which] * (entry[3] / total) for entry in found[1:]), found[0][which] * (found[0][3] / total))
            for which in (0, 1)
        )
        return gradient, loss, torch.stack([errors for _, _, errors, _ in found]).sum(), total

    def _rate(self, step: int) -> float:
        """Learning rate of a step of the epoch under way."""
        return learning_rate(self.training, self.epoch, self.epoch * self.steps_per_epoch + step)

    def _sharpness_aware(self, gradient: Tensor, parts: tuple[Any, ...]) -> Tensor:
        """Gradient at w + rho g/‖g‖, one norm over all parameters (Foret et al. 2021, non-adaptive; A).

        The second pass uses batch statistics and leaves the running statistics alone.
        """
        with torch.no_grad():
            if self.mask is not None:
                gradient.mul_(self.mask)
            raised = self.vector + gradient * (self.training.sam_rho / (gradient.norm() + 1e-12))
        raised.requires_grad_()
        aside = {name: value.clone() for name, value in self.buffers.items()}
        return self._gradient(raised, aside, parts)[0]

    def _check_finite(self, losses: list[Tensor]) -> None:
        """Stop at the first loss of these latest steps that is not finite; then forget them."""
        finite = torch.isfinite(torch.stack(losses)) if losses else torch.ones(1, dtype=torch.bool)
        if not bool(finite.all()):
            step = self.step - len(losses) + int((~finite).nonzero()[0, 0]) + 1
            raise UserError(
                f"{self.member.label}: the loss is not finite in epoch {self.epoch + 1}, step {step} (learning rate"
                f" {self.rate:g}); lower the learning rate or check the data"
            )
        losses.clear()

    @contextlib.contextmanager
    def _stopping_at_once(self) -> Iterator[None]:
        """Let a signal end the block, which must not change this run, and save the state from before it."""
        try:
            with self.session.stop.at_once():
                yield
        except Interrupted as stopped:
            self._save()
            raise self._interrupted() from stopped

    def _interrupted(self) -> Interrupted:
        return Interrupted(f"{self.session.stop.reason}: {self.member.label} saved in {self.member.state}")

    def _close_epoch(self, progress: Progress) -> None:
        self.rate = self._rate(self.step - 1)  # not known yet when the state was saved after the epoch's last step
        evaluated = self._test_metrics() if self._evaluated(self.epoch + 1) else {}
        loss, errors = (self.sums / max(self.seen, 1)).tolist()
        row = {
            "epoch": self.epoch + 1,
            "iterations": min((self.epoch + 1) * self.steps_per_epoch, self.iterations),
            "learning_rate": self.rate,
            "train_loss": loss,
            "train_error": errors,
            **evaluated,
        }
        self.epoch, self.step, self.seen = self.epoch + 1, 0, 0
        self.sums.zero_()
        self.history.append(row)
        shown = f"test error {row['test_error']:.2%}" if "test_error" in row else f"train error {errors:.2%}"
        progress.report(
            f"{self.member.label}: epoch {self.epoch}/{self.epochs}, {shown}", always=self.epoch == self.epochs
        )
        if self.epoch in self.checkpoints:
            self._deliver()

    def _deliver(self) -> None:
        arrays = {name: value.cpu().numpy().copy() for name, value in self._weights().items()}
        with self._stopping_at_once():
            self.member.deliver(Checkpoint(self.epoch, arrays, list(self.history), self._wall_s()))

    def _test_metrics(self) -> dict[str, float]:
        with self._stopping_at_once():
            metrics = self.task.evaluate(self._weights(), "test")
        if not math.isfinite(metrics.nll):
            raise UserError(
                f"{self.member.label}: the test loss is not finite after epoch {self.epoch + 1} (learning rate"
                f" {self.rate:g}); lower the learning rate or check the data"
            )
        return {"test_error": metrics.error, "test_nll": metrics.nll}

    def _evaluated(self, epoch: int) -> bool:
        late = any(end - self.session.evaluate_last < epoch <= end for end in self.checkpoints)
        return late or epoch % self.training.evaluate_every == 0

    def _weights(self) -> dict[str, Tensor]:
        return {**self.flat.views(self.vector.detach()), **self.buffers}

    def _saved_state(self) -> SavedState | None:
        state = resume.load(
            self.member.state, key=self.member.key, threads=self.session.threads, device=self.task.device.type
        )
        if state is not None and (state.epoch, state.step) > (self.checkpoints[0], 0):
            return None  # it has passed the first checkpoint that is wanted: only a fresh run reaches that
        return state

    def _restore(self, state: SavedState | None) -> None:
        device = self.task.device
        start = self.member.start
        arrays = state.arrays if state else {"parameters": self.flat.join(start)}
        self.vector = torch.from_numpy(arrays["parameters"].astype(np.float32)).to(device).requires_grad_()
        size = len(self.vector)
        self.slots = {
            name: torch.from_numpy(arrays[f"slot:{name}"]).to(device) if state else torch.zeros(size, device=device)
            for name in self.optimiser.slots
        }
        self.buffers = {
            name: torch.from_numpy(np.array(arrays[f"buffer:{name}"] if state else start[name])).to(device)
            for name in self.task.buffers
        }
        self.sums = torch.from_numpy(arrays["sums"] if state else np.zeros(2)).to(device)
        self.epoch, self.step = (state.epoch, state.step) if state else (0, 0)
        self.seen = int(arrays["seen"]) if state else 0
        self.history = list(state.history) if state else []
        self.mask = None
        if self.member.masks:
            every = {name: np.ones(shape, np.float32) for name, shape in self.flat.shapes.items()}
            self.mask = torch.from_numpy(
                self.flat.join({**every, **{name: mask.astype(np.float32) for name, mask in self.member.masks.items()}})
            ).to(device)
        self.rate = self.training.learning_rate
        self.spent_before = state.wall_s if state else 0.0
        self.began = self.saved_at = time.monotonic()

    def _wall_s(self) -> float:
        return self.spent_before + time.monotonic() - self.began

    def _save(self) -> None:
        arrays = {
            "parameters": self.vector.detach().cpu().numpy(),
            "sums": self.sums.cpu().numpy(),
            "seen": np.array(self.seen),
            **{f"slot:{name}": value.cpu().numpy() for name, value in self.slots.items()},
            **{f"buffer:{name}": value.cpu().numpy() for name, value in self.buffers.items()},
        }
        state = SavedState(arrays, self.epoch, self.step, self.history, self._wall_s())
        resume.save(
            self.member.state, state, key=self.member.key, threads=self.session.threads, device=self.task.device.type
        )
        self.saved_at = time.monotonic()
