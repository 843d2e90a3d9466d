"""The passes of fairseq's translation Transformer, computed from its weights in few operations.

Names, shapes and results are those of the network that `three_regime.models.transformer` builds (post-norm, ReLU,
sinusoidal positions; Vaswani et al. 2017), which tests compare with. Here a sentence is padded on the right on both
sides, so positions are those of the columns; query, key and value are one product; the future is hidden by the
triangle alone, for what follows a sentence's end is padding that nobody reads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from fairseq.modules import SinusoidalPositionalEmbedding
from torch import Tensor

from three_regime.models.families import ModelSpec

Weights = Mapping[str, Tensor]
Drop = Callable[[Tensor], Tensor]

SMALL_HEAD = 32
"""On a CPU, heads of fewer numbers are multiplied by plain products: torch's fused attention takes half as long again
for them, forward and back (benchmarks/README.md, "Translation against fairseq")."""


def hidden_padding(sentences: Tensor, padding: int) -> Tensor | None:
    """What is added to attention so that nothing sees padding, (n, 1, 1, length); None where there is no padding."""
    found = (sentences == padding)[:, None, None]
    if not bool(found.any()):
        return None
    return torch.zeros(found.shape, device=sentences.device).masked_fill_(found, -math.inf)


def _keep(x: Tensor) -> Tensor:
    return x


class LeanTransformer:
    """Encoder and decoder as functions of weights by fairseq's names.

    Parameters
    ----------
    positions
        Most tokens of a sentence, its end mark included.
    padding
        Number of the padding token.
    """

    def __init__(self, spec: ModelSpec, positions: int, padding: int, device: torch.device) -> None:
        self.depth, self.width, self.heads = spec.depth, int(spec.width), spec.heads
        self.padding, self.device = padding, device
        table = SinusoidalPositionalEmbedding.get_embedding(positions + padding + 1, self.width, padding)
        self.positions = table[padding + 1 :].to(device)
        self.source_table = "encoder.embed_tokens.weight"
        self.target_table = self.source_table if spec.shared else "decoder.embed_tokens.weight"
        self.plain = device.type == "cpu" and self.width // self.heads < SMALL_HEAD
        self._future = torch.full((0, 0), -math.inf, device=device)

    def encode(self, weights: Weights, source: Tensor, hidden: Tensor | None, drop: Drop = _keep) -> Tensor:
        """Encoded sentences, (n, source length, width).

        Parameters
        ----------
        source
            (n, source length) int64, padded on the right.
        hidden
            See `hidden_padding`.
        """
        x = drop(self.embed(weights[self.source_table], source, self.positions[: source.shape[1]]))
        for layer in range(self.depth):
            name = f"encoder.layers.{layer}"
            x = self._add(weights, f"{name}.self_attn_layer_norm", x,
                          drop(self._self_attention(weights, f"{name}.self_attn", x, hidden)))  # fmt: skip
            x = self._add(weights, f"{name}.final_layer_norm", x, drop(self.feed_forward(weights, name, x)))
        return x

    def decode(
        self, weights: Weights, previous: Tensor, encoded: Tensor, hidden: Tensor | None, drop: Drop = _keep
    ) -> Tensor:
        """What the output matrix is applied to, (n, target length, width); at padding without meaning."""
        x = drop(self.embed(weights[self.target_table], previous, self.positions[: previous.shape[1]]))
        for layer in range(self.depth):
            name = f"decoder.layers.{layer}"
            x = self._add(weights, f"{name}.self_attn_layer_norm", x,
                          drop(self._self_attention(weights, f"{name}.self_attn", x, None, causal=True)))  # fmt: skip
            query = self.split(self.project(weights, f"{name}.encoder_attn", "q", x))
            key, value = self.keys_and_values(weights, f"{name}.encoder_attn", encoded)
            found = self.output(weights, f"{name}.encoder_attn", self._attend(query, key, value, hidden))
            x = self._add(weights, f"{name}.encoder_attn_layer_norm", x, drop(found))
            x = self._add(weights, f"{name}.final_layer_norm", x, drop(self.feed_forward(weights, name, x)))
        return x

    def embed(self, table: Tensor, tokens: Tensor, positions: Tensor) -> Tensor:
        """Embeddings times √width, and positions added."""
        return torch.add(positions, F.embedding(tokens, table, self.padding), alpha=math.sqrt(self.width))

    def project(self, weights: Weights, name: str, which: str, x: Tensor) -> Tensor:
        """One or more of the projections ``q``, ``k``, ``v`` of an attention, side by side in one product."""
        matrices = [weights[f"{name}.{each}_proj.weight"] for each in which]
        biases = [weights[f"{name}.{each}_proj.bias"] for each in which]
        if len(which) == 1:
            return F.linear(x, matrices[0], biases[0])
        return F.linear(x, torch.cat(matrices), torch.cat(biases))

    def split(self, x: Tensor) -> Tensor:
        """(n, tokens, width) → (n, heads, tokens, width of a head)."""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def keys_and_values(self, weights: Weights, name: str, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of an attention to `x`, (n, heads, tokens, width of a head) each."""
        key, value = self.project(weights, name, "kv", x).view(*x.shape[:2], 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        return key, value

    def output(self, weights: Weights, name: str, found: Tensor) -> Tensor:
        """The heads' results joined and multiplied by the output matrix, (n, tokens, width)."""
        joined = found.transpose(1, 2).flatten(2)
        return F.linear(joined, weights[f"{name}.out_proj.weight"], weights[f"{name}.out_proj.bias"])

    def feed_forward(self, weights: Weights, name: str, x: Tensor) -> Tensor:
        """The two matrices of a block with a ReLU between."""
        inner = F.linear(x, weights[f"{name}.fc1.weight"], weights[f"{name}.fc1.bias"]).relu_()
        return F.linear(inner, weights[f"{name}.fc2.weight"], weights[f"{name}.fc2.bias"])

    def _self_attention(
        self, weights: Weights, name: str, x: Tensor, hidden: Tensor | None, *, causal: bool = False
    ) -> Tensor:
        projected = self.project(weights, name, "qkv", x).view(*x.shape[:2], 3, self.heads, -1)
        query, key, value = projected.permute(2, 0, 3, 1, 4)
        return self.output(weights, name, self._attend(query, key, value, hidden, causal=causal))

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, hidden: Tensor | None, *, causal: bool = False
    ) -> Tensor:
        if not self.plain:
            return F.scaled_dot_product_attention(query, key, value, hidden, is_causal=causal)
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        if causal:
            scores = scores + self._triangle(query.shape[2])
        if hidden is not None:
            scores = scores + hidden
        return scores.softmax(-1) @ value

    def _triangle(self, length: int) -> Tensor:
        if length > len(self._future):
            self._future = torch.full((length, length), -math.inf, device=self.device).triu_(1)
        return self._future[:length, :length]

    def _add(self, weights: Weights, norm: str, x: Tensor, branch: Tensor) -> Tensor:
        """A residual branch added, and the LayerNorm after it."""
        return self.normalise(weights, norm, x + branch)

    def normalise(self, weights: Weights, norm: str, x: Tensor) -> Tensor:
        """LayerNorm."""
        return F.layer_norm(x, (self.width,), weights[f"{norm}.weight"], weights[f"{norm}.bias"])
