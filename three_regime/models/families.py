"""Model families and the grammar of model names; torch is imported only to build a network.

A model is named ``<family>-<depth>`` with an optional width: ``preresnet-20``, ``preresnet-20x2``, ``vgg-19``,
``densenet-40``, ``densenet-40k24``; a Transformer by layers, width and heads: ``transformer-6x512x8``. A network has
exactly one name, so names are safe in paths and settings; ``ALIASES`` are replaced when read.
A new family of image networks needs an entry of ``FAMILIES`` and a module of this package, named like the family, with
``build(depth, width, classes, channels) -> torch.nn.Module``; the network class has an attribute ``initialisation``
(``three_regime.models.initialisation``). Networks for text are built by ``three_regime.models.transformer``.
"""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from three_regime.errors import UserError
from three_regime.models import counting
from three_regime.system import registries

if TYPE_CHECKING:
    import torch

_NAME = re.compile(r"([a-z]+)-([1-9]\d{0,3})(?:([a-z])(\d{1,5}(?:\.\d{1,6})?))?(?:x([1-9]\d{0,2}))?(-shared)?")
_ROUGH_NAME = re.compile(r"([a-z]+)\D*(\d{1,4})?(?:[a-z](\d{1,5}(?:\.\d{1,6})?))?(?:x(\d{1,3}))?")

ALIASES = {"transformer-base": "transformer-6x512x8"}
"""Alias → model name (Vaswani et al. 2017, table 3)."""


@dataclass(frozen=True)
class Family:
    """A family of networks that differ in depth and width.

    Attributes
    ----------
    name
        First part of a model name.
    form
        Description of valid names, for error messages and help.
    description
        One line for ``three_regime list``.
    width_letter
        Letter between depth and width in a name; empty if the family has only one width.
    default_width
        Width that is omitted from names.
    nearest_depth, nearest_width
        Return the nearest valid value; a value is valid if it is its own nearest.
    takes_image_size
        Return whether square images of this side (pixels) are supported.
    image_sizes
        The same as text.
    kind
        Kind of data, a key of `three_regime.settings.SETTINGS`.
    usual_depth
        Depth suggested for a name without one.
    heads
        Whether names end with a number of attention heads and optionally ``-shared``.
    layers
        Count a network's layers, given depth, width, classes, channels and image size, without torch. If None, ``plan``
        gives neither hours nor sizes of weights, jobs request the minutes of the study's ``resources``, and on a CPU
        ``lockstep: auto`` computes one network after another.
    module
        Module with ``build(depth, width, classes, channels) -> torch.nn.Module``, imported when a network is built;
        empty: ``three_regime.models.<name>``.
    version
        Increased by hand when the family's networks change; part of their fingerprints.
    """

    name: str
    form: str
    description: str
    width_letter: str
    default_width: float
    nearest_depth: Callable[[int], int]
    nearest_width: Callable[[float], float]
    takes_image_size: Callable[[int], bool]
    image_sizes: str
    kind: str = "images"
    usual_depth: int = 20
    heads: bool = False
    layers: Callable[[int, float, int, int, int], Iterable[counting.Layer]] | None = None
    module: str = ""
    version: int = 1


@dataclass(frozen=True)
class ModelSpec:
    """A parsed model name.

    Attributes
    ----------
    family
        A key of ``FAMILIES``.
    depth
        Number of weighted layers, counted as in the family's paper; Transformer: number of encoder layers, which equals
        that of decoder layers.
    width
        PreResNet: factor on 16/32/64 channels. DenseNet: growth rate, channels per layer. VGG: always 1. Transformer:
        embedding dimension.
    heads
        Transformer: attention heads, a divisor of the width. 0 for image networks.
    shared
        Transformer: whether encoder and decoder share embeddings (fairseq's ``share_all_embeddings``).
    """

    family: str
    depth: int
    width: float
    heads: int = 0
    shared: bool = False

    @property
    def name(self) -> str:
        """Canonical name of this network, e.g. ``preresnet-20x2``."""
        family = FAMILIES[self.family]
        if family.heads:
            return f"{self.family}-{self.depth}x{self.width:g}x{self.heads}{'-shared' if self.shared else ''}"
        width = "" if self.width == family.default_width else f"{family.width_letter}{self.width:g}"
        return f"{self.family}-{self.depth}{width}"

    @property
    def kind(self) -> str:
        """Kind of data (`Family.kind`)."""
        return FAMILIES[self.family].kind


def _nearest_in_steps(first: int, step: int) -> Callable[[int], int]:
    return lambda depth: max(first, first + step * round((depth - first) / step))


def _nearest_of(*allowed: int) -> Callable[[float], int]:
    return lambda value: min(allowed, key=lambda candidate: abs(candidate - value))


