"""Why a target would run, in the project's terms: which setting changed from what to what. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from three_regime.config import Config
from three_regime.errors import UserError
from three_regime.light_explained import LightFinding, lines, studies_behind
from three_regime.plan import ALL_STUDIES, wanted
from three_regime.stages import STAGES
from three_regime.study import planned, study
from three_regime.survey import Finding, chain_to, survey

SHOWN = 20
"""Lines of single products; the rest is counted."""


def explain(config: Config, target: str | None = None) -> list[Finding]:
    """What `target` needs, done or not, in the order in which it would be made.

    Parameters
    ----------
    target
        A result file (with all that it is made from), a table, figure or report (with every result of its studies), or
        a target of `three_regime.plan`: a collection (``dense``, ``landscape``, ``tables``, …), one of a study
        (``<study>_retrained``), a stage, or a study; None: everything.

    Raises
    ------
    UserError
        When the target is none of these.
    """
    if target is not None and (owners := studies_behind(config, Path(target))) is not None:
        return [finding for owner in owners for finding in survey(owner)]
    try:
        chosen = wanted(config, [target] if target else [])
    except UserError as error:
        findings = [finding for owner in planned(config) for finding in survey(owner)]
        return _behind(findings, Path(target), error)
    return [
        finding
        for name, stages in chosen.items()
        if name != ALL_STUDIES and not stages.isdisjoint(STAGES)
        for finding in survey(study(config, name))
        if finding.product.stage in stages
    ]


def _behind(findings: Sequence[Finding], path: Path, unknown: UserError) -> list[Finding]:
    """The product that holds `path`, and every product that it is made from, first made first."""
    chain = chain_to(path, findings, lambda each: (each.product.outputs, each.product.inputs.values()))
    if not chain:
        raise UserError(f"{path} is no result, table or figure of the planned studies; {unknown}") from unknown
    return chain


def render(findings: Sequence[Finding], light: Sequence[LightFinding] = ()) -> str:
    """Reasons, the most common first, then the products; one line when nothing would be computed.

    Then the jobs that take seconds (`three_regime.light_explained`).
    """
    said = _of_results(findings) if findings or not light else []
    return "\n".join(said + lines(light)) + "\n"


def _of_results(findings: Sequence[Finding]) -> list[str]:
    pending = [finding for finding in findings if not finding.done]
    if not pending:
        return [f"nothing would be computed: all {len(findings)} results are up to date"]
    told = [f"{len(pending)} of {len(findings)} results would be computed"]
    reasons = Counter((finding.product.stage, finding.verdict.value, finding.reason) for finding in pending)
    for (stage, verdict, reason), count in reasons.most_common():
        told.append(f"  {count:5d} x {stage}: {verdict}, {reason}")
    told += [f"  {finding.product.outputs[-1]}: {finding.verdict.value}" for finding in pending[:SHOWN]]
    if len(pending) > SHOWN:
        told.append(f"  and {len(pending) - SHOWN} more")
    return told
