"""Forward passes of fairseq's translation Transformer with fewer operations.

Names, shapes and results equal those of the network built by `three_regime.models.transformer` (post-norm, ReLU,
sinusoidal positions; Vaswani et al. 2017); tests compare them. Source and target are padded on the right, so positions
are column indices; query, key and value are one matrix product; in decoder self-attention the causal mask suffices,
because only padding follows the end of a sentence.
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
"""On a CPU, heads of smaller dimension use plain matrix products: torch's fused attention takes 1.5 times as long for
them, forward and backward (benchmarks/README.md, "Translation against fairseq")."""


def hidden_padding(sentences: Tensor, padding: int) -> Tensor | None:
    """Additive attention mask of padding, (n, 1, 1, length); None if there is no padding."""
    found = (sentences == padding)[:, None, None]
    if not bool(found.any()):
        return None
    return torch.zeros(found.shape, device=sentences.device).masked_fill_(found, -math.inf)


def _keep(x: Tensor) -> Tensor:
    return x


class LeanTransformer:
    """Encoder and decoder as functions of weights with fairseq's names.

    Parameters
    ----------
    positions
        Maximum number of tokens in a sentence, including the end-of-sentence token.
    padding
        Index of the padding token.
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
        """Decoder outputs before the output projection, (n, target length, width); meaningless at padding."""
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
        """Embeddings times √width, plus positions."""
        return torch.add(positions, F.embedding(tokens, table, self.padding), alpha=math.sqrt(self.width))

    def project(self, weights: Weights, name: str, which: str, x: Tensor) -> Tensor:
        """One or more of the projections ``q``, ``k``, ``v`` of an attention layer, in one matrix product."""
        matrices = [weights[f"{name}.{each}_proj.weight"] for each in which]
        biases = [weights[f"{name}.{each}_proj.bias"] for each in which]
        if len(which) == 1:
            return F.linear(x, matrices[0], biases[0])
        return F.linear(x, torch.cat(matrices), torch.cat(biases))

    def split(self, x: Tensor) -> Tensor:
        """(n, tokens, width) → (n, heads, tokens, head dimension)."""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def keys_and_values(self, weights: Weights, name: str, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of attention to `x`, each (n, heads, tokens, head dimension)."""
        key, value = self.project(weights, name, "kv", x).view(*x.shape[:2], 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        return key, value

    def output(self, weights: Weights, name: str, found: Tensor) -> Tensor:
        """Concatenate the heads and apply the output projection, (n, tokens, width)."""
        joined = found.transpose(1, 2).flatten(2)
        return F.linear(joined, weights[f"{name}.out_proj.weight"], weights[f"{name}.out_proj.bias"])

    def feed_forward(self, weights: Weights, name: str, x: Tensor) -> Tensor:
        """Feed-forward block: two linear layers with a ReLU in between."""
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
        """Add a residual branch, then LayerNorm."""
        return self.normalise(weights, norm, x + branch)

    def normalise(self, weights: Weights, norm: str, x: Tensor) -> Tensor:
        """LayerNorm."""
        return F.layer_norm(x, (self.width,), weights[f"{norm}.weight"], weights[f"{norm}.bias"])
