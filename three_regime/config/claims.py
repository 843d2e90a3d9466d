"""Claims: expected signs of differences, stated in a study's configuration before the study is run.

A claim compares two sides, each a set of cells of the study, by one measure; `three_regime.analysis.claims` tests it.
Claims do not change results and are not part of fingerprints.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, field_validator, model_validator

from three_regime.config.measures import measured_columns
from three_regime.config.section import Name, Section
from three_regime.names import registered
from three_regime.settings import all_settings

MEASURED = ("test_error", "lmc", "lmc_middle", "lmc_nll", "cka_softmax", "temperature")
"""Measures of claims that every study has."""


def scores() -> list[str]:
    """Scores, from 0 to 100, that replicas of some setting have besides their error."""
    return [name for setting in all_settings() for name in setting.averaged_scores]


def measured_of(measure: str) -> str:
    """Whether each ``replica``, each ``pair`` or a ``triple`` has a value of a claim's measure."""
    if measure in measured_columns():
        return measured_columns()[measure][0].of
    return "replica" if measure in ("test_error", "temperature", *scores()) else "pair"


class Side(Section):
    """One side of a comparison: cells at fixed temperatures, or the cells that an algorithm chooses at each density."""

    temperatures: tuple[float, ...] | None = Field(
        None, min_length=1, description="Values of the knob; null: all of the study."
    )
    densities: tuple[float, ...] | None = Field(None, min_length=1, description="Densities; null: all of the study.")
    algorithm: (
        Literal["algorithm 1", "algorithm 2", "algorithm 2.1", "default temperature", "lowest dense error"] | None
    ) = Field(
        None, description="Use the cell that this method chooses at each density for each dense seed (Algorithm 1 from"
        " the default temperature), instead of `temperatures`."
    )  # fmt: skip

    @model_validator(mode="after")
    def _either(self) -> Side:
        if self.algorithm is not None and self.temperatures is not None:
            raise ValueError("give either temperatures or an algorithm, not both")
        return self


class Claim(Section):
    """A difference with a sign stated beforehand: mean of a measure on one side minus the mean on the other."""

    name: Name = Field(description="Name of the claim.")
    statement: str = Field(min_length=1, description="The claim in one sentence.")
    measure: str = Field(
        description="Test error after retraining; LMC of the training error, its mean deviation over t = 0.3 to 0.7"
        " (lmc_middle: noise does not flip its sign) or LMC of the training NLL in nats; CKA of the softmax outputs"
        " (cka_softmax); the temperature itself, for the choice of an algorithm; a score of translation (bleu,"
        " chrf, bleu_test, chrf_test: 0 to 100); or a column of a measure in `measure.also`."
    )
    of: Side = Field(description="The side whose mean enters with a positive sign.")
    against: Side = Field(description="The side that is subtracted.")
    expect: Literal["lower", "higher", "not_higher", "not_lower"] = Field(
        description="lower/higher: the difference is beyond the margin; not_higher/not_lower: it does not reach the"
        " margin in that direction."
    )
    margin: float = Field(
        0.0,
        ge=0,
        description="Margin in the unit of the measure; errors, lmc and lmc_middle are fractions (for"
        " translation a test error of 0.01 is 1 BLEU).",
    )
    over: Literal["dense seeds", "replicas"] = Field(
        "dense seeds", description="Source of the spread that decides the outcome: dense seeds or, in a study of one"
        " dense seed, replicas."
    )  # fmt: skip
    cell_noise: float = Field(
        0.0, ge=0, description="Standard deviation of a cell's mean if known before the run, in the measure's unit;"
        " added in quadrature to the spread of the replicas."
    )  # fmt: skip

    @field_validator("measure")
    @classmethod
    def _known(cls, name: str) -> str:
        return registered(name, (*MEASURED, *scores(), *measured_columns()), "measure")


def _fewest(claim: Claim) -> int:
    """Fewest replicas whose spread can be estimated by leaving one out."""
    if claim.measure == "temperature":  # algorithms decide on pairs
        return 3
    return 2 if measured_of(claim.measure) == "replica" else 3


def check_claims(
    claims: Sequence[Claim],
    temperatures: Sequence[float],
    densities: Sequence[float],
    also: Sequence[str] = (),
    dense_seeds: int = 1,
    replicas: int = 3,
    scored: Sequence[str] = (),
) -> None:
    """Raise ``ValueError`` if a name occurs twice or a claim refers to cells or measures that the study does not have.

    Also if the spread over replicas decides although there are several dense seeds, or although the replicas are too
    few for one: leaving one of two out leaves no pair. `also` is the study's `measure.also`, `dense_seeds` and
    `replicas` are their numbers, `scored` the scores that its replicas have.
    """
    names = [claim.name for claim in claims]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"claims: two are named '{name}'")
    for claim in claims:
        if claim.over == "replicas" and dense_seeds > 1:
            raise ValueError(f"claims: '{claim.name}': over: replicas needs one dense seed, not {dense_seeds}")
        if claim.over == "replicas" and replicas < _fewest(claim) and not claim.cell_noise:
            raise ValueError(
                f"claims: '{claim.name}': over: replicas: the spread of {claim.measure} needs {_fewest(claim)} replicas"
                " or a stated cell_noise"
            )
        if claim.measure in scores() and claim.measure not in scored:
            raise ValueError(f"claims: '{claim.name}': networks of this study have no {claim.measure}")
        if claim.measure not in (*MEASURED, *scored):
            measure = measured_columns()[claim.measure][0]
            if measure.name not in also:
                raise ValueError(f"claims: '{claim.name}' needs {measure.name} in measure.also")
            if claim.over == "replicas" and measure.of == "triple":
                raise ValueError(
                    f"claims: '{claim.name}': {claim.measure} has one value a cell and no spread over replicas"
                )
        for side in (claim.of, claim.against):
            for key, wanted, available in (
                ("temperatures", side.temperatures, temperatures),
                ("densities", side.densities, densities),
            ):
                unknown = [value for value in wanted or () if value not in available]
                if unknown:
                    has = ", ".join(f"{value:g}" for value in available)
                    raise ValueError(f"claims: '{claim.name}' refers to {key} {unknown[0]:g}; the study has {has}")
