"""Additional measures of the retrained networks of a cell, besides LMC and CKA.

A study computes only those that it names (``measure: {also: [agreement, hessian]}``). An entry states what it measures,
its columns in the tables, the settings that change its numbers, its cost, and the function that computes it; rules,
tables, claims, figures and plan follow from it. A new measure is an entry of ``MEASURES``.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from three_regime.config.optimisers import settings_of_others
from three_regime.errors import UserError
from three_regime.system import registries


@dataclass(frozen=True)
class Column:
    """A number computed by a measure.

    Attributes
    ----------
    name
        Name of the column in tables, of the measure in claims, and of the figure.
    label
        Axis label, with unit if any.
    low_is_good
        Whether a low value is good: a better network, or a better connected or more similar pair.
    """

    name: str
    label: str
    low_is_good: bool = False


@dataclass(frozen=True)
class Measure:
    """A measure of the retrained networks of a cell.

    Attributes
    ----------
    name
        Name in `measure.also`, and of the result file (``pair1-2/<name>.json``).
    of
        Whether it measures each ``replica``, each ``pair`` of replicas, or the ``triple`` of the first three.
    columns
        Its numbers; `function` returns each of them.
    function
        ``module:function`` of `three_regime.landscape.networks.Networks` → results; imported only to compute.
    engine
        Whether it computes the networks' outputs, by the sparse engine where that is faster; else `function` computes
        everything by torch's operations (or compares weights), as the provenance of its results then says.
    pruned
        Whether it also reads the pruned network of the cell (`Networks.pruned`).
    settings
        Function of the `StudyConfig` → the settings that change the numbers, besides model and data; JSON types only.
        A measure that reads `Networks.outputs` needs those of `inputs_of_cka`.
    work
        Function of a `three_regime.tasks.pricing.Pricer` and the numbers of products and replicas of a cell → `Work`;
        None: unknown, so plans leave it out and jobs request at least the configured run time.
    kinds
        Kinds of data that it supports; None: all.
    table, lists
        Table, with a figure of the same name, that holds the `lists` of its results, one row for each of their places;
        empty: none.
    version
        Increased by hand when the code changes the numbers.
    """

    name: str
    of: Literal["replica", "pair", "triple"]
    columns: tuple[Column, ...]
    function: str
    description: str
    engine: bool = True
    pruned: bool = False
    settings: Callable[[Any], dict[str, Any]] = lambda config: {}
    work: Callable[[Any, int, int], Any] | None = None
    kinds: tuple[str, ...] | None = None
    table: str = ""
    lists: tuple[str, ...] = ()
    version: int = 1

    def load(self) -> Callable[..., dict[str, Any]]:
        """Import the function, and torch with it.

        Raises
        ------
        UserError
            When there is no such function.
        """
        return registries.function(self.function, f"measure {self.name}")

    def check_function(self) -> None:
        """Raise ``UserError`` if its module has been imported, as plugins have, and lacks the function."""
        module, _, name = self.function.partition(":")
        if module in sys.modules and not callable(getattr(sys.modules[module], name, None)):
            raise UserError(f"{self.name}: {module} has no function {name} (`function` of the measure)")

    def groups(self, replicas: Sequence[int]) -> list[tuple[int, ...]]:
        """The replicas of each product, in ascending order."""
        found = list(itertools.combinations(sorted(replicas), {"replica": 1, "pair": 2, "triple": 3}[self.of]))
        return found[:1] if self.of == "triple" else found


def inputs_of_cka(config: Any) -> dict[str, Any]:
    """Settings of a measure that reads `Networks.outputs`: which inputs they are computed on."""
    return config.setting.cka_recipe(config.measure)


LANCZOS_PRODUCTS = 21
"""Approximate number of Hessian-vector products for the top eigenvalue (one restart of ARPACK)."""

PRODUCT_PASSES = 6.0
"""Time of a Hessian-vector product in training passes, as measured on a CPU whose training uses compiled kernels."""


def _work_of_outputs(pricer: Any, products: int, replicas: int) -> Any:
    """Each replica's outputs on the inputs of CKA are computed once, however many pairs use them."""
    return pricer.outputs(replicas)