def _divisible_by_four(size: int) -> bool:
    return size > 0 and size % 4 == 0


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family(
            name="preresnet",
            form="preresnet-<6n+2>, optionally x<factor> with 16 * factor whole: preresnet-20, preresnet-20x2",
            description="pre-activation ResNet with basic blocks; depth 6n+2, optional width factor (preresnet-20x2)",
            width_letter="x",
            default_width=1,
            nearest_depth=_nearest_in_steps(8, 6),
            nearest_width=lambda width: max(1, round(16 * width)) / 16,
            takes_image_size=_divisible_by_four,
            image_sizes="a side divisible by 4",
            layers=counting.preresnet,
        ),
        Family(
            name="vgg",
            form="vgg-11, vgg-13, vgg-16 or vgg-19 (always with BatchNorm)",
            description="VGG with BatchNorm and a single linear classifier; depth 11, 13, 16 or 19; 32x32 images only",
            width_letter="",
            default_width=1,
            nearest_depth=_nearest_of(11, 13, 16, 19),
            nearest_width=_nearest_of(1),
            takes_image_size=lambda size: size == 32,
            image_sizes="a side of 32",
            layers=counting.vgg,
        ),
        Family(
            name="densenet",
            form="densenet-<3n+4>, optionally k<growth>: densenet-40, densenet-40k24",
            description="DenseNet with basic layers, no compression; depth 3n+4, optional growth (12; densenet-40k24)",
            width_letter="k",
            default_width=12,
            nearest_depth=_nearest_in_steps(7, 3),
            nearest_width=lambda width: max(1, round(width)),
            takes_image_size=_divisible_by_four,
            image_sizes="a side divisible by 4",
            layers=counting.densenet,
        ),
        Family(
            name="transformer",
            form="transformer-<layers>x<width>x<heads> with an even width divisible by the heads: transformer-6x512x8,"
            " also called transformer-base; with -shared at its end one embedding for both sides",
            description="translation; layers, width and heads: transformer-6x512x8, also called transformer-base;"
            " -shared: one embedding for both sides",
            width_letter="x",
            default_width=512,
            nearest_depth=lambda depth: max(1, depth),
            nearest_width=lambda width: max(4, 2 * round(width / 2)),
            takes_image_size=lambda size: False,
            image_sizes="no images:",
            kind="text",
            usual_depth=6,
            heads=True,
        ),
    )
}


def register(family: Family) -> None:
    """Register a model family, for plugins. See `registries.add`."""
    registries.add(FAMILIES, family, "model family")


def families() -> dict[str, str]:
    """Family name → one-line description."""
    return {family.name: family.description for family in FAMILIES.values()}


def parse(name: str) -> ModelSpec:
    """Parse a model name.

    Raises
    ------
    UserError
        When `name` is not a model name; the message gives the valid form and the nearest valid name.
    """
    name = ALIASES.get(name, name)
    match = _NAME.fullmatch(name)
    if match and match[1] in FAMILIES:
        family = FAMILIES[match[1]]
        if (match[3] or family.width_letter) == family.width_letter:
            spec = ModelSpec(family.name, int(match[2]), float(match[4] or family.default_width), int(match[5] or 0),
                             bool(match[6]))  # fmt: skip
            if _nearest(spec) == spec and spec.name == name:
                return spec
    raise UserError(_complaint(name))


def _nearest(spec: ModelSpec) -> ModelSpec:
    family = FAMILIES[spec.family]
    width = family.nearest_width(spec.width)
    heads = 0
    if family.heads:
        divisors = [heads for heads in range(1, int(width) + 1) if width % heads == 0]
        heads = min(divisors, key=lambda heads: abs(heads - (spec.heads or 8)))
    return ModelSpec(spec.family, family.nearest_depth(spec.depth), width, heads, spec.shared and bool(heads))


def _complaint(name: str) -> str:
    rough = _ROUGH_NAME.match(name.lower())
    close = difflib.get_close_matches(rough[1], FAMILIES, n=1, cutoff=0.6) if rough else []
    if not close:
        forms = "; ".join(family.form for family in FAMILIES.values())
        return f"model {name!r} is of no known family; allowed: {forms}"
    family = FAMILIES[close[0]]
    wanted = ModelSpec(
        family.name, int(rough[2] or family.usual_depth), float(rough[3] or family.default_width), int(rough[4] or 0)
    )  # fmt: skip
    return f"model {name!r} does not exist; allowed: {family.form}; nearest: {_nearest(wanted).name}"


def parse_for(kind: str, model: ModelSpec | str) -> ModelSpec:
    """Parse a model name, and check that the network takes data of `kind`.

    Raises
    ------
    UserError
        When it does not, or the name is invalid.
    """
    spec = parse(model) if isinstance(model, str) else model
    if spec.kind != kind:
        raise UserError(f"model {spec.name} is not a model for {kind}")
    return spec


def check_image_size(model: ModelSpec | str, image_size: int) -> None:
    """Check that `model` supports square images of side `image_size` (pixels).

    Raises
    ------
    UserError
        When it does not, or the name is invalid.
    """
    spec = parse(model) if isinstance(model, str) else model
    family = FAMILIES[spec.family]
    if not family.takes_image_size(image_size):
        raise UserError(f"model {spec.name} needs images with {family.image_sizes} pixels, not {image_size}")


def build(model: ModelSpec | str, *, classes: int, channels: int, image_size: int) -> torch.nn.Module:
    """Build a network for ``torch.func.functional_call``, on the CPU, in training mode.

    Its weights are torch's defaults, to be replaced by ``initialisation.initial_weights``; torch's global random state
    is unchanged.

    Parameters
    ----------
    model
        A model name, parsed or not.
    classes
        Number of outputs (logits).
    channels
        Colour channels of the images.
    image_size
        Side of the square images in pixels.

    Raises
    ------
    UserError
        When the name is invalid or the family does not support this image size.
    """
    import torch

    spec = parse(model) if isinstance(model, str) else model
    check_image_size(spec, image_size)
    module = importlib.import_module(FAMILIES[spec.family].module or f"three_regime.models.{spec.family}")
    with torch.random.fork_rng(devices=[]):
        return module.build(spec.depth, spec.width, classes, channels)


def prunable(model: torch.nn.Module) -> tuple[str, ...]:
    """Names of the prunable weights, in module order.

    All convolution weights, including the first layer and shortcuts; never the classifier, biases or BatchNorm
    (authors' code).
    """
    from torch import nn

    return tuple(f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Conv2d))
