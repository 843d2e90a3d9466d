"""Test the claims of a study's configuration on its tables: holds, fails, undecided or not tested.

Dense seeds are the only independent repetitions (`three_regime.analysis.seed_means`), so each claim's difference is
computed within a dense seed, and its standard error is that of the mean over seeds. A second verdict uses the spread
between replicas alone: does the difference hold for these dense networks? Replicas share pairs, and their random
streams are the same at every temperature and density, so this standard error is a jackknife that leaves out one replica
of all cells of a dense seed at once; algorithms decide again on the rest. A claim may state a known noise per cell,
which is added, and in a study of one dense seed replicas give the verdict (``over: replicas``).

The temperature that an algorithm chooses takes few values, often the same one, so its spread says nothing about its
error. Claims about it are judged by counts: a sign test over dense seeds, and over replicas whether every choice
without one of them agrees.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from three_regime.analysis import algorithms, seed_means
from three_regime.analysis.tables import CELL
from three_regime.config import Claim, Side
from three_regime.config.claims import measured_of, scores
from three_regime.config.measures import measured_columns
from three_regime.config.thresholds import Thresholds
from three_regime.errors import UserError

LEVEL = 0.95
"""Confidence of each one-sided bound; the test is one-sided because claims state the sign beforehand."""

CHOICE = "temperature"
"""The measure of a claim about where an algorithm stops."""

EXPECTED = {
    "lower": "lower by more than the margin",
    "higher": "higher by more than the margin",
    "not_higher": "not higher by as much as the margin",
    "not_lower": "not lower by as much as the margin",
}
"""Expectation key → wording, about the difference between the two sides."""

NOT_TESTED = "not tested"
OUTCOMES = ("holds", "fails", "undecided", NOT_TESTED)
"""Possible verdicts on a claim (see `Verdict.outcome`)."""


Cell = tuple[float, float]
"""Temperature and density."""

Values = Mapping[tuple[int, float, float], pd.Series]
"""(dense seed, temperature, density) → values by replica or pair; the index holds tuples of replicas."""


@dataclass(frozen=True)
class Verdict:
    """A row of ``claims.csv``; errors and LMC are fractions.

    Attributes
    ----------
    limit
        Boundary of the expected side: 0, or the signed margin.
    estimate, se, lower, upper
        Mean difference over dense seeds, its standard error, and one-sided 95 % bounds (Student's t). Of the choice of
        an algorithm the mean alone.
    seeds, agreeing
        Number of dense seeds with all cells of the claim, and of those whose difference is on the expected side.
    outcome
        ``holds`` when the whole interval is on the expected side of the limit, ``fails`` when all of it is on the
        other side, else ``undecided``. ``not tested`` when both sides are the same cells in every dense seed (an
        algorithm chose the cell it is compared with), which makes the difference 0 by construction.
        Computed over dense seeds, or for a claim ``over: replicas`` as `these_networks`. For the choice of an
        algorithm, by a sign test (at level 95 %, so five seeds that agree decide).
    replica_se, replica_lower, replica_upper, these_networks
        The same from the spread between replicas (the claim's ``cell_noise`` added in quadrature), for the dense
        networks that were trained; missing if neither is known (the spread of LMC and CKA needs three replicas). With
        two replicas the bounds are wide: in simulations of equal variances they hold in 97 % instead of 95 %. For the
        choice of an algorithm, ``holds`` or ``fails`` when it is on one side without any one of the replicas.
    note
        Missing cells and replicas; dense seeds where both sides are the same cells; the dense seed that dominates the
        spread, and the mean without it, so no claim rests on one seed unnoticed.
    """

    claim: str
    statement: str
    measure: str
    expected: str
    limit: float
    estimate: float
    se: float
    lower: float
    upper: float
    seeds: int
    agreeing: int
    outcome: str
    replica_se: float
    replica_lower: float
    replica_upper: float
    these_networks: str
    note: str


def evaluate(
    claims: Sequence[Claim],
    cells: pd.DataFrame,
    replicas: pd.DataFrame,
    pairs: pd.DataFrame,
    thresholds: Thresholds,
) -> pd.DataFrame:
    """Test the claims of one study.

    Parameters
    ----------
    cells, replicas, pairs
        Tables as built by `three_regime.analysis.tables`.
    thresholds
        For claims about algorithms, which decide separately for each dense seed.

    Returns
    -------
    DataFrame
        One row per claim with the fields of `Verdict`. Dense seeds that lack a cell of a claim are ignored.
    """
    tables = _Tables.of(claims, seed_means.check_cells(cells), replicas, pairs, thresholds)
    rows = [asdict(_judge(claim, tables)) for claim in claims]
    return pd.DataFrame(rows, columns=[field.name for field in fields(Verdict)])


def bounds(estimate: float, se: float, freedom: int) -> tuple[float, float]:
    """One-sided bounds at confidence `LEVEL`; NaN without degrees of freedom."""
    half = float(stats.t.ppf(LEVEL, freedom)) * se if freedom > 0 else float("nan")
    return estimate - half, estimate + half


def outcome(expect: str, limit: float, lower: float, upper: float) -> str:
    """``holds``, ``fails`` or ``undecided`` (see `Verdict.outcome`)."""
    below, above = upper < limit, lower > limit
    return _decided(*_as_expected(expect, below, above))


def _as_expected(expect: str, below: Any, above: Any) -> tuple[Any, Any]:
    """What is said of values below and above the limit, in the order of the expected and the other side."""
    return (below, above) if expect in ("lower", "not_higher") else (above, below)


def _decided(holds: bool, fails: bool) -> str:
    return "holds" if holds else "fails" if fails else "undecided"


def amount(measure: str, value: float) -> str:
    """Format a difference with its sign: test error in points, other values as they are."""
    if measure == "temperature":
        return f"{value:+g}"
    if measure in scores():
        return f"{value:+.2f}"
    if measure in measured_columns():  # of any order of magnitude
        return f"{value:+.4g}"
    return f"{100 * value:+.2f}" if measure == "test_error" else f"{value:+.4f}"


@dataclass(frozen=True, eq=False)
class _Tables:
    """Values that claims are tested on; `without` holds the same tables without each replica (for the jackknife)."""

    cells: pd.DataFrame
    chosen: pd.DataFrame | None
    values: Mapping[str, Values]
    without: Mapping[str, _Tables]

    @classmethod
    def of(
        cls,
        claims: Sequence[Claim],
        cells: pd.DataFrame,
        replicas: pd.DataFrame,
        pairs: pd.DataFrame,
        thresholds: Thresholds,
        *,
        whole: bool = True,
    ) -> _Tables:
        chosen = algorithms.evaluate(cells, thresholds) if any(_algorithms(claim) for claim in claims) else None
        values = {name: _values(name, cells, replicas, pairs) for name in {claim.measure for claim in claims}}
        without = {}
        for name in sorted({str(replica) for replica in replicas["replica"]}) if whole else []:
            left = _leave_out(name, cells, replicas, pairs)
            without[name] = cls.of(claims, *left, thresholds, whole=False)
        return cls(cells, chosen, values, without)


def _leave_out(
    name: str, cells: pd.DataFrame, replicas: pd.DataFrame, pairs: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The tables without one replica, including the cell means that algorithms decide on."""
    replicas = replicas[replicas["replica"].astype(str) != name]
    pairs = pairs[pairs["pair"].map(lambda pair: name not in str(pair).split("-")).astype(bool)]
    means = [replicas.groupby(CELL)[["test_error"]].mean(), pairs.groupby(CELL)[["lmc", "cka_softmax"]].mean()]
    cells = cells.drop(columns=[column for table in means for column in table])
    for table in means:
        table = table.reset_index()
        table["density"] = table["density"].round(6)  # as in cells
        cells = cells.merge(table, on=CELL, how="left")
    return cells, replicas, pairs


def _judge(claim: Claim, tables: _Tables) -> Verdict:
    limit = (-1 if claim.expect in ("lower", "not_lower") else 1) * claim.margin
    differences, missing, same = {}, [], []
    for seed in sorted({int(seed) for seed in tables.cells["dense_seed"]}):
        difference = _difference(claim, tables, seed)
        if difference is None:
            missing.append(seed)
            continue
        differences[seed] = difference
        same += [seed] if _same_cells(claim, tables, seed) else []
    n = len(differences)
    values = np.array(list(differences.values()))
    estimate = float(values.mean()) if n else float("nan")
    judged = _judged_by_counts if claim.measure == CHOICE else _judged_by_spread
    over_seeds, over_replicas = judged(claim, tables, differences, limit)
    agreeing, _ = _sides_of(claim, values, limit)
    tested = not differences or len(same) < n
    verdict = (over_replicas if claim.over == "replicas" else over_seeds).outcome
    return Verdict(
        claim=claim.name,
        statement=claim.statement,
        measure=claim.measure,
        expected=EXPECTED[claim.expect] if claim.margin else EXPECTED[claim.expect].split(" by ")[0],
        limit=limit + 0.0,
        estimate=estimate,
        se=over_seeds.se,
        lower=over_seeds.lower,
        upper=over_seeds.upper,
        seeds=n,
        agreeing=agreeing,
        outcome=(verdict or "undecided") if tested else NOT_TESTED,
        replica_se=over_replicas.se,
        replica_lower=over_replicas.lower,
        replica_upper=over_replicas.upper,
        these_networks=over_replicas.outcome if tested else NOT_TESTED,
        note="; ".join(_notes(claim, tables, differences, missing, same if tested else [])),
    )


@dataclass(frozen=True)
class _Judgement:
    """An outcome (empty if unknown), and the standard error and bounds that decide it (NaN if others do)."""

    outcome: str
    se: float = float("nan")
    lower: float = float("nan")
    upper: float = float("nan")


def _judged_by_spread(
    claim: Claim, tables: _Tables, differences: Mapping[int, float], limit: float
) -> tuple[_Judgement, _Judgement]:
    """Over dense seeds, and over replicas for these networks: by the bounds of the mean difference."""
    n = len(differences)
    values = np.array(list(differences.values()))
    estimate = float(values.mean()) if n else float("nan")
    # 1. Over dense seeds: Student's t.
    se = float(values.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
    lower, upper = bounds(estimate, se, n - 1)
    over_seeds = _Judgement(outcome(claim.expect, limit, lower, upper), se, lower, upper)
    # 2. Over replicas: the variance within each dense seed.
    spread = [_replica_variance(claim, tables, seed) for seed in differences]
    se = float(np.sqrt(sum(variance for variance, _ in spread)) / n) if n else float("nan")
    lower, upper = bounds(estimate, se, _satterthwaite(spread))
    known = outcome(claim.expect, limit, lower, upper) if np.isfinite(se) else ""
    return over_seeds, _Judgement(known, se, lower, upper)


def _judged_by_counts(
    claim: Claim, tables: _Tables, differences: Mapping[int, float], limit: float
) -> tuple[_Judgement, _Judgement]:
    """Over dense seeds by a sign test, over replicas by agreement of the choices without each of them."""

    n = len(differences)
    counts = _sides_of(claim, np.array(list(differences.values())), limit)
    over_seeds = _Judgement(_decided(*(n > 0 and stats.binom.sf(count - 1, n, 0.5) <= 1 - LEVEL for count in counts)))
    without = [_leaving_one_out(claim, tables, seed) for seed in differences]
    if not without or len({len(each) for each in without}) != 1 or not without[0].size:
        return over_seeds, _Judgement("")
    means = np.mean(without, axis=0)
    return over_seeds, _Judgement(_decided(*(count == len(means) for count in _sides_of(claim, means, limit))))


def _sides_of(claim: Claim, values: np.ndarray, limit: float) -> tuple[int, int]:
    """Numbers of values on the expected and on the other side of the limit."""
    return _as_expected(claim.expect, int((values < limit).sum()), int((values > limit).sum()))


def _satterthwaite(parts: Sequence[tuple[float, float]]) -> float:
    """Degrees of freedom of a sum of independent variances, each with its own (Satterthwaite 1946).

    Dense seeds in which both sides are the same cells have no variance, and add no degrees of freedom.
    """
    varying = [(variance, freedom) for variance, freedom in parts if variance > 0]
    if not varying:
        return sum(freedom for _, freedom in parts)
    remainder = sum(variance**2 / freedom for variance, freedom in varying if freedom)
    return sum(variance for variance, _ in varying) ** 2 / remainder if remainder else float("inf")


def _replica_variance(claim: Claim, tables: _Tables, seed: int) -> tuple[float, float]:
    """Variance of a dense seed's difference and its degrees of freedom: jackknife over replicas plus cell noise.

    Without a spread of replicas, the cell noise alone with infinite degrees of freedom; without either, NaN and 0.
    The degrees of freedom of the sum are Satterthwaite's (1946).
    """
    left_out = _leaving_one_out(claim, tables, seed)
    n = len(left_out)
    jackknife = (n - 1) / n * float(np.square(left_out - left_out.mean()).sum()) if n else float("nan")
    if claim.cell_noise == 0:
        return jackknife, max(n - 1, 0)
    known = claim.cell_noise**2 * sum(weight**2 for weight in _weights(claim, tables, seed).values())
    if n == 0:
        return known, float("inf")
    total = jackknife + known
    return total, _satterthwaite([(jackknife, n - 1), (known, float("inf"))])


def _weights(claim: Claim, tables: _Tables, seed: int) -> dict[Cell, float]:
    """Weight of each cell in the difference for a dense seed; a cell on both sides cancels."""
    weights: dict[Cell, float] = {}
    for sign, side in ((1, claim.of), (-1, claim.against)):
        chosen = _cells(side, tables.cells, tables.chosen, seed)
        for cell in chosen:
            weights[cell] = weights.get(cell, 0.0) + sign / len(chosen)
    return weights


def _notes(
    claim: Claim, tables: _Tables, differences: Mapping[int, float], missing: list[int], same: list[int]
) -> Iterator[str]:
    """Qualifications of a verdict (`Verdict.note`)."""
    if claim.over == "replicas" and claim.measure == CHOICE:
        yield "over replicas: the choices without each of them"
    elif claim.over == "replicas":
        noise = f" and a cell noise of {amount(claim.measure, claim.cell_noise)[1:]}" if claim.cell_noise else ""
        yield f"over replicas{noise}"
    elif claim.measure == CHOICE:
        yield "a sign test"
    counts = {
        seed: [len(values) for side in _sides(claim, tables, seed) or [] for values in side] for seed in differences
    }
    most = max((count for each in counts.values() for count in each), default=0)
    if fewer := [seed for seed, each in counts.items() if min(each) < most]:
        yield f"fewer replicas in dense seed {', '.join(map(str, fewer))}"
    if missing:
        yield f"cells missing for dense seed {', '.join(map(str, missing))}"
    if same:
        yield f"both sides are the same cells in dense seed {', '.join(map(str, same))}"
    seed = seed_means.dominant_seed(pd.Series(differences, dtype=float))
    if np.isfinite(seed):
        without = float(np.mean([value for other, value in differences.items() if other != seed]))
        yield f"dense seed {seed:g} dominates the spread: without it {amount(claim.measure, without)}"


def _algorithms(claim: Claim) -> set[str]:
    return {side.algorithm for side in (claim.of, claim.against)} - {None}


def _values(measure: str, cells: pd.DataFrame, replicas: pd.DataFrame, pairs: pd.DataFrame) -> Values:
    of = measured_of(measure)
    name, table = {"replica": ("replicas", replicas), "pair": ("pairs", pairs), "triple": ("cells", cells)}[of]
    if measure not in table:
        raise UserError(f"{name}.csv has no column {measure!r}, which a claim needs: rebuild the tables")
    table = table.dropna(subset=[measure])
    table = table.assign(density=table["density"].round(6))
    if of == "replica":
        table["members"] = [(str(replica),) for replica in table["replica"]]
    elif of == "pair":
        table["members"] = [tuple(str(pair).split("-")) for pair in table["pair"]]
    else:  # one value a cell, which leaves nothing without one of its replicas
        table["members"] = [(of,)] * len(table)
    return {
        (int(seed), float(temperature), float(density)): part.set_index("members")[measure]
        for (seed, temperature, density), part in table.groupby(CELL)
    }


def _cells(side: Side, cells: pd.DataFrame, chosen: pd.DataFrame | None, seed: int) -> list[Cell]:
    """The cells of one side for a dense seed; empty when an algorithm made no choice at one of the densities."""
    densities = sorted({round(value, 6) for value in side.densities or cells["density"]})
    if side.algorithm is None:
        temperatures = side.temperatures or sorted(set(cells["temperature"]))
        return [(float(temperature), density) for temperature in temperatures for density in densities]
    table = chosen[(chosen["dense_seed"] == seed) & (chosen["algorithm"] == side.algorithm)]
    if side.algorithm == "algorithm 1":
        table = table[table["start"] == algorithms.usual_temperature(cells)]
    at = dict(zip(table["density"].round(6), table["temperature"], strict=True))
    return [(float(at[density]), density) for density in densities] if set(densities) <= at.keys() else []


def _sides(claim: Claim, tables: _Tables, seed: int) -> list[list[pd.Series]] | None:
    """Values in the cells of both sides for a dense seed; None if a cell is missing."""
    values = tables.values[claim.measure]
    sides = [_cells(side, tables.cells, tables.chosen, seed) for side in (claim.of, claim.against)]
    if not all(side and all((seed, *cell) in values for cell in side) for side in sides):
        return None
    return [[values[(seed, *cell)] for cell in side] for side in sides]


def _same_cells(claim: Claim, tables: _Tables, seed: int) -> bool:
    """Whether both sides are the same cells for a dense seed."""
    of, against = (_cells(side, tables.cells, tables.chosen, seed) for side in (claim.of, claim.against))
    return sorted(of) == sorted(against)


def _difference(claim: Claim, tables: _Tables, seed: int) -> float | None:
    """Mean over the cells of the first side minus mean over those of the second."""
    sides = _sides(claim, tables, seed)
    if sides is None:
        return None
    first, second = (np.mean([values.mean() for values in side]) for side in sides)
    return float(first - second)


def _leaving_one_out(claim: Claim, tables: _Tables, seed: int) -> np.ndarray:
    """The difference without each replica in turn (algorithms decide again); empty if that would lose a cell."""
    sides = _sides(claim, tables, seed) or []
    names = sorted({name for side in sides for values in side for members in values.index for name in members})
    found = [_difference(claim, tables.without[name], seed) for name in names if name in tables.without]
    whole = len(found) == len(names) > 1 and None not in found
    return np.array(found) if whole else np.array([])