def _work_without_data(pricer: Any, products: int, replicas: int) -> Any:
    """Weights are compared, and nothing is evaluated."""
    return pricer.passes(0.0)


def _work_of_hessians(pricer: Any, products: int, replicas: int) -> Any:
    """The maximum number of probes is assumed."""
    hessian = pricer.study.config.measure.hessian
    return pricer.passes(PRODUCT_PASSES * products * hessian.images * (LANCZOS_PRODUCTS + hessian.probes))


def _settings_of_curves(config: Any) -> dict[str, Any]:
    """Settings of the training of a bend, and of the measurement along the curve."""
    retrain = config.retrain.model_dump(mode="json", exclude={"start", "rewind_epoch", "evaluate_every", "milestones"})
    unused = {"epochs", "iterations", "sam_rho", *settings_of_others(config.retrain.optimiser)}
    training = {name: value for name, value in retrain.items() if name not in unused}
    return {"curve": config.measure.bezier.model_dump(mode="json"), "training": training, **config.setting.lmc_recipe(
        config.measure
    )}  # fmt: skip


def _settings_of_planes(config: Any) -> dict[str, Any]:
    """Settings of the grid, and of the measurement at its points."""
    recipe = config.setting.lmc_recipe(config.measure)
    return {
        **{name: value for name, value in recipe.items() if name != "points"},
        "plane": config.measure.plane.model_dump(mode="json"),
    }


MEASURES: dict[str, Measure] = {
    measure.name: measure
    for measure in (
        Measure(
            "agreement",
            "pair",
            (Column("agreement", "agreement of\npredictions (0 to 1)"),),
            "three_regime.landscape.predictions:agreement_of",
            "fraction of the inputs of CKA for which two replicas predict the same class or token",
            settings=inputs_of_cka,
            work=_work_of_outputs,
        ),
        Measure(
            "divergence",
            "pair",
            (Column("divergence", "Jensen-Shannon\ndivergence (nats)", low_is_good=True),),
            "three_regime.landscape.predictions:divergence_of",
            "mean Jensen-Shannon divergence between two replicas' softmax outputs (nats), on the inputs of CKA",
            settings=inputs_of_cka,
            work=_work_of_outputs,
        ),
        Measure(
            "distance",
            "pair",
            (
                Column("distance", "Euclidean distance\nof weights", low_is_good=True),
                Column("distance_relative", "distance of weights\nrelative to their norm", low_is_good=True),
            ),
            "three_regime.landscape.weight_distance:distance_of",
            "Euclidean distance between two replicas' parameters, also relative to the mean of their norms",
            engine=False,
            work=_work_without_data,
        ),
        Measure(
            "signs",
            "pair",
            (
                Column("sign_disagreement", "kept weights\nwith opposite\nsigns (fraction)", low_is_good=True),
                Column("sign_flips", "filters of one\nweight with\nopposite signs", low_is_good=True),
            ),
            "three_regime.landscape.signs:signs_of",
            "fraction of kept weights with opposite signs, and number of filters of one weight with opposite signs",
            engine=False,
            work=_work_without_data,
        ),
        Measure(
            "sign_change",
            "replica",
            (Column("sign_change", "kept weights\nthat changed\nsign (fraction)", low_is_good=True),),
            "three_regime.landscape.signs:sign_change_of",
            "fraction of kept weights whose sign is not that in the pruned network",
            engine=False,
            pruned=True,
            work=_work_without_data,
        ),
        Measure(
            "hessian",
            "replica",
            (
                Column("hessian_top", "top eigenvalue\nof the Hessian", low_is_good=True),
                Column("hessian_trace", "trace of\nthe Hessian", low_is_good=True),
                Column("hessian_trace_spread", "standard error of\nthe trace", low_is_good=True),
            ),
            "three_regime.landscape.hessian:hessian_of",
            "top eigenvalue (Lanczos) and trace (Hutchinson) of the Hessian of the training loss, kept weights only",
            engine=False,
            settings=lambda config: config.measure.hessian.model_dump(mode="json"),
            work=_work_of_hessians,
            kinds=("images",),
            version=2,
        ),
        Measure(
            "bezier",
            "pair",
            (
                Column("bezier", "LMC on a Bezier curve,\ntraining error (fraction)"),
                Column("bezier_nll", "LMC on a Bezier curve,\ntraining NLL (nats)"),
                Column("bezier_test", "LMC on a Bezier curve,\ntest error (fraction)"),
                Column("bezier_barrier", "barrier on a Bezier curve,\ntraining error (fraction)"),
            ),
            "three_regime.landscape.bezier:bezier_of",
            "LMC along a trained quadratic Bezier curve instead of the line (Garipov et al. 2018)",
            settings=_settings_of_curves,
            work=lambda pricer, products, replicas: pricer.curves(products),
            table="bezier_lines",
            lists=("t", "train_error", "train_nll", "test_error", "test_nll"),
            version=2,
        ),
        Measure(
            "plane",
            "triple",
            (
                Column("plane", "depth amid three replicas,\ntraining error (fraction)"),
                Column("plane_nll", "depth amid three replicas,\ntraining NLL (nats)"),
                Column("plane_test", "depth amid three replicas,\ntest error (fraction)"),
            ),
            "three_regime.landscape.plane:plane_of",
            "error and loss on the plane through the first three replicas; columns: mean of these minus their centroid",
            settings=_settings_of_planes,
            work=lambda pricer, products, replicas: pricer.points(products * pricer.study.config.measure.plane.count),
            table="planes",
            lists=("a", "b", "x", "y", "train_error", "train_nll", "test_error", "test_nll"),
        ),
    )
}


