"""Measures beside LMC and CKA: what else is asked of the retrained networks of a cell.

None is computed unless a study names it (``measure: {also: [agreement, hessian]}``). An entry says what it is measured
of, which columns it fills in the tables, which settings change its numbers, what it costs, and which function computes
it; rules, tables, claims, figures and plan follow. A new measure is one entry of ``MEASURES``, or of a plugin's.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from three_regime.system import registries

if TYPE_CHECKING:
    from three_regime.config.study import StudyConfig
    from three_regime.tasks.pricing import Pricer, Work


@dataclass(frozen=True)
class Column:
    """A number that a measure gives.

    Attributes
    ----------
    name
        Of the column in tables, of the measure in claims, of the figure.
    label
        Of an axis, with the unit.
    low_is_good
        Whether a lower value is a better network, or better connected or more similar ones.
    """

    name: str
    label: str
    low_is_good: bool = False


@dataclass(frozen=True)
class Measure:
    """One way to look at the retrained networks of a cell.

    Attributes
    ----------
    name
        Entry of ``measure.also``, and name of the result file (``pair1-2/<name>.json``).
    of
        Each ``replica``, or each ``pair`` of replicas.
    columns
        Numbers that it gives; each must be in what its function returns.
    function
        ``module:function`` of `three_regime.landscape.networks.Networks` → results; imported to compute.
    settings
        What changes its numbers beside model and data, of a study's configuration; JSON types only.
    work
        What so many products of one cell with so many replicas cost.
    kinds
        Kinds of data that it works on; None: all.
    version
        Raised by hand when its numbers change.
    """

    name: str
    of: Literal["replica", "pair"]
    columns: tuple[Column, ...]
    function: str
    description: str
    settings: Callable[[StudyConfig], dict[str, Any]] = lambda config: {}
    work: Callable[[Pricer, int, int], Work] | None = None
    kinds: tuple[str, ...] | None = None
    version: int = 1

    def load(self) -> Callable[..., dict[str, Any]]:
        """The function; imports torch."""
        module, _, name = self.function.partition(":")
        return getattr(importlib.import_module(module), name)

    def groups(self, replicas: Sequence[int]) -> list[tuple[int, ...]]:
        """The replicas of each product, the lower first."""
        return list(itertools.combinations(sorted(replicas), {"replica": 1, "pair": 2}[self.of]))


def _compared(config: StudyConfig) -> dict[str, Any]:
    """The inputs of CKA."""
    return config.setting.cka_recipe(config.measure)


LANCZOS_PRODUCTS = 40
"""Products with the Hessian that the top eigenvalue takes, about."""


def _products_of_hessians(pricer: Pricer, products: int, replicas: int) -> Work:
    """A product costs about two passes forward and back; as many probes as there may be."""
    hessian = pricer.study.config.measure.hessian
    return pricer.passes(2.0 * products * hessian.images * (LANCZOS_PRODUCTS + hessian.probes))


def _curve(config: StudyConfig) -> dict[str, Any]:
    """How a bend is trained, and how the curve is measured."""
    retrain = config.retrain.model_dump(mode="json", exclude={"start", "rewind_epoch", "evaluate_every", "milestones"})
    training = {name: value for name, value in retrain.items() if name not in ("epochs", "iterations", "sam_rho")}
    return {"curve": config.measure.bezier.model_dump(mode="json"), "training": training, **config.setting.lmc_recipe(
        config.measure
    )}  # fmt: skip


MEASURES: dict[str, Measure] = {
    measure.name: measure
    for measure in (
        Measure(
            "agreement",
            "pair",
            (Column("agreement", "agreement of\npredictions (0 to 1)"),),
            "three_regime.landscape.predictions:agreement_of",
            "fraction of inputs on which two replicas predict the same class or token, on the inputs of CKA",
            settings=_compared,
            work=lambda pricer, products, replicas: pricer.outputs(replicas),
        ),
        Measure(
            "divergence",
            "pair",
            (Column("divergence", "Jensen-Shannon\ndivergence (nats)", low_is_good=True),),
            "three_regime.landscape.predictions:divergence_of",
            "mean Jensen-Shannon divergence of two replicas' softmax outputs (nats), on the inputs of CKA",
            settings=_compared,
            work=lambda pricer, products, replicas: pricer.outputs(replicas),
        ),
        Measure(
            "distance",
            "pair",
            (
                Column("distance", "distance of weights\n(Euclidean)", low_is_good=True),
                Column("distance_relative", "distance of weights,\nrelative to their norm", low_is_good=True),
            ),
            "three_regime.landscape.weight_distance:distance_of",
            "Euclidean distance of two replicas' parameters, and relative to the mean of their norms",
        ),
        Measure(
            "hessian",
            "replica",
            (
                Column("hessian_top", "top eigenvalue\nof the Hessian", low_is_good=True),
                Column("hessian_trace", "trace of\nthe Hessian", low_is_good=True),
            ),
            "three_regime.landscape.hessian:hessian_of",
            "top eigenvalue (Lanczos) and trace (Hutchinson) of the Hessian of the training loss, kept weights only",
            settings=lambda config: config.measure.hessian.model_dump(mode="json"),
            work=_products_of_hessians,
            kinds=("images",),
        ),
        Measure(
            "bezier",
            "pair",
            (
                Column("bezier", "barrier on a Bezier\ncurve, training error"),
                Column("bezier_nll", "barrier on a Bezier\ncurve, NLL (nats)"),
                Column("bezier_test", "barrier on a Bezier\ncurve, test error"),
            ),
            "three_regime.landscape.bezier:bezier_of",
            "mode connectivity by a trained quadratic Bezier curve (Garipov et al. 2018), as LMC along it",
            settings=_curve,
            work=lambda pricer, products, replicas: pricer.curves(products),
        ),
    )
}


def register(measure: Measure) -> None:
    """Add a measure of a plugin's. See `registries.add`."""
    registries.add(MEASURES, measure, "measure")


def measured_columns() -> dict[str, tuple[Measure, Column]]:
    """Column → the measure that gives it, and what it is."""
    return {column.name: (measure, column) for measure in MEASURES.values() for column in measure.columns}
