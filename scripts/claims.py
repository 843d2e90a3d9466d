"""Test a study's claims on its tables (`three_regime.analysis.claims`)."""

from pathlib import Path

from three_regime.analysis import claims
from three_regime.config import Claim, plugins
from three_regime.config.thresholds import Thresholds
from three_regime.logs import reporting

with reporting(f"claims {snakemake.params.study}", Path(snakemake.log[0])):
    plugins.load(snakemake.config.get("plugins") or ())
    stated = [Claim.model_validate(claim) for claim in snakemake.params.claims]
    claims.write(Path(snakemake.output[0]).parent, stated, Thresholds(**snakemake.params.thresholds))