RESERVED = ("_se", "_sd", "_ci95", "_seeds", "_one_seed", "_highest", "error")
"""Ends of column names with a meaning of their own in tables: statistics of another column, and errors from 0 to 1."""

TAKEN = frozenset((
    *("study", "dataset", "model", "knob", "dense_seed", "temperature", "density", "replica", "pair", "triple"),
    *("origin", "replicas", "pairs", "model_density", "final_test_nll", "final_train_nll", "lmc", "lmc_middle"),
    *("lmc_nll", "lmc_test", "lmc_test_nll", "cka", "cka_logits", "cka_softmax", "bleu", "bleu_greedy", "bleu_test"),
    *("bleu_test_greedy", "bleu_signature", "chrf", "chrf_test", "chrf_signature", "lmc_lines", "model_selection"),
    *("phase_diagram", "threshold_sensitivity", "training_curves", "sparsity_per_layer"),
))  # fmt: skip
"""Names of columns and figures that every study has, or every one of a setting."""

RESULTS = ("dense", "pruned", "retrained", "lmc", "cka")
"""Names of the result files of the stages, beside which a measure writes its own."""


def register(measure: Measure) -> None:
    """Register a measure, for plugins. See `registries.add`.

    Raises
    ------
    UserError
        When its name is that of a stage's results or no name of a file, or a column is one that tables have already
        (`TAKEN`, or of another measure) or ends like one of ``RESERVED``.
    """
    if measure.name in RESULTS or not re.fullmatch("[a-z][a-z0-9_]*", measure.name):
        raise UserError(
            f"measure {measure.name!r}: its name is that of a file: use lower-case letters, digits and underscores, and"
            f" none of {', '.join(RESULTS)}"
        )
    for column in measure.columns:
        if column.name.endswith(RESERVED):
            raise UserError(
                f"measure {measure.name}: rename its column {column.name}: names that end in {', '.join(RESERVED)} have"
                " another meaning in tables"
            )
        owner = measured_columns().get(column.name, (measure,))[0].name
        if column.name in TAKEN or owner != measure.name:
            has = "every table has" if column.name in TAKEN else f"the measure {owner} has"
            raise UserError(f"measure {measure.name}: rename its column {column.name}: {has} one of this name")
    registries.add(MEASURES, measure, "measure")


def measured_columns() -> dict[str, tuple[Measure, Column]]:
    """Column name → its measure and the column, for all additional measures."""
    return {column.name: (measure, column) for measure in MEASURES.values() for column in measure.columns}
