"""Test a study's claims on its tables (`three_regime.analysis.claims`)."""

from pathlib import Path

from three_regime.analysis import claims_files
from three_regime.config import Claim
from three_regime.config.thresholds import Thresholds
from three_regime.workflow.running import script

with script(snakemake, f"claims {snakemake.params.study}"):
    stated = [Claim.model_validate(claim) for claim in snakemake.params.claims]
    claims_files.write(Path(snakemake.output[0]).parent, stated, Thresholds(**snakemake.params.thresholds))
