"""The translation Transformer (Vaswani et al. 2017), built by fairseq: post-norm, sinusoidal positions, ReLU, FFN 4x.

Source and target have a joint dictionary. Decoder input and output share one matrix. The encoder has its own (this
project's reading of the paper's "shared decoder input/output embedding"; the public record does not say), or shares it
if the model name ends in ``-shared`` (Vaswani et al. 2017, section 3.4; fairseq's ``share_all_embeddings``). The built
network defines names and shapes; `three_regime.models.lean_transformer` computes it. Attention and activation dropout
are 0; each training sets the rate of residual and embedding dropout.
"""

from __future__ import annotations

import argparse
import math
from types import SimpleNamespace

import numpy as np
import torch
from fairseq.data import Dictionary
from fairseq.models.transformer import TransformerConfig, TransformerModelBase
from fairseq.modules import MultiheadAttention
from torch import nn

from three_regime.models.families import ModelSpec, parse
from three_regime.models.sizes import MAX_POSITIONS
from three_regime.system.files import Arrays


def build(model: ModelSpec | str, dictionary: Dictionary) -> TransformerModelBase:
    """Build fairseq's network, on the CPU, in training mode, without dropout.

    Its weights are fairseq's defaults, to be replaced by `initial_weights`; torch's global random state is unchanged.

    Raises
    ------
    UserError
        When the name is invalid.
    """
    spec = parse(model) if isinstance(model, str) else model
    settings = argparse.Namespace(
        encoder_layers=spec.depth,
        decoder_layers=spec.depth,
        encoder_embed_dim=int(spec.width),
        decoder_embed_dim=int(spec.width),
        decoder_input_dim=int(spec.width),
        decoder_output_dim=int(spec.width),
        encoder_ffn_embed_dim=4 * int(spec.width),
        decoder_ffn_embed_dim=4 * int(spec.width),
        encoder_attention_heads=spec.heads,
        decoder_attention_heads=spec.heads,
        dropout=0.0,
        share_decoder_input_output_embed=True,
        share_all_embeddings=spec.shared,
        max_source_positions=MAX_POSITIONS,
        max_target_positions=MAX_POSITIONS,
    )
    task = SimpleNamespace(source_dictionary=dictionary, target_dictionary=dictionary)
    with torch.random.fork_rng(devices=[]):
        return TransformerModelBase.build_model(TransformerConfig.from_namespace(settings), task)


def prunable(model: TransformerModelBase) -> tuple[str, ...]:
    """Names of the prunable weights, in module order.

    All matrices of attention and feed-forward blocks; never embeddings, output projection, biases or LayerNorm.
    """
    return tuple(
        f"{name}.weight"
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and ".layers." in f".{name}"
    )


def initial_weights(model: TransformerModelBase, generator: np.random.Generator) -> Arrays:
    """Draw initial values of all parameters of `model`, which is not modified, by fairseq's rules.

    Embeddings are N(0, 1/width) with a zero row for padding. Attention matrices are Xavier-uniform, those of query, key
    and value with gain 1/√2 and biases from U(±1/√width); the output bias is 0. Feed-forward matrices and biases are
    U(±1/√inputs), torch's default. LayerNorm is the identity.

    Parameters
    ----------
    generator
        Random generator, used in parameter order, so equal generators give equal weights.

    Returns
    -------
    Arrays
        Names and order of ``model.named_parameters()`` (a shared matrix once); float32.
    """
    modules = dict(model.named_modules())
    arrays: Arrays = {}
    for name, parameter in model.named_parameters():
        prefix, _, kind = name.rpartition(".")
        parent = modules[prefix.rpartition(".")[0]]
        arrays[name] = _draw(modules[prefix], parent, prefix, kind, tuple(parameter.shape), generator)
    return arrays


def _draw(
    module: nn.Module, parent: nn.Module, name: str, kind: str, shape: tuple[int, ...], generator: np.random.Generator
) -> np.ndarray:
    match module:
        case nn.Embedding():
            table = generator.standard_normal(shape, dtype=np.float32) * np.float32(shape[1] ** -0.5)
            table[module.padding_idx] = 0
            return table
        case nn.LayerNorm():
            return np.full(shape, kind == "weight", np.float32)
        case nn.Linear() if isinstance(parent, MultiheadAttention):
            output = name.endswith(".out_proj")
            if kind == "bias" and output:
                return np.zeros(shape, np.float32)
            gain = 1.0 if output else 1 / math.sqrt(2)
            bound = gain * math.sqrt(6 / sum(shape)) if kind == "weight" else 1 / math.sqrt(module.in_features)
        case nn.Linear():
            bound = 1 / math.sqrt(module.in_features)
        case _:
            raise TypeError(f"no initial weights are defined for {type(module).__name__}")
    return generator.uniform(-bound, bound, shape).astype(np.float32)
