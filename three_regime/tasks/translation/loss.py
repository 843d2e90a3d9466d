"""Label-smoothed cross-entropy, fused with the output projection and computed in chunks of tokens.

The logits of a batch are its largest tensor by far (tokens × dictionary). Here only `CHUNK` of them exist at a time, in
the processor's cache, and are turned into their gradient in place. Values equal fairseq's
``label_smoothed_cross_entropy``: the target has probability 1 − ε, every other token ε / (dictionary − 1).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = {"cpu": 250_000, "cuda": 32_000_000}
"""Number of logits computed at a time: 1 MB on a CPU (L2 cache), 128 MB on a GPU."""


def smoothed_loss(outputs: Tensor, table: Tensor, targets: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """Label-smoothed cross-entropy summed over tokens (differentiable), and the number of wrong tokens.

    A token is wrong if another one has a higher logit; ties, frequent only in bfloat16, count as right.

    Parameters
    ----------
    outputs
        (tokens, width): decoder outputs at non-padding tokens.
    table
        (dictionary, width): the output projection.
    targets
        (tokens,) int64.
    """
    return _SmoothedLoss.apply(outputs, table, targets, smoothing)


def logits_of(outputs: Tensor, table: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield logits in chunks: the slice of tokens, and their logits (tokens, dictionary) float32."""
    size = max(1, CHUNK[outputs.device.type] // len(table))
    for first in range(0, len(outputs), size):
        chosen = slice(first, first + size)
        yield chosen, F.linear(outputs[chosen], table).float()


class _SmoothedLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, outputs: Tensor, table: Tensor, targets: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
        wanted = any(ctx.needs_input_grad)
        other = smoothing / (len(table) - 1)
        loss = torch.zeros((), device=outputs.device)
        errors = torch.zeros((), dtype=torch.int64, device=outputs.device)
        to_outputs = torch.empty_like(outputs) if wanted else None
        to_table = torch.zeros_like(table) if wanted else None
        for chosen, logits in logits_of(outputs, table):
            target = targets[chosen, None]
            own = logits.gather(1, target)
            highest = logits.amax(1, keepdim=True)
            errors += (own < highest).sum()
            constant = logits.sum(1, keepdim=True) * other + own * (1 - smoothing - other)
            powers = logits.sub_(highest).exp_()
            total = powers.sum(1, keepdim=True)
            loss += (total.log() + highest - constant).sum()
            if wanted:
                gradient = powers.div_(total).sub_(other)
                gradient.scatter_add_(1, target, gradient.new_full((1, 1), smoothing + other - 1).expand_as(target))
                to_outputs[chosen] = F.linear(gradient, table.t())
                to_table += F.linear(gradient.t(), outputs[chosen].t())
        ctx.save_for_backward(to_outputs, to_table)
        ctx.mark_non_differentiable(errors)
        return loss, errors

    @staticmethod
    def backward(ctx: Any, scale: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None, None]:
        to_outputs, to_table = ctx.saved_tensors
        return to_outputs * scale, to_table * scale, None, None
