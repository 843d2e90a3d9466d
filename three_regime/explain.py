"""Why a target would run, in the project's terms: which setting changed from what to what. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from three_regime.config import Config
from three_regime.errors import UserError
from three_regime.stages import COLLECTIONS, STAGES
from three_regime.study import planned
from three_regime.survey import Finding, survey

SHOWN = 20
"""Lines of single products; the rest is counted."""


def explain(config: Config, target: str | None = None) -> list[Finding]:
    """What `target` needs, done or not, in the order in which it would be made.

    Parameters
    ----------
    target
        A result file (with all that it is made from), a collection target (``dense``, ``pruned``, ``retrained``,
        ``landscape``, or one of a study: ``<study>_retrained``), a stage, or a study; None: everything.

    Raises
    ------
    UserError
        When the target is none of these.
    """
    owners = planned(config)
    for owner in owners:
        if target is not None and target.startswith((owner.name, owner.identifier)):
            rest = target[len(owner.name) :].removeprefix("_")
            if not rest or rest in COLLECTIONS:
                owners, target = [owner], rest or None
                break
    findings = [finding for owner in owners for finding in survey(owner)]
    if target is None:
        return findings
    wanted = COLLECTIONS.get(target, (target,) if target in STAGES else ())
    if wanted:
        return [finding for finding in findings if finding.product.stage in wanted]
    return _behind(findings, Path(target))


def _behind(findings: Sequence[Finding], path: Path) -> list[Finding]:
    """The product that holds `path`, and every product that it is made from, first made first."""
    by_file = {file: finding for finding in findings for file in finding.product.outputs}
    if path not in by_file:
        raise UserError(
            f"{path} is no result of the planned studies; name a result file, a study,"
            f" or one of {', '.join([*COLLECTIONS, *STAGES])}"
        )
    needed = {path}
    chain = []
    for finding in reversed(findings):
        if needed & set(finding.product.outputs):
            chain.append(finding)
            needed |= set(finding.product.inputs.values())
    return chain[::-1]


def render(findings: Sequence[Finding]) -> str:
    """Reasons, the most common first, then the products; one line when nothing would be computed."""
    pending = [finding for finding in findings if not finding.done]
    if not pending:
        return f"nothing would be computed: all {len(findings)} results are up to date\n"
    lines = [f"{len(pending)} of {len(findings)} results would be computed"]
    reasons = Counter((finding.product.stage, finding.verdict.value, finding.reason) for finding in pending)
    for (stage, verdict, reason), count in reasons.most_common():
        lines.append(f"  {count:5d} x {stage}: {verdict}, {reason}")
    lines += [f"  {finding.product.outputs[-1]}: {finding.verdict.value}" for finding in pending[:SHOWN]]
    if len(pending) > SHOWN:
        lines.append(f"  and {len(pending) - SHOWN} more")
    return "\n".join(lines) + "\n"
